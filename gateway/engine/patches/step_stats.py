"""vLLM's statistics of each step: counted as progress, and given to Prometheus without a leak.

vLLM 0.32 keeps a time series for every set of adapters that ever ran or waited together (`vllm:lora_requests_info`),
so `/metrics` grows with them. Remove `prometheus_logger` when vLLM drops old sets. `Pulse` corrects nothing: it
implements vLLM's interface for loggers.
"""

from typing import Any


class Pulse:
    """Counts the step results that came back from the engine core, which makes progress while this number grows."""

    def __init__(self) -> None:
        self.steps = 0

    def logger(self, config: Any, engine_index: int = 0) -> Any:
        """A logger for vLLM, which calls its loggers after each step."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        pulse = self

        class Counter(StatLoggerBase):  # type: ignore[misc]  # vLLM's classes are Any to us
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None: ...

            def record(self, *args: Any, **kwargs: Any) -> None:
                pulse.steps += 1

            def log_engine_initialized(self) -> None: ...

        return Counter(config, engine_index)


def prometheus_logger() -> type:
    """The class of vLLM's Prometheus logger, changed to keep only the present set of adapters."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class Prometheus(PrometheusStatLogger):  # type: ignore[misc]  # vLLM's classes are Any to us
        def record(self, scheduler_stats: Any, *args: Any, **kwargs: Any) -> None:
            if self.gauge_lora_info is not None and scheduler_stats is not None:
                self.gauge_lora_info.clear()
            super().record(scheduler_stats, *args, **kwargs)

    return Prometheus
