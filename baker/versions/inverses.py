"""Gives things the values of before: each kind of change that an operation can have.

Functions over the catalog, to be called in a transaction; they block (see `storage/one_thread.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import ConflictError
from baker.history.commit import canonical
from baker.history.operation_table import Change, ChangeKind
from baker.history.probe_table import Probe
from baker.history.ref_table import HEAD, Ref
from baker.repos import bakes, pointers, prompts, targets
from baker.repos.catalog import Catalog, plain
from baker.repos.pointers import Pointer
from baker.repos.recycle_bin import STAGES
from baker.types import Prompt
from baker.versions import gc

MOST_SHOWN = 60
"""Characters of a value in a message."""


class Place(NamedTuple):
    """What is changed, and by which operation."""

    catalog: Catalog
    user: str
    repo: str
    name: str
    restores: int
    """Number of the operation whose deletions come back from the bin."""
    operation: int
    """Number of the operation that takes what goes to the bin."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.user, self.repo, self.name


class Kind(NamedTuple):
    read: Callable[[Place], Any]
    """The present value as JSON."""
    write: Callable[[Place, Any], None]
    """Raises: ConflictError."""
    what: str
    """The thing, in messages."""


ORDER: tuple[ChangeKind, ...] = (
    "prompt",
    "template",
    "target",
    "probe",
    "commit",
    "bake-config",
    "bake",
    "branch",
    "tag",
    "remote",
    "head",
)
"""What comes back later may need what comes back earlier. What goes, goes in the other order."""


def apply(catalog: Catalog, user: str, repo: str, changes: Sequence[Change], *, restores: int, operation: int) -> None:
    """Change each thing from `before` to `after`.

    Raises: ConflictError if a thing does not have the value `before`, a job is active on it, or something is gone.
    """
    in_order = sorted(changes, key=lambda change: ORDER.index(change.kind))
    for change in in_order:
        kind, place = KINDS[change.kind], Place(catalog, user, repo, change.name, restores, operation)
        present = kind.read(place)
        has_come_again = change.kind == "commit" and change.before is None  # sent by another server since
        if not has_come_again and not _same(change.kind, present, change.before):
            raise ConflictError(
                f"{kind.what} {change.name!r} is {_shown(present)} now, and was {_shown(change.before)}: "
                "undo what changed it since, or change it by hand"
            )
    going = [change for change in reversed(in_order) if change.after is None]
    for change in [*going, *(change for change in in_order if change.after is not None)]:
        KINDS[change.kind].write(Place(catalog, user, repo, change.name, restores, operation), change.after)


def _same(kind: ChangeKind, one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    match kind:
        case "bake":
            return pointers.same(*(msgspec.convert(value, Pointer) for value in (one, other)))
        case "target" | "bake-config":  # rows of older versions lack newer fields
            shape: type[msgspec.Struct] = TargetConfig if kind == "target" else BakeConfig
            return bool(msgspec.convert(one, shape) == msgspec.convert(other, shape))
        case "commit":  # its id is its name; notes may change
            return True
        case "branch" | "tag" | "remote" | "head":
            return bool(one["target"] == other["target"])
        case _:
            return canonical(one) == canonical(other)


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, dict):
        value = value.get("step") or value.get("target") or canonical(value).decode()
    text = str(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


# Prompts and templates


def _write_prompt(place: Place, value: Any) -> None:
    if value is None:
        prompts.check_may_go(place.catalog, *place.key)
        place.catalog.store.remove("prompts", *place.key)
    else:
        place.catalog.store.put_prompt(*place.key, msgspec.convert(value, Prompt))


def _write_template(place: Place, value: Any) -> None:
    if value is None:
        place.catalog.store.remove("templates", *place.key)
    else:
        place.catalog.store.put_template(*place.key, value)


# Targets and bakes: a config, and the jobs that ran with it


def _write_target(place: Place, value: Any) -> None:
    targets.check_may_go(place.catalog, *place.key)
    if value is None:
        targets.take_away(place.catalog, *place.key, place.operation)
        return
    if targets.has_result(place.catalog, *place.key):
        _set_aside(place, "target", msgspec.convert(value, TargetConfig))
    place.catalog.store.put_config("targets", *place.key, value)
    place.catalog.store.bin.restore(place.restores)


def _write_bake(place: Place, value: Any) -> None:
    catalog = place.catalog
    if value is None:
        bakes.check_may_go(catalog, *place.key)
        if (meant := pointers.pointer(catalog, *place.key)) is not None:
            raise ConflictError(f"'{place.repo}/{place.name}' means checkpoint {meant.step}: delete the bake instead")
        bakes.take_away(catalog, *place.key, place.operation)
        return
    bakes.check_is_idle(catalog, *place.key)
    if (ref := catalog.history.refs.find(*place.key)) is not None:
        raise ConflictError(f"the {ref.kind} {ref.name!r} has its name now")
    if bakes.has_result(catalog, *place.key):
        _set_aside(place, "bake-config", msgspec.convert(value, BakeConfig))
    catalog.store.put_config("bakes", *place.key, value)
    catalog.store.bin.restore(place.restores)


def _set_aside(place: Place, kind: ChangeKind, config: TargetConfig | BakeConfig) -> None:
    """Take jobs that ran with another config to the bin: their output is not that of `config`."""
    store = place.catalog.store
    jobs = [store.jobs.find(number) for number in store.jobs.ids(*place.key, STAGES[kind])]
    store.bin.put([job.id for job in jobs if job is not None and job.config != config], place.operation)


# Probes


def _read_probe(place: Place) -> Any:
    probe = place.catalog.history.probes.find(*place.key)
    return None if probe is None else probe.conversations


def _write_probe(place: Place, value: Any) -> None:
    if value is None:
        place.catalog.history.probes.remove(*place.key)
    else:
        place.catalog.history.probes.put(place.user, place.repo, Probe(place.name, value))


# Names


def _read_pointer(place: Place) -> Any:
    return plain(pointers.pointer(place.catalog, *place.key))


def _write_pointer(place: Place, value: Any) -> None:
    if place.catalog.store.config("bakes", *place.key) is None:
        return  # the bake went, and its name with it
    bakes.check_is_idle(place.catalog, *place.key)
    pointers.restore(place.catalog, *place.key, None if value is None else msgspec.convert(value, Pointer))


def _read_ref(place: Place) -> Any:
    return plain(place.catalog.history.refs.find(*place.key))


def _write_ref(place: Place, value: Any) -> None:
    refs = place.catalog.history.refs
    if value is None:
        refs.remove(*place.key)
        return
    ref = msgspec.convert(value, Ref)
    if place.name != HEAD and place.catalog.history.commits.find(place.user, place.repo, ref.target) is None:
        raise ConflictError(f"{place.name!r} can't name {ref.target[:12]} again: that version was removed")
    if place.name != HEAD and place.catalog.store.config("bakes", *place.key) is not None:
        raise ConflictError(f"a bake has the name {place.name!r} now")
    refs.put(place.user, place.repo, ref)


# Commits that gc took away


def _read_commit(place: Place) -> Any:
    return gc.described(place.catalog, *place.key)


def _write_commit(place: Place, value: Any) -> None:
    catalog = place.catalog
    if value is None:
        gc.take_away_again(catalog, *place.key, place.operation)
        return
    if _read_commit(place) is not None:
        return
    gc.bring_back(catalog, place.user, place.repo, value)
    catalog.store.bin.restore(place.restores)


REF = Kind(_read_ref, _write_ref, "the ref")
KINDS: dict[ChangeKind, Kind] = {
    "prompt": Kind(lambda place: plain(place.catalog.store.prompt(*place.key)), _write_prompt, "prompt"),
    "template": Kind(lambda place: place.catalog.store.template(*place.key), _write_template, "template"),
    "target": Kind(lambda place: place.catalog.store.config("targets", *place.key), _write_target, "target"),
    "bake-config": Kind(lambda place: place.catalog.store.config("bakes", *place.key), _write_bake, "bake"),
    "probe": Kind(_read_probe, _write_probe, "probe"),
    "bake": Kind(_read_pointer, _write_pointer, "the name"),
    "commit": Kind(_read_commit, _write_commit, "version"),
    "branch": REF,
    "tag": REF,
    "remote": REF,
    "head": REF,
}
