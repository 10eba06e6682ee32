"""Request bodies of the Bread routes. vLLM defines those of OpenAI's routes."""

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
    """Settings of a target or bake: a template, and the fields that differ from it."""

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
    """Each a TargetCreate. An invalid one fails alone."""


class BakeBatch(Body, frozen=True, kw_only=True):
    bakes: list[dict[str, Any]]
    """Each a BakeCreate. An invalid one fails alone."""


class Promote(Body, frozen=True, kw_only=True):
    checkpoint: Annotated[int, msgspec.Meta(ge=0)]
    """Number of a checkpoint, as in the bake's status."""


class LoraLoad(Body, frozen=True, kw_only=True):
    """The same body as vLLM's."""

    lora_name: Annotated[str, msgspec.Meta(min_length=1)]
    lora_path: Annotated[str, msgspec.Meta(min_length=1)]
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class LoraUnload(Body, frozen=True, kw_only=True):
    """The same body as vLLM's."""

    lora_name: Annotated[str, msgspec.Meta(min_length=1)]
    lora_int_id: int | None = None
    """Ignored, as in vLLM."""


class UserCreate(msgspec.Struct, frozen=True, kw_only=True):
    """Not a `Body`, because only this route accepts unknown fields."""

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
