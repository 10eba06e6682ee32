"""Bytes to and from a gateway."""

import httpx
import pytest

from gateway.cli.failures import CliError
from gateway.cli.remotes.server import ByteClient, ServerRepo
from gateway.cli.servers import Server


def repo(answer: object) -> ServerRepo:
    client = ByteClient(Server("http://host", "key"), transport=httpx.MockTransport(answer))  # type: ignore[arg-type]
    return ServerRepo(client, "hooli")


def test_a_download_begins_where_it_is_told_to() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["range"] == "bytes=3-"
        return httpx.Response(206, content=b"defg")

    assert b"".join(repo(answer).read_blob("a" * 64, 3)) == b"defg"


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_without_the_part_is_refused(status: int) -> None:
    """The whole file instead of its end would be added to what is there."""
    with pytest.raises(CliError):
        list(repo(lambda request: httpx.Response(status, json={"message": "no"})).read_blob("a" * 64, 3))


def test_an_upload_says_which_part_it_is() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-range"] == "bytes 3-9/10"
        assert (request.headers["content-length"], request.read()) == ("7", b"defghij")
        assert "transfer-encoding" not in request.headers
        return httpx.Response(201, json={})

    repo(answer).write_blob("a" * 64, 10, 3, [b"def", b"ghij"])


def test_a_long_history_comes_in_pages_and_asks_in_parts() -> None:
    commits = [{"id": f"{number:064x}", "adapter": "a" * 64, "parents": []} for number in range(5)]
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/have"):
            asked.append(len(request.content))
            return httpx.Response(200, json={"missing_commits": ["x"], "missing_blobs": []})
        after = request.url.params.get("after")
        start = 0 if after is None else int(after, 16) + 1
        page = commits[start : start + 2]
        following = page[-1]["id"] if start + 2 < len(commits) else None
        return httpx.Response(200, json={"commits": page, "next": following})

    assert list(repo(answer).history()) == [each["id"] for each in commits]
    assert repo(answer).missing(["c"] * 2500, ["b"]) == ({"x"}, set())
    assert len(asked) == 3
