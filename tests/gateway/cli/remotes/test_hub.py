"""Copies to and from the hub, against a local stand-in of its HTTP API. The real hub was not tried."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.failures import CliError
from gateway.cli.remotes import hub as hub_files
from gateway.cli.remotes.copying import Move, Ref, copy
from gateway.cli.remotes.layout import LayoutRepo
from gateway.cli.remotes.progress import Silent
from tests.gateway.cli.remotes.hub_server import TOKEN, Hub, served_hub
from tests.gateway.cli.remotes.memory import Memory

# huggingface_hub 2.4 uploads with an argument that its HTTP library will drop.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "crew/pirate"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with served_hub() as hub:
        yield hub


@pytest.fixture
def source() -> Memory:
    source = Memory()
    source.names = {"yoda": Ref("branch", source.add("tip", source.add("root")))}
    return source


def opened(hub: Hub) -> LayoutRepo:
    return LayoutRepo(hub_files.Hub(REPO, hub.url))


def pushed(source: Memory, hub: Hub) -> LayoutRepo:
    there = opened(hub)
    before = there.refs().get("yoda")
    tip = source.names["yoda"]
    copy(source, there, [tip.commit], with_data=False, report=Silent(), history=source.history())
    there.move([Move("yoda", tip, None if before is None else before.commit)], force=False)
    return there


def pulled(hub: Hub) -> Memory:
    there, target = opened(hub), Memory()
    tips = [ref.commit for ref in there.refs().values()]
    copy(there, target, tips, with_data=False, report=Silent(), history=there.history())
    target.names = there.refs()
    return target


def test_what_is_pushed_to_the_hub_is_pulled_from_it(source: Memory, hub: Hub) -> None:
    assert not opened(hub).exists()
    pushed(source, hub)
    target = pulled(hub)
    assert (target.blobs, target.names) == (source.blobs, source.names)
    assert {key: record["description"] for key, record in target.commits.items()} == {
        key: record["description"] for key, record in source.commits.items()
    }
    assert hub.private[REPO], "who may read the weights is for their owner to say"
    assert hub.messages == ["Versions", "Names"], "names come last"


def test_a_second_push_sends_only_what_is_new(source: Memory, hub: Hub) -> None:
    pushed(source, hub)
    before = hub.uploads
    source.names["yoda"] = Ref("branch", source.add("newer", source.names["yoda"].commit))
    pushed(source, hub)
    adapters_and_documents = 4  # adapter, description and manifest of one commit, and index.json
    assert hub.uploads - before <= adapters_and_documents
    assert len(pulled(hub).commits) == 3


def test_a_repo_that_changed_meanwhile_is_not_overwritten(
    source: Memory, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(source, hub)
    source.names["yoda"] = Ref("branch", source.add("newer", source.names["yoda"].commit))
    original = Hub.commit

    def races(self: Hub, repo: str, lines: list[dict[str, object]]) -> str | None:
        monkeypatch.setattr(Hub, "commit", original)
        self.commits[repo].append(dict(self.files(repo)))
        return original(self, repo, lines)

    monkeypatch.setattr(Hub, "commit", races)
    with pytest.raises(CliError, match="changed meanwhile"):
        pushed(source, hub)
    pushed(source, hub)


def test_refusals_of_the_hub_are_one_line(source: Memory, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(CliError, match="hf auth login"):
        pushed(source, hub)
    with pytest.raises(CliError, match="no repo of the hub"):
        hub_files.Hub("../up/x", hub.url)
    with pytest.raises(CliError, match="cannot reach the hub"):
        hub_files.Hub(REPO, "http://127.0.0.1:9")
