"""What two versions were made of, as a text diff."""

import difflib
from collections.abc import Iterator
from typing import Any

import msgspec

from baker.comparison.versions import Version
from baker.repos.catalog import Catalog
from baker.types import Message
from baker.versions.commits import recipe_of


def recipe_diff(catalog: Catalog, a: Version, b: Version) -> str:
    """A unified diff of the two recipes; empty if they are equal. Blocks."""
    lines = difflib.unified_diff(
        recipe_lines(catalog, a), recipe_lines(catalog, b), a.short_id, b.short_id, lineterm=""
    )
    return "\n".join(lines)


def recipe_lines(catalog: Catalog, version: Version) -> list[str]:
    """Settings, targets and prompts, a line each; prompts as they are written. Nothing for the base model."""
    job = None if version.checkpoint is None else catalog.store.jobs.find_bake(version.checkpoint.job_id)
    recipe = None if job is None else recipe_of(job)
    if recipe is None:
        return [] if version.checkpoint is None else ["its recipe is not known: it was imported, or sent without it"]
    try:
        return list(_lines(recipe))
    except (KeyError, TypeError, AttributeError):  # another server sent it, in a form of its own
        return list(_plain(recipe))


def _lines(recipe: dict[str, Any]) -> Iterator[str]:
    yield from _section("bake", recipe["config"])
    if (merge := recipe.get("merge")) is not None:
        yield from _merge(merge)
    for name, target in sorted(recipe["targets"].items()):
        yield from _section(f"target {name}", target["config"])
        for side in ("teacher", "student"):
            yield from _prompt(f"target {name}: {side} prompt", target[side])
        for path, text in sorted(target["templates"].items()):
            yield f"target {name}: template {path}"
            yield from (f"  {line}" for line in text.splitlines())


def _merge(merge: dict[str, Any]) -> Iterator[str]:
    """A line for each version: in the config, a merge names them by revisions, which move."""
    yield f"merge: {merge['kind']}, {merge['strategy']}"
    yield f"  base: {merge['base'] or 'the base model'}"
    yield from (f"  version: {side['commit']}, weight {side['weight']:g}" for side in merge["sides"])


def _section(heading: str, settings: Any) -> Iterator[str]:
    yield heading
    yield from (f"  {line}" for line in _plain(settings))


def _plain(value: Any, path: str = "") -> Iterator[str]:
    """`path: value` for each setting, however deep; lists stay on one line."""
    if isinstance(value, dict) and value:
        for key, inner in sorted(value.items()):
            yield from _plain(inner, f"{path}.{key}" if path else key)
    else:
        yield f"{path}: {msgspec.json.encode(value).decode()}"


def _prompt(heading: str, prompt: dict[str, Any]) -> Iterator[str]:
    yield heading
    for message in prompt["messages"]:
        yield from _message(message)
    if prompt.get("tools"):
        yield f"  tools: {msgspec.json.encode(prompt['tools']).decode()}"


def _message(message: Message) -> Iterator[str]:
    content = message.get("content")
    yield f"  {message.get('role')}:"
    text = content if isinstance(content, str) else msgspec.json.encode(content).decode()
    yield from (f"    {line}" for line in text.splitlines())
    others = {key: value for key, value in message.items() if key not in ("role", "content")}
    if others:
        yield f"    {msgspec.json.encode(others, order='sorted').decode()}"
