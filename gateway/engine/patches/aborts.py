"""An answer that the engine gave up is an error.

vLLM 0.32 ends a request with the finish reason `abort` when a replica or the engine stops, and returns what it has as
an answer, with status 200. No client can ask for that: a client that leaves reads no answer. Remove this when vLLM's
handlers raise for `abort` as they do for `error`.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

ABORTED = "the engine gave this answer up before its end: try again in half a minute"


def refuse_aborted(llm: Any) -> None:
    """Make the engine's client raise a 503 in place of an answer that was given up."""
    theirs = llm.generate

    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        from vllm.exceptions import GracefulHTTPError

        async with aclosing(theirs(*args, **kwargs)) as results:
            async for result in results:
                if any(output.finish_reason == "abort" for output in result.outputs):
                    raise GracefulHTTPError(ABORTED, HTTPStatus.SERVICE_UNAVAILABLE)
                yield result

    llm.generate = generate
