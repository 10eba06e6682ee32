"""What vLLM tells of each step: a sign of life, and its numbers for Prometheus without their leak."""

from typing import Any


class Pulse:
    """How many results of steps have come back from the engine core: it lives as long as this number grows."""

    def __init__(self) -> None:
        self.steps = 0

    def logger(self, config: Any, engine_index: int = 0) -> Any:
        """For vLLM, which tells its loggers of each step."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        pulse = self

        class Counter(StatLoggerBase):  # type: ignore[misc]  # vLLM's classes are Any to us
            def __init__(self, vllm_config: Any, engine_index: int = 0) -> None: ...

            def record(self, *args: Any, **kwargs: Any) -> None:
                pulse.steps += 1

            def log_engine_initialized(self) -> None: ...

        return Counter(config, engine_index)


def prometheus_logger() -> type:
    """vLLM's own, which otherwise keeps a time series for every set of adapters that ever ran or waited together, and
    `/metrics` grows with them. Only the present set is kept."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class Prometheus(PrometheusStatLogger):  # type: ignore[misc]  # vLLM's classes are Any to us
        def record(self, scheduler_stats: Any, *args: Any, **kwargs: Any) -> None:
            if self.gauge_lora_info is not None and scheduler_stats is not None:
                self.gauge_lora_info.clear()
            super().record(scheduler_stats, *args, **kwargs)

    return Prometheus
