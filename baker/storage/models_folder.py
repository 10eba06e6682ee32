"""Other models as students of the served one: where they are found, and which of them can learn from it.

    <home>/models/<name>/    config.json, weights and tokenizer, in Hugging Face's format

What is there, the operator put there: a client names one, and no name leads anywhere else. A student is trained on the
teacher's token ids as they are, so both must mean the same by each.
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
        """Args: teacher: folder of the model that is served."""
        self._folder, self._teacher = home / MODELS, teacher

    def check(self, name: str) -> None:
        """Raises: InvalidInputError saying why the model of that name can't be a student."""
        try:
            folder = path_of(self._folder, name)
        except ConfigError:
            folder = None
        if folder is None or not (folder / "config.json").is_file():
            there = ", ".join(sorted(path.parent.name for path in self._folder.glob("*/config.json"))) or "none"
            raise InvalidInputError(
                f"{FIELD} is {shortened(name)!r}, which is no model in this service's {MODELS} folder; there: {there}"
            )
        if folder.resolve() == self._teacher.resolve():
            raise InvalidInputError(f"{FIELD} is {name!r}, which is the served model itself: leave it away")
        if (difference := _difference(_vocabulary(self._teacher), _vocabulary(folder))) is not None:
            raise InvalidInputError(
                f"{FIELD} is {name!r}, which does not have the served model's vocabulary ({difference}): the teacher's "
                "tokens would mean something else to it"
            )


def student_folder(home: Path, name: str) -> Path:
    """Of a student that was checked."""
    return path_of(home / MODELS, name)


def _vocabulary(folder: Path) -> dict[str, int] | None:
    """Token -> id, those that were added included; None if there is no tokenizer.json that tells."""
    try:
        tokenizer: dict[str, Any] = json.loads((folder / "tokenizer.json").read_bytes())
        known = tokenizer["model"]["vocab"]
        # A unigram model lists its pieces, with their scores, in the order of their ids.
        tokens = dict(known) if isinstance(known, dict) else {piece: index for index, (piece, _) in enumerate(known)}
        return tokens | {added["content"]: added["id"] for added in tokenizer.get("added_tokens", ())}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _difference(teacher: dict[str, int] | None, student: dict[str, int] | None) -> str | None:
    """What tells the vocabularies apart; None if nothing does."""
    if teacher is None or student is None:
        return f"the {'served model' if teacher is None else 'student'} has no tokenizer.json to compare"
    if teacher == student:
        return None
    token = min(
        (token for token in teacher.keys() | student.keys() if teacher.get(token) != student.get(token)),
        key=lambda token: (teacher.get(token, len(teacher)), token),
    )
    shown = [str(vocabulary.get(token, "none")) for vocabulary in (teacher, student)]
    return f"{token!r} has the id {shown[0]} there and {shown[1]} here; {len(teacher)} and {len(student)} tokens"
