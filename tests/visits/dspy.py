"""DSPy: an LM on its own and in a signature."""

from typing import Any

import dspy

from tests.visits.steps import KEY, MODEL, OPENAI_URL, run, step


def model(name: str = MODEL, key: str = KEY, **fields: Any) -> dspy.LM:
    settings: dict[str, Any] = {"temperature": 0.0, "max_tokens": 60, "num_retries": 0, "cache": False, **fields}
    return dspy.LM(f"openai/{name}", api_base=OPENAI_URL, api_key=key, **settings)


@step
def chat_and_completion() -> None:
    for kind in ("chat", "text"):
        (answer,) = model(model_type=kind)("Say hello.")
        assert answer


@step
def usage_is_tracked() -> None:
    lm = model()
    lm("Say hello.")
    usage = lm.history[-1]["usage"]
    assert usage["prompt_tokens"] > 0 and usage["completion_tokens"] > 0


@step
def a_signature() -> None:
    """A small model seldom keeps to the format of a signature; then DSPy says so, or falls back to JSON."""
    with dspy.context(lm=model(max_tokens=60)):
        try:
            assert isinstance(dspy.Predict("question -> lit: bool")(question="Is a lit lamp lit?").lit, bool)
        except dspy.utils.exceptions.AdapterParseError as error:
            assert "lit" in str(error)


@step
def a_wrong_key_and_an_unknown_model() -> None:
    for lm, words in ((model(key="sk-wrong"), "key"), (model("no/such/model"), "no/such/model")):
        try:
            lm("Hello")
        except dspy.utils.exceptions.LMError as error:
            assert words in str(error), error
        else:
            raise AssertionError("no error")


run()
