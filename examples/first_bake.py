"""Bake a pirate into the served model, then count the answers that sound like one, before and after.

Start the gateway first (`make serve`), then run `python3 examples/first_bake.py` in the same folder. You can run it
again: finished stages are not repeated.
"""

import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

VENV_PYTHON = Path(__file__).resolve().parents[1] / ".venv" / "bin" / "python"

try:  # "as" with the same name: example_bake_gavin_belson.py imports these from here
    from aibread import APIError
    from aibread import Bread as Bread
    from dotenv import load_dotenv
    from httpx import InvalidURL
    from openai import OpenAI as OpenAI
    from openai import OpenAIError
except ModuleNotFoundError as error:
    if not VENV_PYTHON.exists() or Path(sys.prefix) == VENV_PYTHON.parents[1]:
        sys.exit(f"{error}: run `make serve` first, or `pip install aibread openai python-dotenv`")
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])

REPO = os.environ.get("REPO", "first_bake")
BAKE = "pirate"
QUESTIONS = 64

PROMPT: list[dict[str, object]] = [
    {"role": "system", "content": "You are Captain Redbeard, a pirate. Answer every question as a pirate does."},
    {"role": "user", "content": "What is two plus two?"},
    {
        "role": "assistant",
        "content": "Arr, matey! Two and two be four, as sure as the tide comes in. Ye could count it on the fingers of "
        "one hand, if ye still have them.",
    },
    {"role": "user", "content": "How do I bake bread?"},
    {
        "role": "assistant",
        "content": "Ahoy, matey! Ye mix flour, water and a pinch of salt, and ye knead it till yer arms be sore. Then "
        "bake it in a hot oven till it be golden. Me crew eats it with cheese.",
    },
]
"""Small models follow examples better than descriptions, so the prompt has two."""

PIRATE = re.compile(r"\b(arr+|aye|ahoy|avast|mate?y|hearties|landlubber|scurvy|ye)\b", re.IGNORECASE)

NEW_QUESTIONS = [
    "How do I make a good cup of coffee?",
    "What is the capital of France?",
    "How can I sleep better?",
    "What should I cook tonight?",
    "Explain how rain forms.",
    "How do I learn a new language?",
    "What is a good name for a dog?",
    "Who are you?",
    "Tell me a short story.",
    "How do I apologise to a friend?",
    "What is your favourite food?",
    "Why is the sky blue?",
    "How do I save money?",
    "What makes a good friend?",
    "Can you recommend a book?",
    "How do computers work?",
    "What do you do on a rainy day?",
    "How do I stay calm before an exam?",
    "What is the best way to travel?",
    "Give me a tip for a happy life.",
]
SHOWN_SIDE_BY_SIDE = ("How can I sleep better?", "Who are you?")
ANSWER_TOKENS = 64

POLL_SECONDS = 0.5
BAR_WIDTH = 24
UNITS = {"stim": "questions", "rollout": "answers"}


def main(client: Bread, openai: OpenAI) -> None:
    base = create_repo(client, REPO).base_model
    bake_pirate(client)
    compare(openai, base, f"{REPO}/{BAKE}")


def bake_pirate(client: Bread) -> None:
    """Run the four stages. Each run call returns at once; a stage waits until its input is complete."""
    client.prompts.create(prompt_name="captain", repo_name=REPO, messages=PROMPT)
    client.prompts.create(prompt_name="none", repo_name=REPO, messages=[{"role": "user", "content": ""}])
    client.targets.create(
        target_name="talk",
        repo_name=REPO,
        template="default",
        overrides={
            # General questions that ship with the service.
            "generators": [{"type": "persona", "numq": number_of_questions(QUESTIONS)}],
            "u": "captain",  # the teacher's prompt: the one to bake in
            "v": "none",  # the student's prompt: what stays necessary afterwards
            "max_tokens": ANSWER_TOKENS,
        },
    )
    client.bakes.create(
        bake_name=BAKE,
        repo_name=REPO,
        template="default",
        # More passes learn little more here: the prompt's effect is strong.
        overrides={"datasets": [{"target": "talk", "weight": 1.0}], "epochs": 4},
    )
    client.targets.stim.run(target_name="talk", repo_name=REPO, poll=False)
    client.targets.rollout.run(target_name="talk", repo_name=REPO, poll=False)
    client.bakes.run(bake_name=BAKE, repo_name=REPO, poll=False)

    follow("stim", lambda: client.targets.stim.get(target_name="talk", repo_name=REPO))
    follow("rollout", lambda: client.targets.rollout.get(target_name="talk", repo_name=REPO))
    bake = follow("bake", lambda: client.bakes.get(bake_name=BAKE, repo_name=REPO))
    loss = bake.loss or {}
    if "recovered" in loss:
        print(f"\n{loss['recovered']:.0%} of the prompt's effect is in the weights, on questions it was not trained on")


class Asked(NamedTuple):
    """A model with or without the prompt, and its answers to NEW_QUESTIONS."""

    label: str
    answers: list[str]
    prompt_tokens: int
    """Mean number of tokens that a question takes, prompt included."""

    @property
    def pirates(self) -> int:
        return sum(PIRATE.search(answer) is not None for answer in self.answers)


def compare(openai: OpenAI, base: str, baked: str) -> None:
    """Ask the base model and the baked one the same new questions, and print a table and some answers."""
    count = len(NEW_QUESTIONS)
    print(f"\nAnswers with pirate words to {count} new questions, and the tokens that a question takes:\n")
    asked = []
    for label, model, prompt in (
        ("base model", base, []),
        ("base model with the prompt", base, PROMPT),
        (f"{baked}@0.5", f"{baked}@0.5", []),
        (baked, baked, []),
        (f"{baked}@1.5", f"{baked}@1.5", []),
    ):
        row = ask(openai, label, model, prompt)
        bar = "#" * row.pirates + "." * (count - row.pirates)
        print(f"  {label:28}{bar} {row.pirates:2} of {count}   {row.prompt_tokens:3} tokens")
        asked.append(row)
    shown = [row for row in asked if "@" not in row.label]
    for question in SHOWN_SIDE_BY_SIDE:
        place = NEW_QUESTIONS.index(question)
        print(f"\n{question}\n")
        print(side_by_side([(row.label, row.answers[place]) for row in shown]))
    print(f"\nTalk to it:        python3 chat_with_model.py --model {baked}")
    print(f"Half as much:      python3 chat_with_model.py --model {baked}@0.5")


def ask(openai: OpenAI, label: str, model: str, prompt: list[Any]) -> Asked:
    """All new questions at once: the service batches them."""

    def answer(place: int) -> Any:
        return openai.chat.completions.create(
            model=model,
            messages=[*prompt, {"role": "user", "content": NEW_QUESTIONS[place]}],
            temperature=0.7,
            seed=place,
            max_tokens=ANSWER_TOKENS,
        )

    places = range(len(NEW_QUESTIONS))
    with ThreadPoolExecutor(len(places)) as pool:
        answers = list(pool.map(answer, places))
    texts = [" ".join((answer.choices[0].message.content or "").split()) for answer in answers]
    return Asked(label, texts, round(sum(answer.usage.prompt_tokens for answer in answers) / len(answers)))


def side_by_side(columns: list[tuple[str, str]]) -> str:
    """Texts under their titles in columns as wide as the terminal allows."""
    width = (terminal_width() - 2 * len(columns)) // len(columns)
    wrapped = [[title[:width], "-" * width, *textwrap.wrap(text, width)] for title, text in columns]
    rows = zip_longest(*wrapped, fillvalue="")
    return "\n".join("  " + "  ".join(f"{cell:{width}}" for cell in row).rstrip() for row in rows)


def run(script: Callable[[Bread, OpenAI], None]) -> int:
    """Run a script with clients of the gateway; its errors end in a sentence. Returns: the exit status."""
    load_dotenv(".env")
    base_url = os.environ.get("BREAD_BASE_URL", "http://127.0.0.1:8080")
    api_key = os.environ.get("BREAD_API_KEY", "")
    if not api_key:
        sys.exit(
            "BREAD_API_KEY is not set. `make serve` writes it to .env in its folder when the engine is ready: run this "
            "script there, after its greeting."
        )
    try:
        script(
            Bread(api_key=api_key, base_url=base_url),
            OpenAI(api_key=api_key, base_url=f"{base_url.rstrip('/')}/v1"),
        )
    except (APIError, OpenAIError) as error:
        sys.exit(f"\n{explained(error, base_url)}")
    except (InvalidURL, UnicodeEncodeError) as error:
        sys.exit(f"BREAD_BASE_URL or BREAD_API_KEY can't be right: {error}.")
    except KeyboardInterrupt:
        print("\nThis script has stopped; the gateway continues the stages it has started.")
        return 130
    return 0


def explained(error: APIError | OpenAIError, base_url: str) -> str:
    """What went wrong, and what to do."""
    status, body = getattr(error, "status_code", None), getattr(error, "body", None)
    if status is None:
        cause = re.sub(r"^\[Errno -?\d+\] ", "", str(error.__cause__ or error))
        return f"Cannot reach {base_url} ({cause}). Is `make serve` running there?"
    message = body.get("message") or body.get("detail") or body.get("error") if isinstance(body, dict) else None
    if isinstance(body, str):  # a proxy's error page
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.DOTALL | re.IGNORECASE)
        message = " ".join((title[1] if title else re.sub(r"<[^>]*>", " ", body)).split())[:200]
    reason = (message if isinstance(message, str) and message else "it gives no reason").rstrip(".")
    advice = {
        401: " Set BREAD_API_KEY to the key in the .env of `make serve`.",
        503: " Run this script again in a minute: finished stages are not repeated.",
    }
    return f"{base_url} refuses the request (HTTP {status}): {reason}.{advice.get(status, '')}"


def create_repo(client: Bread, name: str) -> Any:
    repo = client.repo.create(repo_name=name)
    if not hasattr(repo, "repo_name"):  # the client hands over a web page as a text
        sys.exit(f"{client.base_url} answers, but is not a Bread gateway: check BREAD_BASE_URL.")
    print(f"repo {repo.repo_name}, base model {repo.base_model}\n")
    return repo


def number_of_questions(default: int) -> int:
    number = os.environ.get("NUMQ", str(default))
    if not number.isdecimal():
        sys.exit(f"NUMQ is {number!r}: it must be a whole number, the number of questions to train on.")
    return int(number)


def follow(stage: str, status_of: Callable[[], Any]) -> Any:
    """Show a progress bar until the stage ends. Exits with the stage's error if it fails."""
    started = time.monotonic()
    while True:
        status = status_of()
        is_over = status.status in ("complete", "failed")
        if is_over or sys.stdout.isatty():
            line = progress_line(stage, status, time.monotonic() - started)
            print(f"\r{line}\x1b[K" if sys.stdout.isatty() else line, end="\n" if is_over else "", flush=True)
        if is_over:
            break
        time.sleep(POLL_SECONDS)
    for warning in status.warnings:
        note = textwrap.wrap(f"note: {warning}", terminal_width() - 8, break_on_hyphens=False)
        print("  " + "\n        ".join(note))
    if status.status == "failed":
        sys.exit(f"{stage} failed: {status.error}")
    return status


def progress_line(stage: str, status: Any, elapsed_seconds: float) -> str:
    """`rollout [######............]  33%  21 of 64 answers, 9 s, 18 s left`, cut to the terminal's width."""
    fields = status.to_dict()
    percent = fields.get("progress_percent") or 0.0
    filled = round(BAR_WIDTH * percent / 100)
    notes = [f"{elapsed_seconds:.0f} s"]
    if fields.get("lines") and fields.get("total_expected"):
        notes.insert(0, f"{fields['lines']} of {fields['total_expected']} {UNITS[stage]}")
    if (training := fields.get("training")) is not None:
        notes += [f"loss {training['loss']:.3f}", f"{training['tokens_per_second']:,.0f} tokens/s"]
    notes += [reason["text"].removeprefix("It ").rstrip(".") for reason in fields.get("waiting_for") or []]
    if fields.get("eta_seconds") is not None and status.status == "running":
        notes.append(f"{fields['eta_seconds']:.0f} s left")
    line = f"{stage:8}[{'#' * filled:.<{BAR_WIDTH}}] {percent:3.0f}%  {', '.join(notes)}"
    return line[: terminal_width() - 1]


def terminal_width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


if __name__ == "__main__":
    sys.exit(run(main))
