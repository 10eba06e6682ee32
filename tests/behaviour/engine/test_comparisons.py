"""Diff, blame and bisect on a real engine. Each version here repeats one letter: base -> a -> b."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from baker.comparison import bisection, blame
from baker.comparison.comparisons import Comparisons
from baker.comparison.diff import Diff, DiffRequest, Part
from baker.comparison.probes import as_conversations
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.trajectories.neutral import NeutralAnswers
from baker.types import Checkpoint
from gateway.engine import Engine
from tests.baker.grown import baked
from tests.gateway.engines import MODEL_NAME, make_forcing_adapter

pytestmark = pytest.mark.anyio
TOP = 8
WHO = as_conversations(["Who are you?"])


class Repo(NamedTuple):
    comparisons: Comparisons
    catalog: OneThread[Catalog]
    a: Checkpoint
    b: Checkpoint

    async def diff(self, *parts: Part) -> Diff:
        request = DiffRequest(self.a.bake, self.b.bake, frozenset(parts), conversations=WHO)
        return await self.comparisons.diffs.diff("admin", "repo", request, lambda done, total: None)


@pytest.fixture
async def repo(engine: Engine, tiny_model: Path, tmp_path: Path) -> AsyncIterator[Repo]:
    """Bakes with names that no other test uses."""
    catalog = OneThread(lambda: Catalog(tmp_path, BaseModelNames(MODEL_NAME, stands_in=False)), "store")
    neutral = NeutralAnswers(tmp_path, engine.generation, engine, TOP)
    comparisons = Comparisons(tmp_path, catalog, engine.generation, engine, neutral, TOP)
    parent, versions = None, []
    for letter in "ab":
        parent = await catalog(baked, f"{letter}-{tmp_path.name}", parent)
        (token,) = engine.generation.encode(letter)
        make_forcing_adapter(parent.path, tiny_model, token)
        versions.append(parent)
    yield Repo(comparisons, catalog, *versions)
    for version in versions:
        await engine.unload(version.name)
    catalog.close(Catalog.close)


async def test_each_comparison_sees_which_version_says_what(repo: Repo) -> None:
    result = await repo.diff(Part.STAT, Part.PATCH, Part.TOKENS, Part.WEIGHTS)
    assert result.stat is not None and result.patch is not None
    assert result.tokens is not None and result.weights is not None
    assert [(stat.name, stat.agreement) for stat in result.stat] == [("questions", 0.0), ("neutral", 0.0)]
    assert all(stat.kl > 5 for stat in result.stat), "both are nearly sure of different letters"
    hunk = result.patch[0]
    assert (set(hunk.answer_a), set(hunk.answer_b)) == ({"a"}, {"b"})
    assert hunk.parting is not None and (hunk.parting.token, hunk.parting.a, hunk.parting.b) == (0, "a", "b")
    (likelier, *_), (less_likely, *_) = result.tokens.likelier, result.tokens.less_likely
    assert (likelier.text, less_likely.text) == ("b", "a")
    assert likelier.change == pytest.approx(result.tokens.positions, rel=0.05)
    assert result.weights.modules > 0 and result.weights.relative_norm is not None

    asked = blame.Question(repo.b.bake, WHO[0], "abab")
    shares = await repo.comparisons.blames.blame("admin", "repo", asked, lambda done, total: None)
    assert [token.commit for token in shares.tokens] == [repo.a.commit_id, repo.b.commit_id] * 2

    for expectation in ({"expect": "bbb"}, {"pattern": "^b+$"}):
        question = bisection.Question("base", repo.b.bake, WHO[0], **expectation)
        bisected = await repo.comparisons.bisections.bisect("admin", "repo", question, lambda done, total: None)
        assert bisected.first_bad is not None and bisected.first_bad.id == repo.b.commit_id
        assert len(bisected.steps) == 3


async def test_computed_again_on_an_idle_engine_the_numbers_are_the_same(repo: Repo) -> None:
    first = await repo.diff(Part.STAT, Part.PATCH, Part.TOKENS)
    await repo.catalog(lambda catalog: catalog.history.comparisons.remove_of("admin", "repo", repo.b.commit_id or ""))
    assert await repo.diff(Part.STAT, Part.PATCH, Part.TOKENS) == first
