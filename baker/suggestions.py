"""Hints in errors: the known name that is most similar to an unknown one."""

from collections.abc import Iterable, Mapping, Sequence

from baker.model_names import nearest

SIMILAR = 0.6
"""Lowest similarity (difflib's ratio) of a name worth suggesting: difflib's own default."""
MAX_PATHS = 3
"""Paths that one hint names: several levels have a `type` or a `temperature`."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to `name`, whatever its case; None if none is similar.

    The cost is bounded, as `nearest` says.
    """
    by_plain = {_plain(other): other for other in known}
    matches = nearest(_plain(name), by_plain, 1, cutoff=SIMILAR)
    return by_plain[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that suggests a known name; empty if none is similar."""
    similar = closest(name, known)
    return "" if similar is None else f"; did you mean {similar!r}?"


def field_hint(name: str, settings: Sequence[str], place: str, other_names: Mapping[str, str]) -> str:
    """What a client may have meant by an unknown field, at any level; empty if nothing is similar.

    Args:
        settings: the paths of all known fields, such as `optimizer.betas`.
        place: path of the object that has the field, such as `datasets[]`; "" is the whole.
        other_names: name that other libraries use -> path of the field that it means.
    """
    by_name: dict[str, list[str]] = {}
    for path in settings:
        by_name.setdefault(path.rpartition(".")[2], []).append(path)
    here = [path for path in settings if path.rpartition(".")[0] == place]
    meant = _meant(name, here, by_name, other_names)
    return f"; did you mean {' or '.join(f'`{path}`' for path in meant[:MAX_PATHS])}?" if meant else ""


def _meant(
    name: str, here: Sequence[str], by_name: Mapping[str, list[str]], other_names: Mapping[str, str]
) -> Sequence[str]:
    plain = _plain(name)
    if plain in other_names:
        return [other_names[plain]]
    if plain in by_name:
        return by_name[plain]
    similar = closest(name, (path.rpartition(".")[2] for path in here))
    if similar is not None:
        return [path for path in here if path.rpartition(".")[2] == similar]
    return by_name.get(closest(name, by_name) or "", [])


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")
