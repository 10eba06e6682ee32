import re
import stat
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from baker.types import Checkpoint
from gateway.access.signed_links import Links
from gateway.errors import ForbiddenError

CHECKPOINT = Checkpoint("alice", "repo", "bake", 21, Path(), "0" * 64, 0, 1)
NOW = 1_790_000_000.5


def made(links: Links, seconds: int = 60) -> tuple[int, str]:
    """Expiry and signature of a link to CHECKPOINT."""
    query = parse_qs(urlsplit(links.make(CHECKPOINT, seconds)).query)
    return int(query["expires"][0]), query["sig"][0]


def test_an_unchanged_link_is_valid_until_it_expires(tmp_path: Path) -> None:
    now = [NOW]
    links = Links(tmp_path, lambda: now[0])
    path = urlsplit(links.make(CHECKPOINT, 60)).path
    assert path == "/v1/files/weights/alice/repo/bake/21/bake_checkpoint_21.tar.gz"
    expires, signature = made(links)
    assert expires == 1_790_000_060
    assert re.fullmatch("[0-9a-f]{64}", signature)
    links.check("alice", "repo", "bake", 21, expires, signature)
    now[0] += 59.5
    links.check("alice", "repo", "bake", 21, expires, signature)
    now[0] += 0.5
    with pytest.raises(ForbiddenError, match="expired"):
        links.check("alice", "repo", "bake", 21, expires, signature)


@pytest.mark.parametrize(
    "change",
    [
        {"user": "bob"},
        {"repo": "repo2"},
        {"bake": "bak"},
        {"step": 2},
        {"expires": 1_790_000_061},
        {"signature": ""},
        {"signature": "0" * 64},
        {"signature": "ü"},
    ],
)
def test_every_part_of_a_link_is_signed(tmp_path: Path, change: dict[str, object]) -> None:
    links = Links(tmp_path, lambda: NOW)
    expires, signature = made(links)
    right = {"user": "alice", "repo": "repo", "bake": "bake", "step": 21, "expires": expires, "signature": signature}
    links.check(**right)  # type: ignore[arg-type]
    with pytest.raises(ForbiddenError, match="signature"):
        links.check(**{**right, **change})  # type: ignore[arg-type]


def test_the_secret_is_private_and_lasting_and_differs_between_homes(tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "other"]
    for home in homes:
        home.mkdir()
    links = Links(homes[0], lambda: NOW)
    assert not (homes[0] / "signing.key").exists(), "made when it is needed"
    expires, signature = made(links)
    assert stat.S_IMODE((homes[0] / "signing.key").stat().st_mode) == 0o600
    Links(homes[0], lambda: NOW).check("alice", "repo", "bake", 21, expires, signature)
    with pytest.raises(ForbiddenError):
        Links(homes[1], lambda: NOW).check("alice", "repo", "bake", 21, expires, signature)


def test_a_link_with_prompts_and_one_without_can_t_be_exchanged(tmp_path: Path) -> None:
    links = Links(tmp_path, lambda: NOW)
    for asked in (False, True):
        query = parse_qs(urlsplit(links.make(CHECKPOINT, 60, with_prompts=asked)).query)
        assert query.get("prompts") == (["true"] if asked else None)
        place = ("alice", "repo", "bake", 21, int(query["expires"][0]), query["sig"][0])
        links.check(*place, with_prompts=asked)
        with pytest.raises(ForbiddenError, match="signature"):
            links.check(*place, with_prompts=not asked)
