"""The unmodified Python client: every method of 1.4, sync and async, and a script for 1.0."""

import asyncio
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aibread import APIStatusError, AsyncBread, BadRequestError, Bread, ConflictError, NotFoundError

from tests.gateway.engines import MODEL_NAME
from tests.service import RunningGateway
from tests.shape import carry_out, finished

pytestmark = [pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")]

PATIENCE_SECONDS = 240
OLD_SCRIPT = Path(__file__).with_name("aibread_1_0.py")
LOUD = [{"role": "system", "content": "Always shout"}]
QUESTIONS = {"type": "hardcoded", "questions": [f"What is {number} and {number}?" for number in range(12)]}
TARGET = {"generators": [QUESTIONS], "u": "loud", "v": "", "max_tokens": 8, "extra_kwargs": {"ignore_eos": True}}
BAKE = {"datasets": [{"target": "target", "weight": 1.0}], "epochs": 2}


@pytest.fixture(scope="module")
def bread(gateway: RunningGateway) -> Bread:
    return gateway.bread()


@pytest.fixture(scope="module")
def baked(bread: Bread) -> str:
    """Name of a repo with a finished bake. Its four stages are started without waiting for each other."""
    repo = "from-python"
    bread.repo.create(repo_name=repo)
    bread.prompts.create(prompt_name="loud", repo_name=repo, messages=LOUD)
    bread.targets.create(target_name="target", repo_name=repo, template="default", overrides=TARGET)
    bread.bakes.create(bake_name="bake", repo_name=repo, template="default", overrides=BAKE)
    bread.targets.stim.run(target_name="target", repo_name=repo, poll=False)
    bread.targets.rollout.run(target_name="target", repo_name=repo, poll=False)
    bread.bakes.run(bake_name="bake", repo_name=repo, poll=False)
    finished(bread, repo, "bake")
    return repo


def test_every_read_of_a_finished_bake(bread: Bread, baked: str) -> None:
    bake: Any = bread.bakes.get(bake_name="bake", repo_name=baked)
    assert bake.api_model_name == [f"admin/{baked}/bake/{bake.checkpoint}"]
    assert bake.loss["final_loss"] >= 0
    metrics: Any = bread.bakes.get_metrics(bake_name="bake", repo_name=baked)
    assert metrics[0]["iter"] <= metrics[-1]["iter"] == bake.checkpoint
    assert bread.bakes.list(repo_name=baked).bakes == ["bake"]
    assert bread.targets.list(repo_name=baked).targets == ["target"]
    assert bread.prompts.list(repo_name=baked).prompts == ["loud"]
    assert bread.prompts.get(prompt_name="loud", repo_name=baked).messages[0].content == "Always shout"
    target: Any = bread.targets.get(target_name="target", repo_name=baked)
    assert target.config.teacher_prompt == target.config.u == "loud"
    assert bread.repo.get(repo_name=baked).base_model == MODEL_NAME
    page: Any = bread.repo.list(include_metadata=True, limit=1000)
    assert baked in [repo.repo_name for repo in page.repos]
    assert bread.health.check().status == "healthy"


def test_lineage_of_a_finished_bake(bread: Bread, baked: str) -> None:
    graph = bread.recipes.get_dependency_graph(bake_name="bake", repo_name=baked)
    assert ["bake", "bake", "target", "target"] in graph.edges
    assert graph.prompts == {"loud": "prompts/loud.yml"}
    plan = bread.recipes.get_recreation_plan(bake_name="bake", repo_name=baked)
    assert [step.action for step in plan.steps] == [
        "create_prompt",
        "create_target",
        "run_stim",
        "run_rollout",
        "create_bake",
        "run_bake",
    ]
    tree = bread.repo.get_tree(repo_name=baked)
    assert tree.bakes["bake"].status == "complete"


@pytest.fixture(scope="module")
def generations(bread: Bread, baked: str) -> list[str]:
    """Bakes of the repo, each the parent of the next, with different ranks and spellings of the parent."""
    names = ["bake", "second", "third"]
    for parent, name, spelled, rank in (
        ("bake", "second", "admin/from-python/bake", 8),
        ("second", "third", "from-python/second", 24),
    ):
        target: Any = {"model_name": f"{baked}/{parent}"}
        bread.targets.create(target_name=f"of_{name}", repo_name=baked, template="target", overrides=target)
        bread.targets.stim.run(target_name=f"of_{name}", repo_name=baked, poll=False)
        bread.targets.rollout.run(target_name=f"of_{name}", repo_name=baked, poll=False)
        model = {"parent_model_name": spelled, "baked_adapter_config": {"r": rank}}
        settings: Any = {"datasets": [{"target": f"of_{name}"}], "model": model}
        bread.bakes.create(bake_name=name, repo_name=baked, template="bake", overrides=settings)
        bread.bakes.run(bake_name=name, repo_name=baked, poll=False)
        finished(bread, baked, name)
    return names


@pytest.fixture(scope="module")
def again(bread: Bread, baked: str, generations: list[str]) -> str:
    """Name of another repo, recreated from the plan of the first repo's third generation."""
    carry_out(bread, bread.recipes.get_recreation_plan(bake_name="third", repo_name=baked), "again")
    for name in generations:
        finished(bread, "again", name)
    return "again"


def test_three_generations_are_in_tree_graph_and_plan(bread: Bread, baked: str, generations: list[str]) -> None:
    edges = [["bake", "second", "bake", "bake"], ["bake", "third", "bake", "second"]]
    assert bread.repo.get_tree(repo_name=baked).edges == edges
    graph = bread.recipes.get_dependency_graph(bake_name="third", repo_name=baked)
    assert list(graph.bakes) == generations[::-1]
    assert all(edge in graph.edges for edge in edges)
    plan = bread.recipes.get_recreation_plan(bake_name="third", repo_name=baked)
    assert [step.resource_name for step in plan.steps if step.action == "run_bake"] == generations
    assert plan.total_steps == 1 + 3 * 3 + 3 * 2


def test_a_plan_recreates_the_same_bakes_in_another_repo(
    gateway: RunningGateway, bread: Bread, baked: str, generations: list[str], again: str
) -> None:
    ranks = []
    for name in generations:
        # The graph shows the version that a pointer meant.
        first, second = (bread.recipes.get_dependency_graph(bake_name=name, repo_name=repo) for repo in (baked, again))
        assert first.bakes[name] == second.bakes[name]
        bake: Any = bread.bakes.get(bake_name=name, repo_name=again)
        folder = gateway.folder / ".bread" / "jobs" / str(bake.job_id) / "checkpoints" / str(bake.checkpoint)
        ranks.append(json.loads((folder / "adapter_config.json").read_text())["r"])
    assert ranks == [16, 16, 24], "a rank below the parent's becomes the parent's"


def test_a_deleted_bake_finishes_its_running_answer_and_comes_back(
    gateway: RunningGateway, bread: Bread, again: str
) -> None:
    asked: Any = {
        "model": f"{again}/bake",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 400,
        "extra_body": {"ignore_eos": True},
    }
    chat = gateway.openai().chat.completions
    chunks = iter(chat.create(**asked, stream=True, stream_options={"include_usage": True}))
    next(chunks)
    bread.bakes.delete(bake_name="bake", repo_name=again)
    with pytest.raises(openai.NotFoundError):
        chat.create(**asked)
    undo = f"{gateway.url}/v1/repo/{again}/undo"
    undone = httpx.post(undo, json={}, headers={"Authorization": f"Bearer {gateway.key}"}, timeout=PATIENCE_SECONDS)
    assert undone.status_code == 200 and undone.json()["summary"].endswith("(delete bake bake)"), undone.text
    answer = chat.create(**{**asked, "max_tokens": 8})
    assert answer.usage.completion_tokens == 8, "undo brings the bake back, while its old answer runs on"
    *_, last = chunks
    assert last.usage.completion_tokens == 400


def test_everything_may_be_sent_twice(bread: Bread, baked: str) -> None:
    before: Any = bread.bakes.get(bake_name="bake", repo_name=baked)
    bread.repo.set(repo_name=baked)
    bread.prompts.set(prompt_name="loud", repo_name=baked, messages=LOUD)
    bread.targets.set(target_name="target", repo_name=baked, template="default", overrides=TARGET)
    bread.bakes.set(bake_name="bake", repo_name=baked, template="default", overrides=BAKE)
    assert bread.targets.stim.run(target_name="target", repo_name=baked).lines == 12
    assert bread.targets.rollout.run(target_name="target", repo_name=baked).total_expected == 12
    again: Any = bread.bakes.run(bake_name="bake", repo_name=baked)
    assert (again.job_id, again.api_model_name) == (before.job_id, before.api_model_name)
    with pytest.raises(ConflictError):
        bread.targets.set(
            target_name="target", repo_name=baked, template="default", overrides={**TARGET, "max_tokens": 9}
        )


def test_batches(bread: Bread) -> None:
    bread.repo.create(repo_name="batches")
    for put_prompts, put_targets, put_bakes in (
        (bread.prompts.create_batch, bread.targets.create_batch, bread.bakes.create_batch),
        (bread.prompts.batch_set, bread.targets.batch_set, bread.bakes.batch_set),
    ):
        prompts = put_prompts(repo_name="batches", prompts={"a": LOUD, "b/c": LOUD})
        assert (prompts.created, list(prompts.failed)) == (["a"], ["b/c"])
        targets = put_targets(
            repo_name="batches",
            targets=[
                {"target_name": "one", "template": "default", "overrides": {"teacher_prompt": "a"}},
                {"target_name": "two", "template": "one"},
                {"target_name": "three", "template": "nowhere"},
            ],
        )
        assert (targets.created, list(targets.failed)) == (["one", "two"], ["three"])
        bakes = put_bakes(repo_name="batches", bakes=[{"bake_name": "x", "template": "default"}])
        assert (bakes.created, bakes.failed) == (["x"], {})


def test_refusals_are_the_clients_own_errors(bread: Bread) -> None:
    bread.repo.create(repo_name="refusals")
    with pytest.raises(NotFoundError, match="'gone'"):
        bread.repo.get(repo_name="gone")
    with pytest.raises(ConflictError):
        bread.repo.set(repo_name="refusals", base_model="Other/Model")
    with pytest.raises(BadRequestError, match="Other/Model"):
        bread.repo.create(repo_name="fresh", base_model="Other/Model")
    bread.targets.create(target_name="t", repo_name="refusals", template="default", overrides={})
    with pytest.raises(BadRequestError, match="teacher_prompt"):
        bread.targets.stim.run(target_name="t", repo_name="refusals")
    with pytest.raises(BadRequestError, match="run stim first"):
        bread.targets.rollout.run(target_name="t", repo_name="refusals")
    with pytest.raises(APIStatusError, match="colour") as refused:
        bread.targets.create(
            target_name="u", repo_name="refusals", template="default", overrides={}, extra_body={"colour": 1}
        )
    assert refused.value.status_code == 422


def test_a_conflict_is_sent_once(bread: Bread, baked: str) -> None:
    sent: list[httpx.Request] = []
    with httpx.Client(event_hooks={"request": [sent.append]}) as http, pytest.raises(ConflictError):
        bread.with_options(http_client=http).repo.set(repo_name=baked, base_model="Other/Model")
    assert len(sent) == 1, "the client retries a 409 unless a header forbids it"


def test_the_async_client(gateway: RunningGateway, baked: str) -> None:
    async def ask() -> None:
        async with AsyncBread(api_key=gateway.key, base_url=gateway.url) as bread:
            statuses = await asyncio.gather(
                bread.targets.stim.get(target_name="target", repo_name=baked),
                bread.targets.rollout.get(target_name="target", repo_name=baked),
                bread.bakes.get(bake_name="bake", repo_name=baked),
            )
            assert [status.status for status in statuses] == ["complete"] * 3
            assert (await bread.targets.stim.run(target_name="target", repo_name=baked)).status == "complete"

    asyncio.run(ask())


def test_weights_are_fetched_without_a_key(bread: Bread, baked: str, tmp_path: Path) -> None:
    link = bread.bakes.download(bake_name="bake", repo_name=baked, expires_in=60)
    archive = tmp_path / "weights.tar.gz"
    with urllib.request.urlopen(link.url) as answer:
        archive.write_bytes(answer.read())
    with tarfile.open(archive) as tar:
        names = {Path(name).name for name in tar.getnames()}
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= names


def test_targets_and_bakes_are_deleted(bread: Bread) -> None:
    bread.repo.create(repo_name="short-lived")
    bread.targets.create(target_name="t", repo_name="short-lived", template="default", overrides={})
    bread.bakes.create(bake_name="b", repo_name="short-lived", template="default", overrides={})
    assert bread.bakes.delete(bake_name="b", repo_name="short-lived").message
    assert bread.targets.delete(target_name="t", repo_name="short-lived").message
    with pytest.raises(NotFoundError):
        bread.targets.get(target_name="t", repo_name="short-lived")
    with pytest.raises(NotFoundError):
        bread.bakes.delete(bake_name="b", repo_name="short-lived")


def test_a_script_for_the_first_client(gateway: RunningGateway, old_python_client: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(OLD_SCRIPT)],
        env={
            **os.environ,
            "PYTHONPATH": str(old_python_client),
            "BREAD_BASE_URL": gateway.url,
            "BREAD_API_KEY": gateway.key,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-1] == "served"
