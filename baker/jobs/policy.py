"""What this service can do, and what its operator allows."""

import msgspec

from baker.storage.models_folder import StudentModels


class Policy(msgspec.Struct, frozen=True):
    """What this service can do, and what its operator allows."""

    has_anthropic_key: bool
    stim_fallback: bool
    """A served model may stand in for an Anthropic one without a key."""
    max_lora_rank: int
    rollout_max_tokens: int = 1024
    """Tokens of an answer where the target does not say."""
    students: StudentModels | None = None
    """None: there are no other models."""
