"""`bread remote add`, `list` and `rm`."""

import pytest

from tests.gateway.cli.conftest import Bread


def test_remotes_are_added_listed_and_forgotten(bread: Bread, monkeypatch: pytest.MonkeyPatch) -> None:
    bread("init", "hooli")
    monkeypatch.chdir(bread.folder)
    assert bread("remote", "add", "origin", "https://bread.example/hooli/").out == (
        "origin is https://bread.example/hooli\n"
    )
    assert bread("remote", "add", "disk", "file:backup").out == f"disk is file:{bread.folder}/backup\n"
    listed = bread("remote", "list").out.splitlines()
    assert [line.split() for line in listed[1:]] == [
        ["disk", f"file:{bread.folder}/backup"],
        ["origin", "https://bread.example/hooli"],
    ]
    assert '"url": "https://bread.example/hooli"' in bread("remote", "list", "--json").out
    assert bread("remote", "rm", "disk").out == "Remote 'disk' deleted\n"
    assert bread("remote", "rm", "disk").code == 4


@pytest.mark.parametrize("url", ["bread.example/hooli", "ftp://host/x", "https://carol:secret@host/repo", ""])
def test_what_is_no_remote_s_url_is_refused(bread: Bread, url: str) -> None:
    bread("init", "hooli")
    shown = bread("remote", "add", "origin", url)
    assert shown.code == 2 and "secret" not in shown.err, shown
