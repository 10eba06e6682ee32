"""The gateway's leaves of the error tree in `baker/errors.py`."""

from baker.errors import AdapterError, BakeryError, EngineError, InvalidInputError, NotFoundError


class CanaryError(EngineError):
    """The engine runs, and answers otherwise than before."""


class FieldRefusedError(InvalidInputError):
    """A field's value that is not given to vLLM."""

    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
        self.param = param


class EngineRefusedError(FieldRefusedError):
    """vLLM refuses a request, with an HTTP status of its own (400, 404, 422 ...)."""

    def __init__(self, status: int, param: str | None, message: str) -> None:
        super().__init__(param, message)
        self.status = status


class InferenceError(BakeryError, RuntimeError):
    """vLLM fails at a request, with an HTTP status of its own (500, 501); the log has the cause."""

    def __init__(self, status: int, param: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.param = param


class ClientLeftError(Exception):
    """Nobody is there to answer."""


class RequestTimeoutError(BakeryError):
    code = "REQUEST_TIMEOUT"


class LimitError(BakeryError):
    """Too much was asked for; `headers` say when to come back."""

    def __init__(self, message: str, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class RateLimitedError(LimitError):
    """By one key."""

    code = "RATE_LIMITED"


class OverloadedError(LimitError):
    """By all together."""

    code = "OVERLOADED"


class UnknownModelError(NotFoundError):
    """No model of that name is served to this user."""


class UnusableModelError(AdapterError):
    """The engine can't load the adapter of the model that was asked for."""


class UnauthorizedError(BakeryError):
    code = "UNAUTHORIZED"


class ForbiddenError(BakeryError):
    code = "FORBIDDEN"
