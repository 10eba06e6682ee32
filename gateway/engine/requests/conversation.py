"""Refuses, by place, messages and parts of messages that vLLM would answer with an internal error, or with a message
that does not say where the mistake is. Imports no vLLM."""

from collections.abc import Iterator
from typing import Any

from gateway.errors import FieldRefusedError

TEXT_OF = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking"}
"""Type of a part that is text -> its field with the text."""
MEDIA = frozenset(
    {"image", "image_url", "input_image", "image_embeds", "image_pil", "audio_url", "input_audio", "audio_embeds"}
    | {"video_url", "video_embeds", "document", "file", "input_file"}
)
"""Types of parts that a model reads only if it was made for more than text."""
OTHERS = frozenset({"tool_reference", "prompt_embeds"})
NEEDED: dict[str, dict[str, type]] = {
    "tool_use": {"id": str, "name": str, "input": dict},
    "tool_result": {"tool_use_id": str},
}
"""Type of a part of an Anthropic message -> its fields."""
NAMES: dict[type, str] = {str: "string", dict: "object", list: "list"}


def check_chat(messages: Any) -> None:
    """Check the messages of a chat completion. Raises: FieldRefusedError."""
    for where, message in _messages("messages", messages):
        _check_is(str, "messages", f"{where}.role", message.get("role"))
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise not_a("string, a list of parts or null", "messages", f"{where}.content", content)
        for number, part in enumerate(content if isinstance(content, list) else ()):
            _check_chat_part(f"{where}.content[{number}]", part)
        calls = message.get("tool_calls")
        if not isinstance(calls, list | None):
            raise not_a("list", "messages", f"{where}.tool_calls", calls)
        for number, call in enumerate(calls or ()):
            _check_call(f"{where}.tool_calls[{number}]", call)


def check_anthropic(fields: dict[str, Any]) -> None:
    """Check the messages of Anthropic's Messages API; vLLM checks their types. Raises: FieldRefusedError."""
    messages = fields.get("messages")
    if messages == []:
        raise FieldRefusedError("messages", EMPTY)
    _check_prefill(fields)
    for field, where, part in _parts(fields):
        kind = part.get("type")
        if kind in ("text", "thinking"):
            _check_is(str, field, f"{where}.{kind}", part.get(kind))
        for name, form in NEEDED.get(kind, {}).items() if isinstance(kind, str) else ():
            _check_is(form, field, f"{where}.{name}", part.get(name))


def continued(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a chat with vLLM's way to ask that its last message is continued, if the request asks for that.

    DeepSeek's and Mistral's clients write `prefix: true` into the message; vLLM's `continue_final_message` works only
    without `add_generation_prompt`, which it sets by default.
    Raises: FieldRefusedError if the message with `prefix` can't be continued.
    """
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return fields
    marked = [number for number, message in enumerate(messages) if isinstance(message, dict) and message.get("prefix")]
    if marked:
        number = marked[0]
        if number != len(messages) - 1 or messages[number].get("role") != "assistant":
            raise FieldRefusedError(
                "messages", f"messages[{number}] has a prefix; only a last message of the assistant can have one"
            )
        rest = {name: value for name, value in messages[number].items() if name != "prefix"}
        fields = {**fields, "messages": [*messages[:-1], rest], "continue_final_message": True}
    if fields.get("continue_final_message") is True and fields.get("add_generation_prompt") is None:
        return {**fields, "add_generation_prompt": False}
    return fields


def _check_prefill(fields: dict[str, Any]) -> None:
    """Refuse a conversation that ends with the assistant's words if an answer can't continue them."""
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) else None
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return
    place = f"messages[{len(messages) - 1}]"  # type: ignore[arg-type]  # a list, or there would be no last message
    content = last.get("content")
    part = {"type": "text", "text": content} if isinstance(content, str) else content[-1] if content else None
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise FieldRefusedError("messages", f"{place} is the last message and must end with text, to be continued")
    if not part["text"] or part["text"] != part["text"].rstrip():
        raise FieldRefusedError("messages", f"{place} is the last message and must end with text, not whitespace")
    choice, thinking, config = (fields.get(name) for name in ("tool_choice", "thinking", "output_config"))
    for name, is_set in (
        ("tool_choice", isinstance(choice, dict) and choice.get("type") in ("any", "tool")),
        ("thinking", isinstance(thinking, dict) and thinking.get("type") != "disabled"),
        ("output_config", isinstance(config, dict) and config.get("format") is not None),
    ):
        if is_set:
            raise FieldRefusedError(
                name, f"{name} can't be used when the last message is the assistant's, which the answer continues"
            )


def check_media(fields: dict[str, Any]) -> None:
    """Refuse images, sounds and files, for a model that reads only text. Raises: FieldRefusedError."""
    for field, where, part in _parts(fields):
        kind = part.get("type", next((name for name in ("image_url", "audio_url", "video_url") if name in part), None))
        if isinstance(kind, str) and kind in MEDIA:
            raise FieldRefusedError(
                field, f"{field}{where} is of type {kind!r}, and this model reads only text: leave the part out"
            )


EMPTY = "messages must have at least one message, got an empty list"


def not_a(wanted: str, param: str, place: str, value: Any) -> FieldRefusedError:
    shown = "nothing" if value is None else f"{value!r:.80}"
    article = "an" if wanted.startswith("object") else "a"
    return FieldRefusedError(param, f"{param}{place} must be {article} {wanted}, got {shown}")


def _check_is(form: type, param: str, place: str, value: Any) -> None:
    if not isinstance(value, form):
        raise not_a(NAMES[form], param, place, value)


def _messages(param: str, messages: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(messages, list):
        raise not_a("list of messages", param, "", messages)
    if not messages:
        raise FieldRefusedError(param, EMPTY)
    for number, message in enumerate(messages):
        _check_is(dict, param, f"[{number}]", message)
        yield f"[{number}]", message


def _check_chat_part(where: str, part: Any) -> None:
    if isinstance(part, str):
        return
    _check_is(dict, "messages", where, part)
    kind = part.get("type")
    if kind is None and not MEDIA.isdisjoint(part):
        return  # vLLM knows it by its field
    if kind is None:
        raise FieldRefusedError("messages", f"messages{where} has no type: text, for example")
    if not isinstance(kind, str) or kind not in TEXT_OF.keys() | MEDIA | OTHERS:
        allowed = ", ".join(sorted(TEXT_OF.keys() | MEDIA - {"image", "document", "input_file", "image_pil"}))
        raise FieldRefusedError("messages", f"messages{where}.type is {kind!r:.80}; allowed are {allowed}")
    if kind in TEXT_OF:
        _check_is(str, "messages", f"{where}.{TEXT_OF[kind]}", part.get(TEXT_OF[kind]))
    if kind in ("image_url", "audio_url", "video_url") and not isinstance(part.get(kind), str):
        _check_is(dict, "messages", f"{where}.{kind}", part.get(kind))
        _check_is(str, "messages", f"{where}.{kind}.url", part[kind].get("url"))
    if kind == "input_audio":
        _check_is(dict, "messages", f"{where}.{kind}", part.get(kind))


def _check_call(where: str, call: Any) -> None:
    _check_is(dict, "messages", where, call)
    _check_is(str, "messages", f"{where}.id", call.get("id"))
    kind = call.get("type", "function")
    if kind not in ("function", "custom"):
        raise FieldRefusedError("messages", f"messages{where}.type must be 'function' or 'custom', got {kind!r:.80}")
    _check_is(dict, "messages", f"{where}.{kind}", call.get(kind))
    for name in ("name", "arguments" if kind == "function" else "input"):
        _check_is(str, "messages", f"{where}.{kind}.{name}", call[kind].get(name))


def _parts(fields: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(field, place in it, part) of all parts that are objects, those inside of parts among them."""
    for field in ("messages", "input", "system"):
        entries = fields.get(field)
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            if field == "system" and isinstance(entry, dict):
                yield field, f"[{number}]", entry
            yield from ((field, where, part) for where, part in _inner(f"[{number}]", entry))


def _inner(where: str, holder: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    content = holder.get("content", holder.get("output")) if isinstance(holder, dict) else None
    name = "content" if isinstance(holder, dict) and "content" in holder else "output"
    for number, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict):
            place = f"{where}.{name}[{number}]"
            yield place, part
            yield from _inner(place, part)
