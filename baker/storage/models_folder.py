"""Other models as students of the served one: finds them by name, and checks which of them can learn from it.

    <home>/models/<name>/    config.json, weights and tokenizer, in Hugging Face's format

The operator puts models there; clients can name only these. A student is trained on the teacher's token ids, so each id
must be the same token in both models.
"""

import json
from pathlib import Path
from typing import Any

from baker.errors import ConfigError, InvalidInputError
from baker.model_names import shortened
from baker.names import path_of
from baker.storage.home import MODELS

FIELD = "model.student_model_path"


class StudentModels:
    def __init__(self, home: Path, teacher: Path) -> None:
        """Args: teacher: folder of the served model."""
        self._folder, self._teacher = home / MODELS, teacher

    def check(self, name: str) -> None:
        """Raises: InvalidInputError with the reason if the model of that name can't be a student."""
        try:
            folder = path_of(self._folder, name)
        except ConfigError:
            folder = None
        if folder is None or not (folder / "config.json").is_file():
            models = ", ".join(sorted(path.parent.name for path in self._folder.glob("*/config.json"))) or "none"
            raise InvalidInputError(
                f"{FIELD} is {shortened(name)!r}, which is no model in this service's {MODELS} folder. "
                f"Models there: {models}"
            )
        if folder.resolve() == self._teacher.resolve():
            raise InvalidInputError(f"{FIELD} is {name!r}, which is the served model itself: leave the field out")
        if (difference := _difference(_vocabulary(self._teacher), _vocabulary(folder))) is not None:
            raise InvalidInputError(
                f"{FIELD} is {name!r}, which does not have the served model's vocabulary ({difference}): the teacher's "
                "token ids would be other tokens in it"
            )


def student_folder(home: Path, name: str) -> Path:
    """Folder of a student that `StudentModels.check` accepted."""
    return path_of(home / MODELS, name)


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """Token -> id, with added tokens; None if there is no readable tokenizer.json."""
    try:
        tokenizer: dict[str, Any] = json.loads((folder / "tokenizer.json").read_bytes())
        known = tokenizer["model"]["vocab"]
        # A unigram model lists its pieces, with their scores, in the order of their ids.
        tokens = dict(known) if isinstance(known, dict) else {piece: index for index, (piece, _) in enumerate(known)}
        return tokens | {added["content"]: added["id"] for added in tokenizer.get("added_tokens", ())}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _difference(teacher: dict[str, int] | None, student: dict[str, int] | None) -> str | None:
    """The first difference between the vocabularies; None if they are equal."""
    if teacher is None or student is None:
        return f"the {'served model' if teacher is None else 'student'} has no tokenizer.json to compare"
    if teacher == student:
        return None
    token = min(
        (token for token in teacher.keys() | student.keys() if teacher.get(token) != student.get(token)),
        key=lambda token: (teacher.get(token, len(teacher)), token),
    )
    shown = [str(vocabulary.get(token, "none")) for vocabulary in (teacher, student)]
    return (
        f"{token!r} has id {shown[0]} in the served model and {shown[1]} in this one; "
        f"{len(teacher)} and {len(student)} tokens"
    )
