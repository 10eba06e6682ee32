"""Makes vLLM answer the death of its engine with 503, in whole answers and in streams."""

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


GONE = "the engine died and is being restarted: try again in half a minute"


def explain_death(llm: "AsyncLLM") -> None:
    """Let vLLM's handlers answer a death as what it is to a client, 503, in whole answers and in streams.

    vLLM's own EngineDeadError is an internal error, 500, that tells of a stack trace above.
    """
    client, requests = llm.engine_core, llm.output_processor.request_states

    def ensure_alive() -> None:
        if client.resources.engine_dead:
            raise gone_error()

    def propagate_error(error: Exception) -> None:
        # To each its own: one that is raised in many places gathers the stack traces of all, and all of them log it.
        for state in requests.values():
            state.queue.put(gone_error() if client.resources.engine_dead else error)

    client.ensure_alive = ensure_alive
    client._format_exception = lambda error: gone_error() if client.resources.engine_dead else error
    llm.output_processor.propagate_error = propagate_error


def gone_error() -> Exception:
    """An error that vLLM passes on as one of a dead engine, and answers as one that it expected."""
    from vllm.exceptions import GracefulHTTPError
    from vllm.v1.engine.exceptions import EngineDeadError

    class EngineGoneError(EngineDeadError, GracefulHTTPError):  # type: ignore[misc]  # vLLM's classes are Any to us
        http_status = HTTPStatus.SERVICE_UNAVAILABLE

        def __init__(self) -> None:
            Exception.__init__(self, GONE)
            self.__suppress_context__ = True

    return EngineGoneError()
