"""One model request from its arrival to its end: what the log and the metrics say about it."""

import time
from enum import StrEnum

from baker.types import Checkpoint
from gateway.access.auth import Caller
from gateway.engine.core.usage import Usage


class Outcome(StrEnum):
    OK = "ok"
    REFUSED = "refused"
    """Something is wrong with the request (4xx)."""
    RATE_LIMITED = "rate_limited"
    """Beyond its key's limits (429)."""
    OVERLOADED = "overloaded"
    """The queue was full (503)."""
    FAILED = "failed"
    """By the engine or by us (5xx, or an error event in a stream)."""
    TIMEOUT = "timeout"
    """It took longer than --request-timeout (504, or an error event)."""
    CLIENT_LEFT = "client_left"
    STALLED = "stalled"
    """The client did not take what was sent to it."""

    @classmethod
    def of_status(cls, status: int) -> "Outcome":
        """Of a whole answer with this status."""
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
        self.asked: str | None = None
        """The model's name as the client wrote it."""
        self.served: str | None = None
        """The adapter version, or the base model, that it meant."""
        self.checkpoint: Checkpoint | None = None
        """Of `served`; None for the base model."""
        self.prompt: object = None
        """What the client wrote to the model."""
        self.usage = Usage()
        self.first_token_seconds: float | None = None
        """From the arrival to a stream's first event; None for whole answers."""
        self.status = 200

    @property
    def seconds(self) -> float:
        """Since it arrived."""
        return time.monotonic() - self.began

    @property
    def kind(self) -> str:
        """What was asked, in a word that names nobody."""
        if self.served is None:
            return "unknown"
        return "base" if self.checkpoint is None else "adapter"

    @property
    def bake(self) -> str | None:
        """user/repo/bake of an adapter."""
        of = self.checkpoint
        return None if of is None else f"{of.user}/{of.repo}/{of.bake}"

    def note_first_token(self) -> None:
        if self.first_token_seconds is None:
            self.first_token_seconds = self.seconds
