"""The executor that computes in the engine core's process."""

import multiprocessing
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from gateway.engine import Engine


def test_the_engine_core_has_no_worker_process(engine: Engine) -> None:
    cores = [child for child in multiprocessing.active_children() if child.name.startswith("EngineCore")]
    assert cores
    for core in cores:
        names = [child.name() for child in psutil.Process(core.pid).children(recursive=True)]
        assert not [name for name in names if name.startswith("VLLM")]


def test_several_workers_are_refused(engine: Engine) -> None:
    from gateway.engine.worker.executor import InProcessExecutor

    executor: Any = SimpleNamespace(parallel_config=SimpleNamespace(world_size=2))
    with pytest.raises(ValueError, match="--distributed-executor-backend mp"):
        InProcessExecutor._init_executor(executor)
    assert not InProcessExecutor.supports_async_scheduling()
