"""What a key may ask for, with a clock that the tests turn."""

import pytest

from gateway.errors import OverloadedError, RateLimitedError
from gateway.inference.admission import Admission
from gateway.inference.rate_limits import KeyUse, Limits


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_requests_are_let_in_until_the_bucket_is_empty_and_again_as_it_refills(clock: Clock) -> None:
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


def test_a_key_that_used_too_many_tokens_waits_until_it_is_above_zero_again(clock: Clock) -> None:
    use = KeyUse(Limits(tokens_per_minute=600), clock)
    use.enter()
    use.leave(tokens=900)
    with pytest.raises(RateLimitedError) as refused:
        use.enter()
    assert refused.value.headers["Retry-After"] == "31"  # 300 tokens of debt and one, at 10 a second
    assert refused.value.headers["x-ratelimit-reset-tokens"] == "90.000s"
    clock.now += 31
    use.enter()


def test_a_bucket_never_holds_more_than_a_minute_of_it(clock: Clock) -> None:
    use = KeyUse(Limits(requests_per_minute=2), clock)
    clock.now += 3600
    use.enter()
    use.enter()
    with pytest.raises(RateLimitedError):
        use.enter()


def test_a_key_has_so_many_requests_at_once_and_others_are_not_touched_by_it(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 4, max_waiting=4, limits=Limits(concurrency=2), clock=clock)
    first = admission.enter("alice")
    admission.enter("alice")
    with pytest.raises(RateLimitedError):
        admission.enter("alice")
    admission.enter("bob")
    assert admission.in_flight == 3, "one that is refused takes no place"
    first.leave(0)
    first.leave(0)
    admission.enter("alice")
    with pytest.raises(RateLimitedError):
        admission.enter("alice")


def test_the_queue_is_bounded_whoever_asks(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 2, max_waiting=1, limits=Limits(), clock=clock)
    passes = [admission.enter(key) for key in ("alice", "bob", "carol")]
    assert (admission.in_flight, admission.waiting) == (3, 1)
    with pytest.raises(OverloadedError) as refused:
        admission.enter("dave")
    assert refused.value.headers["Retry-After"] == "5"
    passes[0].leave(0)
    admission.enter("dave")


def test_without_limits_nothing_is_said_of_them(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 2, max_waiting=1, limits=Limits(), clock=clock)
    assert admission.enter("alice").headers() == {}
