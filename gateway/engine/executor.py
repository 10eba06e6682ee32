"""An executor for CPUs that waits for its worker without spinning. Runs in vLLM's engine core process.

vLLM's engine core polls shared memory without a pause while the worker computes. On a CPU it takes the core that it
polls on from the worker, or from a trainer: on two cores, nearly one was burnt so.
"""

from typing import Any

from vllm.v1.executor.multiproc_executor import MultiprocExecutor

LONGEST_WAIT_MS = 2
"""The socket that announces messages loses one now and then (its high water mark is 1): the engine then stood still
after some thousand steps. A lost one costs this long, and looking so often costs 1 % of a core."""


class WaitingExecutor(MultiprocExecutor):  # type: ignore[misc]  # vLLM's classes are Any to us
    def _init_executor(self) -> None:
        super()._init_executor()
        for queue in self.response_mqs:
            _wait_without_spinning(queue._spin_condition)


def _wait_without_spinning(condition: Any) -> None:
    condition.busy_loop_s = 0.0
    wait = condition.wait

    def wait_a_moment(timeout_ms: int | None = None) -> None:
        wait(LONGEST_WAIT_MS if timeout_ms is None else min(timeout_ms, LONGEST_WAIT_MS))

    condition.wait = wait_a_moment
