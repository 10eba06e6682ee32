"""The publish gate: nothing is served that was not proved.

An adapter that was trained here is proved by its parity certificate: the engine's log-probabilities of the pinned
sequences must agree with the trainer's. An adapter from elsewhere is probed: its files must fit, the engine must load
it and answer with finite numbers. If a certificate came with it, that is compared too.
"""

import asyncio
import logging
import math
from pathlib import Path
from typing import Protocol

from baker.adapters import parity
from baker.adapters.files import check_adapter
from baker.adapters.parity import PinnedSequence, ServedLogprobs, read_parity
from baker.errors import AdapterError
from baker.types import Checkpoint

log = logging.getLogger(__name__)

PROBE_IDS = list(range(1, 17))
"""Token ids that every model has. What they mean does not matter."""


class AdapterEngine(Protocol):
    """The engine's side of adapters."""

    @property
    def path(self) -> Path:
        """Folder of the base model."""
        ...

    @property
    def max_lora_rank(self) -> int: ...

    async def load(self, name: str, path: Path) -> None: ...

    async def unload(self, name: str) -> None: ...

    def rename(self, name: str, new_name: str, path: Path) -> None: ...

    async def score(self, context_ids: list[int], response_ids: list[int], adapter: str | None) -> list[float]: ...


class Gate:
    def __init__(self, engine: AdapterEngine) -> None:
        self._engine = engine

    async def prove(self, checkpoint: Checkpoint) -> None:
        """See `baker.versions.publishing.Publisher`."""
        await self.prepare(checkpoint)
        try:
            await self._check_parity(checkpoint.name, checkpoint.path)
        except AdapterError:
            await self._engine.unload(checkpoint.name)
            raise

    async def prepare(self, checkpoint: Checkpoint) -> None:
        """Check the files of a checkpoint that was proved before, and load it. Raises: AdapterError; EngineError."""
        await self._check_files(checkpoint.path)
        await self._engine.load(checkpoint.name, checkpoint.path)

    async def _check_files(self, folder: Path) -> None:
        await asyncio.to_thread(check_adapter, folder, max_rank=self._engine.max_lora_rank, base=self._engine.path)

    async def _check_parity(self, name: str, folder: Path) -> None:
        sequences = read_parity(folder).sequences
        served = [await self._served(sequence, name) for sequence in sequences]
        comparison = parity.compare(sequences, served)
        if comparison is None:
            raise AdapterError(f"the parity certificate of {name!r} holds no sequence to compare")
        log.info(
            "%s: served and trained log-probabilities differ by %.4f nats, the bake's effect is %.4f; "
            "it is served at strength %.3f, give or take %.3f",
            name,
            *comparison[:4],
        )
        if comparison.complaint:
            raise AdapterError(f"the engine's log-probabilities of {name!r} {comparison.complaint}")

    async def _served(self, sequence: PinnedSequence, name: str) -> ServedLogprobs:
        ids = sequence.context_ids, sequence.response_ids
        return ServedLogprobs(*await asyncio.gather(self._engine.score(*ids, name), self._engine.score(*ids, None)))

    async def probe(self, files: Path) -> bool:
        """Check an adapter without a certificate and have the engine answer with it.

        It stays loaded, for `rename_probed` or `forget_probed`.
        Returns: whether the adapter changes any log-probability. Raises: AdapterError; EngineError.
        """
        await self._check_files(files)
        name = _probed(files)
        await self._engine.load(name, files)
        served, base = await asyncio.gather(*(self._engine.score([0], PROBE_IDS, adapter) for adapter in (name, None)))
        if not all(map(math.isfinite, served)):
            raise AdapterError("the engine's log-probabilities with this adapter are not finite")
        return served != base

    async def prove_probed(self, files: Path) -> None:
        """Compare a probed adapter with the certificate in its folder. Raises: AdapterError; EngineError."""
        await self._check_parity(_probed(files), files)

    def rename_probed(self, files: Path, checkpoint: Checkpoint) -> None:
        """Give a probed adapter its name, after its files were moved to the checkpoint's folder. It stays loaded."""
        self._engine.rename(_probed(files), checkpoint.name, checkpoint.path)

    async def forget_probed(self, files: Path) -> None:
        """Unload what `probe` loaded, whether or not it succeeded. No effect after `rename_probed`."""
        await self._engine.unload(_probed(files))


def _probed(files: Path) -> str:
    """Name of an adapter while it is probed. No user's name can begin with a dot."""
    return f".probe/{files.name}"
