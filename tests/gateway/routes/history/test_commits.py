"""The log of a repo's versions over HTTP."""

from urllib.parse import quote

import pytest

from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake
from tests.gateway.routes.history.grown import REPO, grow

pytestmark = pytest.mark.anyio


async def test_the_log_shows_each_version_with_its_parent_names_and_model(client: Client, services: Services) -> None:
    first, second = await grow(client, services)
    page = (await client.get(f"{REPO}/commits")).json()
    assert page["next"] is None
    assert [commit["id"] for commit in page["commits"]] == [second, first]
    shown = page["commits"][0]
    assert shown["short_id"] == second[:12]
    assert (shown["kind"], shown["author"], shown["created"]) == ("bake", "admin", 0)
    assert shown["parents"] == [{"id": first, "weight": 1.0}]
    assert shown["refs"] == [{"name": "second", "kind": "bake", "is_head": False}]
    assert (shown["model"], shown["notes"]) == ("admin/repo/second/3", {})
    assert isinstance(shown["recipe"], str)


@pytest.mark.parametrize("revision", ["second", "second/3", "second@{0}", "main", "{second}", "first~0", "HEAD^"])
async def test_one_version_is_found_by_any_revision(client: Client, services: Services, revision: str) -> None:
    first, second = await grow(client, services)
    await client.put(f"{REPO}/refs/main", json={"kind": "branch", "to": "second"})
    await client.put(f"{REPO}/head", json={"branch": "main"})
    path = quote(revision.replace("{second}", second[:7]), safe="")
    shown = (await client.get(f"{REPO}/commits/{path}")).json()
    assert shown["id"] == (first if revision in ("first~0", "HEAD^") else second), shown
    assert shown["recipe"]["targets"] == {}
    of_tip = (await client.get(f"{REPO}/commits", params={"ref": revision.replace("{second}", second)})).json()
    assert of_tip["commits"][0]["id"] == shown["id"]


async def test_pages_and_siblings_are_asked_for(client: Client, services: Services) -> None:
    first, second = await grow(client, services)
    await make_bake(client, "admin", "first")
    one = (await client.get(f"{REPO}/commits", params={"limit": 1})).json()
    assert ([commit["id"] for commit in one["commits"]], one["next"]) == ([second], second)
    rest = (await client.get(f"{REPO}/commits", params={"limit": 1, "after": second})).json()
    assert ([commit["id"] for commit in rest["commits"]], rest["next"]) == ([first], None)
    await finish_bake(services, "admin", bake="first", step=5)
    for siblings in ("true", "false"):
        page = (await client.get(f"{REPO}/commits", params={"all": siblings})).json()
        assert len(page["commits"]) == 3, "first/3 is the parent of second, first/5 has a name"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("commits/nowhere", 404, "no revision 'nowhere'"),
        ("commits/secondd", 404, "did you mean 'second'"),
        ("commits/second~7", 404, "has only 1 ancestor"),
        ("commits/second~x", 400, "is not a revision"),
        ("commits/..%2F..%2Fsecret", 404, "no route"),
        ("commits/..%2Fsecret", 400, "is not a revision"),
        ("commits?ref=nowhere", 404, "no revision 'nowhere'"),
        ("commits?after=nowhere", 404, "`after` is a commit's id"),
        ("commits?limit=0", 422, "limit"),
        ("commits?limit=1001", 422, "limit"),
    ],
)
async def test_what_is_not_there_is_an_error(
    client: Client, services: Services, path: str, status: int, message: str
) -> None:
    await grow(client, services)
    answer = await client.get(f"{REPO}/{path}")
    assert answer.status_code == status, answer.text
    assert message in answer.text
    assert (await client.get(f"/v1/repo/other/{path.partition('?')[0]}")).status_code == 404
