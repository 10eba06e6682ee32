"""Progress of stages, as notes, lines and failures."""

from typing import Any

import httpx
import pytest

from gateway.cli.baking import stages
from gateway.cli.baking.stages import Stage, follow, note_of, warnings_of
from gateway.cli.client import Client
from gateway.cli.failures import CliError, Exit
from gateway.cli.servers import Server

ROLLOUT = Stage("rollout", "/rollout", "answers")
BAKE = Stage("bake", "/bake", "")


@pytest.mark.parametrize(
    ("stage", "status", "note"),
    [
        (ROLLOUT, {"status": "running", "lines": 3, "total_expected": 8, "eta_seconds": 9.6},
         "3 of 8 answers, 10 s left"),
        (ROLLOUT, {"status": "complete", "lines": 8, "total_expected": 8, "running_seconds": 9.6}, "8 answers, 10 s"),
        (BAKE, {"status": "pending", "waiting_for": [{"text": "It waits for \x1b[2J."}]}, "waits for \\x1b[2J"),
        (BAKE, {"status": "pending"}, "waits for its turn"),
        (BAKE, {"status": "running", "training": {"loss": 0.5, "tokens_per_second": 1234}},
         "loss 0.500, 1,234 tokens/s"),
        (BAKE, {"status": "not_started"}, ""),
    ],
)  # fmt: skip
def test_a_note_says_how_far_a_stage_is(stage: Stage, status: dict[str, Any], note: str) -> None:
    assert note_of(stage, status) == note


def serving(*answers: Any) -> Client:
    """A client that gets these answers in turn: a status, or an exception."""
    rest = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        following = rest.pop(0)
        if isinstance(following, Exception):
            raise following
        return httpx.Response(200, json=following)

    return Client(Server("http://gateway.local", "k"), transport=httpx.MockTransport(answer))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "POLL_SECONDS", 0.0)


def test_without_a_terminal_each_state_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"status": "running", "progress_percent": 20.0}
    ended = follow(serving({"status": "pending"}, running, running, {"status": "complete", "warnings": ["w"]}), [BAKE])
    assert capsys.readouterr().err.splitlines() == [
        "bake      0%  waits for its turn", "bake     20%  running", "bake    100%  complete",
    ]  # fmt: skip
    assert ended["bake"]["status"] == "complete"
    assert warnings_of({"a": ended["bake"], "b": ended["bake"]}) == ["w"]


def test_a_failed_stage_ends_it_with_the_reason() -> None:
    with pytest.raises(CliError, match=r"bake failed: out of\\x07 room\. Run the same command") as error:
        follow(serving({"status": "failed", "error": "out of\x07 room."}), [BAKE])
    assert error.value.code == Exit.DIFFERS


def test_a_server_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    away = httpx.ConnectError("refused")
    assert follow(serving(away, away, {"status": "complete"}), [BAKE])["bake"]["status"] == "complete"
    monkeypatch.setattr(stages, "OUTAGE_SECONDS", -1.0)
    with pytest.raises(CliError, match="cannot reach"):
        follow(serving(away), [BAKE])
