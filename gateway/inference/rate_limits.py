"""Limits of one API key: requests at once, requests and tokens per minute. Kept in memory: no request waits for the
database.

A key's buckets start full and refill steadily. A request is taken from its bucket on arrival. Tokens are known only
when an answer ends, so they may overdraw their bucket; the key is then refused until the bucket is above zero again.
"""

from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import RateLimitedError

MINUTE = 60.0


class Limits(NamedTuple):
    """The same for every key; 0: no limit."""

    concurrency: int = 0
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


class Bucket:
    """Holds at most `per_minute` units and refills at that rate."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """Units in the bucket; negative if it is overdrawn."""
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / MINUTE)
        self._at = now
        return self._level

    def take(self, amount: int, now: float) -> None:
        self._level = self.level(now) - amount

    def seconds_until(self, level: float, now: float) -> float:
        """Seconds until it holds `level` units."""
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
        """Begin a request. Raises: RateLimitedError with the time to retry."""
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
        """End a request that read and wrote this many tokens."""
        self.in_flight -= 1
        if self._tokens is not None:
            self._tokens.take(tokens, self._clock())

    def headers(self) -> dict[str, str]:
        """What is left of the limits, in the response headers of OpenAI's API."""
        now = self._clock()
        headers = {}
        for unit, bucket in (("requests", self._requests), ("tokens", self._tokens)):
            if bucket is not None:
                headers[f"x-ratelimit-limit-{unit}"] = str(bucket.per_minute)
                headers[f"x-ratelimit-remaining-{unit}"] = str(max(0, int(bucket.level(now))))
                headers[f"x-ratelimit-reset-{unit}"] = f"{bucket.seconds_until(bucket.per_minute, now):.3f}s"
        return headers

    def _refuse(self, limit: str, wait_seconds: float) -> None:
        retry_after = str(max(1, -int(-wait_seconds // 1)))
        raise RateLimitedError(
            f"This key's limit of {limit} is reached: try again in {retry_after} s",
            {**self.headers(), "Retry-After": retry_after},
        )
