"""Receives versions from other servers: checks, proves, keeps and serves them.

Order of effects: the adapter's stream is here and its hash is checked (`baker/transfer/uploads.py`); the files fit the
base model, the engine answers with them and agrees with the certificate; one transaction adds commit, job and
checkpoint; the checkpoint's name is served; the stream is removed. After a crash, the stream is still here or all is.
"""

import asyncio
import shutil
import uuid
from pathlib import Path

from baker.adapters.parity import ParityCertificate
from baker.errors import AdapterError, ConflictError
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.storage.files import sync_tree
from baker.storage.home import IMPORT_PREFIX, jobs_folder
from baker.storage.one_thread import OneThread
from baker.transfer import receiving
from baker.transfer.blobs import FILES, unpack
from baker.transfer.receiving import Arrival, Plan
from baker.transfer.uploads import Uploads
from gateway.serving.registry import Registry


class Receiving:
    def __init__(
        self, home: Path, catalog: OneThread[Catalog], registry: Registry, uploads: Uploads, vocabulary: int | None
    ) -> None:
        """Args: vocabulary: number of the base model's tokens; None: unknown."""
        self._home = home
        self._catalog = catalog
        self._registry = registry
        self._uploads = uploads
        self._vocabulary = vocabulary

    async def receive(self, user: str, repo: str, arrival: Arrival) -> bool:
        """Add the commit; serve it if its weights came. Returns: whether anything was added.

        Raises: NotFoundError, ConflictError; AdapterError if the engine does not serve it as it was
            trained; EngineError if the engine is away.
        """
        certificate = receiving.certificate_of(arrival.notes, self._vocabulary)
        receiving.check_data(arrival.commit, arrival.data)
        plan = await self._catalog(receiving.plan, user, repo, arrival.commit)
        if plan.has_weights or arrival.is_shallow:
            await self._catalog(receiving.describe, user, repo, arrival)
            return not plan.is_known
        files = jobs_folder(self._home) / f"{IMPORT_PREFIX}{uuid.uuid4().hex}"
        try:
            await asyncio.to_thread(self._unpack, user, repo, arrival, plan, files)
            has_effect = await self._prove(files, arrival, certificate)
            warnings = receiving.warnings_of(arrival, is_certified=certificate is not None, has_effect=has_effect)
            checkpoint = await self._catalog(receiving.keep, user, repo, arrival, files, warnings)
            if checkpoint is not None:
                self._registry.register_probed(files, checkpoint)
                self._registry.show(await self._catalog(repo_view, user, repo))
        finally:
            await self._registry.gate.forget_probed(files)
            await asyncio.to_thread(shutil.rmtree, files, ignore_errors=True)
        await asyncio.to_thread(self._uploads.discard, user, repo, arrival.commit.adapter)
        return True

    def _unpack(self, user: str, repo: str, arrival: Arrival, plan: Plan, files: Path) -> None:
        """Fill the folder `files`. Raises: ConflictError if the adapter did not come."""
        sha256 = arrival.commit.adapter
        stream = self._uploads.find(user, repo, sha256)
        files.mkdir(parents=True)
        if stream is not None:
            unpack(stream, files, sha256)
        elif plan.twin is not None:
            for name in FILES:
                shutil.copyfile(plan.twin.path / name, files / name)
        else:
            raise ConflictError(
                f"The weights {sha256} of commit {arrival.commit.id} are not here: send the blob first, or say that "
                "they are gone with is_shallow"
            )
        sync_tree(files)

    async def _prove(self, files: Path, arrival: Arrival, certificate: ParityCertificate | None) -> bool:
        """Returns: whether the adapter changes any log-probability."""
        gate = self._registry.gate
        try:
            has_effect = await gate.probe(files)
            if certificate is not None:
                await asyncio.to_thread(receiving.write_certificate, files, certificate)
                await gate.prove_probed(files)
        except AdapterError as error:
            # The checks name a folder that is gone when the sender reads this.
            text = error.message.replace(f"{files}/", "").replace(str(files), "the adapter")
            text = text.replace(f".probe/{files.name}", f"commit {arrival.short_id}")
            raise AdapterError(f"Commit {arrival.short_id} can't be served here: {text}") from error
        return has_effect
