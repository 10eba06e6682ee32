"""The files of a repo on Hugging Face's hub, as a model repo. It is asked through `huggingface_hub`, with the login or
the HF_TOKEN of that library."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, TypeVar, cast

from gateway.cli.failures import CliError, Exit
from gateway.cli.remotes.folder import Folder
from gateway.cli.remotes.layout import INDEX, LAYOUT, LAYOUT_CONTENT, MOST_INDEX_BYTES, Update
from gateway.cli.text import one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _explained(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function, with errors of the hub as CliErrors."""

    @wraps(function)
    def explained(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        # Errors of its HTTP library, which is another one since version 2.
        unreachable = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
        try:
            return function(*args, **kwargs)
        except HFValidationError as error:
            raise CliError(f"no repo of the hub can have this name: {one_line(str(error))}", Exit.USAGE) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == 412:
                raise CliError("the hub's repo changed meanwhile: run the same command again", Exit.CONFLICT) from error
            hint = ": run `hf auth login`, or set HF_TOKEN" if status in {401, 403} else ""
            raise CliError(f"the hub refused this (HTTP {status}){hint}. {one_line(str(error), 200)}") from error
        except unreachable as error:
            raise CliError(f"cannot reach the hub: {one_line(str(error), 200)}") from error
        except RuntimeError as error:  # an upload failed; the cause is its own error
            cause = error.__cause__ or error
            raise CliError(f"{one_line(str(error), 200)} {one_line(str(cause), 200)}") from error

    return explained


class Hub:
    """See `layout.Files`. New blobs wait in a temporary folder until `publish`, which makes two commits of the hub's
    repo: the blobs, then index.json."""

    def __init__(self, repo_id: str, endpoint: str | None = None) -> None:
        """Args: endpoint: of another hub; None: as `huggingface_hub` is configured."""
        self.label = f"hf://{repo_id}"
        self._repo_id, self._endpoint = repo_id, endpoint
        folder = Path(tempfile.mkdtemp(prefix="bread-hub-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._staging = Folder(folder)
        self._sha: str | None = None
        """The hub's commit that is read; None: the repo is not there, or empty."""
        self._names: set[str] = set()
        self._look()

    @_explained
    def open(self, name: str) -> BinaryIO | None:
        if (staged := self._staging.open(name)) is not None:
            return staged
        if name not in self._names:
            return None
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(self._repo_id, name, revision=self._sha, endpoint=self._endpoint)
        return Path(path).resolve().open("rb")

    def part(self, sha256: str, size: int) -> int:
        return size if f"blobs/sha256/{sha256}" in self._names else self._staging.part(sha256, size)

    def append(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None:
        self._staging.append(sha256, size, offset, chunks)

    @_explained
    def publish(self, update: Update) -> None:
        from huggingface_hub import CommitOperationAdd

        if self._sha is None:
            # Private: who may read a model's weights is for its owner to say.
            self._api().create_repo(self._repo_id, private=True, exist_ok=True)
        self._look()
        index = self.open(INDEX)
        new_index = update(None if index is None else index.read(MOST_INDEX_BYTES + 1))
        if index is not None:
            index.close()
        blobs = sorted((self._staging.path / "blobs" / "sha256").glob("[0-9a-f]*"))
        additions = [
            CommitOperationAdd(path_in_repo=f"blobs/sha256/{path.name}", path_or_fileobj=path)
            for path in blobs
            if f"blobs/sha256/{path.name}" not in self._names
        ]
        if LAYOUT not in self._names:
            additions.append(CommitOperationAdd(path_in_repo=LAYOUT, path_or_fileobj=LAYOUT_CONTENT))
        parent = self._sha
        if additions:
            parent = (
                self._api().create_commit(self._repo_id, additions, commit_message="Versions", parent_commit=parent).oid
            )
        last = [CommitOperationAdd(path_in_repo=INDEX, path_or_fileobj=new_index)]
        self._api().create_commit(self._repo_id, last, commit_message="Names", parent_commit=parent)
        self._look()

    @_explained
    def _look(self) -> None:
        """Read the newest state of the repo."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self._api().model_info(self._repo_id)
        except RepositoryNotFoundError:
            return
        self._sha = info.sha
        self._names = {each.rfilename for each in info.siblings or ()}

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        return HfApi(endpoint=self._endpoint)
