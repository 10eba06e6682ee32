"""How many model requests are admitted, with a clock that the tests move."""

import pytest

from gateway.errors import OverloadedError, RateLimitedError
from gateway.inference.admission import Admission
from gateway.inference.rate_limits import Limits
from tests.gateway.inference.conftest import Clock


def test_a_keys_limit_of_concurrent_requests_does_not_affect_other_keys(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 4, max_waiting=4, limits=Limits(concurrency=2), clock=clock)
    first = admission.enter("alice")
    admission.enter("alice")
    with pytest.raises(RateLimitedError):
        admission.enter("alice")
    admission.enter("bob")
    assert admission.in_flight == 3, "a refused request takes no place"
    first.leave(0)
    first.leave(0)
    admission.enter("alice")
    with pytest.raises(RateLimitedError):
        admission.enter("alice")


def test_the_queue_is_limited_over_all_keys(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 2, max_waiting=1, limits=Limits(), clock=clock)
    passes = [admission.enter(key) for key in ("alice", "bob", "carol")]
    assert (admission.in_flight, admission.waiting) == (3, 1)
    with pytest.raises(OverloadedError) as refused:
        admission.enter("dave")
    assert refused.value.headers["Retry-After"] == "5"
    passes[0].leave(0)
    admission.enter("dave")


def test_without_limits_there_are_no_headers(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 2, max_waiting=1, limits=Limits(), clock=clock)
    assert admission.enter("alice").headers() == {}


def test_the_limit_follows_the_engines_batch_size(clock: Clock) -> None:
    batch_size = 2
    admission = Admission(batch_size=lambda: batch_size, max_waiting=3, limits=Limits(), clock=clock)
    assert (admission.capacity, admission.waiting) == (5, 0)
    batch_size = 4
    assert admission.capacity == 7


def test_tokens_of_a_finished_request_count_against_its_key(clock: Clock) -> None:
    admission = Admission(batch_size=lambda: 2, max_waiting=1, limits=Limits(tokens_per_minute=60), clock=clock)
    place = admission.enter("alice")
    assert place.headers()["x-ratelimit-remaining-tokens"] == "60"
    place.leave(60)
    with pytest.raises(RateLimitedError):
        admission.enter("alice")
    admission.enter("bob")
