"""Texts that ask a model for questions: legal paths and contents, and how the variables are filled in.

A template belongs to a repo and lives in the store under its bare name. Its path is only how clients spell it, so
nothing that a client sends can lead to another place.
"""

import hashlib
import re
from collections.abc import Collection
from string import Template

from baker.errors import ConfigError
from baker.names import check_name

FOLDER = "templates"
MAX_BYTES = 1 << 20
VARIABLES = ("numq", "prompt_u")
"""How many questions the model is asked for, and the teacher prompt as plain text."""


def template_name(path: str) -> str:
    """The bare name at the end of `path`, whatever folders stand before it. Raises: ConfigError."""
    return check_name(re.split(r"[/\\]", path)[-1], "template")


def template_path(name: str) -> str:
    """The one spelling of a template's path."""
    return f"{FOLDER}/{name}"


def name_for(content: str) -> str:
    """A name for a text that came without one: the same text gets the same name."""
    return f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.txt"


def check_content(content: str, required: Collection[str] = ()) -> None:
    """Raises: ConfigError if the text is blank, too long, or lacks one of the `required` variables."""
    size = len(content.encode())
    if size > MAX_BYTES:
        raise ConfigError(f"the template has {size} bytes, at most {MAX_BYTES} are allowed")
    if not content.strip():
        raise ConfigError("the template is blank: write what the model shall be asked")
    missing = set(required) - variables(content)
    if missing:
        names = " and ".join(f"${{{name}}}" for name in sorted(missing))
        raise ConfigError(f"the template lacks {names}, which must stand in it exactly so")


def variables(content: str) -> set[str]:
    """The names that stand in braces, as `${name}`; a `$${name}` is a dollar sign and a word."""
    return {name for match in Template.pattern.finditer(content) if (name := match["braced"]) is not None}


def render(content: str, *, numq: int, prompt_text: str) -> str:
    """The text with its variables filled in: `$$` becomes a dollar sign, any other `$name` stays as it is."""
    return Template(content).safe_substitute(numq=numq, prompt_u=prompt_text)
