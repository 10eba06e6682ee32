"""The gateway's leaves of the error tree in `baker/errors.py`.

    BakeryError
      UnauthorizedError             no key, or an unknown one
      ForbiddenError                the key is known but may not do this
      RequestTimeoutError           no answer within --request-timeout-seconds
      LimitError                    too many requests; carries the headers that say when to retry
        RateLimitedError            one key is over its limits
        OverloadedError             the whole service is at its limit
      InferenceError (RuntimeError)  vLLM failed on a request, with its own status (500, 501); the log has the cause
      InvalidInputError
        FieldRefusedError           a field's value is refused before vLLM sees the request
          EngineRefusedError        vLLM refused the request, with its own status (400, 404, 422 ...)
      NotFoundError
        UnknownModelError           no model of that name is served to this user
      AdapterError
        UnusableModelError          the engine can't load the adapter of the requested model
      EngineError
        CanaryError                 a new engine answers differently from the one before it
    ClientLeftError                 the client closed the connection; no client ever reads it

`gateway/http/errors.py` has the table from error to HTTP status.
"""

from baker.errors import AdapterError, BakeryError, EngineError, InvalidInputError, NotFoundError


class UnauthorizedError(BakeryError):
    code = "UNAUTHORIZED"


class ForbiddenError(BakeryError):
    code = "FORBIDDEN"


class RequestTimeoutError(BakeryError):
    code = "REQUEST_TIMEOUT"


class LimitError(BakeryError):
    def __init__(self, message: str, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.headers = headers
        """Response headers: when to retry, and what is left of the key's limits."""


class RateLimitedError(LimitError):
    code = "RATE_LIMITED"


class OverloadedError(LimitError):
    code = "OVERLOADED"


class InferenceError(BakeryError, RuntimeError):
    def __init__(self, status: int, param: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status that vLLM gave."""
        self.param = param
        """Field of the request that vLLM named; None if none."""


class FieldRefusedError(InvalidInputError):
    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
        self.param = param
        """Field of the request that is wrong; None if it is not known which."""


class EngineRefusedError(FieldRefusedError):
    def __init__(self, status: int, param: str | None, message: str) -> None:
        super().__init__(param, message)
        self.status = status
        """HTTP status that vLLM gave."""


class UnknownModelError(NotFoundError):
    pass


class UnusableModelError(AdapterError):
    pass


class CanaryError(EngineError):
    pass


class ClientLeftError(Exception):
    pass
