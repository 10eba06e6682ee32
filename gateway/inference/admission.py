"""Which model requests are let in: as many as the engine works on and some that wait, and each key its share.

The waiting itself is done by vLLM's scheduler; here requests are only counted. Jobs of the bakery are not: they bound
themselves, and go on while clients are turned away.
"""

import time
from collections.abc import Callable

from gateway.errors import OverloadedError
from gateway.inference.rate_limits import KeyUse, Limits

RETRY_SECONDS = 5
"""When to come back to a service that is full: some answers have ended by then."""


class Pass:
    """One request's place. `leave` gives it back, once."""

    def __init__(self, admission: "Admission", key: KeyUse) -> None:
        self._admission = admission
        self._key = key
        self._is_in = True

    @property
    def headers(self) -> dict[str, str]:
        """For the answer: what is left of the key's limits."""
        return self._key.headers()

    def leave(self, tokens: int) -> None:
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
        batch_size: how many requests the engine works on at once.
        max_waiting: how many more may be in flight.
        """
        self._batch_size = batch_size
        self._max_waiting = max_waiting
        self._limits = limits
        self._clock = clock
        self._keys: dict[str, KeyUse] = {}
        self.in_flight = 0

    @property
    def capacity(self) -> int:
        """Most requests in flight."""
        return self._batch_size() + self._max_waiting

    @property
    def waiting(self) -> int:
        """Requests in flight beyond those that the engine can work on at once."""
        return max(0, self.in_flight - self._batch_size())

    def enter(self, key: str) -> Pass:
        """A place for a request with this key. Raises: OverloadedError, RateLimitedError."""
        if self.in_flight >= self.capacity:
            raise OverloadedError(
                f"{self.in_flight} requests are running or waiting, which is the most (--max-waiting): "
                f"try again in {RETRY_SECONDS} s",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        use = self._keys.get(key)
        if use is None:  # one small object for each key that is used at all
            use = self._keys[key] = KeyUse(self._limits, self._clock)
        use.enter()
        self.in_flight += 1
        return Pass(self, use)
