"""Adapters that were trained elsewhere: their files taken in, and the rows that make them bakes like any other.

The files are copied, so that what is served can't change under its name. An import is a bake's job that is complete
from the start; its number is the version, and is never given twice. Everything here blocks.
"""

import shutil
import time
import uuid
from pathlib import Path

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, content_hash, read_adapter_config
from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.repos import bakes, repos
from baker.repos.catalog import DEFAULT_TEMPLATE, Catalog
from baker.status import JobState
from baker.storage.files import publish_folder
from baker.storage.home import IMPORT_PREFIX, checkpoint_folder, job_folder, jobs_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint


class ImportFolders:
    """Where adapters may be taken from."""

    def __init__(self, folders: list[Path]) -> None:
        """Args: folders: paths that are not absolute are looked for in the first."""
        self._folders = folders

    def find(self, text: str) -> Path:
        """The adapter's folder. Raises: InvalidInputError if it leads elsewhere, whether there is something or not;
        NotFoundError."""
        path = Path(text)
        allowed = [folder.resolve() for folder in self._folders]
        try:
            found = (self._folders[0] / path).resolve()
            files = [(found / name).resolve() for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
            is_folder = found.is_dir()
        except (OSError, ValueError, RuntimeError) as error:  # a circle of links, a NUL in the name, one too long
            raise InvalidInputError(f"lora_path {text!r} is no path: {error}") from error
        for place in (found, *files):
            if ".." in path.parts or not any(place.is_relative_to(folder) for folder in allowed):
                raise InvalidInputError(
                    f"lora_path {text!r} leads outside of {', '.join(map(str, self._folders))}: put the adapter there, "
                    "or start the service with --import-folders"
                )
        if not is_folder:
            raise NotFoundError(f"No adapter found for lora_path {text!r}: there is no folder {found}")
        if not files[1].is_file() and any(found.glob("adapter_model.*")):
            raise InvalidInputError(f"{found} has no {ADAPTER_WEIGHTS}: save the adapter as safetensors")
        for file in files:
            if file.exists() and not file.is_file():
                raise InvalidInputError(f"{file} is no file")
        return found


def copied(source: Path, home: Path) -> Path:
    """A new folder with copies of the adapter's two files, read-only.

    Raises: NotFoundError; InvalidInputError if they may not be read; OSError.
    """
    folder = jobs_folder(home) / f"{IMPORT_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            # Not linked: whoever may write to the source would change what is served.
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
    """Raises: InvalidInputError if the bake is there and may not be replaced; ConflictError if it is not finished."""
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
    """The imported adapter as the newest checkpoint of its bake; repo and bake are made if they are not there.

    Args: files: from `copied`; they are moved.
    Raises: see `check_name_is_free`; then `files` are still there.
    """
    sha256 = content_hash(files)
    now = int(time.time())
    with catalog.store.transaction():
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
        step = max([job.id, *(checkpoint.step + 1 for checkpoint in known)])
        folder = checkpoint_folder(job_folder(catalog.store.home, job.id), step)
        folder.parent.mkdir(parents=True)
        publish_folder(files, folder)
        checkpoint = Checkpoint(user, repo, bake, step, folder, sha256, now, job.id)
        catalog.store.checkpoints.add(checkpoint)
    return checkpoint


def remove(catalog: Catalog, user: str, repo: str, bake: str) -> list[int]:
    """Remove an imported bake with all its versions. Returns: the numbers of the removed jobs, whose folders may go.

    Raises: NotFoundError; InvalidInputError if a version of it was baked here, which can't be loaded again;
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
        return bakes.delete(catalog, user, repo, bake)


def imported_from(job: BakeJob) -> str | None:
    """Where the bake's adapter was loaded from; None if it was trained here."""
    return job.inputs.imported


def warnings_of(files: Path, source: str, served: str, *, has_effect: bool) -> list[str]:
    """What is to be known about an imported adapter. Args: served: name of the base model."""
    told = [
        f"imported from {source}: it was trained elsewhere and has no parity certificate, so nobody has compared what "
        "is served with what was trained"
    ]
    base = read_adapter_config(files).base_model_name_or_path
    if base is not None and base != served:
        told.append(f"its configuration names the base model {base!r}, served is {served!r}; the layers fit")
    if not has_effect:
        told.append("it changes nothing of what the engine expects of a few tokens")
    return told
