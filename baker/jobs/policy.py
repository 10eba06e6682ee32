"""Limits of this service that decide which jobs may start."""

import msgspec

from baker.storage.models_folder import StudentModels


class Policy(msgspec.Struct, frozen=True):
    """What this service can do, and what its operator allows."""

    has_anthropic_key: bool
    stim_fallback: bool
    """Whether the served model may replace an Anthropic model if there is no key."""
    max_lora_rank: int
    rollout_max_tokens: int = 1024
    """Maximum length of an answer, for targets that don't set it."""
    students: StudentModels | None = None
    """Other models that a bake may train; None: there are none."""
