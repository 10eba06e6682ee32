"""How names of versions are read."""

import pytest

from gateway.cli.failures import CliError, Exit
from gateway.cli.names import Name, parse, without_suffixes

REPOS = ("hooli", "support")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("yoda", Name(None, None, "yoda")),
        ("yoda~1", Name(None, None, "yoda~1")),
        ("yoda/12", Name(None, None, "yoda/12")),
        ("origin/yoda", Name(None, None, "origin/yoda")),
        ("hooli/yoda", Name(None, "hooli", "yoda")),
        ("hooli/yoda/12", Name(None, "hooli", "yoda/12")),
        ("hooli/yoda/12~2^2", Name(None, "hooli", "yoda/12~2^2")),
        ("hooli/origin/yoda", Name(None, "hooli", "origin/yoda")),
        ("alice/hooli/yoda", Name("alice", "hooli", "yoda")),
        ("alice/hooli/yoda/12", Name("alice", "hooli", "yoda/12")),
        ("alice/hooli/yoda/12@{1}", Name("alice", "hooli", "yoda/12@{1}")),
        ("hooli/hooli/yoda/12", Name("hooli", "hooli", "yoda/12")),
        ("HEAD", Name(None, None, "HEAD")),
    ],
)
def test_a_name_has_a_user_a_repo_and_a_revision(text: str, name: Name) -> None:
    assert parse(text, REPOS) == name


@pytest.mark.parametrize("text", ["", "/yoda", "hooli/", "a/b/c/d", "a/b/c/d/1", "hooli//yoda"])
def test_anything_else_is_wrong_usage(text: str) -> None:
    with pytest.raises(CliError) as error:
        parse(text, REPOS)
    assert error.value.code == Exit.USAGE


def test_suffixes_are_left_out() -> None:
    assert [without_suffixes(rev) for rev in ("yoda~1", "yoda^2~3@{1}", "yoda/12@0.5", "v1.0")] == [
        "yoda", "yoda", "yoda/12", "v1.0",
    ]  # fmt: skip


def test_a_name_is_a_models_name() -> None:
    assert Name("alice", "hooli", "yoda/12").model == "alice/hooli/yoda/12"
    assert Name(None, "hooli", "yoda").model == "hooli/yoda"
