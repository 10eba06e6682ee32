"""Templates of the texts that ask a model for questions: allowed paths and contents, and how variables are filled in.

A template belongs to a repo and is stored under its bare name. Clients write it as a path, but only the name counts, so
no path from a client can reach another file.
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
"""Number of questions to ask for, and the teacher prompt as plain text."""


def template_name(path: str) -> str:
    """The bare name at the end of `path`, without its folders. Raises: ConfigError."""
    return check_name(re.split(r"[/\\]", path)[-1], "template")


def template_path(name: str) -> str:
    """The path of the template in its normal form."""
    return f"{FOLDER}/{name}"


def name_for(content: str) -> str:
    """A name for a text that was sent without one: the same text gets the same name."""
    return f"{hashlib.sha256(content.encode()).hexdigest()[:12]}.txt"


def check_content(content: str, required: Collection[str] = ()) -> None:
    """Raises: ConfigError if the text is blank, too long, or lacks one of the `required` variables."""
    size = len(content.encode())
    if size > MAX_BYTES:
        raise ConfigError(f"the template has {size} bytes, at most {MAX_BYTES} are allowed")
    if not content.strip():
        raise ConfigError("the template is blank: write what to ask the model")
    missing = set(required) - variables(content)
    if missing:
        names = " and ".join(f"${{{name}}}" for name in sorted(missing))
        raise ConfigError(f"the template lacks {names}: add what is missing, written exactly so")


def variables(content: str) -> set[str]:
    """The names written as `${name}`; `$${name}` is a literal dollar sign and text, not a variable."""
    return {name for match in Template.pattern.finditer(content) if (name := match["braced"]) is not None}


def render(content: str, *, numq: int, prompt_text: str) -> str:
    """The text with its variables filled in. `$$` becomes a dollar sign; any other `$name` is left unchanged."""
    return Template(content).safe_substitute(numq=numq, prompt_u=prompt_text)
