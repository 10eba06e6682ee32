"""Finds and reads datasets by name: a file in the service's folder `datasets`, or a dataset on the Hugging Face Hub.

This is the only file that imports the package `datasets`, which is an extra.
"""

import importlib.util
from itertools import islice
from pathlib import Path

from baker.errors import InvalidInputError, StimError
from baker.questions.columns import Rows, questions_in
from baker.questions.dataset_files import GZIP, PARQUET, READERS, format_of, read_questions
from baker.storage.home import DATASETS
from baker.storage.job_inputs import HubSet, LocalSet, QuestionSet
from baker.suggestions import did_you_mean

INSTALL = 'pip install "datasets>=5.2"'
MAX_ROWS = 100_000
"""Rows read of a Hub dataset: a client may name any, and some have billions."""

KNOWN_DATASETS = {
    "squad": HubSet("rajpurkar/squad", split="train", column="question"),
    "gsm8k": HubSet("openai/gsm8k", "main", "train", "question"),
    "mmlu": HubSet("cais/mmlu", "all", "test", "question"),
    "hellaswag": HubSet("Rowan/hellaswag", split="train", column="ctx"),
    # The train split has 7 GB for 13,328 problems; the test split has 165 problems.
    "code_contests": HubSet("deepmind/code_contests", split="test", column="description"),
    "math_problems": HubSet("qwedsacf/competition_math", split="train", column="problem"),
}


class QuestionSets:
    """The datasets that a service can read. All methods block."""

    def __init__(self, home: Path) -> None:
        self._folder = home / DATASETS

    def find(self, name: str) -> QuestionSet:
        """The dataset called `name`, a file rather than one on the Hub. Nothing is read or downloaded.

        Raises: InvalidInputError listing the datasets, or naming the package to install.
        """
        files = self._files()
        endings = ("", *READERS, *(suffix + GZIP for suffix in READERS))
        file = next((name + ending for ending in endings if name + ending in files), None)
        dataset: QuestionSet | None = LocalSet(file) if file else KNOWN_DATASETS.get(name)
        if dataset is None:
            if "/" not in name:
                raise InvalidInputError(
                    f"There is no dataset {name!r}{did_you_mean(name, [*files, *KNOWN_DATASETS]) or '.'} "
                    f"Files in BREAD_HOME/{DATASETS}: {', '.join(files) or 'none'}. "
                    f"Known names: {', '.join(KNOWN_DATASETS)}. Formats: {', '.join(READERS)}, also with {GZIP}. "
                    "Other datasets of the Hugging Face Hub are named org/name"
                )
            dataset = HubSet(name)
        needs_package = isinstance(dataset, HubSet) or dataset.file.endswith(PARQUET)
        if needs_package and importlib.util.find_spec("datasets") is None:
            raise InvalidInputError(
                f"Dataset {name!r} needs the package `datasets`: {INSTALL}, or put its questions into {_file_for(name)}"
            )
        return dataset

    def read(self, dataset: QuestionSet, column: str | None) -> list[str]:
        """All questions of `dataset`. Raises: StimError naming what is broken, or what to do without a network."""
        if isinstance(dataset, LocalSet):
            return read_questions(self._folder / dataset.file, column)
        return questions_in(_hub_rows(dataset), column or dataset.column, dataset.id)

    def _files(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("*") if format_of(path.name) and path.is_file())


def _hub_rows(dataset: HubSet) -> Rows:
    import datasets

    try:
        # As a URL, since the bare id could also name a folder below the current one. Streamed, so that nothing is kept
        # on disk.
        splits = datasets.load_dataset(f"hf://datasets/{dataset.id}", dataset.config, streaming=True)
        split = dataset.split or ("train" if "train" in splits else next(iter(splits)))
        for number, row in enumerate(islice(splits[split], MAX_ROWS), start=1):
            yield f"row {number}", row
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise StimError(
            f"dataset {dataset.id!r} could not be read from the Hugging Face Hub ({error}): check the network, "
            f"or put the questions into {_file_for(dataset.id)} and name that file"
        ) from error


def _file_for(name: str) -> str:
    return f"BREAD_HOME/{DATASETS}/{name.split('/')[-1]}.jsonl"
