"""What a revision means: text that names one commit of a repo. One set of rules for requests, configs and routes. Pure.

    yoda                the commit that a bake, a branch or a tag means now; a bake goes before a branch
    yoda/12             a checkpoint's
    9f3c1e2             the one whose id begins so; at least 7 hexadecimal digits
    HEAD                the tip of the repo's current branch
    origin/yoda         what a name meant on another server when that was last asked

Each may be followed by steps, which are taken from left to right:

    @{2}                what the name meant before its last two moves; only right after a name or HEAD
    ~2                  the first parent's first parent; `~` is `~1`
    ^2                  the second parent; `^` is `^1`
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from baker.errors import InvalidInputError, NotFoundError
from baker.history.graph import first_parents
from baker.history.ref_table import HEAD, Ref
from baker.model_names import shortened
from baker.names import is_name
from baker.suggestions import did_you_mean

SHORTEST_PREFIX = 7
SHORT_ID = 12
"""Hexadecimal digits of an id that are shown to people."""
LONGEST = 1000
"""Characters of a revision. Its steps are taken one by one, in the process that answers chats too."""
MOST_CANDIDATES = 4
"""Commits that the error about an ambiguous prefix names."""

_STEP = re.compile(r"~(\d{0,9})|\^(\d{0,9})|@\{(\d{1,9})\}", re.ASCII)
_PREFIX = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}\Z")
_FIRST_MARK = re.compile(r"[~^]|@\{")
RULE = (
    "a revision is a bake's, branch's or tag's name, <bake>/<step>, HEAD, or at least 7 hexadecimal digits of an id; "
    "`@{n}`, `~n` and `^n` may follow"
)


class Step(NamedTuple):
    mark: str
    """`~`, `^` or `@`."""
    number: int


class Revision(msgspec.Struct, frozen=True):
    name: str
    """The text before the steps."""
    steps: tuple[Step, ...] = ()


class RepoView(msgspec.Struct, frozen=True):
    """The names and commits of one repo at one moment."""

    user: str
    repo: str
    bakes: Mapping[str, str | None]
    """Name -> id of the commit that it means; None while it means none."""
    checkpoints: Mapping[str, str]
    """`<bake>/<step>` -> id of its commit."""
    refs: Mapping[str, Ref]
    """Branches, tags and remote-tracking names."""
    head: str | None
    """Name of the current branch, which may not exist yet."""
    parents: Mapping[str, Sequence[str]]
    """Id of each commit -> ids of its parents, in the order in which they were added: parents first."""
    models: Mapping[str, str]
    """Id of a commit -> full name of its checkpoint, for those whose weights are here."""
    reflogs: Mapping[str, Sequence[str]]
    """Name -> ids of the commits that it meant, latest first, the present one included."""


def split(text: str) -> tuple[str, str]:
    """The name that a revision begins with, and the text of the steps after it."""
    mark = _FIRST_MARK.search(text)
    return (text, "") if mark is None else (text[: mark.start()], text[mark.start() :])


def is_prefix(text: str) -> bool:
    """Whether the text may be the beginning of an id."""
    return _PREFIX.match(text) is not None


def parse(text: str) -> Revision:
    """Raises: InvalidInputError if the text has not the form of a revision."""
    if len(text) > LONGEST:
        raise InvalidInputError(
            f"{shortened(text)!r} has {len(text)} characters, at most {LONGEST} are allowed in a revision: ~n is n ~"
        )
    name, rest = split(text)
    steps: list[Step] = []
    position = 0
    while position < len(rest):
        found = _STEP.match(rest, position)
        if found is None:
            raise InvalidInputError(f"{shortened(text)!r} is not a revision: {RULE}")
        mark, digits = rest[position], found[found.lastindex or 1]
        if mark == "@" and steps:
            raise InvalidInputError(f"{shortened(text)!r} is not a revision: @{{n}} may only follow a name")
        steps.append(Step(mark, int(digits or 1)))
        position = found.end()
    if not name or not all(map(is_name, name.split("/"))) or name.count("/") > 1:
        raise InvalidInputError(f"{shortened(text)!r} is not a revision: {RULE}")
    return Revision(name, tuple(steps))


def resolve(view: RepoView, text: str) -> str:
    """The id of the commit that the revision means.

    Raises: InvalidInputError if it is malformed or ambiguous; NotFoundError.
    """
    revision = parse(text)
    commit = find(view, revision)
    if commit is None:
        names = [*view.bakes, *(ref for ref in view.refs if ref not in view.bakes), HEAD]
        hint = did_you_mean(revision.name, names)
        raise NotFoundError(f"Repo {view.repo!r} has no revision {shortened(text)!r}{hint}")
    return commit


def find(view: RepoView, revision: Revision) -> str | None:
    """The id of the commit; None if nothing has the revision's name.

    Raises: InvalidInputError if the name is an ambiguous prefix, or has no earlier values; NotFoundError if the name
        means no commit now, or a step leads to none.
    """
    steps = list(revision.steps)
    if steps and steps[0].mark == "@":
        commit = _earlier(view, revision.name, steps.pop(0).number)
    else:
        commit = _named(view, revision.name)
    if commit is None:
        return None
    for step in steps:
        commit = _ancestor(view, commit, step.number) if step.mark == "~" else _parent(view, commit, step.number)
    return commit


def model_of(view: RepoView, text: str) -> str | None:
    """The full name of the checkpoint that the revision means; None if nothing has the revision's name, or it is the
    plain name of a bake or checkpoint: these have rules of their own.

    Raises: InvalidInputError if it is malformed or ambiguous; NotFoundError if it means no commit, or one without
        weights.
    """
    revision = parse(text)
    if not revision.steps and (revision.name in view.bakes or "/" in revision.name):
        return None
    commit = find(view, revision)
    if commit is not None and commit not in view.models:
        raise NotFoundError(f"'{view.repo}/{text}' is commit {commit[:SHORT_ID]}, whose weights are not here")
    return None if commit is None else view.models[commit]


def _named(view: RepoView, name: str) -> str | None:
    if name in view.bakes:
        commit = view.bakes[name]
        if commit is None:
            raise NotFoundError(f"Bake {name!r} in repo {view.repo!r} means no version yet")
        return commit
    if name == HEAD:
        return _head(view)
    if name in view.checkpoints:
        return view.checkpoints[name]
    if name in view.refs:
        return view.refs[name].target
    return _by_prefix(view, name)


def _head(view: RepoView) -> str:
    if view.head is None:
        raise NotFoundError(f"HEAD of repo {view.repo!r} names no branch yet: switch to one")
    if view.head in view.refs:
        return view.refs[view.head].target
    raise NotFoundError(f"HEAD of repo {view.repo!r} is the branch {view.head!r}, which has no version yet")


def _by_prefix(view: RepoView, prefix: str) -> str | None:
    if not is_prefix(prefix):
        return None
    if prefix in view.parents:
        return prefix
    candidates = list(islice((commit for commit in view.parents if commit.startswith(prefix)), MOST_CANDIDATES + 1))
    if len(candidates) > 1:
        shown = ", ".join(commit[: max(SHORT_ID, len(prefix) + 4)] for commit in candidates[:MOST_CANDIDATES])
        more = ", ..." if len(candidates) > MOST_CANDIDATES else ""
        raise InvalidInputError(f"{prefix!r} is ambiguous in repo {view.repo!r}: it may be {shown}{more}; add digits")
    return next(iter(candidates), None)


def _earlier(view: RepoView, name: str, number: int) -> str | None:
    values = view.reflogs.get(name)
    if number == 0 or values is None:
        commit = _named(view, name)
        if number == 0 or commit is None:
            return commit
        raise InvalidInputError(f"{name!r} never moves, so {name}@{{{number}}} means nothing: use ~ or ^")
    if number >= len(values):
        moves = len(values) - 1
        has = "never moved" if moves < 1 else "moved once" if moves == 1 else f"moved {moves} times"
        raise NotFoundError(f"{name!r} in repo {view.repo!r} has no {_nth(number)} earlier value: it {has}")
    if values[number] not in view.parents:
        raise NotFoundError(
            f"{name}@{{{number}}} was {values[number][:SHORT_ID]}, which repo {view.repo!r} no longer has"
        )
    return values[number]


def _ancestor(view: RepoView, commit: str, count: int) -> str:
    chain = list(islice(first_parents(view.parents, commit), count + 1))
    if len(chain) <= count:
        _check_parents_are_here(view, chain[-1])
        number = len(chain) - 1
        has = "no ancestors" if number == 0 else "only 1 ancestor" if number == 1 else f"only {number} ancestors"
        raise NotFoundError(f"{commit[:SHORT_ID]} has {has}, so ~{count} means nothing: the base model is no version")
    return chain[count]


def _parent(view: RepoView, commit: str, number: int) -> str:
    if number == 0:
        return commit
    of_commit = view.parents[commit]
    if number > len(of_commit):
        has = {0: "no parents", 1: "one parent"}.get(len(of_commit), f"{len(of_commit)} parents")
        raise NotFoundError(f"{commit[:SHORT_ID]} has {has}, so ^{number} means nothing")
    if of_commit[number - 1] not in view.parents:
        _check_parents_are_here(view, commit)
    return of_commit[number - 1]


def _check_parents_are_here(view: RepoView, commit: str) -> None:
    """Raises: NotFoundError if a parent of the commit is unknown in the repo."""
    for parent in view.parents[commit]:
        if parent not in view.parents:
            raise NotFoundError(
                f"{commit[:SHORT_ID]} came from {parent[:SHORT_ID]}, which is not in repo {view.repo!r}"
            )


def _nth(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
