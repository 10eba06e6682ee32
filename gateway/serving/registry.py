"""Which checkpoint a name points to.

A checkpoint is an adapter with a name of its own and never changes; `repo/bake` points to one of its bake's, the newest
that was let through unless somebody chose another, and moving that pointer is the hot swap. Requests in flight end on
the adapter that they began with. Which adapters are in memory is the engine's business: it loads on demand.
"""

import asyncio
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from baker.adapters import parity
from baker.adapters.files import check_adapter
from baker.adapters.parity import PinnedSequence, read_parity
from baker.errors import AdapterError
from baker.model_names import (
    STRENGTH_RULE,
    BaseModelNames,
    at_strength,
    held_back_message,
    nearest,
    shortened,
)
from baker.repos.models import HeldBack, Lookup, Plain, meaning_of
from baker.types import Checkpoint
from gateway.errors import UnknownModelError
from gateway.serving.pointers import Bakes, Model, Versions

log = logging.getLogger(__name__)

PROBE_IDS = list(range(1, 17))
"""Tokens that every model has; what they mean is no matter."""


class AdapterEngine(Protocol):
    """What the registry needs of the engine."""

    @property
    def path(self) -> Path: ...

    @property
    def max_lora_rank(self) -> int: ...

    async def load(self, name: str, path: Path) -> None: ...

    async def unload(self, name: str) -> None: ...

    def rename(self, name: str, new_name: str, path: Path) -> None: ...

    async def score(self, context_ids: list[int], response_ids: list[int], adapter: str | None) -> list[float]: ...


class Registry:
    def __init__(self, engine: AdapterEngine, base: BaseModelNames) -> None:
        self._engine = engine
        self._base = base
        self._users: dict[str, Bakes] = {}
        # In requests, only the embedded model's aliases mean another model; in configs, any name may.
        self._lookup = Lookup(self._find, self._newest_first, lambda name, ref: base.is_alias(name))
        self.swaps = 0
        """How often a name was moved to another checkpoint."""

    @property
    def count(self) -> int:
        """Checkpoints that can be asked for."""
        return sum(len(versions) for bakes in self._users.values() for versions in bakes.versions.values())

    def restore(self, newest_first: list[Checkpoint], latest_moved_first: list[Checkpoint]) -> None:
        """Know the finished checkpoints again after a start; each is loaded when it is first asked for.

        Args: latest_moved_first: those that a name was moved to.
        """
        for checkpoint in reversed(newest_first):
            self.register(checkpoint)
        for checkpoint in reversed(latest_moved_first):
            self._versions(checkpoint).point_to(checkpoint.step)

    def _versions(self, checkpoint: Checkpoint) -> Versions:
        return self._users.setdefault(checkpoint.user, Bakes()).of(checkpoint)

    async def prove(self, checkpoint: Checkpoint) -> None:
        """See `baker.ports.Publisher`."""
        await self._check_files(checkpoint.path)
        await self._engine.load(checkpoint.name, checkpoint.path)
        try:
            await self._check_parity(checkpoint)
        except AdapterError:
            await self._engine.unload(checkpoint.name)
            raise

    async def prepare(self, checkpoint: Checkpoint) -> None:
        """Before a name moves back to it: see that its files are whole, and have the engine load it.

        Raises: AdapterError; EngineError.
        """
        await self._check_files(checkpoint.path)
        await self._engine.load(checkpoint.name, checkpoint.path)

    async def _check_files(self, folder: Path) -> None:
        await asyncio.to_thread(check_adapter, folder, max_rank=self._engine.max_lora_rank, base=self._engine.path)

    async def _check_parity(self, checkpoint: Checkpoint) -> None:
        sequences = read_parity(checkpoint.path).sequences
        found = parity.compare(sequences, [await self._served(sequence, checkpoint.name) for sequence in sequences])
        if found is None:
            raise AdapterError(f"the parity certificate of {checkpoint.name!r} holds no sequence to compare")
        log.info(
            "%s: served and trained log-probabilities differ by %.4f nats, the bake's effect is %.4f; "
            "it is served at strength %.3f, give or take %.3f",
            checkpoint.name,
            *found[:4],
        )
        if found.complaint:
            raise AdapterError(f"the engine's log-probabilities of {checkpoint.name!r} {found.complaint}")

    async def _served(self, sequence: PinnedSequence, name: str) -> parity.ServedLogprobs:
        ids = sequence.context_ids, sequence.response_ids
        return parity.ServedLogprobs(
            *await asyncio.gather(self._engine.score(*ids, name), self._engine.score(*ids, None))
        )

    async def probe(self, files: Path) -> bool:
        """For an adapter without a certificate: see that its files are whole and fit the base model, that the engine
        loads it, and that it answers with it. It stays loaded, for `publish_probed` or `forget_probed`.

        Returns: whether it changes what the engine expects. Raises: AdapterError; EngineError.
        """
        await self._check_files(files)
        name = _probed(files)
        await self._engine.load(name, files)
        served, base = await asyncio.gather(*(self._engine.score([0], PROBE_IDS, adapter) for adapter in (name, None)))
        if not all(map(math.isfinite, served)):
            raise AdapterError("the engine's log-probabilities with this adapter are not finite")
        return served != base

    def publish_probed(self, files: Path, checkpoint: Checkpoint) -> None:
        """Publish the checkpoint to which these files were moved: its first request finds it loaded."""
        self._engine.rename(_probed(files), checkpoint.name, checkpoint.path)
        self.publish(checkpoint)

    async def forget_probed(self, files: Path) -> None:
        """Free what `probe` took, whether it came to its end or not; nothing if it was published."""
        await self._engine.unload(_probed(files))

    def register(self, checkpoint: Checkpoint) -> None:
        """See `baker.ports.Publisher`."""
        self._versions(checkpoint).add(checkpoint)

    def publish(self, checkpoint: Checkpoint) -> None:
        """See `baker.ports.Publisher`."""
        self.register(checkpoint)
        self._versions(checkpoint).point_to(checkpoint.step)
        self.swaps += 1

    def withdraw(self, user: str, repo: str | None = None, bake: str | None = None) -> list[Checkpoint]:
        """Route nothing any more to the bake, or to all of the repo or the user.

        Returns: the checkpoints that this took, which may still be answering.
        """
        bakes = self._users.get(user, Bakes()).versions
        going = [key for key in bakes if repo in (None, key[0]) and bake in (None, key[1])]
        taken = [checkpoint for key in going for checkpoint in bakes.pop(key).newest_first]
        if not bakes:
            self._users.pop(user, None)
        return taken

    async def retire(self, checkpoint: Checkpoint) -> None:
        """See `baker.ports.Publisher`."""
        self._users.get(checkpoint.user, Bakes()).remove(checkpoint)
        await self._engine.unload(checkpoint.name)

    async def unload(self, checkpoints: list[Checkpoint]) -> None:
        """Wait for what runs on them and free their slots; after that their files may go."""
        await asyncio.gather(*(self._engine.unload(checkpoint.name) for checkpoint in checkpoints))

    def resolve(self, name: str, user: str) -> Model:
        """What `name` means to `user`. Raises: NotFoundError with the nearest names that are served."""
        meaning = meaning_of(name, user, self._base, self._lookup)
        if meaning.strength is None:
            raise UnknownModelError(f"The model {shortened(name)!r} does not exist: {STRENGTH_RULE}")
        match meaning.model:
            case Plain.BASE:
                return Model(name, None)
            case Checkpoint() as checkpoint:
                return Model(at_strength(checkpoint.name, meaning.strength), checkpoint)
            case HeldBack(checkpoints):
                raise UnknownModelError(held_back_message(meaning.whole, checkpoints))
            case Plain.REPLACED:
                return Model(self._base.served, None)
            case Plain.UNKNOWN:
                served = nearest(name, self._names(user), 3)
                raise UnknownModelError(
                    f"The model {shortened(name)!r} does not exist. Served here, nearest first: {', '.join(served)}"
                )

    def _find(self, owner: str, repo: str, bake: str, step: int | None) -> Checkpoint | None:
        return self._users.get(owner, Bakes()).find(repo, bake, step)

    def _newest_first(self, owner: str, repo: str, bake: str) -> list[Checkpoint]:
        versions = self._users.get(owner, Bakes()).versions.get((repo, bake))
        return [] if versions is None else versions.newest_first

    def _names(self, user: str) -> Iterator[str]:
        yield self._base.served
        yield from self._users.get(user, Bakes()).names()

    def models(self, user: str) -> list[Model]:
        """The base model; then the names of `user`'s bakes, each before its checkpoints, all newest first."""
        models = [Model(self._base.served, None)]
        for versions in self._users.get(user, Bakes()).newest_first():
            if (live := versions.live) is not None:
                models.append(Model(f"{live.repo}/{live.bake}", live))
            models += [Model(checkpoint.name, checkpoint) for checkpoint in versions.newest_first]
        return models


def _probed(files: Path) -> str:
    """What an adapter is called before it has a name; no user's name can be so."""
    return f".probe/{files.name}"
