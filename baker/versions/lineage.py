"""What a bake is made of: its parents, its targets and their prompts, and the steps to make it again.

Reads only. A started bake is described by the copies in its job, so its recipe stays true when prompts are changed or
targets deleted later; any other bake by the repo as it is now. Parents in another repo are not followed: their full
name stays in the config.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import NotFoundError
from baker.model_names import parse_model_name
from baker.repos import bakes, targets
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import Job
from baker.storage.job_inputs import TargetSnapshot
from baker.storage.rows import Row
from baker.types import Prompt

Kind = Literal["bake", "target", "prompt"]
KINDS: tuple[Kind, ...] = ("prompt", "target", "bake")


class Node(NamedTuple):
    kind: Kind
    name: str


class Edge(NamedTuple):
    """`source` depends on `needed`."""

    source: Node
    needed: Node


class Recipe(msgspec.Struct, frozen=True):
    """A bake and everything that it depends on in its repo, nearest first."""

    base_model: str
    bakes: dict[str, Row]
    """Name -> effective settings, in the form of `overrides`."""
    targets: dict[str, Row | None]
    """Name -> effective settings; None: the target was deleted, and no copy is left."""
    prompts: dict[str, Prompt | None]
    """Name -> content; None as above."""
    edges: list[Edge]
    model_names: dict[str, list[str]]
    """Bake -> names of its finished checkpoints: the live one, then the others, newest first."""


class Step(msgspec.Struct, frozen=True):
    """One call of a recreation plan."""

    action: str
    resource: Node
    dependencies: list[str]
    """`type:name` or `type:name:state`."""
    config: Row
    """Settings of the resource; a run step repeats them, since scripts create a resource before they run it."""


class Branch(msgspec.Struct, frozen=True):
    """One bake of a repo's tree."""

    status: str
    model_names: list[str]
    steps: list[int]
    config: Row


class Tree(msgspec.Struct, frozen=True):
    base_model: str
    bakes: dict[str, Branch]
    edges: list[Edge]
    """Between bakes of this repo only."""


def recipe(catalog: Catalog, user: str, repo: str, bake: str) -> Recipe:
    """Everything that `bake` depends on, breadth first. Raises: NotFoundError."""
    bakes.get(catalog, user, repo, bake)
    return _Reader(catalog, user, repo).read(Node("bake", bake))


def recreation_plan(made_of: Recipe, bake: str) -> list[Step]:
    """The calls that make the bake again, in order of their dependencies."""
    needs: dict[Node, list[Node]] = {}
    for source, needed in made_of.edges:
        needs.setdefault(source, []).append(needed)
    return [step for node in _in_order(Node("bake", bake), needs, set()) for step in _steps(node, needs, made_of)]


def tree(catalog: Catalog, user: str, repo: str) -> Tree:
    """All bakes of the repo and their parents. Raises: NotFoundError if there is no such repo."""
    reader = _Reader(catalog, user, repo)
    branches: dict[str, Branch] = {}
    edges: list[Edge] = []
    for name in catalog.names("bakes", user, repo):
        job = catalog.store.jobs.latest_bake(user, repo, name)
        checkpoints = bakes.live_first(catalog, user, repo, name).checkpoints
        config, parent = reader.bake(name)
        branches[name] = Branch(
            status=_tree_status(job),
            model_names=[checkpoint.name for checkpoint in checkpoints],
            steps=[checkpoint.step for checkpoint in checkpoints],
            config=config,
        )
        if parent is not None:
            edges.append(Edge(Node("bake", name), Node("bake", parent)))
    return Tree(catalog.repo(user, repo).base_model, branches, edges)


def _tree_status(job: Job | None) -> str:
    return JobState.PENDING if job is None else job.state


class _Reader:
    """Walks from a bake to everything that it depends on."""

    def __init__(self, catalog: Catalog, user: str, repo: str) -> None:
        self._catalog, self._user, self._repo = catalog, user, repo
        self._base_model = catalog.repo(user, repo).base_model
        self._snapshots: dict[str, TargetSnapshot] = {}
        self._prompts: dict[str, Prompt | None] = {}

    def read(self, root: Node) -> Recipe:
        bakes: dict[str, Row] = {}
        targets: dict[str, Row | None] = {}
        edges: list[Edge] = []
        queue = [root]
        for node in queue:  # it grows while it is walked
            match node.kind:
                case "bake":
                    bakes[node.name], parent = self.bake(node.name)
                    needed = [] if parent is None else [Node("bake", parent)]
                    names = dict.fromkeys(entry["target"] for entry in bakes[node.name]["datasets"])
                    needed += [Node("target", name) for name in names]
                case "target":
                    targets[node.name], needed = self._target(node.name)
                case "prompt":
                    needed = []
            edges += [Edge(node, other) for other in needed]
            queue += [other for other in needed if other not in queue]
        return Recipe(
            base_model=self._base_model,
            bakes=bakes,
            targets=targets,
            prompts={node.name: self._prompts[node.name] for node in queue if node.kind == "prompt"},
            edges=edges,
            model_names={name: self._model_names(name) for name in bakes},
        )

    def bake(self, name: str) -> tuple[Row, str | None]:
        """The bake's settings, and its parent if that is a bake of this repo."""
        config = bakes.get(self._catalog, self._user, self._repo, name)
        row = _plain(config)
        job = self._catalog.store.jobs.latest_bake(self._user, self._repo, name)
        if job is not None:
            for target, snapshot in job.inputs.targets.items():
                self._snapshots.setdefault(target, snapshot)
        spelled = config.parent
        if spelled is None:
            return row, None
        checkpoint = None if job is None else job.inputs.checkpoint
        parent = self._bake_of_repo(checkpoint or spelled)
        if checkpoint is None and parent is not None:
            checkpoint = next(iter(self._model_names(parent)), None)
        row["model"]["parent_model_name"] = checkpoint or spelled
        row.pop("model_name", None)  # repeats the parent, or has no effect
        return row, parent

    def _target(self, name: str) -> tuple[Row | None, list[Node]]:
        config = self._target_config(name)
        if config is None:
            return None, []
        snapshot = self._snapshots.get(name)
        templates = self._templates(name) if snapshot is None else snapshot.templates
        nodes = []
        for prompt, copy in (
            (config.teacher_prompt, snapshot and snapshot.teacher),
            (config.student_prompt, snapshot and snapshot.student),
        ):
            if prompt:
                self._prompts.setdefault(prompt, copy or self._catalog.store.prompt(self._user, self._repo, prompt))
                nodes.append(Node("prompt", prompt))
        parent = None if config.model_name is None else self._bake_of_repo(config.model_name)
        if parent is not None:
            nodes.append(Node("bake", parent))
        row = _plain(config)
        for generator in row["generators"]:
            if (text := templates.get(generator.get("template_path"))) is not None:
                generator["template_content"] = text
        return row, list(dict.fromkeys(nodes))

    def _target_config(self, name: str) -> TargetConfig | None:
        if (snapshot := self._snapshots.get(name)) is not None:
            return snapshot.config
        try:
            return targets.get(self._catalog, self._user, self._repo, name)
        except NotFoundError:
            return None

    def _templates(self, target: str) -> dict[str, str]:
        return targets.templates(self._catalog, self._user, self._repo, target)

    def _bake_of_repo(self, model: str) -> str | None:
        """The bake that a spelled model name means, if it is one of this repo."""
        ref = parse_model_name(model)
        if ref is None or ref.repo != self._repo or ref.user not in (None, self._user):
            return None
        return ref.bake if ref.bake in self._catalog.names("bakes", self._user, self._repo) else None

    def _model_names(self, bake: str) -> list[str]:
        known = bakes.live_first(self._catalog, self._user, self._repo, bake).checkpoints
        return [checkpoint.name for checkpoint in known]


def _in_order(node: Node, needs: dict[Node, list[Node]], seen: set[Node]) -> Iterator[Node]:
    """The node after everything that it needs. A circle (a target answered by a later version of the bake that uses
    it) is cut where it closes."""
    if node in seen:
        return
    seen.add(node)
    for needed in needs.get(node, []):
        yield from _in_order(needed, needs, seen)
    yield node


def _steps(node: Node, needs: dict[Node, list[Node]], made_of: Recipe) -> list[Step]:
    needed = needs.get(node, [])
    prompts = [f"prompt:{name}" for kind, name in needed if kind == "prompt"]
    targets = [f"target:{name}:rollout_complete" for kind, name in needed if kind == "target"]
    bakes = [f"bake:{name}:complete" for kind, name in needed if kind == "bake"]
    match node.kind:
        case "prompt":
            prompt = made_of.prompts[node.name]
            return [] if prompt is None else [Step("create_prompt", node, [], _plain(prompt))]
        case "target":
            config = made_of.targets[node.name]
            if config is None:
                return []
            return [
                Step("create_target", node, [*prompts, *bakes], config),
                Step("run_stim", node, [f"target:{node.name}"], config),
                Step("run_rollout", node, [f"target:{node.name}:stim_complete"], config),
            ]
        case "bake":
            config = made_of.bakes[node.name]
            return [
                Step("create_bake", node, [*targets, *bakes], config),
                Step("run_bake", node, [f"bake:{node.name}"], config),
            ]


def _plain(settings: BakeConfig | TargetConfig | Prompt) -> Row:
    """Settings in a form that clients can send back: unset fields are left out, not null."""
    plain: Row = _without_nulls(msgspec.to_builtins(settings))
    return plain


def _without_nulls(value: Any) -> Any:
    # Not within lists: a message's null content means something.
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value
