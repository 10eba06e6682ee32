"""A bake with an on-policy round, on the real engine and with real training processes."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from baker.jobs.policy import Policy
from baker.jobs.queue import Jobs
from baker.jobs.stages import Stages, StageSettings
from baker.model_names import BaseModelNames
from baker.repos import bakes, prompts, repos, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.files import read_lines
from baker.storage.job import BakeJob
from baker.storage.one_thread import OneThread
from baker.trajectories.files import load_trajectory
from baker.trajectories.on_policy import RoundStore
from baker.types import Prompt, Trajectory
from gateway.engine import Engine
from gateway.serving.registry import Registry
from tests.gateway.engines import MODEL_NAME

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {
    "datasets": [{"target": "target"}],
    "epochs": 6,
    "optimizer": {"learning_rate": 0.003},
    "model": {"baked_adapter_config": {"r": 4, "lora_alpha": 4}},
    "data": {"on_policy": {"rounds": 1, "trajectories": 5, "temperature": 0.01, "max_tokens": 10}},
}
TAUGHT, LAST = 30, 33
SECONDS = 300


async def bake(home: Path, engine: Engine, adapters: Registry, names: BaseModelNames) -> BakeJob:
    catalog = OneThread(lambda: Catalog(home, names), "store")
    settings = StageSettings(top_logprobs=8, trainer_threads=1)
    policy = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=engine.max_lora_rank)
    jobs = Jobs(catalog, Stages(home, catalog, engine.generation, engine, adapters, settings), policy)
    running = asyncio.create_task(jobs.run())
    try:
        await catalog(repos.put, "admin", "repo", None)
        odd = Prompt(messages=[{"role": "system", "content": "Be odd."}])
        await catalog(prompts.put, "admin", "repo", "odd", odd, may_change=True)
        questions = {"type": "hardcoded", "questions": [f"Question {index}?" for index in range(6)]}
        target = {"u": "odd", "v": "", "generators": [questions], "num_traj_per_stimulus": 2, "max_tokens": 12}
        await catalog(targets.put, "admin", "repo", "target", "default", target, may_change=True)
        await catalog(bakes.put, "admin", "repo", "rounds", "default", SETTINGS, may_change=True)
        for stage in (Stage.STIM, Stage.ROLLOUT):
            await jobs.start(stage, "admin", "repo", "target")
        job = await jobs.start(Stage.BAKE, "admin", "repo", "rounds")
        return await jobs.wait(job, SECONDS)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        catalog.close(Catalog.close)


def logprobs_of(model: Any, context: np.ndarray, row: Trajectory) -> torch.Tensor:
    """Log-probabilities (T, V) of all tokens at the response's positions, for one row."""
    ids = torch.from_numpy(np.concatenate([context, row.response_ids]).astype(np.int64))[None]
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids).logits[0, len(context) - 1 : -1]
    return logits.float().log_softmax(-1)


def distance(logprobs: torch.Tensor, row: Trajectory) -> float:
    """Mean distance in nats of the row's stored log-probabilities from these (T, V)."""
    expected = logprobs.gather(-1, torch.from_numpy(row.top_ids_TK).long())
    return float((expected - torch.from_numpy(row.top_logprobs_TK)).abs().mean())


async def test_the_newest_checkpoint_answers_and_the_prompted_base_model_scores(
    tmp_path: Path, engine: Engine, tiny_model: Path
) -> None:
    names = BaseModelNames(MODEL_NAME, stands_in=True)
    adapters = Registry(engine, names)
    job = await bake(tmp_path, engine, adapters, names)
    assert (job.state, job.error) == (JobState.COMPLETE, None)
    newest = adapters.resolve("repo/rounds", "admin").checkpoint
    assert newest is not None and newest.step == LAST
    folder = tmp_path / "jobs" / str(job.id)
    stored = RoundStore(folder).read(1)
    assert stored.first_step == TAUGHT and stored.train is not None and len(stored.train) == 5
    rows = [load_trajectory(folder / name) for name in stored.train]

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    for row in rows:
        assert len(row.response_ids) <= 10 and row.top_ids_TK.shape[1] == 8
        assert len(row.teacher_ids) > len(row.student_ids)
    # The engine rounds to bfloat16: single rows are up to 0.06 nats off.
    by_prompted = np.mean([distance(logprobs_of(base, row.teacher_ids, row), row) for row in rows])
    by_bare = np.mean([distance(logprobs_of(base, row.student_ids, row), row) for row in rows])
    assert by_prompted < 0.1 < 1 < by_bare, "the prompted base model's log-probabilities"
    by_base = np.mean([margin(logprobs_of(base, row.student_ids, row), row) for row in rows])
    student = PeftModel.from_pretrained(base, folder / "checkpoints" / str(TAUGHT)).eval()
    by_student = np.mean([margin(logprobs_of(student, row.student_ids, row), row) for row in rows])
    assert by_student < 0.05 < by_base, "near temperature 0 it samples its likeliest tokens"
    metrics = read_lines(folder / "metrics.jsonl")
    assert [row["iter"] for row in metrics if "grad_norm" in row] == list(range(1, LAST + 1))


def margin(logprobs_TV: torch.Tensor, row: Trajectory) -> float:
    """Mean difference between the log-probabilities of the likeliest token and of the sampled one, in nats."""
    sampled_T = logprobs_TV.gather(-1, torch.from_numpy(row.response_ids).long()[:, None])[:, 0]
    return float((logprobs_TV.amax(-1) - sampled_T).mean())
