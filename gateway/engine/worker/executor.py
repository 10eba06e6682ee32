"""An executor for CPUs that computes in vLLM's engine core process instead of a separate worker process.

vLLM 0.32 starts a worker process on CPUs. Each step is then a message, for which the engine core polls shared memory
without a pause: on two cores that used nearly one of them, and another process takes ten seconds to start and 600 MB.
vLLM separates them only because OpenMP's threads must be set up before a process starts; `threads` does that for the
engine core. Remove this when vLLM's CPU platform accepts its own UniProcExecutor.
"""

from contextlib import AbstractContextManager
from typing import Any

from vllm.utils.ompmultiprocessing import OMPProcessManager
from vllm.v1.executor.uniproc_executor import UniProcExecutor


class InProcessExecutor(UniProcExecutor):  # type: ignore[misc]  # vLLM's classes are Any to us
    def _init_executor(self) -> None:
        if self.parallel_config.world_size > 1:
            raise ValueError("several workers need --distributed-executor-backend mp")
        super()._init_executor()

    @classmethod
    def supports_async_scheduling(cls) -> bool:
        return False


def threads(vllm_config: Any) -> AbstractContextManager[None]:
    """Processes started inside get OpenMP's threads as set in VLLM_CPU_OMP_THREADS_BIND; no effect on other devices."""
    return OMPProcessManager(vllm_config).configure_omp_envs(0, 0)  # type: ignore[no-any-return]
