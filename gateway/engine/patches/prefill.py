"""A conversation in Anthropic's API that ends with the assistant's words is continued.

vLLM 0.32 closes the assistant's turn and begins another one, so the answer does not continue the text. Anthropic's API
returns only the continuation. Remove this when vLLM sets `continue_final_message` for such conversations.
"""

from typing import Any


def install(serving: Any) -> None:
    """Make vLLM's handler of messages, and of counting their tokens, continue; None if the model has none."""
    if serving is None:
        return
    theirs = serving.to_chat_completion_request

    def convert(request: Any, **options: Any) -> Any:
        from vllm.exceptions import VLLMValidationError

        chat = theirs(request, **options)
        if not chat.messages or chat.messages[-1]["role"] != "assistant":
            return chat
        if serving.parser_cls is not None and serving.parser_cls.reasoning_parser_cls is not None:
            raise VLLMValidationError(
                "messages ends with a message of the assistant, which a model that reasons can't continue: end with a "
                "message of the user",
                parameter="messages",
            )
        chat.continue_final_message, chat.add_generation_prompt = True, False
        return chat

    serving.to_chat_completion_request = convert
