"""What the log and the metrics report about one model request."""

import time
from enum import StrEnum

from baker.types import Checkpoint
from gateway.access.auth import Caller
from gateway.engine.core.usage import Usage


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    """The request is wrong (4xx)."""
    RATE_LIMITED = "rate_limited"
    """The key is over its limits (429)."""
    OVERLOADED = "overloaded"
    """The queue was full (503)."""
    FAILED = "failed"
    """The engine or the gateway failed (5xx, or an error event in a stream)."""
    TIMEOUT = "timeout"
    """The answer took longer than --request-timeout-seconds (504, or an error event)."""
    CLIENT_LEFT = "client_left"
    STALLED = "stalled"
    """The client stopped reading its stream."""

    @classmethod
    def of_status(cls, status: int) -> "Outcome":
        """The outcome of a whole answer with this status."""
        if status < 400:
            return cls.OK
        return {429: cls.RATE_LIMITED, 499: cls.CLIENT_LEFT, 504: cls.TIMEOUT}.get(
            status, cls.FAILED if status >= 500 else cls.REFUSED
        )


class ModelRequest:
    def __init__(self, request_id: str, route: str, caller: Caller) -> None:
        self.id = request_id
        self.route = route
        self.caller = caller
        self.began = time.monotonic()
        self.requested_model: str | None = None
        """The model's name as the client wrote it."""
        self.served_model: str | None = None
        """Name of the adapter version, or of the base model, that `requested_model` resolved to."""
        self.checkpoint: Checkpoint | None = None
        """Checkpoint of the adapter; None for the base model."""
        self.prompt: object = None
        """The fields of the body that hold what the client wrote to the model."""
        self.usage = Usage()
        self.first_token_seconds: float | None = None
        """Seconds from the arrival to a stream's first event; None for whole answers."""
        self.status = 200

    @property
    def seconds(self) -> float:
        """Seconds since the arrival."""
        return time.monotonic() - self.began

    @property
    def model_kind(self) -> str:
        """The model as a metrics label without names: "base", "adapter", or "unknown" if it was not resolved."""
        if self.served_model is None:
            return "unknown"
        return "base" if self.checkpoint is None else "adapter"

    @property
    def bake_name(self) -> str | None:
        """user/repo/bake of the adapter; None for the base model."""
        checkpoint = self.checkpoint
        return None if checkpoint is None else f"{checkpoint.user}/{checkpoint.repo}/{checkpoint.bake}"

    def note_first_token(self) -> None:
        if self.first_token_seconds is None:
            self.first_token_seconds = self.seconds
