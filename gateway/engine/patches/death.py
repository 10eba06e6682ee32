"""Makes vLLM answer the death of its engine with 503, in whole answers and in streams.

vLLM 0.32 reports it as an internal error, 500, whose message points to a stack trace above (EngineDeadError), since
its own server ends then; ours starts another engine. Remove this when EngineDeadError is a 503 in vLLM.
"""

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


GONE = "the engine died and is being restarted: try again in half a minute"


def explain_death(llm: "AsyncLLM") -> None:
    """Replace the places where vLLM raises EngineDeadError."""
    client, requests = llm.engine_core, llm.output_processor.request_states

    def ensure_alive() -> None:
        if client.resources.engine_dead:
            raise gone_error()

    def propagate_error(error: Exception) -> None:
        # One error for each request: an error that is raised in many places collects all their stack traces, and each
        # place logs them.
        for state in requests.values():
            state.queue.put(gone_error() if client.resources.engine_dead else error)

    client.ensure_alive = ensure_alive
    client._format_exception = lambda error: gone_error() if client.resources.engine_dead else error
    llm.output_processor.propagate_error = propagate_error


def gone_error() -> Exception:
    """An error that vLLM treats as a dead engine's, and answers with 503 and our message."""
    from vllm.exceptions import GracefulHTTPError
    from vllm.v1.engine.exceptions import EngineDeadError

    class EngineGoneError(EngineDeadError, GracefulHTTPError):  # type: ignore[misc]  # vLLM's classes are Any to us
        http_status = HTTPStatus.SERVICE_UNAVAILABLE

        def __init__(self) -> None:
            Exception.__init__(self, GONE)
            self.__suppress_context__ = True

    return EngineGoneError()
