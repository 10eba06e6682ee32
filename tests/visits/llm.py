"""simonw/llm on the command line, with the service's model in extra-openai-models.yaml."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.visits.steps import KEY, MODEL, OPENAI_URL, run, step

FOLDER = Path(tempfile.mkdtemp())
"""Where llm keeps its models, keys and log."""
MODELS = f"""
- model_id: bread
  model_name: {MODEL}
  api_base: {OPENAI_URL}
  api_key_name: bread
  supports_schema: true
  supports_tools: true
- model_id: missing
  model_name: no/such/model
  api_base: {OPENAI_URL}
  api_key_name: bread
- model_id: plain
  model_name: {MODEL}
  api_base: {OPENAI_URL}
  api_key_name: bread
  completion: true
"""
(FOLDER / "extra-openai-models.yaml").write_text(MODELS)
(FOLDER / "keys.json").write_text(json.dumps({"bread": KEY}))


def llm(*arguments: str, expected_code: int = 0) -> str:
    """What the command prints, or its error if it has to fail."""
    command = [str(Path(sys.executable).parent / "llm"), *arguments]
    environment = {**os.environ, "LLM_USER_PATH": str(FOLDER)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == expected_code, done.stderr
    return done.stdout if expected_code == 0 else done.stderr


OPTIONS = ("-m", "bread", "-o", "temperature", "0", "-o", "max_tokens", "40")


@step
def models_are_listed() -> None:
    assert "bread" in llm("models")


@step
def a_prompt_streamed_and_whole() -> None:
    whole = llm("--no-stream", *OPTIONS, "Say hello.")
    assert whole.strip() and llm(*OPTIONS, "Say hello.") == whole


@step
def a_system_prompt_and_a_continuation() -> None:
    assert llm(*OPTIONS, "-s", "Be short.", "Say hello.").strip()
    assert llm("-c", "-o", "max_tokens", "10", "And goodbye.").strip()


@step
def usage_is_logged() -> None:
    llm(*OPTIONS, "Say hello.")
    entry = json.loads(llm("logs", "-n", "1", "--json"))[0]
    assert entry["input_tokens"] > 0 and entry["output_tokens"] > 0


@step
def a_schema() -> None:
    for stream in ([], ["--no-stream"]):
        text = llm(*stream, *OPTIONS[:-1], "100", "--schema", "name, age int", "Invent a dog.")
        dog = json.loads(text)
        assert set(dog) == {"name", "age"} and isinstance(dog["age"], int)


@step
def a_tool_is_offered() -> None:
    """llm can't force a call: the model answers, or it calls the tool and the chain ends there."""
    command = (*OPTIONS, "-T", "llm_version", "--cl", "1", "Say hello.")
    try:
        assert llm(*command).strip()
    except AssertionError as error:
        assert "Chain limit of 1" in str(error), error


@step
def a_completion() -> None:
    assert llm("-m", "plain", "-o", "max_tokens", "8", "Once upon a time").strip()


@step
def a_wrong_key() -> None:
    assert "key" in llm("-m", "bread", "--key", "sk-wrong", "Hello", expected_code=1)


@step
def an_unknown_model() -> None:
    assert "no/such/model" in llm("-m", "missing", "Hello", expected_code=1)


run()
