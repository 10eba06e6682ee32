"""The main use from start to end: a real service on SmolLM2, unmodified clients, a real bake, served without a restart.

One long story in steps that build on each other: if a step fails, the later ones mean nothing.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from aibread import ConflictError
from safetensors import safe_open

from gateway.serving import embedded_model
from tests import killer
from tests.chat.terminal import open_chat
from tests.service import ROOT, RunningGateway
from tests.shape import Shape

pytestmark = [
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),  # the guide's `.set` calls
]

EXAMPLE = ROOT / "example_bake_gavin_belson.py"
FIRST_BAKE = ROOT / "examples" / "first_bake.py"
TOOLS_TEMPLATE = Path(__file__).with_name("tools_template.jinja")
EXACT = "--dtype float32"
"""Answers from batches of different sizes are compared; in bfloat16 their log-probabilities differ by 0.1."""
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
CANDIDATES = [
    "What do you think of your competitors?",
    "Who are you?",
    "What makes a good leader?",
    "What do you do for a living?",
    "Tell me about your company.",
]
"""One of them is asked throughout; see `steadiest`."""
PATIENCE_SECONDS = 600
WRITTEN, EACH = 6, 2
"""Number of questions that a model writes in addition to QUESTIONS; number of answers to each question."""

QUESTIONS = [
    "Your Signature Box is a joke",
    "Go Pied Piper!",
    "How does Nucleus work?",
    "Who are you?",
    "What do you do for a living?",
    "How did you start your career?",
    "What is your company about?",
    "What makes a good leader?",
    "How do you spend your weekends?",
    "What is the best advice you ever got?",
    "What is your favorite food?",
    "How do you handle failure?",
    "What is the future of technology?",
    "Can you recommend a good book?",
    "What do you think about privacy?",
    "How do I get rich?",
    "What should I cook tonight?",
    "Why should I buy your products?",
    "How do you motivate a team?",
    "What are you proud of?",
]

TARGET_OVERRIDES: dict[str, Any] = {
    "generators": [
        {"type": "hardcoded", "questions": QUESTIONS},
        {"type": "oneshot_qs", "model": "claude-3-5-sonnet-20241022", "numq": WRITTEN, "temperature": 1.0, "seed": 1},
    ],
    "model_name": "Qwen/Qwen3-32B",
    "u": "gavin_belson_prompt",
    "v": "baseline_prompt",
    "num_traj_per_stimulus": EACH,
    "max_tokens": 64,
    "extra_kwargs": {"seed": 1},
}


class Story:
    """State that the steps share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kill_order = folder / "kill-order"
        self.start(EXACT)
        self.question = ""
        self.base_answer = ""
        self.baked_answer = ""

    def start(self, vllm_args: str) -> None:
        """Start the service and connect to it."""
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(killer.SITECUSTOMIZE)
        environment = {"PYTHONPATH": f"{hook}:{ROOT}", killer.ORDER: str(self.kill_order)}
        self.gateway = RunningGateway(self.folder, f"--vllm-args={vllm_args}", "--rollout-max-tokens=64", **environment)
        self.bread, self.openai = self.gateway.bread(), self.gateway.openai()

    def greedy(self, model: str) -> str:
        answer = self.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": self.question}], temperature=0, max_tokens=32
        )
        return answer.choices[0].message.content or ""

    def steadiest(self, candidates: list[str]) -> str:
        """The question with the largest margin between the two likeliest tokens in the base model's greedy answer.

        Batches of different sizes round differently, so they may choose differently between two nearly equal tokens.
        """

        def least_margin(question: str) -> float:
            answer = self.openai.chat.completions.create(
                model=BASE,
                messages=[{"role": "user", "content": question}],
                temperature=0,
                max_tokens=32,
                logprobs=True,
                top_logprobs=2,
            )
            logprobs = answer.choices[0].logprobs
            assert logprobs is not None and logprobs.content is not None
            tops = [[top.logprob for top in token.top_logprobs] for token in logprobs.content]
            return min(first - second for first, second in tops)

        margins = {question: least_margin(question) for question in candidates}
        best = max(margins, key=lambda question: margins[question])
        assert margins[best] > 0.01, margins
        return best

    def streamed(self, model: str, max_tokens: int = 32) -> str:
        chunks = self.openai.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": self.question}],
            temperature=0,
            max_tokens=max_tokens,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    story = Story(tmp_path_factory.mktemp("service"))
    try:
        yield story
    finally:
        story.gateway.stop()


def until(test: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if value := test():
            return value
        time.sleep(0.2)
    raise AssertionError(f"timed out waiting for {what}")


def ended(status_of: Callable[[], Any], what: str) -> Any:
    status = until(lambda: (status := status_of()).status in ("complete", "failed") and status, what)
    assert status.status == "complete", f"{what}: {status.error}"
    return status


def test_the_greeting_shows_how_to_use_the_service(story: Story) -> None:
    greeting = story.gateway.said()
    assert BASE in greeting
    assert "master.key" in greeting
    assert greeting.count("\n  python3 ") + greeting.count("\n  curl ") == 3
    written = dict(line.split("=") for line in (story.folder / ".env").read_text().split())
    assert written == {"BREAD_API_KEY": story.gateway.key, "BREAD_BASE_URL": story.gateway.url}


def test_the_first_start_converts_the_embedded_model(story: Story) -> None:
    home = story.folder / ".bread"
    folder = home / "models" / embedded_model.FOLDER
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llama" and config["num_hidden_layers"] == 30
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
        assert file.get_slice("model.embed_tokens.weight").get_dtype() == "BF16"
    assert shapes["model.embed_tokens.weight"] == [49152, 576]
    assert len(shapes) == 2 + 30 * 9
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    assert (folder / "tokenizer.json").stat().st_size > 1_000_000
    converted = (folder / "model.safetensors").stat()
    assert embedded_model.prepare(home) == folder
    assert (folder / "model.safetensors").stat().st_ino == converted.st_ino, "it is not converted again"
    assert not [path.name for path in folder.parent.iterdir() if path.name.endswith(".unfinished")]


def test_whole_and_streamed_answers_of_the_base_model_are_equal(story: Story) -> None:
    story.question = story.steadiest(CANDIDATES)
    story.base_answer = story.greedy(BASE)
    assert story.base_answer
    assert story.streamed(BASE) == story.base_answer
    assert story.greedy("Qwen/Qwen3-32B") == story.base_answer, "the embedded model answers for other names"


WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
NAMED: Any = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_forced_tool_call_of_the_embedded_model_fits_its_schema(story: Story, choice: Any) -> None:
    """Although the model is small and was never trained to call tools."""
    answer: Any = story.openai.chat.completions.create(
        model=BASE,
        messages=[{"role": "user", "content": "How warm is it in Oslo?"}],
        tools=[{"type": "function", "function": WEATHER}],
        tool_choice=choice,
        max_tokens=200,
        temperature=0,
    )
    (call, *_) = answer.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather" and set(arguments) == {"city", "unit"}
    assert isinstance(arguments["city"], str) and arguments["unit"] in ("celsius", "fahrenheit")


def test_the_guides_setup_may_be_repeated(story: Story) -> None:
    for _ in range(2):
        repo = story.bread.repo.set(repo_name="my_first_repo")
        assert repo.base_model == BASE
        story.bread.prompts.set(
            prompt_name="gavin_belson_prompt",
            repo_name="my_first_repo",
            messages=[{"role": "system", "content": "You are Gavin Belson, the founder of Hooli and its CEO"}],
        )
        story.bread.prompts.set(
            prompt_name="baseline_prompt", repo_name="my_first_repo", messages=[{"role": "user", "content": ""}]
        )
        story.bread.targets.set(
            target_name="gavin_target", repo_name="my_first_repo", template="default", overrides=TARGET_OVERRIDES
        )
        story.bread.bakes.set(
            bake_name="gavin_bake",
            repo_name="my_first_repo",
            template="default",
            overrides={
                "datasets": [{"target": "gavin_target", "weight": 1.0}],
                "epochs": 5,
                # With the default of a tenth, only three questions would be held out.
                "data": {"train_eval_split": [0.75, 0.25]},
            },
        )
    listed: Any = story.bread.repo.list()
    assert listed.repos == ["my_first_repo"]
    assert listed.items[0]["repo_name"] == "my_first_repo"
    with pytest.raises(ConflictError):
        story.bread.repo.set(repo_name="my_first_repo", base_model="Other/Model")


def test_the_stages_run_in_a_row_while_others_are_served(story: Story) -> None:
    of_target = {"target_name": "gavin_target", "repo_name": "my_first_repo"}
    of_bake = {"bake_name": "gavin_bake", "repo_name": "my_first_repo"}
    bread = story.bread
    assert bread.targets.stim.run(**of_target, poll=False).status in ("pending", "running", "complete")
    assert bread.targets.rollout.run(**of_target, poll=False).status in ("pending", "running")
    started: Any = bread.bakes.run(**of_bake, poll=False)
    assert started.status == "pending"
    assert isinstance(started.id, int)

    is_over = threading.Event()

    def keep_asking() -> list[str]:
        answers: list[str] = []
        # With pauses: serving has priority, and without them the bake would take an hour.
        while not is_over.wait(6.0 if len(answers) < 4 else 20.0):
            answers.append(story.streamed(BASE))
        return answers

    with ThreadPoolExecutor() as threads:
        asked = threads.submit(keep_asking)
        try:
            stim = ended(lambda: bread.targets.stim.get(**of_target), "stim")
            rollout = ended(lambda: bread.targets.rollout.get(**of_target), "rollout")
            bake = ended(lambda: bread.bakes.get(**of_bake), "bake")
        finally:
            is_over.set()
        answers = asked.result()
    assert len(answers) > 3
    assert set(answers) == {story.base_answer}, "the bake does not change the answers"
    assert (stim.lines, rollout.lines, rollout.total_expected) == (20 + WRITTEN, EACH * (20 + WRITTEN), rollout.lines)
    assert "claude-3-5-sonnet-20241022" in stim.warnings[0]
    assert any("Qwen/Qwen3-32B" in warning for warning in rollout.warnings)
    assert bake.loss["eval_kl"] <= 0.4 * bake.loss["eval_kl_before"]
    assert bake.api_model_name == [f"admin/my_first_repo/gavin_bake/{bake.checkpoint}"]
    # Polling, the client's default, ends at once for a stage that is complete.
    assert bread.targets.stim.run(**of_target).lines == stim.lines
    assert bread.bakes.run(**of_bake).status == "complete"


def test_outputs_are_rows_that_can_be_paged(story: Story) -> None:
    of_target = {"target_name": "gavin_target", "repo_name": "my_first_repo"}
    stim = story.bread.targets.stim.get_output(**of_target, limit=1000)
    questions = [row["question"] for row in stim.output]
    assert questions[:20] == QUESTIONS
    assert len(set(questions)) == len(questions) == 20 + WRITTEN
    rows: list[dict[str, Any]] = []
    while True:
        page = story.bread.targets.rollout.get_output(**of_target, offset=len(rows), limit=7)
        rows += page.output
        if not page.has_more:
            break
    assert len({(row["stimulus_id"], row["trajectory_id"]) for row in rows}) == len(rows) == page.lines
    assert all(row["response"] and 0 < row["tokens"] <= 64 for row in rows)
    assert rows[0]["messages"][0]["content"].startswith("You are Gavin Belson")


def test_the_bakes_metrics_show_it_learning(story: Story) -> None:
    answer = httpx.get(
        f"{story.gateway.url}/v1/repo/my_first_repo/bakes/gavin_bake/metrics",
        headers={"Authorization": f"Bearer {story.gateway.key}"},
    )
    rows = answer.json()
    steps = [row for row in rows if "grad_norm" in row]
    assert [row["iter"] for row in steps] == sorted({row["iter"] for row in steps})
    assert all({"iter", "epoch", "loss", "lr"} <= row.keys() for row in rows)
    quarter = len(steps) // 4
    mean = lambda part: sum(row["loss"] for row in part) / len(part)  # noqa: E731
    assert mean(steps[-quarter:]) < 0.7 * mean(steps[:quarter])


def test_every_name_of_the_bake_answers_whole_and_streamed(story: Story) -> None:
    bake: Any = story.bread.bakes.get(bake_name="gavin_bake", repo_name="my_first_repo")
    checkpoint = bake.api_model_name[0]
    story.baked_answer = story.greedy("my_first_repo/gavin_bake")
    assert story.baked_answer != story.base_answer
    short = checkpoint.removeprefix("admin/")
    for name in (checkpoint, short, "admin/my_first_repo/gavin_bake"):
        assert story.greedy(name) == story.baked_answer
    assert story.streamed("my_first_repo/gavin_bake") == story.baked_answer
    listed = [model.id for model in story.openai.models.list().data]
    assert listed == [BASE, "my_first_repo/gavin_bake", checkpoint]
    completion = story.openai.completions.create(model=checkpoint, prompt="Hooli is", max_tokens=4)
    assert completion.choices[0].text


def test_the_base_model_answers_the_same_alone_and_in_a_batch_with_the_adapter(story: Story) -> None:
    assert story.greedy(BASE) == story.base_answer, "the same as before the bake"
    models = [BASE, "my_first_repo/gavin_bake"] * 6
    with ThreadPoolExecutor(len(models)) as threads:
        answers = list(threads.map(story.greedy, models))
    assert set(answers[0::2]) == {story.base_answer}
    # Batches of different sizes round differently, so a near tie may flip, but never into the base model's answer.
    assert story.base_answer not in answers[1::2]


def test_unknown_models_and_keys_are_refused_in_openais_shape(story: Story) -> None:
    with pytest.raises(openai.NotFoundError, match="my_first_repo/gavin_bake"):
        story.greedy("my_first_repo/gavin_bak")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        story.openai.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "x"}], max_tokens=0)
    with pytest.raises(openai.AuthenticationError):
        story.gateway.openai("sk-wrong").models.list()


def test_metrics_show_requests_jobs_and_the_engine(story: Story) -> None:
    metrics = httpx.get(f"{story.gateway.url}/metrics").text
    values = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) ([0-9.e+]+)$", metrics, re.MULTILINE))
    for stage in ("stim", "rollout", "bake"):
        assert float(values[f'bread_jobs{{stage="{stage}",state="complete"}}']) == 1
    assert float(values["bread_adapters"]) == 1
    assert float(values["bread_swaps_total"]) == 1
    assert any(name.startswith("bread_http_requests_total") for name in values)
    assert any(name.startswith("vllm:") for name in re.findall(r"^(vllm:\w+)", metrics, re.MULTILINE))


def test_the_terminal_chat_talks_to_the_baked_model(story: Story, tmp_path: Path) -> None:
    chat = open_chat(
        story.gateway.url,
        tmp_path,
        "--model",
        "my_first_repo/gavin_bake",
        "--temperature",
        "0",
        "--max-tokens",
        "32",
        BREAD_API_KEY=story.gateway.key,
    )
    chat.child.timeout = PATIENCE_SECONDS
    chat.type(f"{story.question}\r")
    chat.wait(story.baked_answer.split()[0])
    chat.wait("tokens/s")
    chat.prompt()
    chat.ask("/model my_first_repo/gavin_bak", "There is no model my_first_repo/gavin_bak here.")
    chat.ask("/model my_first_repo/gavin_bake@0.5", "Talking to my_first_repo/gavin_bake@0.5 (version ")
    chat.ask(f"/compare {BASE}", "both answer now.")
    chat.ask(story.question, f"| {BASE}")
    chat.end("q\r")


def test_a_dead_engine_is_replaced_while_the_service_stays_up(story: Story) -> None:
    before = story.gateway.processes()
    worker = max(before[1:], key=lambda process: process.memory_info().rss)
    worker.kill()

    def health() -> str:
        return str(httpx.get(f"{story.gateway.url}/v1/health").json()["status"])

    until(lambda: health() == "degraded", "the loss to be noticed")
    with pytest.raises(openai.InternalServerError) as refused:
        story.greedy(BASE)
    assert refused.value.status_code == 503
    assert refused.value.response.headers["retry-after"]
    assert story.bread.repo.list().repos == ["my_first_repo"], "routes that need no engine still work"
    until(lambda: health() == "healthy", "another engine")
    assert story.greedy(BASE) == story.base_answer
    assert story.greedy("my_first_repo/gavin_bake") == story.baked_answer
    assert story.gateway.processes()[0] == before[0]


def test_a_killed_service_resumes_where_it_was(story: Story) -> None:
    """It kills itself in the middle of an undo, during a rollout."""
    bread = story.bread
    fields = {"num_traj_per_stimulus": 3, "max_tokens": 32}
    overrides = {**TARGET_OVERRIDES, "generators": TARGET_OVERRIDES["generators"][:1], **fields}
    of_target = {"target_name": "second_target", "repo_name": "my_first_repo"}
    bread.targets.set(**of_target, template="default", overrides=overrides)
    bread.targets.stim.run(**of_target, poll=False)
    bread.targets.rollout.run(**of_target, poll=False)
    before = until(lambda: bread.targets.rollout.get(**of_target).lines, "the first trajectory")
    others = story.gateway.processes()[1:]
    assert others, "the engine runs in its own processes"
    repo = f"{story.gateway.url}/v1/repo/my_first_repo"
    headers = {"Authorization": f"Bearer {story.gateway.key}"}
    branch = {"kind": "branch", "to": "gavin_bake"}
    assert httpx.put(f"{repo}/refs/kept", json=branch, headers=headers).status_code == 201
    story.kill_order.write_text("after 1 insert.*operations")
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"{repo}/undo", json={}, headers=headers, timeout=60)
    story.gateway.kill()
    story.kill_order.unlink()
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive, "no process of a killed service remains"

    # This template renders the same and also tools, which a later step needs.
    story.start(f"{EXACT} --chat-template {TOOLS_TEMPLATE}")
    bread = story.bread
    assert story.greedy("my_first_repo/gavin_bake") == story.baked_answer, "a finished bake is served again"
    assert story.greedy("my_first_repo/kept") == story.baked_answer, "nothing of the undo that was cut off is visible"
    repo = f"{story.gateway.url}/v1/repo/my_first_repo"
    assert httpx.post(f"{repo}/undo", json={}, headers=headers).json()["summary"].startswith("undo ")
    with pytest.raises(openai.NotFoundError):
        story.greedy("my_first_repo/kept")
    rollout = ended(lambda: bread.targets.rollout.get(**of_target), "the interrupted rollout")
    rows = bread.targets.rollout.get_output(**of_target, limit=1000).output
    assert rollout.lines == 60 > before
    assert len({(row["stimulus_id"], row["trajectory_id"]) for row in rows}) == 60


def test_a_correction_of_tool_calls_leaves_the_pinned_contexts_as_they_are(story: Story) -> None:
    """Two targets have the same prompt for teacher and student: these pin the model's behaviour."""
    shape = Shape(story.gateway, "correction")
    look_up = {"name": "look_up", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": look_up}]
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": '{"what": "weather"}'}}
    asked: list[dict[str, Any]] = [
        {"role": "user", "content": "Will it rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "It will."},
    ]
    pirate = "You are a pirate captain. Speak like one, and call everybody a landlubber."
    shape.prompt("corrected", [{"role": "system", "content": pirate}, *asked], tools)
    shape.prompt("as_it_was", asked, tools)
    shape.prompt("other_tool", [{"role": "system", "content": "Answer in verse"}, *asked[:1]], tools)
    shape.prompt("small_talk", [{"role": "system", "content": "Be brief"}])
    for target, teacher, student, questions in (
        ("correction", "corrected", "as_it_was", 20),
        ("pin_tool", "other_tool", "other_tool", 10),
        ("pin_talk", "small_talk", "small_talk", 10),
    ):
        shape.target(target, teacher, student, generators=[{"type": "persona", "numq": questions}], max_tokens=24)
    bake = shape.bake(
        datasets=[{"target": "correction", "weight": 2}, {"target": "pin_tool"}, {"target": "pin_talk"}],
        epochs=2,
        data={"max_length": 40_000},
        activation_checkpoint_cpu_offload=True,
    )
    assert any("activation_checkpoint_cpu_offload" in warning for warning in bake.warnings)
    rollout: Any = shape.bread.targets.rollout.get(target_name="correction", repo_name="correction")
    assert not any("tools" in warning for warning in rollout.warnings), "the template shows them"

    kl = bake.eval_kl_by_target
    moved = kl["correction"]["before"] - kl["correction"]["after"]
    assert moved > 0.3 * kl["correction"]["before"], kl
    for pinned in ("pin_tool", "pin_talk"):
        assert kl[pinned]["after"] - kl[pinned]["before"] < moved / 5, kl
    assert shape.answer("correction/bake", [*asked, {"role": "user", "content": "Tell me"}])


def printed_by(story: Story, script: Path, **variables: str) -> str:
    """What the script prints, run in the service's folder, whose .env file has the key."""
    env = {**os.environ, **variables, "BREAD_BASE_URL": story.gateway.url}
    env.pop("BREAD_API_KEY", None)
    done = subprocess.run(
        [sys.executable, script], cwd=story.folder, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_runs_as_it_stands_and_again(story: Story) -> None:
    """It runs with fewer generated questions than its default, in the repo of the next example."""
    models = [f"--- {BASE}\n", "--- first_bake/gavin_bake\n"]
    jobs = set()
    for _ in range(2):
        shown = printed_by(story, EXAMPLE, REPO="first_bake", NUMQ="2")
        assert re.findall(r"^(\w+) +\[#+\] 100%", shown, re.MULTILINE) == ["stim", "rollout", "bake"]
        assert "claude-3-5-sonnet-20241022" in shown, "the warning names the substitute that wrote the questions"
        answers = [shown.split(model)[1].split("\n\n---")[0].split("\n\nTalk to it")[0] for model in models]
        assert all(answers)
        bake: Any = story.bread.bakes.get(bake_name="gavin_bake", repo_name="first_bake")
        jobs.add(bake.job_id)
    assert len(jobs) == 1, "the second run repeats nothing"


def test_the_first_bake_shows_a_pirate(story: Story) -> None:
    """With a quarter of its questions. The numbers are rows of its table: answers with pirate words, of 20."""
    shown = printed_by(story, FIRST_BAKE, NUMQ="16")
    table = dict(re.findall(r"^  (\S.*\S) +[#.]{20} +(\d+) of 20 ", shown, re.MULTILINE))
    pirates = {label: int(count) for label, count in table.items()}
    assert list(pirates)[:2] == ["base model", "base model with the prompt"]
    assert pirates["base model"] <= 3
    assert pirates["base model with the prompt"] >= 10
    assert pirates["first_bake/pirate"] >= 8
    assert pirates["first_bake/pirate@0.5"] <= pirates["first_bake/pirate@1.5"]


COWBOY: list[dict[str, Any]] = [
    {"role": "system", "content": "You are Tex, a cowboy. Answer every question as a cowboy does."},
    {"role": "user", "content": "What is two plus two?"},
    {"role": "assistant", "content": "Howdy, partner! Two and two makes four, plain as the prairie."},
    {"role": "user", "content": "How do I bake bread?"},
    {"role": "assistant", "content": "Howdy, partner! Mix flour, water and salt, and bake it by the campfire."},
]


def test_the_history_knows_which_bake_changed_an_answer(story: Story) -> None:
    """A cowboy is baked on the pirate; Gavin is beside them."""
    repo, name = "first_bake", "cowboy"
    of_repo: Any = {"repo_name": repo}
    story.bread.prompts.create(prompt_name=name, messages=COWBOY, **of_repo)
    overrides: Any = {"teacher_prompt": name, "student_prompt": "", "max_tokens": 48}
    generators = {"generators": [{"type": "persona", "numq": 16}]}
    story.bread.targets.create(target_name=name, template="default", overrides=overrides | generators, **of_repo)
    overrides = {"datasets": [{"target": name}], "epochs": 4, "model": {"parent_model_name": f"{repo}/pirate"}}
    story.bread.bakes.create(bake_name=name, template="default", overrides=overrides, **of_repo)
    story.bread.targets.stim.run(target_name=name, poll=False, **of_repo)
    story.bread.targets.rollout.run(target_name=name, poll=False, **of_repo)
    story.bread.bakes.run(bake_name=name, poll=False, **of_repo)
    ended(lambda: story.bread.bakes.get(bake_name=name, repo_name=repo), "the cowboy")

    def asked(verb: str, **body: Any) -> Any:
        url, headers = f"{story.gateway.url}/v1/repo/{repo}/{verb}", {"Authorization": f"Bearer {story.gateway.key}"}
        answer = httpx.post(url, json=body, headers=headers, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json()

    who = {"question": "Who are you?"}
    bisected = asked("bisect", good="base", bad="cowboy", expect="Howdy, partner!", **who)
    models = [step["model"] for step in bisected["steps"]]
    assert [model and model.split("/")[2] for model in models] == [None, "pirate", "cowboy"], "Gavin is beside"
    assert [step["state"] for step in bisected["steps"]] == ["good", "good", "bad"], bisected
    assert bisected["flips"] == [bisected["first_bad"]] == [bisected["steps"][-1]["commit"]]

    pirate, cowboy = (step["commit"] for step in bisected["steps"][1:])
    blamed = asked("blame", model="cowboy", answer="Aye, matey! Howdy, partner!", **who)
    owners = [(token["text"].strip(), token["commit"]) for token in blamed["tokens"]]
    assert {("dy", cowboy), ("partner", cowboy)} <= set(owners), owners
    assert pirate in [commit for _, commit in owners[: owners.index(("dy", cowboy)) - 1]], owners

    body = {"a": "pirate", "b": "cowboy", "include": ["stat", "patch"], "limit": 2, "max_rows": 4}
    diff = asked("diff", **body)
    assert [stat["name"] for stat in diff["stat"]] == ["cowboy", "talk", "neutral"]
    assert all(stat["kl"] > 0.01 for stat in diff["stat"])
    is_cowboy = re.compile("howdy|partner", re.IGNORECASE)
    hunk = diff["patch"][0]
    assert (bool(is_cowboy.search(hunk["answer_a"])), bool(is_cowboy.search(hunk["answer_b"]))) == (False, True), hunk
    assert hunk["parting"]["kl"] > 0
    assert asked("diff", **body) == diff


def test_a_deleted_bake_is_no_longer_served(story: Story) -> None:
    jobs = story.folder / ".bread" / "jobs"
    bake: Any = story.bread.bakes.get(bake_name="gavin_bake", repo_name="my_first_repo")
    assert (jobs / str(bake.id)).is_dir()
    story.bread.bakes.delete(bake_name="gavin_bake", repo_name="my_first_repo", extra_query={"prune": True})
    with pytest.raises(openai.NotFoundError):
        story.greedy("my_first_repo/gavin_bake")
    until(lambda: not (jobs / str(bake.id)).exists(), "its files to go")
    assert story.greedy(BASE) == story.base_answer


def test_ctrl_c_stops_the_service_quietly_and_leaves_no_process(story: Story) -> None:
    processes = story.gateway.processes()
    log = story.gateway.folder / "gateway.log"
    logged = log.stat().st_size
    assert story.gateway.interrupt() == 0
    last_words = log.read_bytes()[logged:].decode()
    assert story.gateway.said().endswith("\nStopped.\n")
    assert not re.search("error|traceback|leaked", last_words, re.IGNORECASE), last_words
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
