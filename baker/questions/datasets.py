"""Datasets by name: a file in the service's folder `datasets`, or one on Hugging Face's hub.

The only file that imports the package `datasets`, which is an extra.
"""

import importlib.util
from itertools import islice
from pathlib import Path

from baker.errors import InvalidInputError, StimError
from baker.questions.dataset_files import READERS, Rows, questions_in, read_questions
from baker.storage.job_inputs import HubSet, LocalSet, QuestionSet

FOLDER = "datasets"
INSTALL = 'pip install "datasets>=5.2"'
MAX_ROWS = 100_000
"""So many rows of a hub's dataset are drawn from: some have billions, and a client may name any."""


KNOWN = {
    "squad": HubSet("rajpurkar/squad", split="train", column="question"),
    "gsm8k": HubSet("openai/gsm8k", "main", "train", "question"),
    "mmlu": HubSet("cais/mmlu", "all", "test", "question"),
    "hellaswag": HubSet("Rowan/hellaswag", split="train", column="ctx"),
    # Its train split has 7 GB for 13,328 problems; this one has 165.
    "code_contests": HubSet("deepmind/code_contests", split="test", column="description"),
    "math_problems": HubSet("qwedsacf/competition_math", split="train", column="problem"),
}


class QuestionSets:
    """The datasets that a service can read. Everything here blocks."""

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def find(self, name: str) -> QuestionSet:
        """Where the questions of `name` are; a file wins over the hub. The name alone is looked at.

        Raises: InvalidInputError, listing what there is, or saying what to install.
        """
        files = self._files()
        file = next((name + suffix for suffix in ("", *READERS) if name + suffix in files), None)
        found: QuestionSet | None = LocalSet(file) if file else KNOWN.get(name)
        if found is None:
            if "/" not in name:
                raise InvalidInputError(
                    f"There is no dataset {name!r}. Files in BREAD_HOME/{FOLDER}: {', '.join(files) or 'none'}. Known "
                    f"names: {', '.join(KNOWN)}. Others of Hugging Face's hub go by org/name"
                )
            found = HubSet(name)
        needs_package = isinstance(found, HubSet) or found.file.endswith(".parquet")
        if needs_package and importlib.util.find_spec("datasets") is None:
            raise InvalidInputError(
                f"Dataset {name!r} needs the package `datasets`: {INSTALL}, or put its questions into {_file_for(name)}"
            )
        return found

    def read(self, found: QuestionSet, column: str | None) -> list[str]:
        """All of its questions. Raises: StimError saying what is broken, or what to do without a network."""
        if isinstance(found, LocalSet):
            return read_questions(self._folder / found.file, column)
        return questions_in(_hub_rows(found), column or found.column, found.id)

    def _files(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("*") if path.suffix in READERS and path.is_file())


def _hub_rows(found: HubSet) -> Rows:
    import datasets

    try:
        # As a URL, since the bare id would also name a folder below the service's working one. Streamed: nothing
        # of a dataset stays on the disk.
        splits = datasets.load_dataset(f"hf://datasets/{found.id}", found.config, streaming=True)
        split = found.split or ("train" if "train" in splits else next(iter(splits)))
        for number, row in enumerate(islice(splits[split], MAX_ROWS), start=1):
            yield f"row {number}", row
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise StimError(
            f"dataset {found.id!r} could not be read from Hugging Face's hub ({error}): see that the service reaches "
            f"it, or put the questions into {_file_for(found.id)} and name that"
        ) from error


def _file_for(name: str) -> str:
    return f"BREAD_HOME/{FOLDER}/{name.split('/')[-1]}.jsonl"
