"""Text from the server, made safe for a terminal, and numbers and times for people."""

import json
import time
import unicodedata
from typing import Any

KEPT = frozenset("\n\u200c\u200d")
"""Kept although Python doesn't call them printable: line ends, and the joiners of emojis and of Persian."""


def harmless(text: str) -> str:
    """The text with every character that could control a terminal written as an escape: `\\x1b`, `\\u202e`.

    These are C0 and C1 control characters, the marks that reorder text, and lone surrogates. Tabs become spaces.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in KEPT else _replaced(character)
        for character in text.replace("\r\n", "\n").expandtabs(4)
    )


def one_line(text: str, most: int | None = None) -> str:
    """The text on one line, cut to `most` characters."""
    line = " ".join(harmless(text).split())
    return line if most is None or len(line) <= most else f"{line[: max(0, most - 1)]}…"


def _replaced(character: str) -> str:
    if unicodedata.category(character) == "Zs":  # a wide or unbreakable space
        return " "
    return character.encode("unicode_escape").decode("ascii")


def as_json(document: Any) -> str:
    """The document as JSON that is safe to print: what `harmless` escapes is written as `\\uXXXX`."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    return "".join(
        character if character.isprintable() or character in KEPT else json.dumps(character)[1:-1] for character in text
    )


def seconds(value: float) -> str:
    """`8 s`, `2 min 5 s`, `1 h 3 min`."""
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def age(created: float, now: float | None = None) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `2 d ago`, and the date from 30 days on."""
    passed = max(0.0, (time.time() if now is None else now) - created)
    if passed < 60:
        return "just now"
    if passed < 3600:
        return f"{passed // 60:.0f} min ago"
    if passed < 86400:
        return f"{passed // 3600:.0f} h ago"
    if passed < 30 * 86400:
        return f"{passed // 86400:.0f} d ago"
    return time.strftime("%Y-%m-%d", time.localtime(created))


def moment(created: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created))


def count(number: int, noun: str) -> str:
    """`1 bake`, `2 bakes`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number: float) -> str:
    """Bytes: `512 B`, `4.7 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
