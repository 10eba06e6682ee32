"""Imports adapters that were trained elsewhere: checks, probes, copies and serves them."""

import asyncio
from pathlib import Path

from baker.errors import AdapterError, InvalidInputError, NotFoundError
from baker.model_names import BaseModelNames, CheckpointRef, parse_model_name, shortened
from baker.names import check_name
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.storage.files import sync_tree
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint
from baker.versions import imports
from baker.versions.imports import ImportFolders
from gateway.serving.registry import Registry


class Imports:
    def __init__(
        self,
        home: Path,
        catalog: OneThread[Catalog],
        registry: Registry,
        base: BaseModelNames,
        folders: ImportFolders,
    ) -> None:
        self._home = home
        self._catalog = catalog
        self._registry = registry
        self._base = base
        self._folders = folders

    async def load(self, user: str, name: str, path: str, *, in_place: bool) -> Checkpoint:
        """Serve the PEFT adapter in `path` as `name`, from now on and after every restart.

        The name moves last: if anything fails, it keeps its meaning.
        Raises: InvalidInputError, NotFoundError, ConflictError, AdapterError; EngineError if the engine is away.
        """
        ref, owner = self._named(user, name)
        check_name(ref.repo, "repo")
        check_name(ref.bake, "bake")
        await self._catalog(imports.check_name_is_free, owner, ref.repo, ref.bake, may_replace=in_place)
        source = await asyncio.to_thread(self._folders.find, path)
        files = await asyncio.to_thread(imports.copied, source, self._home)
        try:
            # The copies are fsynced while the engine answers.
            has_effect, _ = await asyncio.gather(self._registry.gate.probe(files), asyncio.to_thread(sync_tree, files))
            warnings = imports.warnings_of(files, str(source), self._base.served, has_effect=has_effect)
            checkpoint = await self._catalog(
                imports.keep, owner, ref.repo, ref.bake, files, str(source), warnings, may_replace=in_place
            )
            self._registry.publish_probed(files, checkpoint)
            await self._show(owner, ref.repo)
        except AdapterError as error:
            # The checks name the copy, which is gone when the operator reads this.
            raise AdapterError(f"lora_path {path!r}: {error.message.replace(str(files), str(source))}") from error
        finally:
            await self._registry.gate.forget_probed(files)
            await asyncio.to_thread(imports.discard, files)
        return checkpoint

    async def unload(self, user: str, name: str) -> tuple[list[Checkpoint], list[int]]:
        """Remove an adapter that `load` imported, with all its versions.

        Returns: its checkpoints, which requests may still use, and the jobs whose folders may be removed after that.
        Raises: NotFoundError, InvalidInputError, ConflictError.
        """
        ref, owner = self._named(user, name)
        removed = await self._catalog(imports.remove, owner, ref.repo, ref.bake)
        withdrawn = self._registry.withdraw(owner, ref.repo, ref.bake)
        await self._show(owner, ref.repo)
        return withdrawn, removed

    async def _show(self, user: str, repo: str) -> None:
        """Serve the repo's names as the rows have them now."""
        self._registry.show(await self._catalog(repo_view, user, repo))

    def _named(self, user: str, name: str) -> tuple[CheckpointRef, str]:
        """The bake that `name` refers to, and its owner. Raises: InvalidInputError, NotFoundError."""
        shown = shortened(name)
        if self._base.is_served(name):
            raise InvalidInputError(f"The lora adapter {shown!r} conflicts with a served base model.")
        ref = parse_model_name(name)
        if ref is None or ref.step is not None:
            raise InvalidInputError(
                f"lora_name is {shown!r}: write repo/bake or user/repo/bake; versions get their numbers here"
            )
        owner = ref.owner(user)
        if owner is None:
            raise NotFoundError(f"The lora adapter {shown!r} cannot be found.")
        return ref, owner
