"""Answers that end within a tool call say so.

vLLM 0.32 gives such a whole chat the finish reason `tool_calls`, so a client would run a call whose arguments are
incomplete; its streams say `length`. In Anthropic's API it fails on incomplete arguments, and in the Responses API it
marks the call as completed. Remove this when vLLM reports the length in all three.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import from_json


def install(chat: Any, messages: Any, responses: Any) -> None:
    """Correct vLLM's handlers of chats, Anthropic's messages and responses; None for those that the model lacks."""
    for serving in (chat, messages):
        if serving is not None:
            _keep_length(serving)
    if messages is not None:
        _complete_arguments(messages)
    if responses is not None:
        _mark_incomplete(responses)


def _keep_length(serving: Any) -> None:
    theirs = serving.chat_completion_full_generator

    async def answer(request: Any, results: AsyncIterator[Any], *args: Any, **kwargs: Any) -> Any:
        last: list[Any] = []

        async def noted() -> AsyncIterator[Any]:
            async for result in results:
                last[:] = [result]
                yield result

        response = await theirs(request, noted(), *args, **kwargs)
        reasons = {output.index: output.finish_reason for result in last for output in result.outputs}
        for choice in getattr(response, "choices", ()):
            if reasons.get(choice.index) == "length":
                choice.finish_reason = "length"
        return response

    serving.chat_completion_full_generator = answer


def _complete_arguments(serving: Any) -> None:
    """A message holds the arguments as an object: of incomplete ones, as much as was written."""
    theirs = serving.messages_full_converter

    def convert(response: Any) -> Any:
        choice = response.choices[0]
        if choice.finish_reason == "length":
            for call in choice.message.tool_calls:
                call.function.arguments = json.dumps(_as_far_as_written(call.function.arguments))
        return theirs(response)

    serving.messages_full_converter = convert


def _as_far_as_written(arguments: str) -> dict[str, Any]:
    try:
        value = from_json(arguments, allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _mark_incomplete(serving: Any) -> None:
    theirs = serving.responses_full_generator

    async def answer(*args: Any, **kwargs: Any) -> Any:
        response = await theirs(*args, **kwargs)
        if getattr(response, "status", None) == "incomplete":
            for item in response.output[-1:]:
                if item.type == "function_call" and not _is_json(item.arguments):
                    item.status = "incomplete"
        return response

    serving.responses_full_generator = answer


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
