"""Copying commits over HTTP: from one service to another, in parts, and against hostile senders."""

import hashlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baker.repos.catalog import Catalog
from baker.types import Checkpoint
from gateway.services import Services
from tests.baker.transfer.versions import add_version, foreign_commit, stream_of, write_adapter
from tests.gateway.application import Client, add_user, client_of, holding, services_in

pytestmark = pytest.mark.anyio

REPO = "/v1/repo/repo"


class Side(NamedTuple):
    """One of the two services."""

    services: Services
    client: Client

    async def add(self, bake: str, seed: int, parent: Checkpoint | None = None) -> Checkpoint:
        inputs = {} if parent is None else {"checkpoint": parent.name}

        def add(catalog: Catalog) -> Checkpoint:
            return add_version(catalog, bake, seed, **inputs)

        checkpoint = await self.services.catalog(add)
        self.services.registry.publish(checkpoint)
        return checkpoint


@pytest.fixture
async def sides(tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
    one, two = (services_in(home) for home in homes)
    async with client_of(one) as first, client_of(two) as second:
        for client in (first, second):
            await client.post("/v1/repo", json={"repo_name": "repo"})
        yield Side(one, first), Side(two, second)


async def copy(source: Client, target: Client, commit: str, *, data: bool = False) -> Any:
    """Copy a commit and its adapter. Returns: the answer to the commit."""
    sent = (await source.get(f"{REPO}/commits/{commit}/description", params={"with_data": data})).json()
    adapter = sent["description"]["adapter"]
    if sent["has_weights"]:
        blob = await source.get(f"{REPO}/blobs/{adapter}")
        assert blob.status_code == 200, blob.text
        put = await target.put(f"{REPO}/blobs/{adapter}", content=blob.content)
        assert put.status_code in (200, 201), put.text
    body = {"description": sent["description"], "notes": sent["notes"], "is_shallow": not sent["has_weights"]}
    return await target.put(f"{REPO}/commits/{commit}", json=body | ({"data": sent["data"]} if data else {}))


async def test_a_commit_is_the_same_version_on_two_services(sides: tuple[Side, Side]) -> None:
    one, two = sides
    parent = await one.add("parent", 1)
    child = await one.add("child", 2, parent)
    ids = [parent.commit_id, child.commit_id]
    asked = {"commits": ids, "blobs": [parent.sha256, child.sha256]}
    missing = (await two.client.post(f"{REPO}/have", json=asked)).json()
    assert missing == {"missing_commits": ids, "missing_blobs": [parent.sha256, child.sha256]}
    for commit in ids:
        answer = await copy(one.client, two.client, commit or "")
        assert (answer.status_code, answer.json()) == (201, {"id": commit, "added": True}), answer.text
        again = await copy(one.client, two.client, commit or "")
        assert (again.status_code, again.json()) == (200, {"id": commit, "added": False})
    assert (await two.client.post(f"{REPO}/have", json=asked)).json() == {"missing_commits": [], "missing_blobs": []}
    for commit in ids:
        here, there = [(await side.client.get(f"{REPO}/commits/{commit}/description")).json() for side in (one, two)]
        assert here == there, "and it can travel on"
    models = [model["id"] for model in (await two.client.get("/v1/models")).json()["data"]]
    assert {f"admin/repo/{(commit or '')[:12]}/0" for commit in ids} <= set(models)


async def test_parents_are_sent_first(sides: tuple[Side, Side]) -> None:
    one, two = sides
    child = await one.add("child", 2, await one.add("parent", 1))
    answer = await copy(one.client, two.client, child.commit_id or "")
    assert answer.status_code == 409 and "send parents first" in answer.json()["message"]


async def test_an_upload_goes_on_after_a_break(sides: tuple[Side, Side], tmp_path: Path) -> None:
    client = sides[1].client
    sha256 = write_adapter(tmp_path / "adapter", 1)
    content, url = stream_of(tmp_path / "adapter"), f"{REPO}/blobs/{sha256}"
    size = len(content)
    assert (await client.head(url)).status_code == 404
    asks = {"Content-Range": f"bytes */{size}"}
    assert (await client.put(url, headers=asks)).json() == {"sha256": sha256, "size": 0, "is_complete": False}
    first = await client.put(url, content=content[:100], headers={"Content-Range": f"bytes 0-99/{size}"})
    assert (first.status_code, first.json()["size"]) == (202, 100)
    head = await client.head(url)
    assert (head.status_code, head.headers["upload-offset"], head.headers["upload-complete"]) == (204, "100", "?0")
    gap = await client.put(url, content=content[200:], headers={"Content-Range": f"bytes 200-{size - 1}/{size}"})
    assert gap.status_code == 409 and "continues at byte 100" in gap.json()["message"]
    rest = await client.put(url, content=content[100:], headers={"Content-Range": f"bytes 100-{size - 1}/{size}"})
    assert (rest.status_code, rest.json()) == (201, {"sha256": sha256, "size": size, "is_complete": True})
    assert (await client.head(url)).headers["upload-complete"] == "?1"
    assert (await client.get(url)).status_code == 404, "only a version's adapter can be read"
    assert (await client.put(url, headers=asks)).json()["is_complete"]


async def test_a_download_goes_on_after_a_break(sides: tuple[Side, Side]) -> None:
    client = sides[0].client
    checkpoint = await sides[0].add("bake", 1)
    content, url = stream_of(checkpoint.path), f"{REPO}/blobs/{checkpoint.sha256}"
    whole = await client.get(url)
    assert (whole.content, whole.headers["etag"]) == (content, f'"{checkpoint.sha256}"')
    head = await client.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(content)))
    part = await client.get(url, headers={"Range": "bytes=33-", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, content[33:])
    known = await client.put(url, content=b"")
    assert (known.status_code, known.json()["is_complete"]) == (200, True)


async def test_blobs_that_are_wrong_or_too_large_leave_nothing(sides: tuple[Side, Side]) -> None:
    two, url = sides[1], f"{REPO}/blobs/{'a' * 64}"
    for content_range, status, words in (
        ("bytes 0-1/99999999999", 413, "max-lora-rank"),
        ("bytes */99999999999", 413, "max-lora-rank"),
        ("bytes 5-1/10", 400, "no part of 10"),
        ("bytes 0-10/10", 400, "no part of 10"),
        ("items 0-1/10", 400, "Content-Range"),
        ("bytes 0-1/2", 400, "SHA-256"),
        (None, 400, "SHA-256"),
    ):
        headers = {} if content_range is None else {"Content-Range": content_range}
        answer = await two.client.put(url, content=b"no", headers=headers)
        assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text
        assert not [path for path in (two.services.home / "incoming").rglob("*") if path.is_file()]


async def test_names_that_are_no_hash_are_refused(sides: tuple[Side, Side]) -> None:
    client = sides[1].client
    for name in ("..%2F..%2Fetc%2Fpasswd", "A" * 64, "a" * 63, "%00", "a" * 64 + "%0A"):
        for answer in (
            await client.put(f"{REPO}/blobs/{name}", content=b"x"),
            await client.head(f"{REPO}/blobs/{name}"),
            await client.get(f"{REPO}/blobs/{name}"),
            await client.put(f"{REPO}/commits/{name}", json={"description": {}}),
        ):
            assert answer.status_code in (400, 404), answer.text


async def test_forged_commits_are_refused(sides: tuple[Side, Side], tmp_path: Path) -> None:
    two = sides[1]
    base = await two.services.catalog(lambda catalog: catalog.fingerprint)
    commit = foreign_commit(write_adapter(tmp_path / "adapter", 1), base)
    description = msgspec.to_builtins(commit)
    parents = [{"id": commit.id, "weight": 1.0}]
    for forged, status, words in (
        ({**description, "message": "changed"}, 400, "one of them was changed"),
        ({**description, "parents": parents}, 400, "one of them was changed"),
        ({**description, "kind": "octopus"}, 400, "kind is 'octopus'"),
        (description, 409, "send the blob first"),
    ):
        answer = await two.client.put(f"{REPO}/commits/{commit.id}", json={"description": forged})
        assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text
    other = foreign_commit(commit.adapter, "c" * 64)
    answer = await two.client.put(f"{REPO}/commits/{other.id}", json={"description": msgspec.to_builtins(other)})
    assert answer.status_code == 409 and "c" * 64 in answer.json()["message"] and base in answer.json()["message"]
    assert await two.services.catalog(lambda catalog: catalog.history.commits.of_repo("admin", "repo")) == {}


async def test_knowing_a_hash_gives_nothing_of_another_user(sides: tuple[Side, Side]) -> None:
    one = sides[0]
    checkpoint = await one.add("bake", 1)
    bob = holding(await add_user(one.client, "bob"))
    await one.client.post("/v1/repo", json={"repo_name": "repo"}, headers=bob)
    blob, nothing = f"{REPO}/blobs/{checkpoint.sha256}", f"{REPO}/blobs/{'a' * 64}"
    for method in ("GET", "HEAD"):
        answers = [await one.client.request(method, url, headers=bob) for url in (blob, nothing)]
        assert [answer.status_code for answer in answers] == [404, 404]
    asked = {"commits": [checkpoint.commit_id], "blobs": [checkpoint.sha256]}
    missing = (await one.client.post(f"{REPO}/have", json=asked, headers=bob)).json()
    assert missing == {"missing_commits": asked["commits"], "missing_blobs": asked["blobs"]}
    described = await one.client.get(f"{REPO}/commits/{checkpoint.commit_id}/description", headers=bob)
    assert described.status_code == 404
    # He can't have his commit served with her weights either.
    base = await one.services.catalog(lambda catalog: catalog.fingerprint)
    stolen = foreign_commit(checkpoint.sha256, base)
    answer = await one.client.put(
        f"{REPO}/commits/{stolen.id}", json={"description": msgspec.to_builtins(stolen)}, headers=bob
    )
    assert answer.status_code == 409 and "send the blob first" in answer.json()["message"]


async def test_what_waits_goes_with_its_repo_and_its_user(sides: tuple[Side, Side], tmp_path: Path) -> None:
    two = sides[1]
    bob = holding(await add_user(two.client, "bob"))
    sha256 = write_adapter(tmp_path / "adapter", 1)
    url = f"{REPO}/blobs/{sha256}"
    for headers in (holding("sk-bread-test"), bob):
        await two.client.post("/v1/repo", json={"repo_name": "repo"}, headers=headers)
        put = await two.client.put(url, content=stream_of(tmp_path / "adapter"), headers=headers)
        assert put.status_code == 201, put.text
    incoming = two.services.home / "incoming"
    assert sorted(path.name for path in incoming.iterdir()) == ["admin", "bob"]
    await two.client.delete("/v1/admin/users/bob")
    assert (await two.client.delete("/v1/repo/repo", headers={"X-User-Id": "admin"})).status_code == 200
    assert not [path for path in incoming.rglob("*") if path.is_file()]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 9), min_size=1, max_size=5))
async def test_ids_stay_the_same_through_store_push_and_pull(sides: tuple[Side, Side], seeds: list[int]) -> None:
    """A chain of versions goes to the other service and back; some have the same weights."""
    one, two = sides
    parent, ids = None, []
    for seed in seeds:
        parent = await one.add(f"bake{uuid.uuid4().hex}", seed, parent)
        ids.append(parent.commit_id or "")
    for commit in ids:
        assert (await copy(one.client, two.client, commit)).status_code in (200, 201)
    for commit in ids:
        back = await copy(two.client, one.client, commit)
        assert (back.status_code, back.json()) == (200, {"id": commit, "added": False})
        known = [(await side.client.get(f"{REPO}/commits/{commit}/description")).json() for side in sides]
        assert known[0]["description"] == known[1]["description"]
        canonical = msgspec.json.encode(known[1]["description"], order="sorted")
        assert hashlib.sha256(canonical).hexdigest() == commit


async def test_data_travels_only_on_request(sides: tuple[Side, Side]) -> None:
    one, two = sides
    commit = (await one.add("bake", 1)).commit_id or ""
    plain = (await one.client.get(f"{REPO}/commits/{commit}/description")).json()
    assert plain["data"] is None
    assert (await copy(one.client, two.client, commit, data=True)).status_code == 201
    sent, kept = [
        (await side.client.get(f"{REPO}/commits/{commit}/description", params={"with_data": True})).json()["data"]
        for side in sides
    ]
    assert sent == kept and sent["recipe"]["config"]["type"] == "single_baker"
