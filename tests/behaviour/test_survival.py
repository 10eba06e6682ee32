"""The engine dies, hangs, or is stopped while it starts: a real service on the tiny model, under load.

One story in steps, since each start of an engine takes a while: every step continues from the one before.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from aibread import Bread

from baker.config.bake import BakeConfig
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from tests.gateway.engines import MODEL_NAME, make_adapter
from tests.service import RunningGateway

CLEAN_ERROR_SECONDS = 5.0
RECOVERY_SECONDS = 90.0
STOP_SECONDS = 15.0
PATIENCE_SECONDS = 300
STALL_SECONDS = 12.0
STREAMS = 32
NO_ENGINE = re.compile("resource_tracker|baker.training.run")
"""Command lines of child processes that do not belong to an engine."""
ADAPTER = "repo/bake"
CHAT = {"messages": [{"role": "user", "content": "Hello"}]}
ROUTES: dict[str, dict[str, Any]] = {"/v1/chat/completions": CHAT, "/v1/completions": {"prompt": "Hello"}}


class Ending(NamedTuple):
    """What a client received."""

    status: int
    headers: httpx.Headers
    events: list[str]
    """The data of each server-sent event, or the whole body."""
    at: float
    """Time of the end in monotonic seconds."""

    @property
    def error(self) -> dict[str, Any] | None:
        """The error in it, in OpenAI's shape; None if there is none."""
        bodies = [json.loads(event) for event in self.events if event != "[DONE]"]
        error: dict[str, Any] | None = next((body["error"] for body in bodies if "error" in body), None)
        return error


class Service:
    def __init__(self, folder: Path, model: Path) -> None:
        self.home = folder / ".bread"
        self.home.mkdir()
        _add_adapter(self.home)
        options = ["--model", str(model), "--model-name", MODEL_NAME, "--kv-cache-gib", "0.125"]
        self.gateway = RunningGateway(
            folder,
            *options,
            f"--engine-stall-seconds={STALL_SECONDS}",
            f"--vllm-args=--max-num-seqs {STREAMS} --dtype float32",
            VLLM_CPU_OMP_THREADS_BIND="0",
        )
        self.http = httpx.Client(
            base_url=self.gateway.url,
            headers={"Authorization": f"Bearer {self.gateway.key}"},
            timeout=PATIENCE_SECONDS,
            limits=httpx.Limits(max_connections=2 * STREAMS),
        )
        self.bread = Bread(api_key=self.gateway.key, base_url=self.gateway.url)

    def close(self) -> None:
        self.http.close()
        self.bread.close()
        self.gateway.stop()

    def health(self) -> dict[str, Any]:
        body: dict[str, Any] = self.http.get("/v1/health").json()
        return body

    def engine_core(self) -> psutil.Process:
        """The engine's process; on a CPU there is only one."""
        (core,) = self.cores()
        return core

    def cores(self) -> list[psutil.Process]:
        """Engine processes, including those that have just started."""
        children = self.gateway.processes()[0].children()
        return [child for child in children if not NO_ENGINE.search(" ".join(child.cmdline()))]

    def greedy(self) -> list[str]:
        """Greedy answers of the base model and the adapter, requested one after the other."""
        bodies = [{"model": model, "max_tokens": 16, "temperature": 0, **CHAT} for model in (MODEL_NAME, ADAPTER)]
        replies = [self.http.post("/v1/chat/completions", json=body) for body in bodies]
        assert [reply.status_code for reply in replies] == [200, 200], [reply.text for reply in replies]
        return [reply.json()["choices"][0]["message"]["content"] for reply in replies]

    def ask(self, route: str, body: dict[str, Any], started: threading.Semaphore) -> Ending:
        with self.http.stream("POST", route, json=body) as reply:
            lines = []
            for line in reply.iter_lines():
                lines.append(line)
                if len(lines) == 1:
                    started.release()
            events = [line.removeprefix("data: ") for line in lines if line]
            return Ending(reply.status_code, reply.headers, events, time.monotonic())

    def crowd(self, threads: ThreadPoolExecutor) -> list[Future[Ending]]:
        """Start 32 clients with long answers of all kinds. Returns when half of them have begun to read."""
        started = threading.Semaphore(0)
        asked = []
        for number in range(STREAMS):
            route, fields = list(ROUTES.items())[number % 2]
            body = {
                **fields,
                "model": (MODEL_NAME, ADAPTER)[number // 2 % 2],
                "stream": number % 8 < 6,
                "max_tokens": 480,
                "temperature": 0,
                "ignore_eos": True,
            }
            asked.append(threads.submit(self.ask, route, body, started))
        for _ in range(STREAMS // 2):
            assert started.acquire(timeout=PATIENCE_SECONDS)
        return asked


@pytest.fixture(scope="module")
def service(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("survival"), tiny_model)
    try:
        yield service
    finally:
        service.close()


def _add_adapter(home: Path) -> None:
    """Store a finished bake, as an earlier service would have done."""
    catalog = Catalog(home, BaseModelNames(MODEL_NAME, stands_in=False))
    job = catalog.store.jobs.add(
        BakeJob(
            user="admin",
            repo="repo",
            name="bake",
            state=JobState.COMPLETE,
            config=BakeConfig(),
            inputs=BakeInputs({}, None),
        )
    )
    folder = make_adapter(home / "jobs" / str(job.id) / "checkpoints" / "1", seed=1)
    catalog.store.checkpoints.add(Checkpoint("admin", "repo", "bake", 1, folder, "0" * 64, 0, job.id))
    catalog.close()


def until(test: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := test():
            return value
        time.sleep(0.05)
    raise AssertionError(f"timed out waiting for {what}")


def _check_clean(endings: list[Ending], lost_at: float) -> None:
    """Each client got its complete answer or one clear error, soon after the engine was lost."""
    for ending in endings:
        assert ending.at - lost_at < CLEAN_ERROR_SECONDS, ending
        is_stream = ending.headers["content-type"].startswith("text/event-stream")
        if ending.error is None:
            assert ending.status == 200
        elif is_stream:
            assert ending.status == 200, "the answer had begun"
            assert ending.error["code"] == 503 and "restart" in ending.error["message"], ending.error
        else:
            assert ending.status == 503 and ending.headers["retry-after"], ending
            assert ending.error["code"] == 503
        assert not is_stream or ending.events[-1] == "[DONE]", ending.events[-3:]
    assert sum(ending.error is not None for ending in endings) > STREAMS / 2, "most answers had begun"


def _start_rollout(service: Service) -> None:
    bread = service.bread
    questions = [f"What is {number} and {number}?" for number in range(20)]
    bread.repo.create(repo_name="survivor")
    loud: Any = [{"role": "system", "content": "Always shout"}]
    bread.prompts.create(prompt_name="loud", repo_name="survivor", messages=loud)
    overrides: Any = {
        "generators": [{"type": "hardcoded", "questions": questions}],
        "u": "loud",
        "v": "",
        "num_traj_per_stimulus": 5,
        "max_tokens": 64,
        "max_concurrency": 2,
        "extra_kwargs": {"ignore_eos": True},
    }
    bread.targets.create(target_name="target", repo_name="survivor", template="default", overrides=overrides)
    baking: Any = {"datasets": [{"target": "target", "weight": 1.0}], "total_trajectories": 24, "epochs": 1}
    bread.bakes.create(bake_name="bake", repo_name="survivor", template="default", overrides=baking)
    bread.targets.stim.run(target_name="target", repo_name="survivor", poll=False)
    bread.targets.rollout.run(target_name="target", repo_name="survivor", poll=False)


def test_a_killed_engine_core_is_replaced(service: Service) -> None:
    """It is killed during 32 answers and a rollout."""
    answers = service.greedy()
    assert answers[0] != answers[1]
    before = service.gateway.processes()
    _start_rollout(service)
    rollout: Callable[[], Any] = lambda: service.bread.targets.rollout.get(  # noqa: E731
        target_name="target", repo_name="survivor"
    )
    until(lambda: rollout().lines, "the first trajectory")
    core = service.engine_core()
    with ThreadPoolExecutor(STREAMS) as threads:
        asked = service.crowd(threads)
        kept = rollout().lines
        core.kill()
        lost_at = time.monotonic()
        endings = [future.result() for future in asked]
    _check_clean(endings, lost_at)
    assert kept < 100, "the rollout was running"

    assert service.health()["status"] == "degraded" and "died" in service.health()["detail"]
    assert service.http.get("/ready").status_code == 503
    refused = service.http.post("/v1/chat/completions", json={"model": ADAPTER, **CHAT})
    assert refused.status_code == 503 and refused.headers["retry-after"]
    assert service.bread.repo.list().repos == ["survivor"], "routes that need no engine still work"

    until(lambda: service.http.get("/ready").status_code == 200, "another engine", RECOVERY_SECONDS)
    assert service.health() == {"status": "healthy", "api": "bread-api", "version": service.health()["version"]}
    assert service.greedy() == answers
    assert service.gateway.processes()[0] == before[0]
    until(lambda: rollout().status == "complete", "the rollout")
    assert rollout().lines == 100


def test_an_engine_that_hangs_is_replaced(service: Service) -> None:
    """It is suspended during 32 answers, while a bake trains."""
    answers = service.greedy()
    service.bread.bakes.run(bake_name="bake", repo_name="survivor", poll=False)
    core = service.engine_core()
    with ThreadPoolExecutor(STREAMS) as threads:
        asked = service.crowd(threads)
        core.suspend()
        until(lambda: service.health()["status"] == "degraded", "the stall to be noticed")
        endings = [future.result() for future in asked]
    assert {ending.error["code"] for ending in endings if ending.error} == {503}
    until(lambda: service.http.get("/ready").status_code == 200, "another engine")
    assert not psutil.wait_procs([core], timeout=5)[1], "the suspended process was killed"
    assert service.greedy() == answers
    metrics = service.http.get("/metrics").text
    for line in ('deaths_total{reason="died"} 1.0', 'deaths_total{reason="hung"} 1.0', "starts_total 3.0"):
        assert f"bread_engine_{line}" in metrics

    bake: Callable[[], Any] = lambda: service.bread.bakes.get(bake_name="bake", repo_name="survivor")  # noqa: E731
    until(lambda: bake().status in ("complete", "failed"), "the bake")
    assert bake().status == "complete", bake().error
    reply = service.http.post("/v1/chat/completions", json={"model": "survivor/bake", "max_tokens": 2, **CHAT})
    assert reply.status_code == 200


def test_a_service_that_is_stopped_while_its_engine_starts_ends_at_once(service: Service) -> None:
    """The engine starts because the one before was killed, again during 32 answers."""
    core = service.engine_core()
    with ThreadPoolExecutor(STREAMS) as threads:
        asked = service.crowd(threads)
        core.kill()
        lost_at = time.monotonic()
        endings = [future.result() for future in asked]
    _check_clean(endings, lost_at)
    until(lambda: psutil.wait_procs([core], timeout=0)[0], "the killed engine to be reaped")
    until(service.cores, "the next one's processes")
    processes = service.gateway.processes()
    asked_at = time.monotonic()
    assert service.gateway.stop() == 0
    assert time.monotonic() - asked_at < STOP_SECONDS
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert not alive
