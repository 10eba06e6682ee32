"""Download links over HTTP: permissions, the chosen checkpoint, and the archive that a link leads to."""

import tarfile
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest

from gateway.services import Services
from tests.gateway.application import Client, add_user, client_of, finish_bake, holding, make_bake, services_in, weights

pytestmark = pytest.mark.anyio

DOWNLOAD = "/v1/repo/repo/bakes/bake/download"


async def bake(client: Client, services: Services, *steps: int, user: str = "admin") -> None:
    """A bake with finished checkpoints. Each has its own job; the last is the newest."""
    await make_bake(client, user)
    for step in steps:
        await finish_bake(services, user, step=step)


def changed(url: str, **query: object) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode({**dict(parse_qsl(parts.query)), **query})))


async def test_a_link_needs_no_key_and_gives_the_newest_checkpoint(client: Client, services: Services) -> None:
    await bake(client, services, 14, 21)
    link = (await client.get(DOWNLOAD)).json()
    url = link.pop("url")
    assert link == {"expires_in": 3600, "checkpoint": 21, "bake_name": "bake"}
    assert url.startswith("http://gateway.local/v1/files/weights/admin/repo/bake/21/bake_checkpoint_21.tar.gz?")
    del client.headers["Authorization"]
    fetched = await client.get(url)
    assert fetched.status_code == 200
    assert fetched.headers["content-type"] == "application/gzip"
    assert fetched.headers["content-disposition"] == 'attachment; filename="bake_checkpoint_21.tar.gz"'
    assert int(fetched.headers["content-length"]) == len(fetched.content)
    with tarfile.open(fileobj=BytesIO(fetched.content), mode="r:gz") as packed:
        member = packed.extractfile("bake_checkpoint_21/adapter_model.safetensors")
        assert member is not None
        assert member.read() == weights(21)
    head = await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == fetched.headers["content-length"]
    assert head.headers["etag"] == fetched.headers["etag"]
    resumed = await client.get(url, headers={"Range": "bytes=100-", "If-Range": fetched.headers["etag"]})
    assert (resumed.status_code, resumed.content) == (206, fetched.content[100:])
    beyond = await client.get(url, headers={"Range": f"bytes={len(fetched.content)}-"})
    assert (beyond.status_code, beyond.content) == (416, b"")


async def test_the_checkpoint_and_the_time_of_expiry_may_be_chosen(client: Client, services: Services) -> None:
    await bake(client, services, 14, 21)
    link = (await client.get(f"{DOWNLOAD}?checkpoint=14&expires_in=604800")).json()
    assert (link["checkpoint"], link["expires_in"]) == (14, 604800)
    assert "bake_checkpoint_14.tar.gz" in link["url"]


async def test_a_configured_base_url_replaces_the_request_s(tmp_path: Path) -> None:
    services = services_in(tmp_path, base_url="https://bread.example/")
    async with client_of(services) as client:
        await bake(client, services, 21)
        link = (await client.get(DOWNLOAD)).json()
    assert link["url"].startswith("https://bread.example/v1/files/")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{DOWNLOAD}?expires_in=0", 422),
        (f"{DOWNLOAD}?expires_in=604801", 422),
        (f"{DOWNLOAD}?expires_in=soon", 422),
        (f"{DOWNLOAD}?checkpoint=last", 422),
        (f"{DOWNLOAD}?checkpoint=22", 404),
        (f"{DOWNLOAD}?checkpoint=999999999999999999999999", 404),
        ("/v1/repo/repo/bakes/gone/download", 404),
        ("/v1/repo/repo/bakes/fresh/download", 404),
        ("/v1/repo/gone/bakes/bake/download", 404),
        ("/v1/models/download", 422),
        ("/v1/models/download?name=", 400),
        ("/v1/models/download?name=bake", 400),
        ("/v1/models/download?name=../repo/bake/21", 400),
        ("/v1/models/download?name=admin/repo/bake/last", 400),
        ("/v1/models/download?name=admin/repo/bake/22", 404),
        ("/v1/models/download?name=fake/base", 404),
        ("/v1/models/download?name=admin/repo/bake/21&expires_in=0", 422),
    ],
)
async def test_a_refused_download_is_an_error_in_bread_s_shape(
    client: Client, services: Services, path: str, status: int
) -> None:
    await bake(client, services, 21)
    await client.post("/v1/repo/repo/bakes", json={"bake_name": "fresh", "template": "default"})
    refused = await client.get(path)
    assert refused.status_code == status, refused.text
    assert refused.json()["message"] == refused.json()["error"]


@pytest.mark.parametrize("name", ["admin/repo/bake/21", "admin/repo/bake", "repo/bake/21", "repo/bake"])
async def test_every_name_of_a_model_gives_its_link(client: Client, services: Services, name: str) -> None:
    await bake(client, services, 14, 21)
    link = await client.get("/v1/models/download", params={"name": name, "expires_in": 5})
    assert (link.status_code, link.json()["checkpoint"], link.json()["expires_in"]) == (200, 21, 5)


async def test_links_are_for_the_owner_and_the_master_key(client: Client, services: Services) -> None:
    keys = {name: await add_user(client, name) for name in ("alice", "bob")}
    await bake(client, services, 21, user="alice")
    named = "/v1/models/download?name=alice/repo/bake/21"
    for headers, status in ((holding(keys["alice"]), 200), (holding(keys["bob"]), 404), ({}, 200)):
        for path in (DOWNLOAD, named):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == status, answer.text
    bobs, nobodys = [
        await client.get(f"/v1/models/download?name={name}", headers=holding(keys["bob"]))
        for name in ("alice/repo/bake/21", "alicf/repo/bake/21")
    ]
    assert bobs.text == nobodys.text.replace("alicf", "alice")


async def test_a_link_ends_when_it_expires_or_is_changed(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bake(client, services, 14, 21)
    url = (await client.get(f"{DOWNLOAD}?expires_in=60")).json()["url"]
    del client.headers["Authorization"]
    expires = int(dict(parse_qsl(urlsplit(url).query))["expires"])
    for other in (
        changed(url, expires=expires + 1),
        changed(url, sig="0" * 64),
        url.replace("/21/", "/14/"),
        url.replace("/repo/", "/other/"),
        url.partition("?")[0],
    ):
        refused = await client.get(other)
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN"), other
    assert (await client.get(url)).status_code == 200
    monkeypatch.setattr(services.links, "_clock", lambda: expires + 1.0)
    refused = await client.get(url)
    assert (refused.status_code, "expired" in refused.json()["message"]) == (403, True)


async def test_a_link_to_a_deleted_bake_is_not_found(client: Client, services: Services) -> None:
    await bake(client, services, 21)
    url = (await client.get(DOWNLOAD)).json()["url"]
    assert (await client.get(url)).status_code == 200
    assert [path.name for path in services.home.glob("jobs/*/archives/*")] == ["21.tar.gz"]
    await client.delete("/v1/repo/repo/bakes/bake?prune=true")
    assert (await client.get(url)).status_code == 404
    assert list(services.home.glob("jobs/*")) == []
