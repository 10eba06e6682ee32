"""Our own numbers for `/metrics`, collected when they are asked for; vLLM's and the HTTP layer's stand beside them."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from baker.catalog import Catalog
from baker.types import Job, JobState, Stage
from gateway.services import Services


class _Snapshot:
    """A collector of values that were read before."""

    def __init__(self, services: Services, job_counts: dict[str, int], baking: list[Job]) -> None:
        self._services = services
        self._job_counts = job_counts
        self._baking = baking

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("bread_engine_ready", "1 if the engine answers.", float(self._services.engine.is_ready))
        jobs = GaugeMetricFamily("bread_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:
            if state is not JobState.NOT_STARTED:
                jobs.add_metric([state], self._job_counts.get(state, 0))
        yield jobs
        yield GaugeMetricFamily(
            "bread_adapters", "Finished checkpoints that can be served.", self._services.adapters.count
        )
        yield CounterMetricFamily("bread_swaps", "Names moved to another checkpoint.", self._services.adapters.swaps)
        progress = GaugeMetricFamily("bread_bake_progress_percent", "Progress of the running bakes.", labels=["bake"])
        loss = GaugeMetricFamily("bread_bake_loss_nats", "Latest training loss of the running bakes.", labels=["bake"])
        for job in self._baking:
            name = f"{job.user}/{job.repo}/{job.name}"
            progress.add_metric([name], job.progress_percent)
            if job.loss is not None and job.loss.latest_loss is not None:
                loss.add_metric([name], job.loss.latest_loss)
        yield progress
        yield loss


async def render(services: Services) -> bytes:
    """All metrics as Prometheus text."""
    job_counts, baking = await services.catalog(_read)
    registry = CollectorRegistry()
    registry.register(_Snapshot(services, job_counts, baking))
    return services.engine.metrics() + generate_latest(registry)


def _read(catalog: Catalog) -> tuple[dict[str, int], list[Job]]:
    running = catalog.store.jobs_in(JobState.RUNNING)
    return catalog.store.count_jobs(), [job for job in running if job.stage is Stage.BAKE]
