"""Admits model requests: as many as the engine runs, some that wait, and from each key no more than its limits.

Requests wait in vLLM's scheduler and are only counted here. Bake jobs are not counted: they limit their own
concurrency, and continue while clients are refused.
"""

import time
from collections.abc import Callable

from gateway.errors import OverloadedError
from gateway.inference.rate_limits import KeyUse, Limits

RETRY_SECONDS = 5
"""When a client should retry after 503: some answers have ended by then."""


class Pass:
    """One admitted request. `leave` frees its place; a second call does nothing."""

    def __init__(self, admission: "Admission", key: KeyUse) -> None:
        self._admission = admission
        self._key = key
        self._is_in = True

    def headers(self) -> dict[str, str]:
        """Response headers: what is left of the key's limits."""
        return self._key.headers()

    def leave(self, tokens: int) -> None:
        """Args: tokens: read and written by the request."""
        if self._is_in:
            self._is_in = False
            self._admission.in_flight -= 1
            self._key.leave(tokens)


class Admission:
    def __init__(
        self,
        *,
        batch_size: Callable[[], int],
        max_waiting: int,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args:
        batch_size: number of requests that the engine runs at once.
        max_waiting: number of further requests that may be in flight.
        """
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._limits = limits
        self._clock = clock
        self._keys: dict[str, KeyUse] = {}
        self.in_flight = 0

    @property
    def capacity(self) -> int:
        """Largest number of requests in flight."""
        return self._batch_size() + self._max_waiting

    @property
    def waiting(self) -> int:
        """Number of requests in flight beyond those that the engine runs at once."""
        return max(0, self.in_flight - self._batch_size())

    def enter(self, key: str) -> Pass:
        """Admit a request with this key. Raises: OverloadedError; RateLimitedError."""
        if self.in_flight >= self.capacity:
            raise OverloadedError(
                f"{self.in_flight} requests are running or waiting, the most that are allowed (--max-waiting): "
                f"try again in {RETRY_SECONDS} s",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        use = self._keys.get(key)
        if use is None:  # one small object per key that is used
            use = self._keys[key] = KeyUse(self._limits, self._clock)
        use.enter()
        self.in_flight += 1
        return Pass(self, use)
