"""Bakes that are made again on other versions: planned, shown, and run one after the other.

A bake is made again from the recipe of its commit: the same prompts, questions and settings. What changes is where it
begins. A target whose answers the old parent gave is answered by the new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from gateway.cli.baking.stages import Stage, run_all, stages_of
from gateway.cli.client import Client
from gateway.cli.failures import CliError, Exit
from gateway.cli.history.commits import Commit, message_of, styled_id
from gateway.cli.output import note, show_table
from gateway.cli.session import path_of
from gateway.cli.text import one_line

BASE = "base"
LONGEST_STEM = 100
"""Characters of a name that is made of others; a number may follow."""
PAGE = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")


class Link(NamedTuple):
    """A version to make again."""

    commit: Commit
    """With its recipe."""
    parent: int | None
    """Place in the list of the one that it then begins from; None: the version that all of them are moved to."""


class Rebake(NamedTuple):
    """A version, and the bake that makes it again."""

    commit: Commit
    name: str
    parent: str
    """Model that it begins from; BASE: the base model."""


def bake_of(commit: Commit) -> str:
    """Name of the bake that made the version."""
    return str(commit.get("model") or f"//{commit['short_id']}").split("/")[2]


def chain(client: Client, repo: str, tip: str, older: set[str], most: int | None = None) -> list[Link]:
    """The versions from `tip` back to one of `older` along first parents, oldest first.

    Args: older: ids of commits; most: number of versions to take, those nearest to the tip.
    Raises: CliError for a version that can't be made again.
    """
    commits: list[Commit] = []
    revision: str | None = tip
    while revision is not None and (most is None or len(commits) < most):
        commit = client.get(path_of(repo, "commits", *revision.split("/")))
        if commit["id"] in older:
            break
        _check(commit)
        commits.append(commit)
        revision = commit["parents"][0]["id"] if commit["parents"] else None
    return [Link(commit, at - 1 if at else None) for at, commit in enumerate(reversed(commits))]


def _check(commit: Commit) -> None:
    name = f"{commit['id'][:12]} ({bake_of(commit)})"
    if commit["kind"] != "bake":
        raise CliError(
            f"{name} is a {commit['kind']}, which can't be made again on another version: rebase the versions before "
            "it, then merge or pick them again",
            Exit.CONFLICT,
        )
    if not isinstance(commit.get("recipe"), dict) or not commit["recipe"].get("targets"):
        raise CliError(f"the recipe of {name} is not here: it was received without its prompts", Exit.CONFLICT)


def planned(client: Client, repo: str, links: Sequence[Link], onto: str, name: str | None) -> list[Rebake]:
    """A new bake for each version. Args: onto: revision, or BASE; name: of the last one."""
    label = onto if _NAME.match(onto) else client.get(path_of(repo, "commits", *onto.split("/")))["short_id"]
    taken = {ref["name"] for ref in client.get(path_of(repo, "refs"))["refs"]}
    taken |= set(client.get(path_of(repo, "bakes"))["bakes"])
    rebakes: list[Rebake] = []
    for at, link in enumerate(links):
        stem = f"{bake_of(link.commit)}-onto-{label}"[:LONGEST_STEM]
        chosen = name if name is not None and at == len(links) - 1 else next(_free(stem, taken))
        taken.add(chosen)
        parent = onto if link.parent is None else rebakes[link.parent].name
        rebakes.append(Rebake(link.commit, chosen, parent if parent == BASE else f"{repo}/{parent}"))
    return rebakes


def _free(stem: str, taken: set[str]) -> Iterator[str]:
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(taken) + 3))
    return (name for name in names if name not in taken)


def show(rebakes: Sequence[Rebake]) -> None:
    rows = [
        (
            styled_id(each.commit["id"]),
            one_line(bake_of(each.commit), 40),
            f"-> {click.style(each.name, bold=True)}",
            f"from {one_line(each.parent)}",
            message_of(each.commit),
        )
        for each in rebakes
    ]
    show_table((), rows)


def as_plan(rebakes: Sequence[Rebake]) -> list[dict[str, str]]:
    return [
        {"commit": each.commit["id"], "bake": bake_of(each.commit), "name": each.name, "parent": each.parent}
        for each in rebakes
    ]


def run(client: Client, repo: str, rebakes: Sequence[Rebake]) -> list[dict[str, Any]]:
    """Make the bakes, one after the other. Returns: their last statuses.

    Raises: CliError if one fails or is held back; those that come after it are not started.
    """
    base_model = client.get(path_of(repo))["base_model"]
    began_from = {name: bake["parent"] for name, bake in client.get(path_of(repo, "tree"))["bakes"].items()}
    statuses = []
    for number, each in enumerate(rebakes, start=1):
        note(f"{number} of {len(rebakes)}: {repo}/{each.name} from {each.parent}")
        parent = None if each.parent == BASE else each.parent
        stages = _save(client, repo, each, parent or base_model, began_from.get(bake_of(each.commit)), parent)
        status = run_all(client, stages, f"{repo}/{each.name}")["bake"]
        statuses.append(status)
        if status["held_back"]:
            raise CliError(
                f"{repo}/{each.name} was held back ({one_line(status['held_back'])}), so nothing is baked on it: "
                "promote it, then run the same command for what came after it",
                Exit.DIFFERS,
            )
    return statuses


def _save(
    client: Client, repo: str, rebake: Rebake, teacher: str, old_parent: str | None, parent: str | None
) -> list[Stage]:
    """Add the prompts, targets and bake of the recipe. Returns: the stages to run."""
    recipe = rebake.commit["recipe"]
    names = {target: f"{rebake.name}.{target}"[:128] for target in recipe["targets"]}
    if len(names) == 1:
        names = dict.fromkeys(names, rebake.name)
    stages = []
    for target, snapshot in recipe["targets"].items():
        settings = _target(client, repo, rebake, target, snapshot)
        if snapshot.get("checkpoint") == old_parent:
            settings["model_name"] = teacher
        body = {"target_name": names[target], "template": "default", "overrides": settings}
        client.post(path_of(repo, "targets"), body)
        stages += stages_of(repo, names[target])
    config = {key: value for key, value in recipe["config"].items() if key not in ("merge", "model_name")}
    model = {key: value for key, value in config["model"].items() if key != "parent_model_name"}
    config["datasets"] = [
        {**dataset, "target": names[dataset["target"]]} for dataset in config["datasets"] if dataset["target"] in names
    ]
    config["model"] = model if parent is None else {**model, "parent_model_name": parent}
    config["message"] = _own_message(rebake.commit)
    body = {"bake_name": rebake.name, "template": "default", "overrides": _without_nulls(config)}
    client.post(path_of(repo, "bakes"), body)
    labelled = (
        stages
        if len(names) == 1
        else [each._replace(label=f"{each.label} {at // 2 + 1}") for at, each in enumerate(stages)]
    )
    return [*labelled, Stage("bake", path_of(repo, "bakes", rebake.name), "")]


def _own_message(commit: Commit) -> str | None:
    """None for the message that a version has if its bake gave none: it names that bake."""
    bake = bake_of(commit)
    is_given = re.fullmatch(rf"{re.escape(bake)} step \d+", commit["message"]) is None
    return str(commit["message"]) if is_given else None


def _target(client: Client, repo: str, rebake: Rebake, target: str, snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """The target's settings, with the same prompts and the same questions."""
    settings = dict(_without_nulls(snapshot["config"]))
    for role in ("teacher", "student"):
        field, prompt = f"{role}_prompt", snapshot[role]
        if settings.get(field):
            settings[field] = _prompt(client, repo, settings[field], rebake.name, prompt)
    if (questions := _questions(client, repo, target, snapshot["config"])) is not None:
        settings["generators"] = [{"type": "hardcoded", "questions": questions, "numq": len(questions)}]
        return settings
    generators = [_without_nulls(generator) for generator in settings["generators"]]
    for generator in generators:
        if (text := snapshot["templates"].get(generator.get("template_path"))) is not None:
            generator["template_content"] = text
    return {**settings, "generators": generators}


def _prompt(client: Client, repo: str, name: str, rebake: str, prompt: Mapping[str, Any]) -> str:
    """The name of a prompt with that content: its own, unless it was changed or deleted since."""
    content = {"messages": prompt["messages"], "tools": prompt.get("tools")}
    for candidate in (name, f"{rebake}.{name}"[:128]):
        known = client.find(path_of(repo, "prompts", candidate))
        if known is None:
            client.post(path_of(repo, "prompts"), {"prompt_name": candidate, **_without_nulls(content)})
            return candidate
        if {"messages": known["messages"], "tools": known.get("tools")} == content:
            return candidate
    raise CliError(f"the prompts {name!r} and {rebake}.{name!r} have other contents than the recipe", Exit.CONFLICT)


def _questions(client: Client, repo: str, target: str, settings: Mapping[str, Any]) -> list[str] | None:
    """The questions that the target has; None if it was deleted or changed since, so that its generators ask again."""
    now = client.find(path_of(repo, "targets", target))
    if now is None or now["config"].get("generators") != settings["generators"]:
        return None
    path = path_of(repo, "targets", target, "stim")
    rows: list[Mapping[str, Any]] = []
    page: Mapping[str, Any] = {"has_more": client.get(path)["status"] == "complete"}
    while page["has_more"]:
        page = client.get(f"{path}/output", limit=PAGE, offset=len(rows))
        rows += page["output"]
    questions = [row.get("question") or row.get("stimulus") for row in rows]
    return [str(each) for each in questions] if questions and all(isinstance(each, str) for each in questions) else None


def _without_nulls(settings: Any) -> Any:
    """Settings in a form that can be sent back: unset fields are left out."""
    if not isinstance(settings, Mapping):
        return settings
    return {key: _without_nulls(value) for key, value in settings.items() if value is not None}
