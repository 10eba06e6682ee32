"""JSON that a grammar forces has little whitespace, or what the request asks for.

vLLM 0.32 allows any amount of whitespace in forced JSON, and small models write newlines until no token is left.
It accepts `whitespace_pattern` and `disable_any_whitespace` in `structured_outputs` and ignores both. This patch
changes the constraint once vLLM has checked it and chosen its backend:

- xgrammar can limit the number of whitespace characters, but only in a structural tag.
- guidance repeats a `whitespace_pattern` without limit, but takes regular expressions as separators.
- outlines allows one space by itself.

Remove this when vLLM limits whitespace and honours both fields.
"""

import copy
import json
import re
from typing import Any

MAX_WHITESPACE = 1
"""Most whitespace characters in a row."""
USUAL_PATTERN = r"[ \n]?"
"""The same for guidance."""

CHARACTER = r"\\[nrts]|\\x(?:20|09|0[aA]|0[dD])|[ \n\r\t]"
WHITESPACE_PATTERN = re.compile(rf"(?:(?:{CHARACTER}|\[(?:{CHARACTER})+\])(?:[?*+]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})?)*")
"""A pattern that matches nothing but whitespace of JSON."""
JSON_SPACES = r" \n\r\t"
COMBINING = frozenset({"$ref", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies"})
"""Keywords that add properties to those named beside them."""
FIELD = "structured_outputs"
"""vLLM's name for the constraint, whichever field of the request it came from."""


def install() -> None:
    """Bound whitespace in every request to the engine. May be called again."""
    from vllm.exceptions import VLLMValidationError
    from vllm.sampling_params import SamplingParams

    theirs = SamplingParams._validate_structured_outputs
    if getattr(theirs, "bounds_whitespace", False):
        return

    def validate(params: Any, model_config: Any, config: Any, tokenizer: Any) -> None:
        outputs = params.structured_outputs
        if outputs is None or config is None or config.disable_any_whitespace:
            theirs(params, model_config, config, tokenizer)
            return
        pattern = _requested_pattern(outputs)
        try:
            theirs(params, model_config, config if pattern is None else _with_guidance(config, outputs), tokenizer)
        except VLLMValidationError as error:
            error.parameter = error.parameter or FIELD
            raise
        outputs._backend_was_auto = True  # otherwise vLLM would refuse a backend that is not the operator's
        if outputs._backend == "xgrammar":
            _bound_xgrammar(outputs)
        elif outputs._backend == "guidance":
            _bound_guidance(outputs, USUAL_PATTERN if pattern is None else pattern)

    validate.bounds_whitespace = True  # type: ignore[attr-defined]
    SamplingParams._validate_structured_outputs = validate


def _with_guidance(config: Any, outputs: Any) -> Any:
    """The operator's settings of structured outputs with the backend that honours a pattern for whitespace."""
    if config.backend not in ("auto", "xgrammar", "guidance"):
        raise _refusal(
            f"the backend {config.backend} can't honour whitespace_pattern or disable_any_whitespace: leave them out"
        )
    outputs._backend = None
    chosen = copy.copy(config)
    chosen.backend = "guidance"
    return chosen


def _requested_pattern(outputs: Any) -> str | None:
    """The regular expression for whitespace that the request asks for; None if it leaves that open.

    Raises: vLLM's error for a bad request.
    """
    if not (outputs.disable_any_whitespace or outputs.whitespace_pattern is not None):
        return None
    if outputs.structural_tag is not None:
        raise _refusal(
            "whitespace_pattern and disable_any_whitespace don't apply to a structural_tag: set max_whitespace_cnt in "
            "its json_schema formats"
        )
    if outputs.json is None and not outputs.json_object:
        return None  # a regex, a choice or a grammar says itself where whitespace is allowed
    if outputs.disable_any_whitespace:
        return ""
    pattern = outputs.whitespace_pattern
    if not WHITESPACE_PATTERN.fullmatch(pattern):
        raise _refusal(
            f"whitespace_pattern is {pattern!r:.80}; it may only have spaces, \\n, \\r, \\t, \\s and classes of them "
            "like [ \\n], each with an optional ?, *, + or {0,2}"
        )
    pattern = _in_json_terms(pattern)
    if re.fullmatch(pattern, "") is None:
        raise _refusal(
            f"whitespace_pattern is {outputs.whitespace_pattern!r:.80}; it must also match an empty text, since the "
            "engine can't force whitespace: write [ ]? instead of [ ]"
        )
    return pattern


def _in_json_terms(pattern: str) -> str:
    """The pattern with `\\s` replaced by the whitespace of JSON."""
    classes = re.sub(r"\[[^\]]*\]", lambda found: found.group().replace(r"\s", JSON_SPACES), pattern)
    return re.sub(r"\\s", lambda _: f"[{JSON_SPACES}]", classes)


def _bound_xgrammar(outputs: Any) -> None:
    """Turn JSON into a structural tag with a limit, and give each schema in a structural tag a limit."""
    schema = _schema(outputs)
    if schema is not None:
        form = {"type": "json_schema", "json_schema": schema, "max_whitespace_cnt": MAX_WHITESPACE}
        outputs.structural_tag = json.dumps({"type": "structural_tag", "format": form})
        outputs.json = outputs.json_object = None
    elif outputs.structural_tag is not None:
        tag = json.loads(outputs.structural_tag)
        if "structures" in tag:
            tag = _in_new_form(tag)
        _limit(tag)
        outputs.structural_tag = json.dumps(tag)


def _in_new_form(tag: dict[str, Any]) -> dict[str, Any]:
    """A structural tag of the first version, which knows no limit, in the present one."""
    tags = [
        {
            "begin": structure["begin"],
            "content": {"type": "json_schema", "json_schema": structure["schema"]},
            "end": structure["end"],
        }
        for structure in tag["structures"]
    ]
    return {
        "type": "structural_tag",
        "format": {"type": "triggered_tags", "triggers": tag["triggers"], "tags": tags},
    }


def _limit(node: Any) -> None:
    """Limit whitespace in each schema of a structural tag that sets no limit itself."""
    if isinstance(node, dict):
        if node.get("type") == "json_schema" and "json_schema" in node:
            if node.get("max_whitespace_cnt") is None:
                node["max_whitespace_cnt"] = MAX_WHITESPACE
            return
        for inner in node.values():
            _limit(inner)
    elif isinstance(node, list):
        for inner in node:
            _limit(inner)


def _bound_guidance(outputs: Any, pattern: str) -> None:
    """Put the pattern around the separators of JSON, and allow only the properties that the schema names, as xgrammar
    does."""
    from vllm.v1.structured_output.backend_guidance import process_for_additional_properties

    schema = _schema(outputs)
    if not isinstance(schema, dict):
        return
    if not _combines_properties(schema):
        schema = process_for_additional_properties(schema)
    options = {
        "whitespace_flexible": False,
        "item_separator": f"{pattern},{pattern}",
        "key_separator": f"{pattern}:{pattern}",
    }
    outputs.json, outputs.json_object = {**schema, "x-guidance": options}, None


def _combines_properties(node: Any) -> bool:
    """Whether an object's properties may come from several parts of the schema, which must all stay open then."""
    if isinstance(node, list):
        return any(map(_combines_properties, node))
    if not isinstance(node, dict):
        return False
    combined = "allOf" in node or ("properties" in node and not COMBINING.isdisjoint(node))
    return combined or any(map(_combines_properties, node.values()))


def _schema(outputs: Any) -> Any:
    """The JSON schema that the answer must match; None if the constraint is of another kind."""
    if outputs.json_object:
        return {"type": "object"}
    return json.loads(outputs.json) if isinstance(outputs.json, str) else outputs.json


def _refusal(message: str) -> Exception:
    from vllm.exceptions import VLLMValidationError

    error: Exception = VLLMValidationError(message, parameter=FIELD)
    return error
