"""What a remote's URL means."""

from pathlib import Path

import pytest

from gateway.cli.failures import CliError
from gateway.cli.remotes import places
from gateway.cli.remotes.layout import LayoutRepo
from gateway.cli.remotes.server import ServerRepo
from gateway.cli.session import Session


@pytest.mark.parametrize(
    ("url", "address", "repo"),
    [
        ("http://host:8080/hooli", "http://host:8080", "hooli"),
        ("https://host/bread/hooli/", "https://host/bread", "hooli"),
        ("http://host/v1/repo/hooli", "http://host", "hooli"),
        ("http://host/a%2Db", "http://host", "a-b"),
    ],
)
def test_a_gateway_s_url_ends_with_the_repo(url: str, address: str, repo: str) -> None:
    assert places.split_url(url) == (address, repo)


@pytest.mark.parametrize("url", ["http://host", "http://", "https:///x"])
def test_a_url_without_a_repo_is_refused(url: str) -> None:
    with pytest.raises(CliError, match="names no repo"):
        places.split_url(url)


def test_paths_of_folders_are_stored_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.normal("file:backup") == f"file:{tmp_path}/backup"
    assert places.normal("file:/backup") == places.normal("file:///backup") == "file:/backup"
    with pytest.raises(CliError, match="names no folder"):
        places.normal("file:")


def test_each_url_opens_its_place(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "BREAD_BASE_URL": "http://own", "BREAD_API_KEY": "own-key"}
    session = Session(environment, tmp_path)
    assert isinstance(places.open_place(session, f"file:{tmp_path}/x", None), LayoutRepo)
    place = places.open_place(session, "http://other/hooli", None)
    assert isinstance(place, ServerRepo) and place.label == "http://other/hooli"


def test_keys_belong_to_servers(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "BREAD_BASE_URL": "http://own", "BREAD_API_KEY": "own-key"}
    session = Session(environment, tmp_path)
    assert places._key(session, "http://other", "origin") is None
    assert places._key(session, "http://own", None) == "own-key"
    session.settings.logins.save("http://other", api_key="saved")
    assert places._key(session, "http://other", "origin") == "saved"
    environment[places.key_variable("my-origin")] = "from the environment"
    assert places._key(session, "http://other", "my-origin") == "from the environment"
    assert places.key_variable("my-origin") == "BREAD_MY_ORIGIN_API_KEY"
