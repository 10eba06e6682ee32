"""lm-evaluation-harness: log-probabilities, generation and perplexity of a local task, with the service's tokenizer."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

from tests.visits.steps import KEY, MODEL, OPENAI_URL, run, step

os.environ["OPENAI_API_KEY"] = KEY
FOLDER = Path(tempfile.mkdtemp())
QUESTIONS = [
    {"question": "The capital of France is", "choices": ["Paris", "potato"], "answer": 0},
    {"question": "Two plus two equals", "choices": ["Monday", "four"], "answer": 1},
    {"question": "The sun rises in the", "choices": ["east", "spoon"], "answer": 0},
]
COMMON = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: {FOLDER}/questions.jsonl}}}}
test_split: test
"""
TASKS = {
    "choices": "output_type: multiple_choice\n"
    'doc_to_text: "{{question}}"\n'
    'doc_to_choice: "{{choices}}"\n'
    "doc_to_target: answer\n"
    "metric_list: [{metric: acc}]\n",
    "answers": "output_type: generate_until\n"
    'doc_to_text: "{{question}}"\n'
    'doc_to_target: "{{choices[answer]}}"\n'
    "generation_kwargs: {until: ['\\n'], max_gen_toks: 8}\n"
    "metric_list: [{metric: exact_match}]\n",
}
(FOLDER / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
for name, text in TASKS.items():
    (FOLDER / f"{name}.yaml").write_text(f"task: bread_{name}\n{COMMON}{text}")


def evaluate(model: str, task: str, path: str, **fields: Any) -> Any:
    """The results of a task with one of lm-eval's models for local services."""
    arguments = {"model": MODEL, "base_url": f"{OPENAI_URL}/{path}", "auth_token": KEY, "max_retries": 1, **fields}
    tasks = TaskManager(include_path=str(FOLDER), include_defaults=False)
    return lm_eval.simple_evaluate(
        model=model, model_args=arguments, tasks=[f"bread_{task}"], task_manager=tasks, bootstrap_iters=0
    )


@step
def local_completions_scores_choices_with_the_services_tokenizer() -> None:
    results = evaluate("local-completions", "choices", "completions")
    assert results["results"]["bread_choices"]["acc,none"] == 1.0


@step
def batches_give_the_same_scores() -> None:
    requests = [
        Instance("loglikelihood", {}, (text, f" {word}"), 0) for text, word in (("One", "two"), ("A cat", "is"))
    ]
    scores = []
    for size in (1, 2):
        model = LocalCompletionsAPI(
            model=MODEL,
            base_url=f"{OPENAI_URL}/completions",
            auth_token=KEY,
            batch_size=size,
            tokenizer_backend="remote",
        )
        scores.append([score for score, _ in model.loglikelihood(requests, disable_tqdm=True)])
    assert all(abs(one - two) < 0.1 and one < 0 for one, two in zip(*scores, strict=True)), scores


@step
def local_completions_generates() -> None:
    samples = evaluate("local-completions", "answers", "completions")["samples"]["bread_answers"]
    assert len(samples) == len(QUESTIONS) and all(isinstance(sample["resps"][0][0], str) for sample in samples)


@step
def local_completions_needs_no_tokenizer_to_generate() -> None:
    assert evaluate("local-completions", "answers", "completions", tokenizer_backend="None")["results"]


@step
def local_chat_completions_generates() -> None:
    arguments = {"model": MODEL, "base_url": f"{OPENAI_URL}/chat/completions", "max_retries": 1}
    results = lm_eval.simple_evaluate(
        model="local-chat-completions",
        model_args=arguments,
        tasks=["bread_answers"],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    samples = results["samples"]["bread_answers"]
    assert len(samples) == len(QUESTIONS) and all(sample["resps"][0][0] for sample in samples)


run()
