"""Copying commits between servers: which are missing, the adapters' bytes, the descriptions.

The service asks no other server: a client reads from one and writes to the other.
"""

import asyncio
import re
from pathlib import Path

import msgspec
from litestar import HttpMethod, Request, Response, Router, get, post, put, route
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.types import ASGIApp

from baker.errors import InvalidInputError, NotFoundError
from baker.repos.catalog import Catalog
from baker.transfer import sending
from baker.transfer.blobs import BlobReader, check_sha256
from baker.transfer.descriptions import check_notes, read_description
from baker.transfer.receiving import Arrival, Data
from baker.transfer.uploads import Standing
from gateway.http.asgi import EmptyReply
from gateway.http.file_reply import Content, FileReply
from gateway.protocol import transfer
from gateway.routes.dependencies import Caller, Services

AnyRequest = Request[None, None, State]
_RANGE = re.compile(r"bytes (?:\*|([0-9]{1,15})-([0-9]{1,15}))/([0-9]{1,15})")


@post("/have", status_code=200)
async def have(
    services: Services, caller: Caller, repo: FromPath[str], data: JSONBody[transfer.Have]
) -> transfer.Missing:
    """Which of these commits and adapters the repo does not have, so that only those are sent."""
    missing = await services.catalog(sending.missing, caller.user, repo, data.commits, data.blobs)
    return transfer.Missing(missing_commits=missing.commits, missing_blobs=missing.blobs)


@route("/blobs/{sha256:str}", http_method=[HttpMethod.GET, HttpMethod.HEAD])
async def get_blob(
    request: AnyRequest, services: Services, caller: Caller, repo: FromPath[str], sha256: FromPath[str]
) -> ASGIApp:
    """An adapter's bytes, whole or in part (Range). HEAD of one that is on its way in is 204 with `Upload-Offset`: the
    number of bytes that are here."""
    check_sha256(sha256, "The blob's name")
    folder = await services.catalog(sending.blob_folder, caller.user, repo, sha256)
    if folder is not None:
        name, etag = f"{sha256}.adapter", sha256
        return FileReply(
            lambda: _content(folder, etag), name, "application/octet-stream", request.method, request.headers
        )
    standing = Standing(0, False)
    if request.method == "HEAD":
        standing = await asyncio.to_thread(services.uploads.standing, caller.user, repo, sha256)
    if standing.size == 0:
        raise NotFoundError(f"Repo {repo!r} has no adapter {sha256}")
    headers = {"Upload-Offset": str(standing.size), "Upload-Complete": f"?{int(standing.is_complete)}"}
    return EmptyReply(204, headers)


@put("/blobs/{sha256:str}", request_max_body_size=None)
async def put_blob(
    request: AnyRequest, services: Services, caller: Caller, repo: FromPath[str], sha256: FromPath[str]
) -> Response[transfer.Blob]:
    """Send an adapter: 201 when it is whole, 202 if a part is missing. It goes on where it stopped, with
    `Content-Range: bytes <first>-<last>/<size>`; `bytes */<size>` and no body asks how much is here."""
    check_sha256(sha256, "The blob's name")
    folder = await services.catalog(sending.blob_folder, caller.user, repo, sha256)
    if folder is not None:
        return _standing(sha256, Standing(await asyncio.to_thread(_size, folder, sha256), True), 200)
    length = request.headers.get("content-length")
    start, total = _range(request.headers.get("content-range"), length)
    if start is None:
        standing = await services.uploads.announce(caller.user, repo, sha256, total)
        return _standing(sha256, standing, 200 if standing.is_complete else 202)
    standing = await services.uploads.receive(caller.user, repo, sha256, start, total, request.stream())
    return _standing(sha256, standing, 201 if standing.is_complete else 202)


@get("/commits/{rev:str}/description")
async def get_description(
    services: Services, caller: Caller, repo: FromPath[str], rev: FromPath[str], with_data: FromQuery[bool] = False
) -> transfer.CommitDescription:
    """A commit, by its id, as another server needs it; `with_data` adds prompts, questions and answers."""
    found = await services.catalog(sending.description, caller.user, repo, rev, with_data=with_data)
    contents = None if found.data is None else transfer.CommitData(recipe=found.data.recipe, rows=found.data.rows)
    return transfer.CommitDescription(
        id=rev,
        description=msgspec.to_builtins(found.commit),
        notes=found.notes,
        has_weights=found.has_weights,
        data=contents,
    )


@put("/commits/{rev:str}")
async def put_commit(
    services: Services, caller: Caller, repo: FromPath[str], rev: FromPath[str], data: JSONBody[transfer.CommitPut]
) -> Response[transfer.CommitReceived]:
    """Add a commit of another server, whose parents and adapter are here: 201, or 200 if it is known. The engine must
    serve it as it was trained; it is then a version like any other, `repo/<first 12 digits>/0`."""
    await services.catalog(Catalog.repo, caller.user, repo)
    commit = read_description(data.description, rev)
    check_notes(data.notes)
    contents = Data() if data.data is None else Data(data.data.recipe, data.data.rows)
    added = await services.receiving.receive(caller.user, repo, Arrival(commit, data.notes, contents, data.is_shallow))
    return Response(transfer.CommitReceived(id=rev, added=added), status_code=201 if added else 200)


def _content(folder: Path, etag: str) -> Content:
    reader = BlobReader(folder)
    return Content(reader, reader.size, etag)


def _size(folder: Path, sha256: str) -> int:
    try:
        with BlobReader(folder) as reader:
            return reader.size
    except FileNotFoundError as error:
        raise NotFoundError(f"The files of adapter {sha256} are gone") from error


def _standing(sha256: str, standing: Standing, status: int) -> Response[transfer.Blob]:
    body = transfer.Blob(sha256=sha256, size=standing.size, is_complete=standing.is_complete)
    return Response(body, status_code=status)


def _range(header: str | None, length: str | None) -> tuple[int | None, int]:
    """Offset of the body's first byte (None: the client only asks), and size of the whole."""
    if header is None:
        if length is None or not length.isdigit():
            raise InvalidInputError("Send a Content-Length, so that the space for the adapter can be checked first")
        return 0, int(length)
    match = _RANGE.fullmatch(header.strip())
    if match is None:
        raise InvalidInputError(f"Content-Range is {header!r:.80}: write 'bytes <first>-<last>/<size>'")
    total = int(match[3])
    if match[1] is None:
        return None, total
    first, last = int(match[1]), int(match[2])
    if not first <= last < total:
        raise InvalidInputError(f"Content-Range {header!r:.80} is no part of {total} bytes")
    return first, total


ROUTER = Router(
    "/v1/repo/{repo:str}",
    # Litestar wants all methods of a path in one router, so `commits.py` has that of `put_commit`.
    route_handlers=[have, get_blob, put_blob, get_description],
    tags=["history"],
)
