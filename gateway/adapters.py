"""Which checkpoint a name points to.

A checkpoint is an adapter with a name of its own and never changes; `repo/bake` points to the newest finished one, and
moving that pointer is the hot swap. Requests in flight end on the adapter that they began with. Which adapters are in
the device's memory is the engine's business: it loads on demand.
"""

import difflib
import logging
import statistics
from pathlib import Path
from typing import NamedTuple, Protocol

from baker.adapter_files import check_adapter, read_parity
from baker.errors import AdapterError, NotFoundError
from baker.models import BaseModelNames
from baker.names import parse_model_name
from baker.types import Checkpoint

log = logging.getLogger(__name__)

PARITY_TOLERANCE_NATS = 0.1
"""Mean difference of a token's log-probability between trainer and engine; bf16 rounding alone makes about 0.02."""


class AdapterEngine(Protocol):
    """What the registry needs of the engine."""

    @property
    def max_lora_rank(self) -> int: ...

    async def load(self, name: str, path: Path) -> None: ...

    async def unload(self, name: str) -> None: ...

    async def score(self, context_ids: list[int], response_ids: list[int], adapter: str | None) -> list[float]: ...


class Model(NamedTuple):
    """A model as clients see it."""

    name: str
    checkpoint: Checkpoint | None
    """None: the base model."""


BakeKey = tuple[str, str, str]


class Adapters:
    def __init__(self, engine: AdapterEngine, base: BaseModelNames) -> None:
        self._engine = engine
        self._base = base
        self._bakes: dict[BakeKey, list[Checkpoint]] = {}
        self.swaps = 0
        """How often a name was moved to another checkpoint."""

    @property
    def count(self) -> int:
        """Checkpoints that can be asked for."""
        return sum(map(len, self._bakes.values()))

    def restore(self, newest_first: list[Checkpoint]) -> None:
        """Know the finished checkpoints again after a start; each is loaded when it is first asked for."""
        for checkpoint in newest_first:
            self._bakes.setdefault(_key(checkpoint), []).append(checkpoint)

    async def prove(self, checkpoint: Checkpoint) -> None:
        """See `baker.ports.Publisher`."""
        check_adapter(checkpoint.path, max_rank=self._engine.max_lora_rank)
        await self._engine.load(checkpoint.name, checkpoint.path)
        try:
            await self._check_parity(checkpoint)
        except AdapterError:
            await self._engine.unload(checkpoint.name)
            raise

    async def _check_parity(self, checkpoint: Checkpoint) -> None:
        errors: list[float] = []
        effects: list[float] = []
        for sequence in read_parity(checkpoint.path).sequences:
            served = await self._engine.score(sequence.context_ids, sequence.response_ids, checkpoint.name)
            errors += [abs(a - b) for a, b in zip(served, sequence.logprobs, strict=True)]
            effects += [abs(a - b) for a, b in zip(sequence.base_logprobs, sequence.logprobs, strict=True)]
        if not errors:
            raise AdapterError(f"the parity certificate of {checkpoint.name!r} holds no sequence to compare")
        error, effect = statistics.fmean(errors), statistics.fmean(effects)
        log.info(
            "%s: served and trained log-probabilities differ by %.4f nats, the bake's effect is %.4f",
            checkpoint.name,
            error,
            effect,
        )
        allowed = PARITY_TOLERANCE_NATS + effect / 4
        if not error <= allowed:
            raise AdapterError(
                f"the engine's log-probabilities of {checkpoint.name!r} differ from the trainer's by {error:.3f} nats "
                f"a token, and {allowed:.3f} are allowed"
            )

    def publish(self, checkpoint: Checkpoint) -> None:
        """See `baker.ports.Publisher`."""
        known = self._bakes.get(_key(checkpoint), [])
        self._bakes[_key(checkpoint)] = [checkpoint, *(old for old in known if old.name != checkpoint.name)]
        self.swaps += 1

    def withdraw(self, user: str, repo: str, bake: str) -> list[Checkpoint]:
        """Route nothing to the bake any more. Returns: its checkpoints, which may still be answering."""
        return self._bakes.pop((user, repo, bake), [])

    async def unload(self, checkpoints: list[Checkpoint]) -> None:
        """Wait for what runs on them and free their slots; after that their files may go."""
        for checkpoint in checkpoints:
            await self._engine.unload(checkpoint.name)

    def resolve(self, name: str, user: str) -> Model:
        """What `name` means to `user`. Raises: NotFoundError with the nearest names that are served."""
        if self._base.is_served(name):
            return Model(name, None)
        if (ref := parse_model_name(name)) is not None and ref.user in (None, user):
            for checkpoint in self._bakes.get((user, ref.repo, ref.bake), []):
                if ref.step in (None, checkpoint.step):
                    return Model(checkpoint.name, checkpoint)
        if self._base.is_alias(name):
            return Model(self._base.served, None)
        served = [model.name for model in self.models(user)]
        nearest = difflib.get_close_matches(name, served, n=3, cutoff=0.0)
        raise NotFoundError(f"The model {name!r} does not exist. Served here, nearest first: {', '.join(nearest)}")

    def models(self, user: str) -> list[Model]:
        """The base model; then the names of `user`'s bakes, each before its checkpoints, all newest first."""
        mine = [known for key, known in self._bakes.items() if key[0] == user and known]
        mine.sort(key=lambda known: known[0].job_id, reverse=True)
        models = [Model(self._base.served, None)]
        for known in mine:
            models.append(Model(f"{known[0].repo}/{known[0].bake}", known[0]))
            models += [Model(checkpoint.name, checkpoint) for checkpoint in known]
        return models


def _key(checkpoint: Checkpoint) -> BakeKey:
    return checkpoint.user, checkpoint.repo, checkpoint.bake
