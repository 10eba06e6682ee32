"""What the log and the metrics report about one model request."""

from pathlib import Path

import pytest

from baker.types import Checkpoint
from gateway.inference.model_request import Outcome
from tests.gateway.inference.scripted import new_model_request


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.OK),
        (399, Outcome.OK),
        (400, Outcome.REFUSED),
        (404, Outcome.REFUSED),
        (429, Outcome.RATE_LIMITED),
        (499, Outcome.CLIENT_LEFT),
        (500, Outcome.FAILED),
        (503, Outcome.FAILED),
        (504, Outcome.TIMEOUT),
    ],
)
def test_the_outcome_follows_from_the_status(status: int, outcome: Outcome) -> None:
    assert Outcome.of_status(status) is outcome


def test_its_label_shows_which_kind_of_model_was_served_but_no_name() -> None:
    request = new_model_request()
    assert (request.model_kind, request.bake_name) == ("unknown", None)
    request.requested_model = request.served_model = "fake/base"
    assert (request.model_kind, request.bake_name) == ("base", None)
    request.checkpoint = Checkpoint("alice", "repo", "bake", 3, Path(), "0" * 64, 0, 1)
    assert (request.model_kind, request.bake_name) == ("adapter", "alice/repo/bake")


def test_only_the_first_token_counts() -> None:
    request = new_model_request()
    request.began -= 5.0
    request.note_first_token()
    first = request.first_token_seconds
    assert first is not None and first >= 5.0
    request.began -= 5.0
    request.note_first_token()
    assert request.first_token_seconds == first
    assert request.seconds >= 10.0
