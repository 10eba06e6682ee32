"""An executor for CPUs that waits for its worker without spinning. Runs in vLLM's engine core process.

vLLM's engine core polls shared memory without a pause while the worker computes. On a CPU it takes the core that it
polls on from the worker, or from a trainer: on two cores, three quarters of one were burnt so.
"""

from vllm.v1.executor.multiproc_executor import MultiprocExecutor


class WaitingExecutor(MultiprocExecutor):  # type: ignore[misc]  # vLLM's classes are Any to us
    def _init_executor(self) -> None:
        super()._init_executor()
        for queue in self.response_mqs:
            # Straight to the socket on which every message is announced; by itself it gets there after a second.
            queue._spin_condition.busy_loop_s = 0.0
