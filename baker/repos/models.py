"""What a model's name means to a user: one rule for configs, requests and downloads.

The rule, `meaning_of`, is pure: its callers hand in how to look names up. Configs and downloads search rows, the
gateway's registry searches memory, and each raises its own errors.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import NamedTuple

from baker.errors import ConfigError, InvalidInputError, NotFoundError
from baker.history import revisions
from baker.model_names import (
    MAX_MODEL_NAME,
    BaseModelNames,
    CheckpointRef,
    held_back_message,
    nearest,
    parse_model_name,
    shortened,
    split_strength,
)
from baker.names import MASTER_USER
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.status import JobState
from baker.storage.job_inputs import AwaitedBake
from baker.types import Checkpoint

Find = Callable[[str, str, str, int | None], Checkpoint | None]
"""find(owner, repo, bake, step): the checkpoint, if there is one; step None: the one that the bake's name means."""


AtRevision = Callable[[str, str, str], Checkpoint | None]
"""at_revision(owner, repo, revision): the checkpoint of a branch, a tag, an id's beginning, or any name with steps such
as `~1`; None if the repo has no such name. Raises: InvalidInputError, NotFoundError if the steps lead nowhere."""


class Lookup(NamedTuple):
    """Where `meaning_of` looks things up."""

    find: Find
    at_revision: AtRevision
    newest_first: Callable[[str, str, str], Sequence[Checkpoint]]
    """newest_first(owner, repo, bake): the bake's finished checkpoints."""
    is_replaced: Callable[[str, CheckpointRef | None], bool]
    """is_replaced(name, ref): whether the served base model replaces the model of this name, which is not here."""


class NotABake(Enum):
    """What a name means if it names no bake."""

    BASE = "base"
    """The served base model."""
    REPLACED = "replaced"
    """A model that is not here; the served base model replaces it."""
    UNKNOWN = "unknown"


class HeldBack(NamedTuple):
    """A bake with checkpoints, none of which its name means yet."""

    checkpoints: list[str]
    """Their names, newest first."""


class Meaning(NamedTuple):
    bare_name: str
    """The name without a strength."""
    strength: float | None
    """None: the text after the '@' is no strength (`model_names.STRENGTH_RULE`)."""
    model: Checkpoint | HeldBack | NotABake


class ParsedName(NamedTuple):
    """A name that was read as the name of a bake, a checkpoint or a revision."""

    ref: CheckpointRef | None
    """The name before the steps; None: it does not have the form of one."""
    steps: str
    """`~1`, `@{2}` and so on; empty for most names."""
    owner: str | None
    """Owner of the named bake; None if the caller may not name bakes of that user."""
    checkpoint: Checkpoint | None


def read_name(bare_name: str, caller: str, find: Find, at_revision: AtRevision) -> ParsedName:
    """Reads a name without a strength. Users may name their own bakes, the master key's user everybody's.

    A bake's name and its checkpoints' go before a branch's or a tag's.
    Raises: see `AtRevision`.
    """
    stem, steps = revisions.split(bare_name)
    ref = parse_model_name(stem)
    owner = None if ref is None else ref.owner(caller)
    if ref is None or owner is None:
        return ParsedName(ref, steps, None, None)
    checkpoint = None if steps else find(owner, ref.repo, ref.bake, ref.step)
    if checkpoint is None:
        name = ref.bake if ref.step is None else f"{ref.bake}/{ref.step}"
        checkpoint = at_revision(owner, ref.repo, name + steps)
    if checkpoint is None and ref.user is None and ref.step is not None:
        # Three names, the last all digits: perhaps `user/repo/<beginning of an id>`.
        user, repo, prefix = stem.split("/")
        if (other := CheckpointRef(user, repo, prefix, None).owner(caller)) is not None:
            checkpoint = at_revision(other, repo, prefix + steps)
    return ParsedName(ref, steps, owner, checkpoint)


def meaning_of(name: str, caller: str, base: BaseModelNames, lookup: Lookup) -> Meaning:
    """What `name` means to `caller`. The base model goes before a bake of that name, a bake before a replacement.

    Raises: see `AtRevision`.
    """
    if base.is_served(name):
        return Meaning(name, 1.0, NotABake.BASE)
    bare_name, strength = split_strength(name)
    ref, steps, owner, checkpoint = read_name(bare_name, caller, lookup.find, lookup.at_revision)
    if checkpoint is not None:
        return Meaning(bare_name, strength, checkpoint)
    if ref is not None and owner is not None and ref.step is None and not steps:
        unpublished = lookup.newest_first(owner, ref.repo, ref.bake)
        if unpublished:
            return Meaning(bare_name, strength, HeldBack([each.name for each in unpublished]))
    is_replaced = not steps and lookup.is_replaced(name, ref)
    return Meaning(bare_name, strength, NotABake.REPLACED if is_replaced else NotABake.UNKNOWN)


class ResolvedModel(NamedTuple):
    checkpoint: Checkpoint | None
    """None: the base model, unless `awaited` is set."""
    warning: str | None
    """Set if another model replaces the named one."""
    awaited: AwaitedBake | None = None
    """The bake that the name means, if it is queued or in training: its result is the model."""


def resolve(catalog: Catalog, user: str, name: str) -> ResolvedModel:
    """The model that a config of `user` means by `name`.

    A bake's own name means its result. While the bake is queued or in training, that is awaited. The name of one of its
    checkpoints means that checkpoint at any time.

    Raises: InvalidInputError, listing the models, if no model has the name; ConfigError if it is too long.
    """
    if len(name) > MAX_MODEL_NAME:
        raise ConfigError(f"Model {shortened(name)!r} has {len(name)} characters, at most {MAX_MODEL_NAME} are allowed")
    base = catalog.base
    if (awaited := _awaited(catalog, user, name)) is not None:
        return ResolvedModel(None, None, awaited)

    def is_replaced(name: str, ref: CheckpointRef | None) -> bool:
        return base.stands_in and (ref is None or (ref.step is None and catalog.store.repo(user, ref.repo) is None))

    find, at_revision = partial(bakes.find_checkpoint, catalog), partial(_at_revision, catalog)
    rows = Lookup(find, at_revision, catalog.store.checkpoints.of_bake, is_replaced)
    try:
        meaning = meaning_of(name, user, base, rows)
    except (InvalidInputError, NotFoundError) as error:
        raise InvalidInputError(f"Model {name!r} is not served here: {error.message}") from error
    match meaning.model:
        case NotABake.BASE:
            return ResolvedModel(None, None)
        case Checkpoint() as checkpoint:
            _check_is_usable(name, meaning.bare_name, is_served=checkpoint.is_served)
            return ResolvedModel(checkpoint, None)
        case HeldBack(checkpoints):
            raise InvalidInputError(held_back_message(name, checkpoints))
        case NotABake.REPLACED:
            return ResolvedModel(None, f"{name!r} is not on this machine: {base.served!r} stands in for it")
        case NotABake.UNKNOWN:
            raise InvalidInputError(_why_unknown(catalog, user, name))


def _awaited(catalog: Catalog, user: str, name: str) -> AwaitedBake | None:
    """The bake of this name, if it is queued or in training. Raises: see `_check_is_usable`."""
    if catalog.base.is_served(name):
        return None
    bare_name, _ = split_strength(name)
    ref = parse_model_name(bare_name)
    owner = None if ref is None else ref.owner(user)
    if ref is None or owner is None or ref.step is not None:
        return None
    job = catalog.store.jobs.latest_bake(owner, ref.repo, ref.bake)
    if job is None or not job.state.is_active:
        return None
    _check_is_usable(name, bare_name, is_served=job.inputs.student is None)
    return AwaitedBake(job.id, f"{owner}/{ref.repo}/{ref.bake}")


def _why_unknown(catalog: Catalog, user: str, name: str) -> str:
    """The error for a name that means no model: what the bake of that name lacks, or the names that are most similar
    to it."""
    ref = parse_model_name(name)
    owner = None if ref is None else ref.owner(user)
    if ref is not None and owner is not None and catalog.store.config("bakes", owner, ref.repo, ref.bake) is not None:
        job = catalog.store.jobs.latest_bake(owner, ref.repo, ref.bake)
        bake = f"{ref.repo}/{ref.bake}"
        if job is None:
            return f"Model {name!r} is not served here: the bake {bake!r} was never run. Run it first"
        if job.state is JobState.FAILED:
            return f"Model {name!r} is not served here: the bake {bake!r} failed ({job.error}). Run it again first"
        if job.state.is_active:
            return (
                f"Model {name!r} is not served here yet: name {bake!r}, without a step, to wait for that bake's result"
            )
    own = [each.name for each in catalog.store.checkpoints.of_user(user) if each.is_served]
    there = ", ".join(nearest(name, [catalog.base.served, *own], 5))
    return f"Model {name!r} is not served here; there is: {there}"


def _check_is_usable(name: str, bare_name: str, *, is_served: bool) -> None:
    """Raises: InvalidInputError if a config can't start from the checkpoint by this name."""
    if not is_served:
        raise InvalidInputError(
            f"Model {name!r} is an adapter of another model than the one that is served "
            "(model.student_model_path): it can be downloaded, but neither asked nor baked on"
        )
    if name != bare_name:
        raise InvalidInputError(
            f"Model {name!r} names a strength, which only a request to a model may: write {bare_name!r} here"
        )


def read_name_in_rows(catalog: Catalog, user: str, name: str) -> ParsedName:
    """`read_name`, searching the rows."""
    return read_name(name, user, partial(bakes.find_checkpoint, catalog), partial(_at_revision, catalog))


def _at_revision(catalog: Catalog, owner: str, repo: str, revision: str) -> Checkpoint | None:
    """See `AtRevision`."""
    model = revisions.model_of(repo_view(catalog, owner, repo), revision)
    ref = None if model is None else parse_model_name(model)
    return None if ref is None else bakes.find_checkpoint(catalog, owner, ref.repo, ref.bake, ref.step)


def checkpoint_named(catalog: Catalog, name: str) -> Checkpoint | None:
    """The checkpoint of this full name, `user/repo/bake/step`, of any user. Without a user, it is the master key's."""
    return read_name_in_rows(catalog, MASTER_USER, name).checkpoint
