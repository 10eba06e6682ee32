"""What goes wrong inside vLLM -> the gateway's errors, with messages and fields that the client knows."""

import logging
from types import SimpleNamespace
from typing import Any, NamedTuple

from baker.errors import BakeryError, EngineError
from gateway.engine.core.engine import Engine
from gateway.engine.patches.death import GONE
from gateway.engine.requests import checks, kinds
from gateway.engine.requests.kinds import Kind
from gateway.errors import EngineRefusedError, FieldRefusedError, InferenceError

log = logging.getLogger(__name__)

INTERNAL = "the engine could not finish this answer; the service's log has the details"


class Refusals(NamedTuple):
    """Translates the errors of one request."""

    engine: Engine
    kind: Kind
    fields: dict[str, Any]

    def of_exception(self, error: Exception) -> BakeryError:
        """The error that an exception of vLLM's serving code means."""
        import pydantic
        from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

        from gateway.engine.core.sampling import complaint

        if isinstance(error, BakeryError):
            return error
        if isinstance(error, pydantic.ValidationError):
            return FieldRefusedError(*complaint(error, self.fields))
        return self.of_info(create_error_response(error).error, error)

    def of_broken_stream(self, error: Exception) -> BakeryError:
        """The error that an exception means which ends a stream."""
        from pydantic import ValidationError

        if isinstance(error, ValidationError):  # not about the request: vLLM built an event that its own model refuses
            return self.of_info(SimpleNamespace(code=500, message=INTERNAL, param=None), error)
        return self.of_exception(error)

    def of_info(self, info: Any, cause: Exception | None = None) -> BakeryError:
        """The error that vLLM's ErrorInfo (`code`, `message`, `param`) means. Logs internal errors with their cause."""
        if info.code == 503:
            return EngineError(info.message)
        if self.engine.is_dead:
            return EngineError(GONE)
        if info.code < 500:
            return self._refused(info)
        # vLLM reports an internal error when it can't compile a request's grammar.
        if (param := checks.grammar_field(self.fields)) is not None:
            return FieldRefusedError(
                param, f"{param}: the engine could not compile this, or no text fits it: simplify it"
            )
        log.error("inference failed: %s", info.message, exc_info=cause)
        return InferenceError(info.code, info.param, info.message)

    def _refused(self, info: Any) -> EngineRefusedError:
        """vLLM blames the client: its message, about a field that the client's request has."""
        message = _without_extras(info.message, info.param)
        if info.param == "structured_outputs":  # vLLM's name for every constraint
            field = checks.grammar_field(self.fields) or info.param
            return EngineRefusedError(info.code, field, message if message.startswith(field) else f"{field}: {message}")
        if info.param == "input_tokens":  # vLLM's name for a prompt that does not fit; no request has such a field
            return EngineRefusedError(info.code, self.kind.prompt, message)
        if info.param == "max_tokens" and all(self.fields.get(name) is None for name in checks.LENGTHS):
            window = self.engine.max_model_len
            message = f"{self.kind.prompt} leaves no room in the window of {window} tokens for an answer: shorten it"
            return EngineRefusedError(info.code, self.kind.prompt, message)
        param = info.param or self._named_first(message)
        if (
            param is not None
            and param not in self.fields
            and param not in kinds.form(self.kind, self.fields).model_fields
        ):
            param = self.kind.prompt  # a field of a part of a message
        return EngineRefusedError(info.code, param, message)

    def _named_first(self, message: str) -> str | None:
        """The client's field that the message begins with. vLLM gives no `param` for most settings of sampling."""
        words = message.split(maxsplit=1)
        return words[0] if words and words[0] in self.fields else None


def _without_extras(message: str, param: str | None) -> str:
    """The message without `(parameter=..., value=...)`, which vLLM appends to it; the reply has `param`."""
    return message if param is None else message.partition(f" (parameter={param}")[0]
