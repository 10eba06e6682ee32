"""What one API key may ask for in a minute and at once. In memory alone: no request waits for the database.

A key's buckets start full and refill steadily. Requests are taken when they come; tokens are known only when an answer
ends, so they may overdraw their bucket, and the key then waits until it is above zero again.
"""

from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import RateLimitedError

MINUTE = 60.0


class Limits(NamedTuple):
    """Of each key; 0: none."""

    concurrency: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


class Bucket:
    """Holds at most `per_minute`, and as much flows in each minute."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """What is in it now; below zero if it is overdrawn."""
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / MINUTE)
        self._at = now
        return self._level

    def take(self, amount: int, now: float) -> None:
        self._level = self.level(now) - amount

    def seconds_until(self, level: float, now: float) -> float:
        """How long until it holds `level` again."""
        return max(0.0, (level - self.level(now)) * MINUTE / self.per_minute)


class KeyUse:
    """One key's running requests and its buckets."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self.in_flight = 0
        self._requests = Bucket(limits.requests_per_minute, clock()) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, clock()) if limits.tokens_per_minute else None

    def enter(self) -> None:
        """Begin a request. Raises: RateLimitedError saying when to come back."""
        now = self._clock()
        if self._limits.concurrency and self.in_flight >= self._limits.concurrency:
            self._refuse(f"{self._limits.concurrency} requests at once", 1.0)
        if self._requests is not None and (wait := self._requests.seconds_until(1.0, now)):
            self._refuse(f"{self._limits.requests_per_minute} requests a minute", wait)
        if self._tokens is not None and (wait := self._tokens.seconds_until(1.0, now)):
            self._refuse(f"{self._limits.tokens_per_minute} tokens a minute", wait)
        if self._requests is not None:
            self._requests.take(1, now)
        self.in_flight += 1

    def leave(self, tokens: int) -> None:
        """End a request that read and wrote so many tokens."""
        self.in_flight -= 1
        if self._tokens is not None:
            self._tokens.take(tokens, self._clock())

    def headers(self) -> dict[str, str]:
        """How much is left, in the words of OpenAI's API."""
        now = self._clock()
        told = {}
        for what, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                told[f"x-ratelimit-limit-{what}"] = str(bucket.per_minute)
                told[f"x-ratelimit-remaining-{what}"] = str(max(0, int(bucket.level(now))))
                told[f"x-ratelimit-reset-{what}"] = f"{bucket.seconds_until(bucket.per_minute, now):.3f}s"
        return told

    def _refuse(self, limit: str, wait_seconds: float) -> None:
        retry_after = str(max(1, -int(-wait_seconds // 1)))
        raise RateLimitedError(
            f"This key's limit of {limit} is reached: try again in {retry_after} s",
            {**self.headers(), "Retry-After": retry_after},
        )
