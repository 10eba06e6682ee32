"""What each Python visit shares: the address of the service, and steps that report one line each.

Imports only the standard library, because every visit runs in an environment with nothing but its client.
"""

import asyncio
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

URL = os.environ.get("BREAD_BASE_URL", "http://127.0.0.1:8080")
OPENAI_URL = f"{URL}/v1"
KEY = os.environ.get("BREAD_API_KEY", "")
MODEL = os.environ.get("BREAD_VISIT_MODEL", "HuggingFaceTB/SmolLM2-135M-Instruct")

Step = TypeVar("Step", bound=Callable[[], Any])
Error = TypeVar("Error", bound=Exception)

_steps: list[Callable[[], Any]] = []


def step(function: Step) -> Step:
    """Adds a function to the steps of this visit, in the order of the file."""
    _steps.append(function)
    return function


def refusal(kind: type[Error], call: Callable[[], Any], *words: str) -> Error:
    """The error of `call`, which must be of this class and have these words in its text."""
    try:
        answer = call()
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} not in: {error}"
        return error
    raise AssertionError(f"no {kind.__name__}, but {answer!r}")


def run() -> None:
    """Runs all steps, also after one that fails; exits with 1 if one failed."""
    failed = False
    for function in _steps:
        begin = time.monotonic()
        try:
            outcome = function()
            if inspect.isawaitable(outcome):
                asyncio.run(outcome)  # type: ignore[arg-type]
            result, reason = "ok", ""
        except Exception as error:
            failed = True
            result, reason = "FAIL", f": {type(error).__name__}: {' '.join(str(error).split())[:600]}"
            traceback.print_exc()
        name = function.__name__.replace("_", " ")
        print(f"{result:<4} {time.monotonic() - begin:6.1f} s  {name}{reason}", flush=True)
    sys.exit(failed)
