"""What leaves a repo: descriptions and adapters; prompts and rows only on request."""

from pathlib import Path

import msgspec
import pytest

from baker.errors import NotFoundError
from baker.history.commit import content_id
from baker.model_names import BaseModelNames
from baker.repos import repos
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.storage.files import append_lines
from baker.storage.home import job_folder, output_file
from baker.storage.job_inputs import ReceivedCommit
from baker.transfer import sending
from tests.baker.repos.filled import filled, start
from tests.baker.transfer.versions import PARITY, add_version

__all__ = ["filled"]  # a fixture

SECRET = "Be loud"


@pytest.fixture
def there(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True), "b" * 64)


def test_a_description_has_the_id_the_notes_and_the_certificate(there: Catalog) -> None:
    checkpoint = add_version(there, "bake", 1)
    there.history.commits.put_note("admin", "repo", checkpoint.commit_id or "", "evaluation", {"eval_kl": 1})
    sent = sending.description(there, "admin", "repo", checkpoint.commit_id or "", with_data=False)
    assert content_id(msgspec.to_builtins(sent.commit)) == checkpoint.commit_id
    assert sent.notes == {**there.history.commits.notes("admin", "repo", checkpoint.commit_id or ""), "parity": PARITY}
    assert sent.notes["evaluation"] == {"eval_kl": 1}
    assert sent.has_weights and sent.data is None


def test_prompts_and_rows_leave_only_on_request(filled: Catalog) -> None:
    rollout = start(filled, Stage.STIM, "target")
    job = add_snapshot(filled, rollout.id)
    for with_data in (False, True):
        sent = sending.description(filled, "admin", "repo", job, with_data=with_data)
        text = msgspec.json.encode([msgspec.to_builtins(sent.commit), sent.notes, sent.data]).decode()
        assert (SECRET in text) == with_data
        assert ("QUESTION" in text) == with_data


def add_snapshot(catalog: Catalog, rollout: int) -> str:
    """A version that was baked from a target with a prompt and a rollout's rows. Returns: its commit's id."""
    from baker.config.target import TargetConfig
    from baker.storage.job_inputs import TargetSnapshot
    from baker.types import Prompt

    loud = Prompt([{"role": "system", "content": SECRET}])
    snapshot = TargetSnapshot(TargetConfig(), loud, Prompt())
    job = catalog.store.jobs.find(rollout)
    assert job is not None
    job_folder(catalog.store.home, rollout).mkdir(parents=True)
    append_lines(output_file(catalog.store.home, job), [{"question": "QUESTION"}])
    checkpoint = add_version(catalog, "bake", 1, rollouts={"talk": rollout}, targets={"talk": snapshot})
    assert checkpoint.commit_id is not None
    return checkpoint.commit_id


def test_a_received_version_passes_its_recipe_on(there: Catalog) -> None:
    recipe = {"targets": {"talk": {"teacher": SECRET}}}
    checkpoint = add_version(there, "bake", 1, received=ReceivedCommit("c" * 64, recipe))
    folder = job_folder(there.store.home, checkpoint.job_id) / "received"
    folder.mkdir()
    append_lines(folder / "talk.jsonl", [{"question": "Who?"}])
    sent = sending.description(there, "admin", "repo", checkpoint.commit_id or "", with_data=True)
    assert sent.data is not None
    assert (sent.data.recipe, sent.data.rows) == (recipe, {"talk": [{"question": "Who?"}]})


def test_only_what_this_repo_lacks_is_missing(there: Catalog) -> None:
    one, two = add_version(there, "one", 1), add_version(there, "two", 2)
    add_version(there, "bobs", 3, user="bob")
    repos.put(there, "admin", "other", None)
    commits, blobs = [one.commit_id or "", two.commit_id or "", "c" * 64], [one.sha256, "d" * 64, "../x"]
    assert sending.missing(there, "admin", "repo", commits, blobs) == (["c" * 64], ["d" * 64, "../x"])
    for place in (("admin", "other"), ("bob", "repo")):
        assert sending.missing(there, *place, commits[:2], blobs[:1]) == (commits[:2], blobs[:1])
        assert sending.blob_folder(there, *place, one.sha256) is None
    with pytest.raises(NotFoundError):
        sending.missing(there, "admin", "nothing", [], [])
    with pytest.raises(NotFoundError):
        sending.description(there, "bob", "repo", one.commit_id or "", with_data=False)


def test_a_version_that_began_in_another_repo_is_sent_with_all_that_it_came_from(there: Catalog) -> None:
    first = add_version(there, "bake", 1, repo="first")
    unrelated = add_version(there, "other", 2, repo="first")
    add_version(there, "bake", 3, repo="second", checkpoint=first.name)
    sent = sending.description(there, "admin", "second", first.commit_id or "", with_data=True)
    assert sent.has_weights and sent.notes["parity"] == PARITY
    assert sent.data is not None and sent.data.recipe is not None
    blobs = [first.sha256, unrelated.sha256]
    assert sending.missing(there, "admin", "second", [], blobs).blobs == [unrelated.sha256]
    assert sending.blob_folder(there, "admin", "second", first.sha256) == first.path


def test_a_version_whose_weights_are_gone_says_so(there: Catalog) -> None:
    checkpoint = add_version(there, "bake", 1)
    there.store.checkpoints.remove(checkpoint.name)
    sent = sending.description(there, "admin", "repo", checkpoint.commit_id or "", with_data=True)
    assert not sent.has_weights
    assert sent.data is not None and sent.data.recipe is None
    assert sending.blob_folder(there, "admin", "repo", checkpoint.sha256) is None
