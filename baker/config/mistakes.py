"""Finds every mistake in a client's JSON at once, each with the path of its field and, if possible, a hint.

msgspec decides what is right, but stops at the first mistake. So a value that it refuses is walked here, part by part,
along the types of its struct. The checks of a struct itself (`__post_init__`) report all that they find with `check`.
"""

import re
import reprlib
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import msgspec

from baker.errors import ConfigError
from baker.suggestions import did_you_mean, field_hint

MAX_LISTED = 20
"""Mistakes that one error lists; a body with more gets the rest after these are corrected."""
MISSING = "this required field is missing"
CHUNK = 1000
"""Items of a list that msgspec checks at once: each wrong one costs a copy of the items after it."""
MAX_KEY = 64
"""Characters of a client's field name that an error repeats."""


class Mistake(NamedTuple):
    path: tuple[str, ...]
    """Fields and indices, the outermost first."""
    text: str
    """What is wrong, with the value; what is allowed."""

    @property
    def line(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}" if self.path else self.text


class FieldError(ValueError):
    """Mistakes that a struct's own checks found. Their paths begin at the struct."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(mistake.line for mistake in mistakes))
        self.mistakes = mistakes


def check(*mistakes: Mistake | None) -> None:
    """Raises: FieldError with the mistakes among the arguments."""
    real = [mistake for mistake in mistakes if mistake is not None]
    if real:
        raise FieldError(real)


def refusal(field: str, checked: Callable[[], object]) -> Mistake | None:
    """The ValueError that `checked` raises, as a mistake of that field."""
    try:
        checked()
    except ValueError as error:
        return Mistake((field,), str(error))
    return None


def mistakes_of(error: ConfigError, field: str) -> list[Mistake]:
    """The mistakes that an error lists, with paths from the body; one that lists none is about `field`."""
    if error.detail is None:
        return [Mistake((field,), error.message)]
    return [Mistake(tuple(map(str, entry["loc"][1:])), entry["msg"]) for entry in error.detail]


def mistakes_error(mistakes: list[Mistake], root: tuple[str, ...] = ("body",)) -> ConfigError:
    """The mistakes as one error. Args: root: path within the request to where the mistakes' paths begin."""
    placed = [mistake._replace(path=(*root, *mistake.path)) for mistake in mistakes[:MAX_LISTED]]
    lines = [mistake._replace(path=mistake.path[1:]).line for mistake in placed]
    if len(mistakes) > MAX_LISTED:
        lines.append(f"and there are more mistakes: these are the first {MAX_LISTED}")
    return ConfigError(
        "; ".join(lines),
        detail=[{"loc": list(mistake.path), "msg": mistake.text, "type": "value_error"} for mistake in placed],
    )


def find_mistakes(
    value: Any, kind: Any, *, strict: bool = True, parts: Mapping[str, Any] | None = None
) -> list[Mistake]:
    """The first `MAX_LISTED` + 1 mistakes of a JSON value that should be a `kind`; empty if it is one.

    Args:
        strict: as in `msgspec.convert`.
        parts: field -> struct that is stored there as a plain object; its fields are suggested too.
    """
    finder = _Finder(strict, kind, parts or {})
    finder.walk(value, kind, ())
    return finder.mistakes[: MAX_LISTED + 1]


def shown(value: Any) -> str:
    """A client's value for a message: short, whatever its size and depth."""
    return _REPR.repr(value)


class Complaint(NamedTuple):
    """The parts of one of msgspec's messages."""

    text: str
    path: list[str]
    """Fields and indices, the outermost first; keys of maps are missing."""
    lacks_value: bool
    """Set if the text says what was expected but not the value."""


def parse_complaint(error: msgspec.ValidationError) -> Complaint:
    """The only code that reads msgspec's wording, "Expected `int`, got `str` - at `$.model.rank`": its errors have no
    codes and no path."""
    match = re.fullmatch(r"(?s)(.*) - at `\$(.*)`", str(error))
    text, path = (str(error), "") if match is None else match.groups()
    fields = [part for part in path.replace("[", ".").replace("]", "").split(".") if part]
    return Complaint(text, fields, text.startswith("Expected `"))


def with_value(complaint: str, value: Any) -> str:
    """msgspec's message with the refused value added; msgspec itself names only types."""
    return f"{complaint}{':' if ', got ' in complaint else ', got'} {shown(value)}"


class _Repr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict = 3, 4, 4
        self.maxstring = self.maxother = self.maxlong = 80

    def repr(self, x: Any) -> str:
        text = super().repr(x)
        return text if len(text) <= 120 else f"{text[:120]}..."


_REPR = _Repr()


class _Finder:
    """Walks a value along its type. Stops soon after `MAX_LISTED` mistakes, so that hostile bodies cost little."""

    def __init__(self, strict: bool, root: Any, parts: Mapping[str, Any]) -> None:
        self.mistakes: list[Mistake] = []
        self._strict = strict
        self._root = root
        self._parts = parts
        self._listed: set[str] = set()
        """Objects whose fields an error has listed."""

    @property
    def _is_full(self) -> bool:
        return len(self.mistakes) > MAX_LISTED

    def walk(self, value: Any, kind: Any, path: tuple[str, ...]) -> None:
        """Add the value's mistakes."""
        error = self._error_of(value, kind)
        if error is None:
            return
        before = len(self.mistakes)
        self._walk_parts(value, kind, path)
        if len(self.mistakes) == before:
            complaint = parse_complaint(error)
            self._add(path, with_value(complaint.text, value) if complaint.lacks_value else complaint.text)

    def _walk_parts(self, value: Any, kind: Any, path: tuple[str, ...]) -> None:
        members = _members(kind)
        if isinstance(value, dict):
            if structs := [member for member in members if _is_struct(member)]:
                self._walk_struct(value, structs, path)
            for member in members:
                if get_origin(member) is dict:
                    for key, inner in value.items():
                        if self._is_full:
                            return
                        self.walk(inner, get_args(member)[1], (*path, key[:MAX_KEY]))
        elif isinstance(value, list):
            for member in members:
                items = get_args(member)
                if get_origin(member) is list:
                    self._walk_list(value, items[0], path)
                elif get_origin(member) is tuple and len(items) == len(value):
                    for index, (inner, item) in enumerate(zip(value, items, strict=True)):
                        self.walk(inner, item, (*path, str(index)))

    def _walk_list(self, value: list[Any], item: Any, path: tuple[str, ...]) -> None:
        """msgspec says which item is wrong, so that those before it need no walk."""
        start = 0
        while start < len(value) and not self._is_full:
            chunk = value[start : start + CHUNK]
            error = self._error_of(chunk, list[item])
            if error is None:
                start += len(chunk)
                continue
            start += int(parse_complaint(error).path[0])
            self.walk(value[start], item, (*path, str(start)))
            start += 1

    def _walk_struct(self, value: dict[str, Any], kinds: list[type[msgspec.Struct]], path: tuple[str, ...]) -> None:
        tag = kinds[0].__struct_config__.tag_field
        # The kinds of a union have the same fields, so any of them shows the other mistakes of an unknown kind.
        kind = kinds[0] if tag is None else next((each for each in kinds if _tag(each) == value.get(tag)), None)
        if kind is None:
            kind = kinds[0]
            self._add((*path, str(tag)), _tag_complaint(value, str(tag), [_tag(each) for each in kinds]))
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        valid = {} if tag is None else {tag: _tag(kind)}
        for key, inner in value.items():
            if self._is_full:
                return
            if key in fields:
                self.walk(inner, fields[key].type, (*path, key))
                if self._error_of(inner, fields[key].type) is None:
                    valid[key] = inner
            elif key != tag and kind.__struct_config__.forbid_unknown_fields:
                self._add((*path, key[:MAX_KEY]), f"unknown field `{key[:MAX_KEY]}`{self._hint(key, path)}")
        for name, field in fields.items():
            if field.required and name not in value:
                self._add((*path, name), MISSING)
        # What is missing was added above, and what is wrong is left out: only the struct's own checks can fail.
        error = self._error_of(valid, kind)
        cause = None if error is None else error.__cause__
        if isinstance(cause, FieldError):
            self.mistakes += [mistake._replace(path=(*path, *mistake.path)) for mistake in cause.mistakes]
        elif cause is not None:
            self._add(path, str(cause))

    def _hint(self, key: str, path: tuple[str, ...]) -> str:
        settings = [*_settings(self._root)]
        for part, kind in self._parts.items():
            settings += [f"{part}.{setting}" for setting in _settings(kind)]
        place = re.sub(r"\.\d+(?=\.|$)", "[]", ".".join(path))
        hint = field_hint(key, settings, place, self._other_names())
        if hint or place in self._listed:
            return hint
        self._listed.add(place)
        fields = [setting.rpartition(".")[2] for setting in settings if setting.rpartition(".")[0] == place]
        return f"; the fields here are {', '.join(fields)}" if fields else ""

    def _other_names(self) -> dict[str, str]:
        names = dict(getattr(self._root, "other_names", {}))
        for part, kind in self._parts.items():
            names |= {name: f"{part}.{path}" for name, path in getattr(kind, "other_names", {}).items()}
        return names

    def _error_of(self, value: Any, kind: Any) -> msgspec.ValidationError | None:
        try:
            msgspec.convert(value, kind, strict=self._strict)
        except msgspec.ValidationError as error:
            return error
        return None

    def _add(self, path: tuple[str, ...], text: str) -> None:
        self.mistakes.append(Mistake(path, text))


def _members(kind: Any) -> tuple[Any, ...]:
    """The types that a union allows, or the one type itself; without annotations."""
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(member for inner in get_args(kind) for member in _members(inner))
    return (kind,)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _tag(kind: type[msgspec.Struct]) -> Any:
    return kind.__struct_config__.tag


def _tag_complaint(value: dict[str, Any], tag: str, allowed: list[str]) -> str:
    choices = f"allowed: {', '.join(allowed)}"
    if tag not in value:
        return f"{MISSING}; {choices}"
    given = value[tag]
    return f"{shown(given)} is not supported; {choices}{did_you_mean(given, allowed) if isinstance(given, str) else ''}"


@cache
def _settings(kind: Any) -> tuple[str, ...]:
    """The paths of all fields of a struct, such as `optimizer.betas` and `datasets[].target`."""
    paths: dict[str, None] = {}
    for member in _members(kind):
        if get_origin(member) is list:
            paths |= dict.fromkeys(f"[].{path}" for path in _settings(get_args(member)[0]))
        elif _is_struct(member):
            if member.__struct_config__.tag_field is not None:
                paths[member.__struct_config__.tag_field] = None
            for field in msgspec.structs.fields(member):
                paths[field.encode_name] = None
                for inner in _settings(field.type):
                    paths[f"{field.encode_name}{'' if inner.startswith('[]') else '.'}{inner}"] = None
    return tuple(paths)
