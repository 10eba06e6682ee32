"""Each result is computed once."""

import asyncio

import msgspec
import pytest

from baker.comparison.results import Pair, Results
from baker.comparison.versions import BASE_VERSION, Version
from baker.errors import EngineError, NotFoundError
from baker.repos import repos
from tests.baker.comparison.story import Story

pytestmark = pytest.mark.anyio


class Number(msgspec.Struct, frozen=True):
    value: float


class Work:
    """Computes another number each time."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.has_begun = asyncio.Event()

    async def __call__(self) -> Number:
        self.calls += 1
        value = self.calls / 3
        self.has_begun.set()
        await self.may_end.wait()
        return Number(value)


def pair(user: str = "admin", repo: str = "repo", b: str = "b") -> Pair:
    return Pair(user, repo, BASE_VERSION, Version(b, None, None))


async def test_the_first_complete_result_is_the_answer_from_then_on(story: Story) -> None:
    work = Work()
    for results in (Results(story.catalog), Results(story.catalog)):  # the second one after a restart
        for _ in range(2):
            assert await results.once(pair(), "what", {"limit": 1}, Number, work) == Number(1 / 3)
    assert work.calls == 1


async def test_another_version_part_or_setting_is_another_result(story: Story) -> None:
    work, results = Work(), Results(story.catalog)
    for versions, what, settings in (
        (pair(), "what", 1),
        (pair(), "what", 2),
        (pair(), "which", 1),
        (pair(b="c"), "what", 1),
        (Pair("admin", "repo", Version("b", None, None), BASE_VERSION), "what", 1),
    ):
        await results.once(versions, what, settings, Number, work)
    assert work.calls == 5


async def test_clients_that_ask_at_once_share_the_work_and_one_that_leaves_hands_it_on(story: Story) -> None:
    work, results = Work(), Results(story.catalog)
    work.may_end.clear()
    first, *others = (asyncio.ensure_future(results.once(pair(), "what", 1, Number, work)) for _ in range(3))
    await work.has_begun.wait()
    first.cancel()
    await asyncio.wait({first})
    work.may_end.set()
    assert await asyncio.gather(*others) == [Number(2 / 3)] * 2
    assert work.calls == 2


async def test_a_failure_is_not_kept(story: Story) -> None:
    async def fail() -> Number:
        raise EngineError("away")

    work, results = Work(), Results(story.catalog)
    with pytest.raises(EngineError):
        await results.once(pair(), "what", 1, Number, fail)
    assert await results.once(pair(), "what", 1, Number, work) == Number(1 / 3)


async def test_nothing_is_kept_of_a_repo_that_was_deleted_meanwhile(story: Story) -> None:
    work, results = Work(), Results(story.catalog)
    work.may_end.clear()
    asked = asyncio.ensure_future(results.once(pair(), "what", 1, Number, work))
    await work.has_begun.wait()
    await story.catalog(repos.delete, "admin", "repo")
    work.may_end.set()
    with pytest.raises(NotFoundError):
        await asked
    await story.catalog(repos.put, "admin", "repo", None)
    assert await results.once(pair(), "what", 1, Number, work) == Number(2 / 3)
