"""What each form of a revision means, and the errors about those that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import InvalidInputError, NotFoundError
from baker.history.ref_table import Ref, RefKind
from baker.history.revisions import RepoView, Revision, Step, find, model_of, parse, resolve, split

ROOT, OLD, NEW, MERGE = "a" * 64, "ab" * 32, "b" * 64, "c" * 64
TWIN = "abababab" + "0" * 56  # the same first 8 digits as OLD
DETACHED = "d" * 64

VIEW = RepoView(
    user="admin",
    repo="repo",
    bakes={"yoda": NEW, "deadbeef": OLD, "never-run": None},
    checkpoints={"yoda/3": OLD, "yoda/5": NEW, "deadbeef/1": OLD},
    refs={
        "main": Ref("main", RefKind.BRANCH, MERGE),
        "v1": Ref("v1", RefKind.TAG, OLD),
        "yoda/7": Ref("yoda/7", RefKind.REMOTE, ROOT),
        "yoda/5": Ref("yoda/5", RefKind.REMOTE, ROOT),
        "lost": Ref("lost", RefKind.BRANCH, DETACHED),
    },
    head="main",
    parents={ROOT: (), OLD: (ROOT,), NEW: (OLD,), MERGE: (NEW, OLD), TWIN: (), DETACHED: ("e" * 64,)},
    models={ROOT: "admin/other/root/3", OLD: "admin/repo/yoda/3", NEW: "admin/repo/yoda/5"},
    reflogs={"yoda": [NEW, OLD, NEW], "main": [MERGE], "HEAD": [MERGE, OLD], "deadbeef": [OLD, "f" * 64]},
)


@pytest.mark.parametrize(
    ("text", "commit"),
    [
        ("yoda", NEW),
        ("yoda/3", OLD),
        ("yoda/5", NEW),  # a checkpoint goes before a remote's name
        ("yoda/7", ROOT),
        ("main", MERGE),
        ("v1", OLD),
        ("HEAD", MERGE),
        ("aaaaaaa", ROOT),
        (ROOT, ROOT),
        ("ababababa", OLD),
        ("deadbeef", OLD),
        ("yoda~", OLD),
        ("yoda~1", OLD),
        ("yoda~2", ROOT),
        ("yoda~0", NEW),
        ("main^", NEW),
        ("main^1", NEW),
        ("main^2", OLD),
        ("main^0", MERGE),
        ("main^2~1", ROOT),
        ("main~1^1~1", ROOT),
        ("main~~~", ROOT),
        ("main^^", OLD),
        ("yoda/5~2", ROOT),
        ("bbbbbbb~1", OLD),
        ("yoda@{0}", NEW),
        ("yoda@{1}", OLD),
        ("yoda@{2}", NEW),
        ("yoda@{1}~1", ROOT),
        ("HEAD@{1}^", ROOT),
        ("HEAD@{0}~2", OLD),
        ("v1@{0}", OLD),
    ],
)
def test_a_revision_means_one_commit(text: str, commit: str) -> None:
    assert resolve(VIEW, text) == commit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yodda", "Repo 'repo' has no revision 'yodda'; did you mean 'yoda'?"),
        ("yodda~1", "no revision 'yodda~1'; did you mean 'yoda'?"),
        ("yodda@{1}", "no revision 'yodda@{1}'; did you mean 'yoda'?"),
        ("yoda/4", "no revision 'yoda/4'"),
        ("aaaaaa", "no revision 'aaaaaa'"),  # six digits are no prefix
        ("0000000", "no revision '0000000'"),
        ("AAAAAAA", "no revision 'AAAAAAA'"),
        ("never-run", "Bake 'never-run' in repo 'repo' means no version yet"),
        ("never-run~1", "Bake 'never-run' in repo 'repo' means no version yet"),
        ("yoda~3", "bbbbbbbbbbbb has only 2 ancestors, so ~3 means nothing"),
        ("v1~2", "abababababab has only 1 ancestor, so ~2 means nothing"),
        ("aaaaaaa~1", "aaaaaaaaaaaa has no ancestors, so ~1 means nothing"),
        ("yoda~999999999", "has only 2 ancestors"),
        ("main^3", "cccccccccccc has 2 parents, so ^3 means nothing"),
        ("yoda^2", "bbbbbbbbbbbb has one parent, so ^2 means nothing"),
        ("aaaaaaa^", "aaaaaaaaaaaa has no parents, so ^1 means nothing"),
        ("lost~1", "dddddddddddd came from eeeeeeeeeeee, which is not in repo 'repo'"),
        ("lost^", "dddddddddddd came from eeeeeeeeeeee, which is not in repo 'repo'"),
        ("yoda@{3}", "'yoda' in repo 'repo' has no 3rd earlier value: it moved 2 times"),
        ("HEAD@{2}", "'HEAD' in repo 'repo' has no 2nd earlier value: it moved once"),
        ("main@{1}", "'main' in repo 'repo' has no 1st earlier value: it never moved"),
        ("deadbeef@{1}", "was ffffffffffff, which repo 'repo' no longer has"),
    ],
)
def test_a_revision_that_means_nothing_is_not_found(text: str, message: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve(VIEW, text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "~1",
        "@{1}",
        "@",
        "yoda@",
        "yoda@{",
        "yoda@{-1}",
        "yoda@{x}",
        "yoda@{}",
        "yoda@{٣}",
        "yoda~-1",
        "yoda~x",
        "yoda~1x",
        "yoda^{}",
        "yoda~1@{1}",
        "yoda@{1}@{1}",
        "yoda~1234567890",
        "a/b/c",
        "/yoda",
        "yoda/",
        "../yoda",
        "..~1",
        "yoda\n",
        "yoda\x00",
        "yo da",
        "yoda:3",
        "-yoda",
    ],
)
def test_text_of_another_form_is_no_revision(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a revision"):
        resolve(VIEW, text)


def test_a_revision_of_more_than_1000_characters_is_refused_before_its_steps_are_taken() -> None:
    longest = "yoda" + "^0" * 498
    assert resolve(VIEW, longest) == NEW
    for text in (f"{longest}^", "yoda" + "^0" * 2_000_000, "yoda" + "~" * 2_000_000, "z" * 2_000_000):
        with pytest.raises(InvalidInputError, match="at most 1000 are allowed in a revision"):
            resolve(VIEW, text)


def test_an_ambiguous_prefix_names_the_candidates() -> None:
    with pytest.raises(InvalidInputError) as caught:
        resolve(VIEW, "abababa")
    assert "'abababa' is ambiguous in repo 'repo': it may be abababababab, abababab0000; add digits" in str(
        caught.value
    )
    long = [f"{'e' * 14}{digit:x}".ljust(64, "0") for digit in range(6)]
    view = RepoView("admin", "repo", {}, {}, {}, None, dict.fromkeys(long, ()), {}, {})
    with pytest.raises(InvalidInputError, match=r"it may be e{14}00{3}, e{14}10{3}, e{14}20{3}, e{14}30{3}, \.\.\.;"):
        resolve(view, "e" * 14)


def test_names_that_never_move_have_no_earlier_values() -> None:
    for text in ("v1@{1}", "yoda/3@{1}", "aaaaaaa@{1}"):
        with pytest.raises(InvalidInputError, match="never moves"):
            resolve(VIEW, text)


def test_head_may_name_no_branch_or_one_that_does_not_exist_yet() -> None:
    for head, message in ((None, "names no branch yet"), ("new", "the branch 'new', which has no version yet")):
        view = RepoView("admin", "repo", {}, {}, {}, head, {}, {}, {})
        with pytest.raises(NotFoundError, match=message):
            resolve(view, "HEAD~1")


def test_find_says_whether_the_name_is_known_at_all() -> None:
    assert find(VIEW, parse("unknown~1")) is None
    assert find(VIEW, parse("yoda~1")) == OLD


def test_a_model_is_the_checkpoint_that_the_commit_describes() -> None:
    assert model_of(VIEW, "v1") == model_of(VIEW, "yoda~1") == model_of(VIEW, OLD[:9]) == "admin/repo/yoda/3"
    assert model_of(VIEW, "v1~1") == "admin/other/root/3", "of another repo"
    with pytest.raises(NotFoundError, match="'repo/main' is commit cccccccccccc, whose weights are not here"):
        model_of(VIEW, "main")
    for name in ("yoda", "never-run", "yoda/3", "yoda/9", "unknown", "unknown~1"):
        assert model_of(VIEW, name) is None


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
STEPS = st.lists(st.tuples(st.sampled_from("~^"), st.integers(0, 999_999_999)), max_size=5)


@given(st.lists(NAMES, min_size=1, max_size=2), st.none() | st.integers(0, 99), STEPS)
def test_what_is_written_is_read(names: list[str], earlier: int | None, steps: list[tuple[str, int]]) -> None:
    name = "/".join(names)
    first = "" if earlier is None else f"@{{{earlier}}}"
    rest = "".join(f"{mark}{number}" for mark, number in steps)
    expected = [*([] if earlier is None else [Step("@", earlier)]), *(Step(*step) for step in steps)]
    assert parse(name + first + rest) == Revision(name, tuple(expected))
    assert split(name + first + rest) == (name, first + rest)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        revision = parse(text)
    except InvalidInputError:
        return
    assert text.startswith(revision.name)
