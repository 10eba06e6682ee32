import json
from pathlib import Path
from typing import Any

import pytest

from baker.errors import InvalidInputError, StimError
from baker.questions.datasets import KNOWN_DATASETS, QuestionSets
from baker.storage.job_inputs import HubSet, LocalSet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


@pytest.fixture
def sets(folder: Path) -> QuestionSets:
    return QuestionSets(folder.parent)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("")


@pytest.mark.usefixtures("no_package")
def test_a_file_is_found_with_and_without_its_suffix(folder: Path, sets: QuestionSets) -> None:
    put(folder, "one.jsonl", "two.json", "three.csv", "one.csv", "v1.0.csv")
    for name, file in (
        ("one", "one.jsonl"),
        ("one.csv", "one.csv"),
        ("two", "two.json"),
        ("three.csv", "three.csv"),
        ("v1.0", "v1.0.csv"),
    ):
        assert sets.find(name) == LocalSet(file)


@pytest.mark.usefixtures("package")
def test_a_file_wins_over_the_hub(folder: Path, sets: QuestionSets) -> None:
    assert sets.find("squad") == KNOWN_DATASETS["squad"]
    put(folder, "squad.csv", "table.parquet")
    assert sets.find("squad") == LocalSet("squad.csv")
    assert sets.find("table") == LocalSet("table.parquet")
    assert sets.find("org/squad") == HubSet("org/squad")


@pytest.mark.parametrize("name", ["nothing", "notes", "notes.txt", "one.jsonl.jsonl", "folder"])
def test_an_unknown_dataset_is_refused_with_a_list_of_the_known_ones(
    folder: Path, sets: QuestionSets, name: str
) -> None:
    put(folder, "one.jsonl", "notes.txt")
    (folder / "folder.jsonl").mkdir()
    with pytest.raises(InvalidInputError, match=f"no dataset '{name}'.*: one.jsonl. .*squad, gsm8k, mmlu"):
        sets.find(name)


def test_without_a_folder_there_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="datasets: none"):
        QuestionSets(tmp_path).find("one")


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize(("name", "file"), [("squad", "squad"), ("org/name", "name"), ("table", "table")])
def test_without_the_package_the_error_says_what_to_install_or_where_to_put_a_file(
    folder: Path, sets: QuestionSets, name: str, file: str
) -> None:
    put(folder, "table.parquet")
    with pytest.raises(InvalidInputError, match=rf"datasets>=5.2.*BREAD_HOME/datasets/{file}.jsonl"):
        sets.find(name)


def test_a_file_is_read(folder: Path, sets: QuestionSets) -> None:
    (folder / "one.jsonl").write_text(json.dumps({"question": "Who?", "other": "Me"}))
    assert sets.read(LocalSet("one.jsonl"), None) == ["Who?"]
    assert sets.read(LocalSet("one.jsonl"), "other") == ["Me"]


class FakeHub:
    """The loader of the package `datasets`, reading a folder instead of the Hub."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.datasets = pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
        self.folder = folder
        self.requests: list[tuple[str, str | None]] = []
        self._load = self.datasets.load_dataset
        monkeypatch.setattr(self.datasets, "load_dataset", self.load)

    def put(self, split: str, rows: list[dict[str, Any]]) -> None:
        self.datasets.Dataset.from_list(rows).to_parquet(str(self.folder / f"{split}.parquet"))

    def load(self, path: str, config: str | None, *, streaming: bool) -> Any:
        self.requests.append((path, config))
        return self._load(str(self.folder), streaming=streaming)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    return FakeHub(monkeypatch, tmp_path)


def test_a_known_dataset_is_read_from_its_own_split_and_others_from_the_train_split(
    hub: FakeHub, sets: QuestionSets
) -> None:
    hub.put("train", [{"question": f"Train {i}?", "answer": "a"} for i in range(3)])
    hub.put("test", [{"question": f"Test {i}?", "answer": f"b{i}"} for i in range(3)])
    assert sets.read(KNOWN_DATASETS["gsm8k"], None) == ["Train 0?", "Train 1?", "Train 2?"]
    assert sets.read(KNOWN_DATASETS["mmlu"], None) == ["Test 0?", "Test 1?", "Test 2?"]
    assert sets.read(KNOWN_DATASETS["mmlu"], "answer") == ["b0", "b1", "b2"]
    assert sets.read(HubSet("org/name"), None) == ["Train 0?", "Train 1?", "Train 2?"]
    assert hub.requests == [
        ("hf://datasets/openai/gsm8k", "main"),
        ("hf://datasets/cais/mmlu", "all"),
        ("hf://datasets/cais/mmlu", "all"),
        ("hf://datasets/org/name", None),
    ]


def test_a_dataset_without_a_train_split_is_read_from_its_first_split(hub: FakeHub, sets: QuestionSets) -> None:
    hub.put("validation", [{"question": "Valid?"}])
    assert sets.read(HubSet("org/name"), None) == ["Valid?"]


def test_rows_are_read_up_to_the_limit(hub: FakeHub, sets: QuestionSets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.questions.datasets.MAX_ROWS", 4)
    hub.put("train", [{"question": f"Row {i}?"} for i in range(9)])
    assert len(sets.read(HubSet("org/name"), None)) == 4


def test_without_a_network_the_error_says_what_to_do(sets: QuestionSets, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="the extra `datasets` is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StimError, match=r"'org/never-made'.*into BREAD_HOME/datasets/never-made.jsonl"):
        sets.read(HubSet("org/never-made"), None)
