"""What a model's name means to the user of a config."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.errors import ConfigError, InvalidInputError, NotFoundError
from baker.history.ref_table import Ref, RefKind
from baker.model_names import BaseModelNames
from baker.repos import models
from baker.repos.catalog import Catalog
from baker.types import Checkpoint
from tests.baker.grown import baked
from tests.baker.repos.filled import USER, checkpoint, filled

__all__ = ["filled"]  # a fixture


def test_names_of_a_bake_mean_its_newest_checkpoint_or_the_one_named(filled: Catalog) -> None:
    for step, job_id in ((8, 1), (3, 2)):
        filled.store.checkpoints.add(checkpoint(filled, step, job_id))
    for name, step in (("repo/bake", 3), ("repo/bake/8", 8), ("admin/repo/bake", 3), ("admin/repo/bake/3", 3)):
        resolved = models.resolve(filled, USER, name).checkpoint
        assert resolved is not None
        assert resolved.step == step
    for name in ("repo/bake/9", "repo/bakes", "other/repo/bake", "other/repo/bake/3"):
        with pytest.raises(InvalidInputError, match="fake/base"):
            models.resolve(filled, USER, name)
    with pytest.raises(InvalidInputError):
        models.resolve(filled, "other", "admin/repo/bake/3")


@pytest.mark.parametrize("name", ["repo/bake@0.5", "admin/repo/bake/3@1", "repo/bake@9"])
def test_configs_may_not_name_a_strength(filled: Catalog, name: str) -> None:
    """A parent, a base model or who answers in a rollout is an adapter as it was trained."""
    filled.store.checkpoints.add(checkpoint(filled, 3, 1))
    with pytest.raises(InvalidInputError, match=f"{name!r} names a strength.* write {name.partition('@')[0]!r}"):
        models.resolve(filled, USER, name)
    with pytest.raises(InvalidInputError, match="is not served here"):
        models.resolve(filled, "other", "admin/repo/bake/3@0.5")


def test_the_master_key_s_user_may_name_the_bakes_of_all_users_in_full(filled: Catalog) -> None:
    filled.store.checkpoints.add(msgspec.structs.replace(checkpoint(filled, 3, 1), user="alice"))
    for name in ("alice/repo/bake/3", "alice/repo/bake"):
        resolved = models.resolve(filled, USER, name).checkpoint
        assert resolved is not None
        assert resolved.name == "alice/repo/bake/3"
        with pytest.raises(InvalidInputError):
            models.resolve(filled, "bob", "alice/repo/bake/3")
    with pytest.raises(InvalidInputError) as raised:
        models.resolve(filled, USER, "repo/bake")
    assert "alice" not in raised.value.message


BASE = BaseModelNames(served="Org/Base", stands_in=True, aliases=("Other/Model",))


REVISIONS = {"main": 3, "bake~1": 3, "bake/9~1": 3, "bake@{1}": 3, "abcdef0": 3, "0012345": 9, "HEAD": 9}


def rule(name: str, caller: str, *, steps: dict[int | None, int] | None = None, held_back: bool = False) -> Any:
    """The meaning of `name` where user admin has `repo/bake` with these steps (None: what the bake's name means)."""

    def find(owner: str, repo: str, bake: str, step: int | None) -> Checkpoint | None:
        known = steps if steps is not None and (owner, repo, bake) == ("admin", "repo", "bake") else {}
        return named(known[step]) if step in known else None

    def newest_first(owner: str, repo: str, bake: str) -> list[Checkpoint]:
        return [named(9), named(3)] if held_back and (owner, repo, bake) == ("admin", "repo", "bake") else []

    def at_revision(owner: str, repo: str, revision: str) -> Checkpoint | None:
        if revision == "lost~1":
            raise NotFoundError("lost~1 means nothing")
        known = REVISIONS if steps is not None and (owner, repo) == ("admin", "repo") else {}
        return named(known[revision]) if revision in known else None

    lookup = models.Lookup(find, at_revision, newest_first, lambda name, ref: BASE.is_alias(name))
    return models.meaning_of(name, caller, BASE, lookup)


def named(step: int) -> Checkpoint:
    return Checkpoint("admin", "repo", "bake", step, Path("x"), "0" * 64, 0, 1)


@pytest.mark.parametrize(
    ("name", "caller", "whole", "strength", "model"),
    [
        ("Org/Base", "bob", "Org/Base", 1.0, models.NotABake.BASE),
        ("repo/bake", "admin", "repo/bake", 1.0, named(9)),
        ("repo/bake@0.5", "admin", "repo/bake", 0.5, named(9)),
        ("repo/bake@9", "admin", "repo/bake", None, named(9)),
        ("repo/bake/3", "admin", "repo/bake/3", 1.0, named(3)),
        ("admin/repo/bake/3", "admin", "admin/repo/bake/3", 1.0, named(3)),
        ("repo/bake/4", "admin", "repo/bake/4", 1.0, models.NotABake.UNKNOWN),
        ("admin/repo/bake", "bob", "admin/repo/bake", 1.0, models.NotABake.UNKNOWN),
        ("Other/Model", "bob", "Other/Model", 1.0, models.NotABake.REPLACED),
        ("Other/Model@0.5", "bob", "Other/Model", 0.5, models.NotABake.UNKNOWN),
        ("Org/Base@0.5", "bob", "Org/Base", 0.5, models.NotABake.UNKNOWN),
        ("repo/main", "admin", "repo/main", 1.0, named(3)),
        ("admin/repo/main", "admin", "admin/repo/main", 1.0, named(3)),
        ("repo/main@0.5", "admin", "repo/main", 0.5, named(3)),
        ("repo/bake~1@0.5", "admin", "repo/bake~1", 0.5, named(3)),
        ("repo/bake@{1}", "admin", "repo/bake@{1}", 1.0, named(3)),
        ("repo/bake@{1}@0.25", "admin", "repo/bake@{1}", 0.25, named(3)),
        ("repo/bake@{1}@9", "admin", "repo/bake@{1}", None, named(3)),
        ("admin/repo/bake/9~1", "admin", "admin/repo/bake/9~1", 1.0, named(3)),
        ("repo/bake/9~1", "admin", "repo/bake/9~1", 1.0, named(3)),
        ("repo/abcdef0", "admin", "repo/abcdef0", 1.0, named(3)),
        ("repo/0012345", "admin", "repo/0012345", 1.0, named(9)),
        ("admin/repo/0012345", "admin", "admin/repo/0012345", 1.0, named(9)),  # also written like repo/bake/step
        ("repo/HEAD", "admin", "repo/HEAD", 1.0, named(9)),
        ("admin/repo/main", "bob", "admin/repo/main", 1.0, models.NotABake.UNKNOWN),
        ("admin/repo/bake~1", "bob", "admin/repo/bake~1", 1.0, models.NotABake.UNKNOWN),
        ("admin/repo/0012345", "bob", "admin/repo/0012345", 1.0, models.NotABake.UNKNOWN),
        ("repo/main", "bob", "repo/main", 1.0, models.NotABake.UNKNOWN),
        ("Other/Model~1", "bob", "Other/Model~1", 1.0, models.NotABake.UNKNOWN),  # never the base model in disguise
        ("no/such/path/of/names", "admin", "no/such/path/of/names", 1.0, models.NotABake.UNKNOWN),
    ],
)
def test_the_rule_for_names(name: str, caller: str, whole: str, strength: float | None, model: Any) -> None:
    assert rule(name, caller, steps={None: 9, 9: 9, 3: 3}) == (whole, strength, model)


def test_a_bake_whose_name_means_nothing_yet_is_held_back_for_its_owner_only() -> None:
    assert rule("repo/bake", "admin", held_back=True).model == models.HeldBack(
        ["admin/repo/bake/9", "admin/repo/bake/3"]
    )
    assert rule("repo/bake/4", "admin", held_back=True).model is models.NotABake.UNKNOWN
    assert rule("admin/repo/bake", "bob", held_back=True).model is models.NotABake.UNKNOWN


def test_the_base_model_comes_before_a_bake_of_its_name() -> None:
    base = BaseModelNames(served="repo/bake", stands_in=False)
    lookup = models.Lookup(lambda *key: named(9), lambda *key: None, lambda *key: [], lambda name, ref: False)
    assert models.meaning_of("repo/bake", "admin", base, lookup).model is models.NotABake.BASE
    assert models.meaning_of("repo/bake", "admin", BASE, lookup).model == named(9)


def test_steps_that_lead_nowhere_say_so() -> None:
    with pytest.raises(NotFoundError, match="lost~1 means nothing"):
        rule("repo/lost~1", "admin")
    assert rule("admin/repo/lost~1", "bob").model is models.NotABake.UNKNOWN


def test_configs_may_name_branches_tags_and_steps(catalog: Catalog) -> None:
    first = baked(catalog, "first")
    second = baked(catalog, "second", first)
    catalog.history.refs.put(USER, "repo", Ref("main", RefKind.BRANCH, second.commit_id or ""))
    for name, meant in (
        ("repo/main", second),
        ("admin/repo/main~1", first),
        ("repo/second~1", first),
        (f"repo/{(first.commit_id or '')[:9]}", first),
    ):
        assert models.resolve(catalog, USER, name).checkpoint == meant
        assert models.read_name_in_rows(catalog, USER, name).checkpoint == meant
    for name, message in (
        ("repo/main~2", "is not served here: .* has only 1 ancestor"),
        ("repo/main~x", "is not a revision"),
        ("repo/second@{1}", "has no 1st earlier value"),
        ("repo/nowhere~1", "is not served here; there is"),
        ("gone/main~1", "is not served here; there is"),  # never the base model instead
        ("repo/main@0.5", "names a strength"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            models.resolve(catalog, USER, name)
    with pytest.raises(InvalidInputError, match="is not served here; there is: fake/base"):
        models.resolve(catalog, "bob", "admin/repo/main~1")


def test_a_full_name_leads_to_its_checkpoint_whoever_asks(filled: Catalog) -> None:
    filled.store.checkpoints.add(alices := msgspec.structs.replace(checkpoint(filled, 8, 1), user="alice"))
    assert models.checkpoint_named(filled, "alice/repo/bake/8") == alices
    assert models.checkpoint_named(filled, "alice/repo/bake/9") is None
    assert models.read_name_in_rows(filled, "bob", "alice/repo/bake/8").checkpoint is None
    assert models.read_name_in_rows(filled, "bob", "no name").ref is None


def test_a_name_that_is_too_long_is_refused_with_its_length(filled: Catalog) -> None:
    with pytest.raises(ConfigError, match=r"'x{64}\.\.\.' has 600 characters, at most 515"):
        models.resolve(filled, USER, "x" * 600)
