"""What is wrong with a body that a pydantic model of vLLM's refuses: the place, and what it must be there.

pydantic reports a value that fits no member of a union once for each member, the first one first, so its first error is
often about a type that the client did not mean. Here the member counts whose `type` or `role` the value has, and among
several the one that fits best.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pydantic

TAGS = ("type", "role")
"""Fields that say which member of a union an object is meant to be."""
WANTED = {
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "iterable_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "dataclass_type": "an object",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""pydantic's type of an error -> what the value must be, in the words of JSON."""
UNKNOWN_TAG = ("literal_error", "enum")
LITERALS = re.compile(r"must be '[^']*'(?:(?:, | or )'[^']*')*")
"""pydantic's list of allowed texts."""


class _Member(str):
    """Name of a member of a union, which pydantic puts among the names of fields."""


Step = str | int | _Member


class _Fault(NamedTuple):
    """One of pydantic's errors."""

    steps: tuple[Step, ...]
    """Names and numbers that lead to the value in the body, and the members of unions on the way."""
    type: str
    text: str
    value: Any
    """What the body has at this place."""

    @property
    def path(self) -> tuple[str | int, ...]:
        return tuple(step for step in self.steps if not isinstance(step, _Member))


def mistake(error: pydantic.ValidationError, fields: Any, *, first_item: int = 0) -> tuple[str | None, str]:
    """The field that is wrong, and a message about the exact place.

    Args:
        fields: what was validated.
        first_item: number in the client's list of the first item in `fields`, if only a part of the list was validated.
    """
    entries = error.errors(include_url=False)
    if not entries[0]["loc"] or isinstance(entries[0]["loc"][0], int):  # vLLM checked a part of the body by itself
        return None, _text(entries[0])
    faults = _likeliest([_fault(entry, fields) for entry in entries], 0)
    path = faults[0].path
    if first_item and len(path) > 1 and isinstance(path[1], int):
        path = (path[0], path[1] + first_item, *path[2:])
    message = _joined(list(dict.fromkeys(fault.text for fault in faults)))
    value = faults[0].value
    shown = f", got {'null' if value is None else f'{value!r:.80}'}" if message.startswith("must be ") else ""
    joint = " " if message.startswith(("must ", "is ")) else ": "
    return (str(path[0]) if path else None), f"{_place(path)}{joint}{message}{shown}".removeprefix(joint)


def _joined(texts: list[str]) -> str:
    """One sentence of several about the same place."""
    if all(LITERALS.fullmatch(text) for text in texts):
        names = list(dict.fromkeys(name for text in texts for name in re.findall(r"'[^']*'", text)))
        return f"must be {' or '.join([', '.join(names[:-1]), names[-1]] if len(names) > 1 else names)}"
    return " or ".join([texts[0], *(text.removeprefix("must be ") for text in texts[1:])])


def _place(path: Sequence[str | int]) -> str:
    """A place in a body as people write it: `messages[0].content`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _fault(entry: Any, fields: Any) -> _Fault:
    steps: list[Step] = []
    value, location = fields, list(entry["loc"])
    for number, part in enumerate(location):
        is_missing = entry["type"] == "missing" and number == len(location) - 1
        if isinstance(part, int) and isinstance(value, list) and part < len(value):
            value = value[part]
            steps.append(part)
        elif isinstance(value, dict) and (part in value or is_missing):
            value = value.get(part)
            steps.append(str(part))
        elif not str(part).startswith(("union[", "function-wrap[")):  # these say nothing about which member it is
            steps.append(_Member(part))
    if entry["type"] == "union_tag_invalid":
        tag = str(entry["ctx"]["discriminator"]).strip("'")
        return _Fault((*steps, tag), "literal_error", f"must be {entry['ctx']['expected_tags']}", value.get(tag))
    return _Fault(tuple(steps), entry["type"], _text(entry), value)


def _text(entry: Any) -> str:
    kind, text = entry["type"], str(entry["msg"])
    if kind == "missing":
        return "is missing"
    if kind in WANTED:
        return f"must be {WANTED[kind]}"
    return text.removeprefix("Value error, ").replace("Input should be", "must be", 1)


def _likeliest(faults: list[_Fault], depth: int) -> list[_Fault]:
    """The faults, all at one place, that explain best what is wrong.

    Args:
        faults: of one value; their first `depth` steps are the same.
    """
    here = [fault for fault in faults if len(fault.steps) == depth]
    if here:
        return here
    step = faults[0].steps[depth]
    if not isinstance(step, _Member):  # several fields of an object are wrong
        first = min(faults, key=_rank).steps[depth]
        return _likeliest([fault for fault in faults if fault.steps[depth] == first], depth + 1)
    members: dict[Step, list[_Fault]] = {}
    for fault in faults:
        members.setdefault(fault.steps[depth], []).append(fault)
    if len(members) > 1:  # an item's id alone may refer to it, so everything without an id is nearly one of these
        members.pop(_Member("ItemReference"), None)
    meant = {name: group for name, group in members.items() if not _tag_faults(group, depth)}
    candidates = [_likeliest(group, depth + 1) for group in meant.values()]
    deepest = max((len(candidate[0].path) for candidate in candidates), default=0)
    if deepest <= len(_path_to(faults[0], depth)) and len(meant) < len(members):
        return _unknown_tag([_tag_faults(group, depth) for name, group in members.items() if name not in meant])
    best = min((candidate for candidate in candidates if len(candidate[0].path) == deepest), key=_rank_of_all)
    return [fault for candidate in candidates for fault in candidate if fault.path == best[0].path]


def _rank(fault: _Fault) -> int:
    """A wrong value says more than a tag of another member, and both say more than a missing field."""
    if fault.type == "missing":
        return 2
    return 1 if fault.type in UNKNOWN_TAG and fault.steps[-1] in TAGS else 0


def _rank_of_all(faults: list[_Fault]) -> int:
    return min(map(_rank, faults))


def _path_to(fault: _Fault, depth: int) -> tuple[str | int, ...]:
    return tuple(step for step in fault.steps[:depth] if not isinstance(step, _Member))


def _tag_faults(group: list[_Fault], depth: int) -> list[_Fault]:
    """Those that say that the object is not meant to be this member of the union."""
    return [
        fault
        for fault in group
        if fault.steps[depth + 1 :] in [(tag,) for tag in TAGS] and fault.type in (*UNKNOWN_TAG, "missing")
    ]


def _unknown_tag(members: list[list[_Fault]]) -> list[_Fault]:
    """What to say about an object that is none of the members: its `type` is unknown, else its `role`."""
    of_known_type = [group for group in members if all(fault.steps[-1] != "type" for fault in group)]
    faults = [fault for group in of_known_type or members for fault in group]
    for tag in TAGS:
        unknown = [fault for fault in faults if fault.steps[-1] == tag and fault.type in UNKNOWN_TAG]
        if unknown:
            return unknown
    names = sorted({str(fault.steps[-1]) for group in members for fault in group if fault.type == "missing"})
    return [_Fault(faults[0].steps[:-1], "missing", f"must have a {' or a '.join(names)}", None)]
