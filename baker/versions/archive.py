"""Packs a checkpoint for download: a gzip tar with what PEFT needs to load it, a model card, and the training's curves.

    jobs/<number>/archives/<step>.tar.gz
    jobs/<number>/archives/<step>.prompts.tar.gz    with the prompts in the card

The same checkpoint gives the same bytes, so that a download can be resumed and checked by its hash. The archive is in
its job's folder, so it is removed with the bake.
"""

import asyncio
import gzip
import io
import logging
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_adapter_config
from baker.errors import AdapterError, NotFoundError
from baker.ports import ServedModel
from baker.repos.catalog import Catalog
from baker.storage.files import new_file
from baker.storage.home import METRICS, PICTURE_SUFFIX, archive_file, job_folder
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint
from baker.versions.model_card import CURVES, Contents, model_card

log = logging.getLogger(__name__)

CARD = "README.md"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""Files of the base model that are added, if it has them."""

COMPRESSION_LEVEL = 1
"""Weights shrink to 0.93 (float32) or 0.80 (bfloat16) at 20 MB/s; level 6 takes up to three times as long for 0.01."""


def archive_name(bake: str, step: int) -> str:
    """Name of the archive without suffix, and of the folder in it."""
    return f"{bake}_checkpoint_{step}"


class Archives:
    """Makes each archive once, at its first download."""

    def __init__(self, home: Path, catalog: OneThread[Catalog], base: ServedModel) -> None:
        self._home = home
        self._catalog = catalog
        self._base = base
        self._one_at_a_time = asyncio.Lock()  # the other cores are for serving

    async def file_of(self, checkpoint: Checkpoint, *, with_prompts: bool = False) -> Path:
        """The archive. Raises: NotFoundError if the checkpoint was deleted meanwhile; OSError."""
        path = archive_file(job_folder(self._home, checkpoint.job_id), checkpoint.step, with_prompts)
        if not path.exists():
            async with self._one_at_a_time:
                if not path.exists():
                    await self._make(path, checkpoint, with_prompts)
        return path

    async def _make(self, path: Path, checkpoint: Checkpoint, with_prompts: bool) -> None:
        try:
            adapter = await asyncio.to_thread(read_adapter_config, checkpoint.path)
            base_name = adapter.base_model_name_or_path or self._base.name
            # If another model is served now, its tokenizer would be the wrong one.
            base = self._base.path if base_name == self._base.name else None
            files = await asyncio.to_thread(_files, self._home, checkpoint, base)
            contents = Contents(
                base_model=base_name,
                folder=archive_name(checkpoint.bake, checkpoint.step),
                rank=adapter.r,
                has_tokenizer=TOKENIZER_FILES[0] in files,
                has_curves=CURVES in files,
                has_prompts=with_prompts,
            )
            card = await self._catalog(model_card, checkpoint, contents)
            await asyncio.to_thread(write_archive_sync, path, checkpoint, files, card)
        except (AdapterError, FileNotFoundError) as error:
            log.warning("no archive of %s: %s", checkpoint.name, error)
            raise NotFoundError(f"The files of checkpoint {checkpoint.name!r} are gone") from error


def _files(home: Path, checkpoint: Checkpoint, base: Path | None) -> dict[str, Path]:
    """Name in the archive -> file. Args: base: folder of the base model, for its tokenizer."""
    files = {name: checkpoint.path / name for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
    picture = (job_folder(home, checkpoint.job_id) / METRICS).with_suffix(PICTURE_SUFFIX)
    optional = {} if base is None else {name: base / name for name in TOKENIZER_FILES}
    return files | {name: file for name, file in {**optional, CURVES: picture}.items() if file.is_file()}


def write_archive_sync(path: Path, checkpoint: Checkpoint, files: Mapping[str, Path], card: str) -> None:
    """Write the archive of `checkpoint` to `path`; a reader sees all of it or nothing. Blocks.

    Args: files: name in the archive -> file, besides the card.
    Raises: FileNotFoundError if files of the checkpoint, or its job's folder, are gone; OSError.
    """
    path.parent.mkdir(exist_ok=True)  # never the job's folder: it may just have been removed
    with (
        new_file(path) as raw,
        # Without a file name and a time in the header: every archive would differ.
        gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION_LEVEL, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, file in sorted({CARD: None, **files}.items()):
            with io.BytesIO(card.encode()) if file is None else file.open("rb") as content:
                archive.addfile(_member(checkpoint, name, content), content)


def _member(checkpoint: Checkpoint, name: str, content: IO[bytes]) -> tarfile.TarInfo:
    """A member owned by root (tarfile's default), with the checkpoint's time, so that it is the same everywhere."""
    member = tarfile.TarInfo(f"{archive_name(checkpoint.bake, checkpoint.step)}/{name}")
    member.size = content.seek(0, io.SEEK_END)
    content.seek(0)
    member.mtime = checkpoint.created
    return member
