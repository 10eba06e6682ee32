"""Limits of one key, with a clock that the tests move."""

import pytest

from gateway.errors import RateLimitedError
from gateway.inference.rate_limits import Bucket, KeyUse, Limits
from tests.gateway.inference.conftest import Clock


def test_requests_are_admitted_until_the_bucket_is_empty_and_again_as_it_refills(clock: Clock) -> None:
    use = KeyUse(Limits(requests_per_minute=6), clock)
    for _ in range(6):
        use.enter()
    with pytest.raises(RateLimitedError) as refused:
        use.enter()
    assert refused.value.headers["Retry-After"] == "10"
    assert refused.value.headers["x-ratelimit-limit-requests"] == "6"
    assert refused.value.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 10
    use.enter()
    with pytest.raises(RateLimitedError):
        use.enter()


def test_a_key_with_overdrawn_tokens_is_refused_until_its_bucket_is_above_zero(clock: Clock) -> None:
    use = KeyUse(Limits(tokens_per_minute=600), clock)
    use.enter()
    use.leave(tokens=900)
    with pytest.raises(RateLimitedError) as refused:
        use.enter()
    assert refused.value.headers["Retry-After"] == "31"  # 301 tokens at 10 per second
    assert refused.value.headers["x-ratelimit-reset-tokens"] == "90.000s"
    clock.now += 31
    use.enter()


def test_an_idle_key_collects_no_more_than_one_minute(clock: Clock) -> None:
    use = KeyUse(Limits(requests_per_minute=2), clock)
    clock.now += 3600
    use.enter()
    use.enter()
    with pytest.raises(RateLimitedError):
        use.enter()


def test_a_bucket_refills_at_its_rate() -> None:
    bucket = Bucket(120, now=0.0)
    bucket.take(150, now=0.0)
    levels = [bucket.level(seconds) for seconds in (0.0, 15.0, 30.0, 1000.0)]
    assert levels == [min(120, -30 + 2 * seconds) for seconds in (0, 15, 30, 1000)]
    assert bucket.seconds_until(120, now=1000.0) == 0.0
