"""Which checkpoints each bake has, and which one its name points to."""

from collections.abc import Iterator
from typing import NamedTuple

from baker.errors import NotFoundError
from baker.history.ref_table import Ref, RefKind
from baker.history.revisions import RepoView, model_of
from baker.model_names import parse_model_name
from baker.types import Checkpoint


class Model(NamedTuple):
    """A model as clients see it."""

    name: str
    """In answers the version's own name, with its strength if that isn't 1. In lists also the bake's name."""
    checkpoint: Checkpoint | None
    """None: the base model."""
    ref: Ref | None = None
    """The branch or tag of this name, in lists."""


class Versions:
    """The finished checkpoints of one bake, and the one that its name points to."""

    def __init__(self) -> None:
        self._by_step: dict[int, Checkpoint] = {}
        """Oldest first."""
        self._moves: dict[int, None] = {}
        """Steps that the name was moved to. It points to the last one."""

    def __len__(self) -> int:
        return len(self._by_step)

    @property
    def live(self) -> Checkpoint | None:
        step = next(reversed(self._moves), None)
        return None if step is None else self._by_step[step]

    @property
    def newest_first(self) -> list[Checkpoint]:
        return list(reversed(self._by_step.values()))

    def find(self, step: int) -> Checkpoint | None:
        return self._by_step.get(step)

    def add(self, checkpoint: Checkpoint) -> None:
        """Add the checkpoint as the newest. It replaces another one of the same step."""
        known = self.find(checkpoint.step)
        if known is None or known.path != checkpoint.path:
            self._drop(checkpoint.step)
            self._by_step[checkpoint.step] = checkpoint

    def point_to(self, step: int) -> None:
        self._moves.pop(step, None)
        self._moves[step] = None

    def remove(self, checkpoint: Checkpoint) -> None:
        """Remove the checkpoint, but not another one of the same step. If the bake's name pointed to it, the name moves
        back to where it pointed before."""
        if (known := self.find(checkpoint.step)) is not None and known.path == checkpoint.path:
            self._drop(checkpoint.step)

    def _drop(self, step: int) -> None:
        self._by_step.pop(step, None)
        self._moves.pop(step, None)


class Bakes:
    """The bakes of one user."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, str], Versions] = {}
        self.views: dict[str, RepoView] = {}
        """Repo -> its names and commits: what branches, tags and steps such as `~1` mean."""

    def of(self, checkpoint: Checkpoint) -> Versions:
        """The versions of the checkpoint's bake, to change."""
        return self.versions.setdefault((checkpoint.repo, checkpoint.bake), Versions())

    def remove(self, checkpoint: Checkpoint) -> None:
        key = (checkpoint.repo, checkpoint.bake)
        if (versions := self.versions.get(key)) is None:
            return
        versions.remove(checkpoint)
        if not versions:
            del self.versions[key]

    def find(self, repo: str, bake: str, step: int | None) -> Checkpoint | None:
        """Args: step: None for the checkpoint that the bake's name points to."""
        versions = self.versions.get((repo, bake), Versions())
        return versions.live if step is None else versions.find(step)

    def at_revision(self, repo: str, revision: str) -> Checkpoint | None:
        """See `baker.repos.models.AtRevision`."""
        if (view := self.views.get(repo)) is None or (name := model_of(view, revision)) is None:
            return None
        checkpoint = self._named(name)
        if checkpoint is None:
            raise NotFoundError(f"'{repo}/{revision}' is {name}, which is not served here")
        return checkpoint

    def _named(self, full_name: str) -> Checkpoint | None:
        ref = parse_model_name(full_name)
        return None if ref is None else self.find(ref.repo, ref.bake, ref.step)

    def refs(self) -> Iterator[tuple[RepoView, Ref, Checkpoint]]:
        """The branches and tags that can be chatted with: a bake's name goes before theirs."""
        for view in self.views.values():
            for ref in view.refs.values():
                checkpoint = self._named(view.models.get(ref.target, ""))
                if checkpoint is not None and ref.kind is not RefKind.REMOTE and ref.name not in view.bakes:
                    yield view, ref, checkpoint

    def newest_first(self) -> list[Versions]:
        """The bake with the newest checkpoint first."""
        return sorted(self.versions.values(), key=lambda versions: versions.newest_first[0].job_id, reverse=True)

    def names(self) -> Iterator[str]:
        for (repo, bake), versions in reversed(self.versions.items()):
            if versions.live is not None:
                yield f"{repo}/{bake}"
            yield from (checkpoint.name for checkpoint in versions.newest_first)
        yield from (f"{view.repo}/{ref.name}" for view, ref, _ in self.refs())
