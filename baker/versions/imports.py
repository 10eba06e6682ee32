"""Imports adapters that were trained elsewhere: copies their files and adds rows that make them bakes like any other.

The files are copied so that a served adapter can't change under its name. An import is a bake's job that is complete
from the start. Its number is the version and is never reused. Everything here blocks.
"""

import shutil
import time
import uuid
from pathlib import Path

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, content_hash, read_adapter_config
from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.repos import bakes, pointers, records, repos
from baker.repos.catalog import DEFAULT_TEMPLATE, Catalog
from baker.status import JobState
from baker.storage.files import publish_folder
from baker.storage.home import IMPORT_PREFIX, checkpoint_folder, job_folder, jobs_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from baker.versions import commits


class ImportFolders:
    """Folders from which adapters may be imported."""

    def __init__(self, folders: list[Path]) -> None:
        """Args: folders: relative paths start in the first one."""
        self._folders = folders

    def find(self, text: str) -> Path:
        """The adapter's folder. Raises: InvalidInputError if the path leads outside of the allowed folders, whether it
        exists or not; NotFoundError."""
        path = Path(text)
        allowed = [folder.resolve() for folder in self._folders]
        try:
            folder = (self._folders[0] / path).resolve()
            files = [(folder / name).resolve() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
            is_folder = folder.is_dir()
        except (OSError, ValueError, RuntimeError) as error:  # a circle of links, a NUL in the name, a name too long
            raise InvalidInputError(f"lora_path {text!r} is not a valid path: {error}") from error
        for place in (folder, *files):
            if ".." in path.parts or not any(place.is_relative_to(root) for root in allowed):
                raise InvalidInputError(
                    f"lora_path {text!r} leads outside of {', '.join(map(str, self._folders))}: put the adapter there, "
                    "or start the service with --import-folders"
                )
        if not is_folder:
            raise NotFoundError(f"No adapter found for lora_path {text!r}: there is no folder {folder}")
        if not files[1].is_file() and any(folder.glob("adapter_model.*")):
            raise InvalidInputError(f"{folder} has no {ADAPTER_WEIGHTS}: save the adapter as safetensors")
        for file in files:
            if file.exists() and not file.is_file():
                raise InvalidInputError(f"{file} is not a regular file")
        return folder


def copied(source: Path, home: Path) -> Path:
    """A new folder with copies of the adapter's two files, read-only.

    Raises: NotFoundError; InvalidInputError if they may not be read; OSError.
    """
    folder = jobs_folder(home) / f"{IMPORT_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            # Not linked: anyone who can write to the source could change the served adapter.
            shutil.copyfile(source / name, folder / name)
            (folder / name).chmod(0o444)
    except FileNotFoundError as error:
        discard(folder)
        raise NotFoundError(f"No adapter found for lora_path {str(source)!r}: there is no {name}") from error
    except PermissionError as error:
        discard(folder)
        raise InvalidInputError(f"The service may not read {source / name}") from error
    except OSError:
        discard(folder)
        raise
    return folder


def discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def check_name_is_free(catalog: Catalog, user: str, repo: str, bake: str, *, may_replace: bool) -> None:
    """Raises: InvalidInputError if the bake exists and may not be replaced; ConflictError if it is not finished."""
    catalog.check_user(user)
    try:
        bakes.get(catalog, user, repo, bake)
    except NotFoundError:
        return
    if not may_replace:
        raise InvalidInputError(
            f"The lora adapter '{repo}/{bake}' has already been loaded. If you want to load the adapter in place, set "
            "'load_inplace' to True."
        )
    job = bakes.latest_job(catalog, user, repo, bake)
    if (job is not None and job.state.is_active) or not bakes.checkpoints(catalog, user, repo, bake):
        raise ConflictError(f"Bake {bake!r} in repo {repo!r} has no version yet that could be replaced: bake it first")


def keep(
    catalog: Catalog,
    user: str,
    repo: str,
    bake: str,
    files: Path,
    source: str,
    warnings: list[str],
    *,
    may_replace: bool,
) -> Checkpoint:
    """Add the adapter as the newest checkpoint of its bake; create missing repo and bake.

    Args:
        files: folder from `copied`, which is moved.
        source: folder that it was copied from.
    Raises: see `check_name_is_free`; `files` then stay in place.
    """
    sha256 = content_hash(files)
    now = int(time.time())
    log, moved = catalog.history.log, pointers.recorded(catalog, user, repo, bake, "import")
    with catalog.store.transaction(), log.as_one(user, repo, "import"), moved:
        check_name_is_free(catalog, user, repo, bake, may_replace=may_replace)
        repos.put(catalog, user, repo, None)
        known = bakes.checkpoints(catalog, user, repo, bake)
        if not known:
            bakes.put(catalog, user, repo, bake, DEFAULT_TEMPLATE, {}, may_change=False)
        job = catalog.store.jobs.add(
            BakeJob(
                user=user,
                repo=repo,
                name=bake,
                state=JobState.COMPLETE,
                config=bakes.get(catalog, user, repo, bake),
                inputs=BakeInputs(rollouts={}, checkpoint=None, imported=source),
                progress_percent=100.0,
                warnings=warnings,
                created=now,
                finished=now,
            )
        )
        earlier = {checkpoint.step for checkpoint in known} | records.taken_steps(catalog, user, repo, bake)
        step = max([job.id, *(step + 1 for step in earlier)])
        folder = checkpoint_folder(job_folder(catalog.store.home, job.id), step)
        folder.parent.mkdir(parents=True)
        publish_folder(files, folder)
        checkpoint = commits.committed(catalog, Checkpoint(user, repo, bake, step, folder, sha256, now, job.id))
        catalog.store.checkpoints.add(checkpoint)
    return checkpoint


def remove(catalog: Catalog, user: str, repo: str, bake: str) -> list[int]:
    """Remove an imported bake with all its versions, for good: it can be loaded again.

    Returns: the numbers of the jobs whose files may be removed.

    Raises: NotFoundError; InvalidInputError if a version of it was baked here, since that could not be loaded again;
    ConflictError while a job needs it.
    """
    with catalog.store.transaction():
        known = bakes.checkpoints(catalog, user, repo, bake)
        jobs = [catalog.store.jobs.find_bake(checkpoint.job_id) for checkpoint in known]
        if not jobs:
            raise NotFoundError(f"The lora adapter '{repo}/{bake}' cannot be found.")
        if any(job is None or imported_from(job) is None for job in jobs):
            raise InvalidInputError(
                f"'{repo}/{bake}' was baked here and could not be loaded again: "
                f"DELETE /v1/repo/{repo}/bakes/{bake} removes it for good"
            )
        return bakes.delete(catalog, user, repo, bake, prune=True).removed


def imported_from(job: BakeJob) -> str | None:
    """Folder that the bake's adapter was loaded from; None if it was trained here."""
    return job.inputs.imported


def warnings_of(files: Path, source: str, served: str, *, has_effect: bool) -> list[str]:
    """Warnings about an imported adapter.

    Args:
        served: name of the base model.
        has_effect: whether it changes the engine's probabilities.
    """
    warnings = [
        f"imported from {source}: it was trained elsewhere and has no parity certificate, so the engine's numbers were "
        "not compared with those of its training"
    ]
    base = read_adapter_config(files).base_model_name_or_path
    if base is not None and base != served:
        warnings.append(f"its configuration names the base model {base!r}, but {served!r} is served; the layers fit")
    if not has_effect:
        warnings.append("it does not change the engine's probabilities of a few test tokens")
    return warnings
