"""`bread tag`."""

import json
from typing import Any

import httpx
import pytest

from tests.gateway.cli.history.answers import server

TAG = {"name": "v1", "kind": "tag", "commit": "c" * 64, "updated": 0, "message": "out", "is_head": False}


@pytest.mark.parametrize("arguments", [("v1", "hooli/yoda~1"), ("hooli/v1", "yoda~1"), ("v1", "yoda~1")])
def test_a_tag_is_added_in_the_repo_of_its_version(bread_of: Any, arguments: tuple[str, ...]) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"PUT /refs/v1": (201, TAG)}, seen))
    assert bread("tag", *arguments, "-m", "out").out == "hooli/v1 is ccccccc.\n"
    assert json.loads(seen[-1].content) == {"kind": "tag", "to": "yoda~1", "message": "out"}


def test_without_a_version_it_means_head(bread_of: Any) -> None:
    seen: list[httpx.Request] = []
    bread = bread_of(server({"PUT /refs/v1": (201, TAG)}, seen))
    assert json.loads(bread("tag", "v1", "--json").out) == TAG
    assert json.loads(seen[-1].content)["to"] == "HEAD"


def test_tags_are_listed_and_removed(bread_of: Any) -> None:
    bread = bread_of(server({"GET /refs": {"refs": [TAG]}, "DELETE /refs/v1": {"message": "Tag 'v1' deleted"}}))
    assert bread("tag").out.split() == ["v1", "ccccccc", "out"]
    assert bread("tag", "-d", "v1").out == "Tag 'v1' deleted\n"
