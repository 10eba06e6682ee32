"""What a model's name means now: the pointers in memory, which every request goes through.

A checkpoint is an adapter with its own name and never changes. `repo/bake` points to one of its bake's checkpoints, and
moving that pointer is the hot swap. Requests in flight finish on the adapter that they started with. The engine decides
which adapters are in memory: it loads them on demand.
"""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

from baker.errors import InvalidInputError, NotFoundError
from baker.history.revisions import RepoView
from baker.model_names import STRENGTH_RULE, BaseModelNames, at_strength, held_back_message, nearest, shortened
from baker.repos.models import HeldBack, Lookup, NotABake, meaning_of
from baker.types import Checkpoint
from gateway.errors import UnknownModelError
from gateway.serving.gate import AdapterEngine, Gate
from gateway.serving.pointers import Bakes, Model, Versions


class Registry:
    def __init__(self, engine: AdapterEngine, base: BaseModelNames) -> None:
        self._engine = engine
        self.gate = Gate(engine)
        self._base = base
        self._users: dict[str, Bakes] = {}
        # In requests, only the embedded model's aliases mean another model; in configs, any name may.
        self._lookup = Lookup(self._find, self._at_revision, self._newest_first, lambda name, ref: base.is_alias(name))
        self.swaps = 0
        """Number of times that a name moved to another checkpoint."""

    @property
    def count(self) -> int:
        """Number of checkpoints that requests can name."""
        return sum(len(versions) for bakes in self._users.values() for versions in bakes.versions.values())

    def restore(
        self, newest_first: list[Checkpoint], latest_moved_first: list[Checkpoint], views: Iterable[RepoView] = ()
    ) -> None:
        """Fill the registry after a start. The engine loads each checkpoint at its first request.

        Args:
            newest_first: all checkpoints that are served.
            latest_moved_first: the checkpoints that a name was moved to.
            views: of all repos.
        """
        for checkpoint in reversed(newest_first):
            self.register(checkpoint)
        for checkpoint in reversed(latest_moved_first):
            self._versions(checkpoint).point_to(checkpoint.step)
        for view in views:
            self.show(view)

    def show(self, view: RepoView) -> None:
        """See `baker.versions.publishing.Publisher`."""
        self._users.setdefault(view.user, Bakes()).views[view.repo] = view

    def _versions(self, checkpoint: Checkpoint) -> Versions:
        return self._users.setdefault(checkpoint.user, Bakes()).of(checkpoint)

    async def prove(self, checkpoint: Checkpoint) -> None:
        """See `baker.versions.publishing.Publisher`."""
        await self.gate.prove(checkpoint)

    def publish_probed(self, files: Path, checkpoint: Checkpoint) -> None:
        """Publish the checkpoint that these probed files were moved to. Its first request finds it loaded."""
        self.gate.rename_probed(files, checkpoint)
        self.publish(checkpoint)

    def register_probed(self, files: Path, checkpoint: Checkpoint) -> None:
        """As `publish_probed`, under its own name only."""
        self.gate.rename_probed(files, checkpoint)
        self.register(checkpoint)

    def register(self, checkpoint: Checkpoint) -> None:
        """See `baker.versions.publishing.Publisher`."""
        self._versions(checkpoint).add(checkpoint)

    def publish(self, checkpoint: Checkpoint) -> None:
        """See `baker.versions.publishing.Publisher`."""
        self.register(checkpoint)
        self._versions(checkpoint).point_to(checkpoint.step)
        self.swaps += 1

    def withdraw(self, user: str, repo: str | None = None, bake: str | None = None) -> list[Checkpoint]:
        """Stop resolving the names of a bake, or of all bakes of a repo or user.

        Returns: their checkpoints. Requests in flight may still use them.
        """
        of_user = self._users.get(user, Bakes())
        bakes = of_user.versions
        keys = [key for key in bakes if repo in (None, key[0]) and bake in (None, key[1])]
        withdrawn = [checkpoint for key in keys for checkpoint in bakes.pop(key).newest_first]
        for name in [name for name in of_user.views if bake is None and repo in (None, name)]:
            del of_user.views[name]
        if not bakes and not of_user.views:
            self._users.pop(user, None)
        return withdrawn

    def replace(
        self, user: str, repo: str, bake: str, newest_first: list[Checkpoint], latest_moved_first: list[Checkpoint]
    ) -> list[Checkpoint]:
        """Let a bake have these checkpoints, and its name the moves to some of them. Returns: those that it had before
        and has no more. Requests in flight may still use them."""
        withdrawn = self.withdraw(user, repo, bake)
        self.restore(newest_first, latest_moved_first)
        self.swaps += bool(latest_moved_first)
        return [checkpoint for checkpoint in withdrawn if not self.serves(checkpoint)]

    def serves(self, checkpoint: Checkpoint) -> bool:
        """Whether a name means the checkpoint, which may have been withdrawn before."""
        return self._find(checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step) == checkpoint

    async def retire(self, checkpoint: Checkpoint) -> None:
        """See `baker.versions.publishing.Publisher`."""
        self._users.get(checkpoint.user, Bakes()).remove(checkpoint)
        await self._engine.unload(checkpoint.name)

    async def unload(self, checkpoints: list[Checkpoint]) -> None:
        """Wait for the requests on them and free their slots. Then their files may be removed."""
        await asyncio.gather(*(self._engine.unload(checkpoint.name) for checkpoint in checkpoints))

    def resolve(self, name: str, user: str) -> Model:
        """What `name` means to `user`. Raises: NotFoundError with the nearest names that are served."""
        try:
            meaning = meaning_of(name, user, self._base, self._lookup)
        except (InvalidInputError, NotFoundError) as error:
            raise UnknownModelError(f"The model {shortened(name)!r} does not exist: {error.message}") from error
        if meaning.strength is None:
            raise UnknownModelError(f"The model {shortened(name)!r} does not exist: {STRENGTH_RULE}")
        match meaning.model:
            case NotABake.BASE:
                return Model(name, None)
            case Checkpoint() as checkpoint:
                return Model(at_strength(checkpoint.name, meaning.strength), checkpoint)
            case HeldBack(checkpoints):
                raise UnknownModelError(held_back_message(meaning.bare_name, checkpoints))
            case NotABake.REPLACED:
                return Model(self._base.served, None)
            case NotABake.UNKNOWN:
                served = nearest(name, self._names(user), 3)
                raise UnknownModelError(
                    f"The model {shortened(name)!r} does not exist. Served here, nearest first: {', '.join(served)}"
                )

    def _find(self, owner: str, repo: str, bake: str, step: int | None) -> Checkpoint | None:
        return self._users.get(owner, Bakes()).find(repo, bake, step)

    def _at_revision(self, owner: str, repo: str, revision: str) -> Checkpoint | None:
        return self._users.get(owner, Bakes()).at_revision(repo, revision)

    def _newest_first(self, owner: str, repo: str, bake: str) -> list[Checkpoint]:
        versions = self._users.get(owner, Bakes()).versions.get((repo, bake))
        return [] if versions is None else versions.newest_first

    def _names(self, user: str) -> Iterator[str]:
        yield self._base.served
        yield from self._users.get(user, Bakes()).names()

    def models(self, user: str) -> list[Model]:
        """The base model; the user's bakes, newest first, each name followed by its checkpoints; branches and tags."""
        models = [Model(self._base.served, None)]
        bakes = self._users.get(user, Bakes())
        for versions in bakes.newest_first():
            if (live := versions.live) is not None:
                models.append(Model(f"{live.repo}/{live.bake}", live))
            models += [Model(checkpoint.name, checkpoint) for checkpoint in versions.newest_first]
        models += [Model(f"{view.repo}/{ref.name}", checkpoint, ref) for view, ref, checkpoint in bakes.refs()]
        return models
