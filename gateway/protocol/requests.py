"""Bodies that clients send to the Bread routes. OpenAI's bodies are vLLM's to define."""

from typing import Any

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


class ConfigSet(Body, frozen=True, kw_only=True):
    """A target or a bake: a template and what differs from it."""

    template: str
    overrides: dict[str, Any] | None = None


class TargetCreate(ConfigSet, frozen=True, kw_only=True):
    target_name: str


class BakeCreate(ConfigSet, frozen=True, kw_only=True):
    bake_name: str
