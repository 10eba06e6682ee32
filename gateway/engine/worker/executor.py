"""An executor for CPUs that computes in vLLM's engine core process, in place of a worker process of its own.

Between two processes each step is a message, which vLLM's engine core awaits by polling shared memory without a pause:
on two cores nearly one was burnt so, and a process that starts takes ten seconds and 600 MB. vLLM keeps them apart on
CPUs only because OpenMP's threads must be set up before a process starts; `threads` does that for the engine core.
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
    """Processes started within get OpenMP's threads as VLLM_CPU_OMP_THREADS_BIND says; nothing on other devices."""
    return OMPProcessManager(vllm_config).configure_omp_envs(0, 0)  # type: ignore[no-any-return]
