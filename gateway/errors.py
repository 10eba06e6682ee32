"""The gateway's leaves of the error tree in `baker/errors.py`."""

from baker.errors import BakeryError, EngineError, InvalidInputError, NotFoundError


class CanaryError(EngineError):
    """The engine runs, and answers otherwise than before."""


class FieldRefusedError(InvalidInputError):
    """A field's value that is not given to vLLM."""

    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
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


class UnauthorizedError(BakeryError):
    code = "UNAUTHORIZED"


class ForbiddenError(BakeryError):
    code = "FORBIDDEN"
