"""Numbers about model requests, for `/metrics`.

Anyone who reaches the service may read the public metrics, so these only distinguish the base model from adapters.
Metrics by bake need the master key. At most MAX_BAKES bakes get a time series, all others share `other`: there may be
thousands, and each series takes memory here and in Prometheus for as long as the service runs.
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
        labels, public, by_name = ["route", "model"], self._public, self._by_name
        self._requests = Counter(
            "bread_requests", "Model requests that have ended.", [*labels, "outcome"], registry=public
        )
        self._seconds = Histogram(
            "bread_request_duration_seconds",
            "From the arrival of a request to the end of its answer, if it succeeded.",
            labels,
            buckets=SECONDS,
            registry=public,
        )
        self._first_token = Histogram(
            "bread_time_to_first_token_seconds",
            "From the arrival of a request to the first event of its stream.",
            labels,
            buckets=SECONDS,
            registry=public,
        )
        self._tokens = Counter(
            "bread_tokens", "Tokens of prompts (in) and answers (out).", ["model", "direction"], registry=public
        )
        self._bake_requests = Counter(
            "bread_bake_requests", "Model requests to a bake that have ended.", ["bake", "outcome"], registry=by_name
        )
        self._bake_tokens = Counter(
            "bread_bake_tokens", "Tokens of prompts to a bake and its answers.", ["bake", "direction"], registry=by_name
        )

    def count(self, model_request: ModelRequest, outcome: Outcome) -> None:
        """Count a request that has ended."""
        labels = (model_request.route, model_request.model_kind)
        self._requests.labels(*labels, outcome).inc()
        if outcome is Outcome.OK:
            self._seconds.labels(*labels).observe(model_request.seconds)
        if model_request.first_token_seconds is not None:
            self._first_token.labels(*labels).observe(model_request.first_token_seconds)
        bake = None if model_request.bake_name is None else self._label(model_request.bake_name)
        if bake is not None:
            self._bake_requests.labels(bake, outcome).inc()
        for direction, count in zip(("in", "out"), model_request.usage.tokens or (), strict=False):
            self._tokens.labels(model_request.model_kind, direction).inc(count)
            if bake is not None:
                self._bake_tokens.labels(bake, direction).inc(count)

    def render(self, *, with_names: bool) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._public) + (generate_latest(self._by_name) if with_names else b"")

    def _label(self, bake: str) -> str:
        if len(self._bakes) < MAX_BAKES:
            self._bakes.add(bake)
        return bake if bake in self._bakes else OTHER


class _Queue(Collector):
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> list[GaugeMetricFamily]:
        texts = {
            "in_flight": "Model requests running or waiting.",
            "waiting": "Model requests beyond those that the engine runs at once.",
            "capacity": "Most model requests in flight; a further one gets 503.",
        }
        return [
            GaugeMetricFamily(f"bread_requests_{name}", text, getattr(self._admission, name))
            for name, text in texts.items()
        ]
