"""Refuses, by field, bodies that vLLM would answer with an internal error, a Python message, or a long silence.

vLLM checks everything else about a request. Imports no vLLM.
"""

from typing import Any

from gateway.engine.requests.conversation import check_anthropic, check_chat, check_media, not_a
from gateway.errors import FieldRefusedError

MAX_CHOICES = 4096
"""Most choices in one grammar: 20,000 blocked the engine for 24 s."""
MAX_GRAMMAR_VALUES, MAX_GRAMMAR_CHARACTERS = 16_384, 131_072
"""Most values and characters in a grammar or schema, without descriptions. One schema of 130,000 values blocked the
event loop for 4 s while it was checked, and took 31 s to compile; an `enum` of 100,000 took minutes."""
MAX_MESSAGES = 4096
"""Most messages and parts of messages together. Checking 500,000 blocked the event loop for many seconds."""
MAX_TOOLS = 1024
MAX_PROMPTS = 1024
"""Most prompts in one completion: vLLM's own limit, which it checks last if they are lists of token ids."""
MAX_STOPS = 4
"""Most stop strings: OpenAI's limit and vLLM's, but vLLM's message says only that a list is no string."""
MAX_PROMPT_LOGPROBS = 20
"""Most log-probabilities for each token of a prompt: vLLM's default. It is lower than our limit for answers, because
those of a prompt come all at once: 64 for 1,900 tokens blocked the event loop for a second."""
MAX_TOKENIZED = 1 << 20
"""Most characters of a text to tokenize. The context window limits prompts."""
MAX_DETOKENIZED = 1 << 18
"""Most tokens to turn into text: a million blocked the event loop for a second."""

GREEDY = 1e-5
"""vLLM takes the likeliest token at temperatures below this."""
CONSTRAINTS = ("json", "json_object", "regex", "choice", "grammar", "structural_tag")

LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Names of the field that limits an answer's length."""
TEXTS = frozenset(
    {"messages", "input", "prompt", "system", "instructions", "tools"}
    | {"response_format", "structured_outputs", "text", "output_config"}
)
"""Fields with conversations and schemas, whose numbers reach the engine only as text."""


def check(kind: str, fields: dict[str, Any], *, max_n: int, reads_only_text: bool = False) -> None:
    """Check the fields of a request.

    Args:
        kind: name of a `kinds.Kind`.
        max_n: most answers to one request.
        reads_only_text: whether the model was made for text alone.
    Raises: FieldRefusedError.
    """
    match kind:
        case "chat":
            check_chat(fields.get("messages"))
        case "messages" | "count_tokens":
            check_anthropic(fields)
        case "completion":
            _check_prompt(fields.get("prompt"))
        case "responses":
            _check_response(fields)
        case "tokenize":
            if "messages" in fields:
                check_chat(fields["messages"])
            _check_size("prompt", fields.get("prompt"))
        case "detokenize":
            _check_tokens(fields.get("tokens"))
    if reads_only_text:
        check_media(fields)
    for field, value in fields.items():
        if field not in TEXTS and _is_beyond_64_bits(value):
            raise FieldRefusedError(field, f"{field} holds a number of more than 64 bits")
    for field in ("messages", "input"):
        _check_count(field, fields.get(field))
    _check_stop(fields.get("stop"))
    _check_tools(fields.get("tools"))
    _check_n(fields, max_n)
    if kind == "completion":
        _check_answers(fields.get("prompt"), fields.get("n"))
    for field in ("prompt_logprobs", *(("logprobs", "top_logprobs") if fields.get("echo") else ())):
        _check_prompt_logprobs(field, fields.get(field))
    _check_structured_outputs(fields.get("structured_outputs"))
    _check_grammars(fields)
    kwargs = fields.get("chat_template_kwargs")
    if isinstance(kwargs, dict) and (taken := sorted({"messages", "conversation", "tools", "documents"} & set(kwargs))):
        raise FieldRefusedError("chat_template_kwargs", f"chat_template_kwargs can't set {', '.join(taken)}")


def grammar_field(fields: dict[str, Any]) -> str | None:
    """The field that forces the answer into a grammar, if there is one."""
    for name in ("structured_outputs", "response_format", "text", "output_config"):
        form = fields.get(name)
        if name in ("text", "output_config"):
            form = form.get("format") if isinstance(form, dict) else None
        if form and not (isinstance(form, dict) and form.get("type") == "text"):
            return name
    return "tools" if _forces_tools(fields) else None


def _forces_tools(fields: dict[str, Any]) -> bool:
    tools, choice = fields.get("tools"), fields.get("tool_choice")
    if not tools or not isinstance(tools, list):
        return False
    wanted = choice.get("type") if isinstance(choice, dict) else choice
    if wanted not in (None, "auto", "none"):
        return True
    functions = [tool.get("function", tool) for tool in tools if isinstance(tool, dict)]
    return any(isinstance(function, dict) and function.get("strict") for function in functions)


def _check_prompt(prompt: Any) -> None:
    if not isinstance(prompt, list) or not prompt:
        return
    kinds = {type(part) for part in prompt}
    if kinds != {int} and len(prompt) > MAX_PROMPTS:
        raise FieldRefusedError("prompt", f"prompt has {len(prompt)} texts; at most {MAX_PROMPTS} are allowed")
    if len(kinds) > 1 or not kinds <= {str, int, list}:
        raise FieldRefusedError(
            "prompt",
            "prompt must be a text, a list of texts, a list of token ids, or a list of lists of token ids",
        )


def _check_response(fields: dict[str, Any]) -> None:
    if fields.get("input") == []:
        raise FieldRefusedError("input", "input must be a text or a list of at least one item, got an empty list")
    if fields.get("background"):
        raise FieldRefusedError("background", "background is not supported: wait for the answer, or stream it")
    if fields.get("previous_response_id") is not None:
        raise FieldRefusedError(
            "previous_response_id", "responses are not stored here: send the whole conversation as input"
        )


def _is_beyond_64_bits(value: Any) -> bool:
    """Whether a number needs more than 64 bits. vLLM can't send it to its engine, notices that late, and never drops
    the request."""
    match value:
        case int() | float():
            return not -(2**63) <= value < 2**63
        case dict():
            return any(map(_is_beyond_64_bits, value.values()))
        case list():
            return any(map(_is_beyond_64_bits, value))
    return False


def _check_count(field: str, entries: Any) -> None:
    if not isinstance(entries, list):
        return
    contents = [entry.get("content") for entry in entries if isinstance(entry, dict)]
    parts = sum(len(content) for content in contents if isinstance(content, list))
    if len(entries) + parts > MAX_MESSAGES:
        raise FieldRefusedError(
            field, f"{field} has {len(entries)} entries with {parts} parts; at most {MAX_MESSAGES} together are allowed"
        )


def _check_size(field: str, text: Any) -> None:
    if isinstance(text, str) and len(text) > MAX_TOKENIZED:
        raise FieldRefusedError(field, f"{field} has {len(text)} characters; at most {MAX_TOKENIZED} are allowed")


def _check_tokens(tokens: Any) -> None:
    if isinstance(tokens, list) and len(tokens) > MAX_DETOKENIZED:
        raise FieldRefusedError("tokens", f"there are {len(tokens)} tokens; at most {MAX_DETOKENIZED} are allowed")


def _check_stop(stop: Any) -> None:
    if isinstance(stop, list) and len(stop) > MAX_STOPS:
        raise FieldRefusedError("stop", f"stop has {len(stop)} strings; at most {MAX_STOPS} are allowed")


def _check_tools(tools: Any) -> None:
    if isinstance(tools, list) and len(tools) > MAX_TOOLS:
        raise FieldRefusedError("tools", f"there are {len(tools)} tools; at most {MAX_TOOLS} are allowed")


def _check_n(fields: dict[str, Any], max_n: int) -> None:
    n, temperature = fields.get("n"), fields.get("temperature")
    if _number(n) > max_n:
        raise FieldRefusedError("n", f"n is {n}; at most {max_n} answers to one request are allowed")
    is_greedy = temperature is not None and abs(_number(temperature)) < GREEDY and not fields.get("use_beam_search")
    if _number(n) > 1 and is_greedy and not isinstance(temperature, str):
        raise FieldRefusedError(
            "n", f"n is {n}, and at temperature {temperature} all answers are the same: set n to 1, or a temperature"
        )


def _check_answers(prompt: Any, n: Any) -> None:
    """vLLM makes one request for each answer to each prompt: 16,384 of them blocked all others for 11 s."""
    is_many = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    prompts = len(prompt) if is_many else 1
    if prompts * _number(n) > MAX_PROMPTS:
        raise FieldRefusedError("n", f"{prompts} prompts with n {n} need more than {MAX_PROMPTS} answers at once")


def _check_prompt_logprobs(field: str, wanted: Any) -> None:
    if _number(wanted) > MAX_PROMPT_LOGPROBS:
        raise FieldRefusedError(
            field, f"{field} is {wanted}; at most {MAX_PROMPT_LOGPROBS} for each token of a prompt are allowed"
        )


def _number(value: Any) -> float:
    """The value as a number, or 0 if it is none: vLLM has a good message for that."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _check_structured_outputs(outputs: Any) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, dict):
        raise not_a("object", "structured_outputs", "", outputs)
    given = [name for name in CONSTRAINTS if outputs.get(name) is not None]
    if len(given) != 1:
        raise FieldRefusedError(
            "structured_outputs",
            f"structured_outputs must have one of {', '.join(CONSTRAINTS)}, got {' and '.join(given) or 'none'}",
        )
    choices = outputs.get("choice")
    if isinstance(choices, list) and len(choices) > MAX_CHOICES:
        raise FieldRefusedError(
            "structured_outputs",
            f"structured_outputs.choice has {len(choices)} entries; at most {MAX_CHOICES} are allowed",
        )


def _check_grammars(fields: dict[str, Any]) -> None:
    for name in ("structured_outputs", "response_format", "text", "output_config", "tools"):
        if name == "tools" and not _forces_tools(fields):
            continue
        values, characters = _extent(fields.get(name))
        if values > MAX_GRAMMAR_VALUES or characters > MAX_GRAMMAR_CHARACTERS:
            raise FieldRefusedError(
                name,
                f"{name} has {values} values with {characters} characters without descriptions; at most "
                f"{MAX_GRAMMAR_VALUES} values and {MAX_GRAMMAR_CHARACTERS} characters are allowed",
            )


def _extent(form: Any) -> tuple[int, int]:
    """Number of values, and of characters in texts and names."""
    values = characters = 0
    rest = [form]
    while rest:
        value = rest.pop()
        values += 1
        match value:
            case str():
                characters += len(value)
            case list():
                rest += value
            case dict():
                characters += sum(map(len, value))
                rest += [inner for name, inner in value.items() if not _is_description(name, inner)]
    return values, characters


def _is_description(name: str, value: Any) -> bool:
    """Whether the model reads the text, but no grammar is made of it."""
    return name in ("description", "title") and isinstance(value, str)
