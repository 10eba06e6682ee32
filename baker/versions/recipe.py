"""What a bake is made of: its parents, its targets and their prompts, as they were when it ran.

Reads only. A started bake is described by the copies in its job, so its recipe stays true when prompts are changed, or
targets and parents deleted; any other bake by the repo as it is now. Its parent is the checkpoint that it began from,
whatever bears that bake's name today. Parents in another repo are not followed: their full name stays in the config.
"""

from typing import Literal, NamedTuple, TypeVar

import msgspec

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import NotFoundError
from baker.model_names import parse_model_name
from baker.repos import bakes, records, targets
from baker.repos.catalog import Catalog
from baker.storage.job import BakeJob, Job
from baker.storage.job_inputs import TargetSnapshot
from baker.storage.job_origins import BakeStart
from baker.storage.rows import Row
from baker.types import Prompt

Content = TypeVar("Content")
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

    repo: str
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
    deleted: dict[str, str] = {}
    """The bakes that were deleted since: name in this recipe -> name that the bake had."""
    merges: dict[str, Row] = {}
    """Merge -> its settings under `merge`, which name the bakes of this recipe."""


class Source(NamedTuple):
    """A bake of a repo, or the record of a deleted one."""

    start: BakeStart | None
    """Its latest run; None if it was never run."""
    config: Row
    """Effective settings, with the full name of the parent's checkpoint; the bake's name while the job waits for it."""
    parent: str | None
    """The bake that it began from, if that is one of the repo."""


class _Target(NamedTuple):
    """A target and what it names, as they were when its rollout was started, or as they are now."""

    config: TargetConfig
    teacher: Prompt | None
    """None: the prompt was deleted, or there is none."""
    student: Prompt | None
    templates: dict[str, str]
    parent: str | None
    """The bake that answered it, if that is one of the repo."""


def recipe(catalog: Catalog, user: str, repo: str, bake: str) -> Recipe:
    """Everything that `bake` depends on, breadth first. Raises: NotFoundError."""
    bakes.get(catalog, user, repo, bake)
    return Reader(catalog, user, repo).read(Node("bake", bake))


class Reader:
    """Walks from a bake to everything that it depends on.

    Reads the rows of all bakes of the repo in a few queries: one query per bake would take too long in a large repo.
    Bakes of different ages may have used different things of the same name: a second one is called `name.2`.
    """

    def __init__(self, catalog: Catalog, user: str, repo: str) -> None:
        self._catalog, self._user, self._repo = catalog, user, repo
        self._base_model = catalog.repo(user, repo).base_model
        self._bakes = catalog.store.configs("bakes", user, repo)
        """Name -> config as JSON."""
        self._starts = catalog.store.jobs.bake_starts(user, repo)
        self._labels = records.labels(catalog, user, repo)
        self.records = {self._labels[start.id]: start for start in catalog.store.jobs.deleted_bakes(user, repo)}
        """Name in recipes and trees -> run of a deleted bake."""
        self._written_by = catalog.store.checkpoints.jobs_of_repo(user, repo)
        self._live_first = bakes.all_live_first(catalog, user, repo)
        self._targets: dict[str, _Target | None] = {}
        self._prompts: dict[str, Prompt | None] = {}

    def read(self, root: Node) -> Recipe:
        bakes: dict[str, Row] = {}
        targets: dict[str, Row | None] = {}
        edges: list[Edge] = []
        queue = [root]
        for node in queue:  # it grows while it is walked
            match node.kind:
                case "bake":
                    bakes[node.name], needed = self._bake(node.name)
                case "target":
                    targets[node.name], needed = self._target(node.name)
                case "prompt":
                    needed = []
            edges += [Edge(node, other) for other in needed]
            queue += [other for other in needed if other not in queue]
        return Recipe(
            repo=self._repo,
            base_model=self._base_model,
            bakes=bakes,
            targets=targets,
            prompts={node.name: self._prompts[node.name] for node in queue if node.kind == "prompt"},
            edges=edges,
            model_names={name: self.model_names(name) for name in bakes},
            deleted={name: self.records[name].name for name in bakes if name in self.records},
            merges={name: merge for name, row in bakes.items() if (merge := self._merge(name, row["merge"]))},
        )

    def source(self, name: str) -> Source:
        """Args: name: of a bake of the repo, or one in `records`."""
        start, config = self._start(name), self._config(name)
        row = plain(config)
        checkpoint = None if start is None else start.checkpoint
        if config.parent is None and checkpoint is None:
            return Source(start, row, None)
        parent = self._bake_of_repo(config.parent) if checkpoint is None else self._origin(checkpoint, start)
        is_waiting = start is not None and start.is_waiting
        if checkpoint is None and parent is not None and not is_waiting:
            checkpoint = next(iter(self.model_names(parent)), None)
        row["model"]["parent_model_name"] = checkpoint or config.parent
        row.pop("model_name", None)  # repeats the parent, or has no effect
        return Source(start, row, parent)

    def further_parents(self, name: str) -> dict[str, str | None]:
        """Checkpoints that a merge continues besides the one that it began from -> their bakes of the repo."""
        start = self._start(name)
        if start is None or start.merge is None or self._config(name).merge.meant_kind != "merge":
            return {}
        return {side.checkpoint: self._origin(side.checkpoint, start) for side in start.merge.sides[1:]}

    def steps(self, name: str) -> list[int]:
        """Steps of the bake's checkpoints, the live one first; none of a deleted bake. Args: name: as for `source`."""
        return [] if name in self.records else self._live_first.get(name, [])

    def model_names(self, name: str) -> list[str]:
        """Names of these checkpoints."""
        return [f"{self._user}/{self._repo}/{name}/{step}" for step in self.steps(name)]

    def _start(self, name: str) -> BakeStart | None:
        return self.records.get(name) or self._starts.get(name)

    def _config(self, name: str) -> BakeConfig:
        if (record := self.records.get(name)) is not None and (job := self._job(record)) is not None:
            return job.config
        if name not in self._bakes:
            raise self._catalog.not_found("bakes", self._user, self._repo, name)
        return msgspec.json.decode(self._bakes[name], type=BakeConfig)

    def _merge_origins(self, name: str) -> list[str | None]:
        """The bakes of the versions that a merge adds up, and of its base; None for those that are not of this repo."""
        if (start := self._start(name)) is not None and start.merge is not None:
            named = [start.merge.base, *(side.checkpoint for side in start.merge.sides)]
            return [self._origin(each, start) for each in named if each is not None]
        return [other if other in self._bakes else None for other in self._config(name).merge.others]

    def _merge(self, name: str, settings: Row) -> Row | None:
        """The settings of a merge that ran, with names that mean the recreated bakes; None for other bakes."""
        start = self._start(name)
        if start is None or start.merge is None:
            return None
        into, *others = (self._revision(side.checkpoint, side.commit, start) for side in start.merge.sides)
        base, base_commit = start.merge.base, start.merge.base_commit
        known = {} if base is None or base_commit is None else {"base": self._revision(base, base_commit, start)}
        return {**settings, **(known if "base" in settings else {}), "into": into, "others": others}

    def _revision(self, checkpoint: str, commit: str, start: BakeStart) -> str:
        """The recreated bake of the checkpoint, with its step unless its name means that; else the commit's id."""
        origin, step = self._origin(checkpoint, start), int(checkpoint.rpartition("/")[2])
        if origin is None:
            return commit
        is_result = origin in self.records or self._live_first.get(origin, [step])[0] == step
        return origin if is_result else f"{origin}/{step}"

    def _job(self, start: BakeStart | None) -> BakeJob | None:
        return None if start is None else self._catalog.store.jobs.find_bake(start.id)

    def _bake(self, name: str) -> tuple[Row, list[Node]]:
        start, row, parent = self.source(name)
        job = self._job(start)
        needed = [] if parent is None else [Node("bake", parent)]
        needed += [Node("bake", origin) for origin in self._merge_origins(name) if origin is not None]
        for entry in row["datasets"]:
            target = entry["target"]
            snapshot = None if job is None else job.inputs.targets.get(target)
            content = self._target_now(target) if snapshot is None or job is None else self._target_then(snapshot, job)
            entry["target"] = _label(target, content, self._targets)
            needed.append(Node("target", entry["target"]))
        return row, list(dict.fromkeys(needed))

    def _target(self, name: str) -> tuple[Row | None, list[Node]]:
        target = self._targets[name]
        if target is None:
            return None, []
        row, nodes = plain(target.config), []
        for field, content in (("teacher_prompt", target.teacher), ("student_prompt", target.student)):
            if row.get(field):
                row[field] = _label(row[field], content, self._prompts)
                nodes.append(Node("prompt", row[field]))
        if target.parent is not None:
            nodes.append(Node("bake", target.parent))
        for generator in row["generators"]:
            if (text := target.templates.get(generator.get("template_path"))) is not None:
                generator["template_content"] = text
        return row, list(dict.fromkeys(nodes))

    def _target_then(self, snapshot: TargetSnapshot, job: BakeJob) -> _Target:
        named = snapshot.config.model_name
        parent = self._bake_of_repo(named) if snapshot.checkpoint is None else self._origin(snapshot.checkpoint, job)
        return _Target(snapshot.config, snapshot.teacher, snapshot.student, snapshot.templates, parent)

    def _target_now(self, name: str) -> _Target | None:
        place = self._catalog, self._user, self._repo
        try:
            config = targets.get(*place, name)
        except NotFoundError:
            return None
        rollout = self._catalog.store.jobs.latest_rollout(self._user, self._repo, name)
        answered = None if rollout is None else rollout.inputs.checkpoint
        parent = self._bake_of_repo(config.model_name) if answered is None else self._origin(answered, rollout)
        teacher, student = (
            self._catalog.store.prompt(self._user, self._repo, prompt) if prompt else Prompt()
            for prompt in (config.teacher_prompt, config.student_prompt)
        )
        return _Target(config, teacher, student, targets.templates(*place, name), parent)

    def _origin(self, checkpoint: str, user_of_it: BakeStart | Job | None) -> str | None:
        """The bake of the checkpoint that a run used, if it is one of this repo."""
        ref = parse_model_name(checkpoint)
        if ref is None or ref.step is None or (ref.user, ref.repo) != (self._user, self._repo):
            return None
        number = self._written_by.get((ref.bake, ref.step))
        if number in self._labels:
            return self._labels[number]
        if ref.bake not in self._bakes:
            return None
        if number is not None or user_of_it is None:
            return ref.bake
        # Without a row, an older version deleted the checkpoint: perhaps with its bake, whose name was given again.
        created = self._catalog.store.created("bakes", self._user, self._repo, ref.bake)
        return None if created is None or created > user_of_it.created else ref.bake

    def _bake_of_repo(self, model: str | None) -> str | None:
        """The bake that a spelled model name means now, if it is one of this repo."""
        ref = None if model is None else parse_model_name(model)
        if ref is None or ref.repo != self._repo or ref.user not in (None, self._user):
            return None
        return ref.bake if ref.bake in self._bakes else None


def _label(name: str, content: Content, known: dict[str, Content]) -> str:
    """The name under which `content` is known: its own, unless other content has it. Adds it to `known`."""
    label, number = name, 1
    while label in known and known[label] != content:
        number += 1
        label = f"{name}.{number}"
    known[label] = content
    return label


def plain(settings: BakeConfig | TargetConfig | Prompt) -> Row:
    """Settings in a form that clients can send back: unset fields are left out, not null."""
    return _without_nulls(msgspec.to_builtins(settings))


def _without_nulls(row: Row) -> Row:
    # Not within lists: a message's null content means something.
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in row.items()
        if value is not None
    }
