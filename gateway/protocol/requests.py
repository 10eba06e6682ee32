"""Bodies that clients send to the Bread routes. OpenAI's bodies are vLLM's to define."""

from typing import Annotated, Any

import msgspec

from baker.types import Message


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class RepoPut(Body, frozen=True, kw_only=True):
    repo_name: str
    base_model: str | None = None


class PromptSet(Body, frozen=True, kw_only=True):
    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


class PromptCreate(PromptSet, frozen=True, kw_only=True):
    prompt_name: str


class PromptBatch(Body, frozen=True, kw_only=True):
    prompts: dict[str, Any]
    """Name -> a list of messages, or an object with `messages` and `tools`."""


class ConfigSet(Body, frozen=True, kw_only=True):
    """A target or a bake: a template and what differs from it."""

    template: str
    overrides: dict[str, Any] | None = None


class TargetSet(ConfigSet, frozen=True, kw_only=True):
    pass


class BakeSet(ConfigSet, frozen=True, kw_only=True):
    pass


class TargetCreate(TargetSet, frozen=True, kw_only=True):
    target_name: str


class BakeCreate(BakeSet, frozen=True, kw_only=True):
    bake_name: str


class TargetBatch(Body, frozen=True, kw_only=True):
    targets: list[dict[str, Any]]
    """Each a TargetCreate; one that is not fails by itself."""


class BakeBatch(Body, frozen=True, kw_only=True):
    bakes: list[dict[str, Any]]
    """Each a BakeCreate; one that is not fails by itself."""


class Promote(Body, frozen=True, kw_only=True):
    checkpoint: Annotated[int, msgspec.Meta(ge=0)]
    """The number of one that the bake's status lists."""


class LoraLoad(Body, frozen=True, kw_only=True):
    """vLLM's body."""

    lora_name: Annotated[str, msgspec.Meta(min_length=1)]
    lora_path: Annotated[str, msgspec.Meta(min_length=1)]
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class LoraUnload(Body, frozen=True, kw_only=True):
    """vLLM's body."""

    lora_name: Annotated[str, msgspec.Meta(min_length=1)]
    lora_int_id: int | None = None
    """Means nothing, as in vLLM."""


class UserCreate(msgspec.Struct, frozen=True, kw_only=True):
    """Not a `Body`: this route alone takes fields that we don't know."""

    user_id: str
    user_alias: str
    user_email: str
    password: Annotated[str, msgspec.Meta(min_length=1)]


class JobDone(Body, frozen=True, kw_only=True):
    file: str
    user: str
    repo: str


class ModelReady(Body, frozen=True, kw_only=True):
    user: str
    repo: str
    bake_name: str
