"""Counters and histograms of model requests."""

import re
from pathlib import Path

from baker.types import Checkpoint
from gateway.inference.admission import Admission
from gateway.inference.model_request import ModelRequest, Outcome
from gateway.inference.rate_limits import Limits
from gateway.inference.request_metrics import MAX_BAKES, RequestMetrics
from tests.gateway.inference.scripted import new_model_request


def admission() -> Admission:
    return Admission(batch_size=lambda: 2, max_waiting=3, limits=Limits())


def request_to(bake: str | None, tokens: tuple[int, int] | None = None) -> ModelRequest:
    request = new_model_request()
    request.served_model = "any"
    if bake is not None:
        request.checkpoint = Checkpoint("alice", "repo", bake, 3, Path(), "0" * 64, 0, 1)
    request.usage.note(tokens)
    return request


def values(metrics: RequestMetrics, *, with_names: bool = False) -> dict[str, float]:
    """`name{labels}` -> value."""
    text = metrics.render(with_names=with_names).decode()
    return {name: float(value) for name, value in re.findall(r"^(bread_\S+) (\S+)$", text, re.MULTILINE)}


def test_requests_and_tokens_are_counted_by_kind_of_model() -> None:
    metrics = RequestMetrics(admission())
    metrics.count(request_to(None, (3, 2)), Outcome.OK)
    metrics.count(request_to("bake", (5, 7)), Outcome.OK)
    metrics.count(request_to("bake", (1, 1)), Outcome.CLIENT_LEFT)
    metrics.count(new_model_request(), Outcome.REFUSED)
    counted = values(metrics)
    for model, outcome, count in (
        ("base", "ok", 1),
        ("adapter", "ok", 1),
        ("adapter", "client_left", 1),
        ("unknown", "refused", 1),
    ):
        assert counted[f'bread_requests_total{{model="{model}",outcome="{outcome}",route="/route"}}'] == count
    tokens = {
        (model, direction): counted[f'bread_tokens_total{{direction="{direction}",model="{model}"}}']
        for model in ("base", "adapter")
        for direction in ("in", "out")
    }
    assert tokens == {("base", "in"): 3, ("base", "out"): 2, ("adapter", "in"): 6, ("adapter", "out"): 8}


def test_only_successful_requests_have_a_duration_and_only_streams_a_first_token() -> None:
    metrics = RequestMetrics(admission())
    stream = request_to(None)
    stream.note_first_token()
    for request, outcome in ((stream, Outcome.FAILED), (request_to(None), Outcome.OK), (request_to(None), Outcome.OK)):
        metrics.count(request, outcome)
    counted, labels = values(metrics), 'model="base",route="/route"'
    assert counted[f"bread_request_duration_seconds_count{{{labels}}}"] == 2
    assert counted[f"bread_time_to_first_token_seconds_count{{{labels}}}"] == 1


def test_bakes_are_named_up_to_a_limit_and_only_on_demand() -> None:
    metrics = RequestMetrics(admission())
    for number in range(MAX_BAKES + 2):
        metrics.count(request_to(f"bake{number}", (1, 0)), Outcome.OK)
    metrics.count(request_to("bake0", (1, 0)), Outcome.OK)
    assert "bake0" not in metrics.render(with_names=False).decode()
    counted = values(metrics, with_names=True)
    requests = {name: value for name, value in counted.items() if name.startswith("bread_bake_requests_total")}
    assert len(requests) == MAX_BAKES + 1
    assert requests['bread_bake_requests_total{bake="alice/repo/bake0",outcome="ok"}'] == 2
    assert requests['bread_bake_requests_total{bake="other",outcome="ok"}'] == 2
    assert counted['bread_bake_tokens_total{bake="other",direction="in"}'] == 2


def test_the_queue_is_read_when_the_metrics_are() -> None:
    queue = admission()
    metrics = RequestMetrics(queue)
    places = [queue.enter("key") for _ in range(3)]
    names = ("in_flight", "waiting", "capacity")
    assert [values(metrics)[f"bread_requests_{name}"] for name in names] == [3, 1, 5]
    places[0].leave(0)
    assert [values(metrics)[f"bread_requests_{name}"] for name in names] == [2, 0, 5]
