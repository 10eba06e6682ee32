"""Numbers about model requests, for `/metrics`.

Whoever reaches the service may read the metrics, so the general ones only tell the base model from adapters. Those by
bake are for the master key, and at most MAX_BAKES of them: what else is asked for counts as `other`, since there may
be thousands and a time series costs memory here and in Prometheus for as long as the service runs.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.inference.admission import Admission
from gateway.inference.model_request import ModelRequest, Outcome

MAX_BAKES = 200
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)


class RequestMetrics:
    def __init__(self, admission: Admission) -> None:
        self._public = CollectorRegistry()
        self._public.register(_Queue(admission))
        self._by_name = CollectorRegistry()
        self._bakes: set[str] = set()
        labels, everyone, master = ["route", "model"], self._public, self._by_name
        self._requests = Counter(
            "bread_requests", "Model requests that have ended.", [*labels, "outcome"], registry=everyone
        )
        self._seconds = Histogram(
            "bread_request_duration_seconds",
            "From the arrival of a request to the end of its answer, if all went well.",
            labels,
            buckets=SECONDS,
            registry=everyone,
        )
        self._first = Histogram(
            "bread_time_to_first_token_seconds",
            "From the arrival of a request to the first event of its stream.",
            labels,
            buckets=SECONDS,
            registry=everyone,
        )
        self._tokens = Counter(
            "bread_tokens", "Tokens of prompts (in) and answers (out).", ["model", "direction"], registry=everyone
        )
        self._bake_requests = Counter(
            "bread_bake_requests", "Model requests to a bake that have ended.", ["bake", "outcome"], registry=master
        )
        self._bake_tokens = Counter(
            "bread_bake_tokens", "Tokens of prompts to a bake and its answers.", ["bake", "direction"], registry=master
        )

    def count(self, exchange: ModelRequest, outcome: Outcome) -> None:
        """A request that has ended."""
        labels = (exchange.route, exchange.kind)
        self._requests.labels(*labels, outcome).inc()
        if outcome is Outcome.OK:
            self._seconds.labels(*labels).observe(exchange.seconds)
        if exchange.first_token_seconds is not None:
            self._first.labels(*labels).observe(exchange.first_token_seconds)
        bake = None if exchange.bake is None else self._label(exchange.bake)
        if bake is not None:
            self._bake_requests.labels(bake, outcome).inc()
        for direction, count in zip(("in", "out"), exchange.usage.tokens or (), strict=False):
            self._tokens.labels(exchange.kind, direction).inc(count)
            if bake is not None:
                self._bake_tokens.labels(bake, direction).inc(count)

    def render(self, *, with_names: bool) -> bytes:
        """As Prometheus' text."""
        return generate_latest(self._public) + (generate_latest(self._by_name) if with_names else b"")

    def _label(self, bake: str) -> str:
        if len(self._bakes) < MAX_BAKES:
            self._bakes.add(bake)
        return bake if bake in self._bakes else OTHER


class _Queue(Collector):
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> list[GaugeMetricFamily]:
        queue = self._admission
        return [
            GaugeMetricFamily("bread_requests_in_flight", "Model requests running or waiting.", queue.in_flight),
            GaugeMetricFamily("bread_requests_waiting", "Those beyond what the engine runs at once.", queue.waiting),
            GaugeMetricFamily("bread_requests_capacity", "Most that may be in flight; then 503.", queue.capacity),
        ]
