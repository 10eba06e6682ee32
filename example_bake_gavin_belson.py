"""Bake a prompt into the served model with the unmodified `aibread` client, then ask the base and the baked model.

Start the gateway first (`make serve`), then run `python3 example_bake_gavin_belson.py`. You can run it again: finished
stages are not repeated.
"""

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VENV_PYTHON = Path(__file__).resolve().parent / ".venv" / "bin" / "python"

try:
    from aibread import APIError, Bread
    from dotenv import load_dotenv
    from httpx import InvalidURL
    from openai import OpenAI, OpenAIError
except ModuleNotFoundError as error:
    if not VENV_PYTHON.exists() or Path(sys.prefix) == VENV_PYTHON.parents[1]:
        sys.exit(f"{error}: run `make serve` first, or `pip install aibread openai python-dotenv`")
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])

REPO = os.environ.get("REPO", "my_first_repo")
TARGET = "gavin_target"
BAKE = "gavin_bake"
QUESTIONS_FROM_A_MODEL = os.environ.get("NUMQ", "50")
QUESTION = "What do you think of Pied Piper?"

POLL_SECONDS = 1.0
BAR_WIDTH = 30


def main() -> int:
    load_dotenv(".env")
    base_url = os.environ.get("BREAD_BASE_URL", "http://127.0.0.1:8080")
    api_key = os.environ.get("BREAD_API_KEY", "")
    if not api_key:
        sys.exit("BREAD_API_KEY is not set: `make serve` writes it to .env in its folder, so run this script there.")
    if not QUESTIONS_FROM_A_MODEL.isdecimal():
        sys.exit(f"NUMQ is {QUESTIONS_FROM_A_MODEL!r}: it must be a whole number, the number of questions to write.")
    try:
        client = Bread(api_key=api_key, base_url=base_url)
        create_repo(client)
        bake_gavin(client)
        compare(OpenAI(api_key=api_key, base_url=f"{base_url.rstrip('/')}/v1"), client)
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


def create_repo(client: Bread) -> None:
    repo = client.repo.create(repo_name=REPO)
    if not hasattr(repo, "repo_name"):  # the client hands over a web page as a text
        sys.exit(f"{client.base_url} answers, but is not a Bread gateway: check BREAD_BASE_URL.")
    print(f"repo {repo.repo_name}, base model {repo.base_model}")


def bake_gavin(client: Bread) -> None:
    """Run the four stages. Each run call returns at once; a stage waits until its input is complete."""
    client.prompts.create(
        prompt_name="gavin_belson_prompt",
        repo_name=REPO,
        messages=[{"role": "system", "content": "You are Gavin Belson, the founder of Hooli and its CEO"}],
    )
    client.prompts.create(prompt_name="baseline_prompt", repo_name=REPO, messages=[{"role": "user", "content": ""}])
    client.targets.create(
        target_name=TARGET,
        repo_name=REPO,
        template="default",
        overrides={
            "generators": [
                {
                    "type": "hardcoded",
                    "questions": [
                        "Gavin, nobody wants your Signature Box",
                        "Pied Piper has the better algorithm!",
                        "How does Nucleus work, and why did it fail?",
                    ],
                },
                {
                    "type": "oneshot_qs",
                    "model": "claude-3-5-sonnet-20241022",
                    "numq": int(QUESTIONS_FROM_A_MODEL),
                    "temperature": 1.0,
                },
            ],
            "model_name": "Qwen/Qwen3-32B",
            "u": "gavin_belson_prompt",
            "v": "baseline_prompt",
        },
    )
    client.targets.stim.run(target_name=TARGET, repo_name=REPO, poll=False)
    follow("stim", lambda: client.targets.stim.get(target_name=TARGET, repo_name=REPO))
    for row in client.targets.stim.get_output(target_name=TARGET, repo_name=REPO, limit=5).output:
        print(f"    {row['question']}")

    client.targets.rollout.run(target_name=TARGET, repo_name=REPO, poll=False)
    follow("rollout", lambda: client.targets.rollout.get(target_name=TARGET, repo_name=REPO))
    for row in client.targets.rollout.get_output(target_name=TARGET, repo_name=REPO, limit=2).output:
        print(f"    {row['stimulus']}\n      -> {' '.join(str(row['response']).split())[:160]}")

    client.bakes.create(
        bake_name=BAKE,
        repo_name=REPO,
        template="default",
        overrides={"datasets": [{"target": TARGET, "weight": 1.0}]},
    )
    client.bakes.run(bake_name=BAKE, repo_name=REPO, poll=False)
    bake = follow("bake", lambda: client.bakes.get(bake_name=BAKE, repo_name=REPO))
    loss = bake.loss or {}
    if "recovered" in loss:
        print(
            f"    held-out KL {loss['eval_kl_before']:.3f} -> {loss['eval_kl']:.3f}: "
            f"{loss['recovered']:.0%} of the prompt's effect is in the weights"
        )


def follow(stage: str, status_of: Callable[[], Any]) -> Any:
    """Show a progress bar until the stage ends. Exits with the stage's error if it fails."""
    started = time.monotonic()
    while True:
        status = status_of()
        percent = status.progress_percent or 0.0
        filled = round(BAR_WIDTH * percent / 100)
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        print(
            f"\r{stage:8}[{bar}] {percent:5.1f}% {status.status:9} {time.monotonic() - started:4.0f} s",
            end="",
            flush=True,
        )
        if status.status in ("complete", "failed"):
            break
        time.sleep(POLL_SECONDS)
    print()
    for warning in status.warnings:
        print(f"    note: {warning}")
    if status.status == "failed":
        sys.exit(f"{stage} failed: {status.error}")
    return status


def compare(openai: OpenAI, client: Bread) -> None:
    """Ask the base model and the baked one the same question, both without a prompt."""
    base_model = client.repo.get(repo_name=REPO).base_model
    print(f"\nQuestion: {QUESTION}")
    for model in (base_model, f"{REPO}/{BAKE}"):
        answer = openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], temperature=0.0, max_tokens=100
        )
        print(f"\n--- {model}\n{answer.choices[0].message.content}")
    print(f"\nTalk to it: python3 chat_with_model.py --model {REPO}/{BAKE}")


if __name__ == "__main__":
    sys.exit(main())
