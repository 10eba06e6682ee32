"""Rows that bakes held out, and their hash."""

import msgspec
import pytest

from baker.comparison.probe_set import Row, RowKind, held_out_files, held_out_rows, question_of, rows_hash
from baker.storage.home import SPEC, job_folder
from tests.baker.comparison.story import Story
from tests.fakes import END_OF_TURN, encode

pytestmark = pytest.mark.anyio


async def test_rows_of_both_versions_come_evenly_from_all_targets_in_any_order_of_the_versions(story: Story) -> None:
    story.hold_out("tone", "talk", ["a", "b", "c", "d"])
    story.hold_out("pirate", "sea", ["e"])
    versions = [story.versions["tone"], story.versions["pirate"]]
    rows = held_out_rows(story.home, versions, 3)
    assert [(row.group, row.question) for row in rows] == [("sea", "sea 0?"), ("talk", "talk 0?"), ("talk", "talk 1?")]
    assert rows[0] == Row(RowKind.TARGET, "sea", "sea 0?", encode("sea 0?"), [*encode("e"), END_OF_TURN]), (
        "in the student's context"
    )
    assert held_out_rows(story.home, versions[::-1], 3) == rows
    assert len(held_out_rows(story.home, versions, 99)) == 5


async def test_a_row_that_both_held_out_counts_once(story: Story) -> None:
    for name in ("tone", "pirate"):
        story.hold_out(name, "talk", ["a", "b"])
    assert len(held_out_rows(story.home, [story.versions["tone"], story.versions["pirate"]], 99)) == 2


async def test_rows_move_with_the_home_and_lost_ones_are_left_out(story: Story) -> None:
    story.hold_out("tone", "talk", ["a", "b"])
    folder = job_folder(story.home, story.versions["tone"].job_id)
    spec = msgspec.json.decode((folder / SPEC).read_bytes())
    spec["held_out"]["talk"] = [f"/elsewhere/{name.rpartition('/')[2]}" for name in spec["held_out"]["talk"]]
    (folder / SPEC).write_bytes(msgspec.json.encode(spec))
    assert len(held_out_rows(story.home, [story.versions["tone"]], 99)) == 2
    (folder / "data" / "talk" / "000000-0000.safetensors").unlink()
    (row,) = held_out_rows(story.home, [story.versions["tone"]], 99)
    assert row.question == "talk 1?"
    (folder / "data" / "talk" / "000001-0000.safetensors").write_bytes(b"broken")
    assert held_out_rows(story.home, [story.versions["tone"]], 99) == []


@pytest.mark.parametrize("content", [None, b"{", b'{"held_out": 3}', b"{}"])
async def test_an_import_has_none(story: Story, content: bytes | None) -> None:
    spec = job_folder(story.home, story.versions["json"].job_id) / SPEC
    if content is not None:
        spec.parent.mkdir(parents=True, exist_ok=True)
        spec.write_bytes(content)
    assert held_out_files(story.home, story.versions["json"].job_id) == {}


def test_the_hash_changes_with_what_the_engine_is_asked() -> None:
    row = Row(RowKind.PROBE, "p", "Who?", [1, 2], None)
    others = [
        msgspec.structs.replace(row, context_ids=[1, 3]),
        msgspec.structs.replace(row, response_ids=[4]),
        msgspec.structs.replace(row, group="q"),
    ]
    assert len({rows_hash([each]) for each in (row, *others)}) == 4
    assert rows_hash([msgspec.structs.replace(row, question="another text of the same tokens")]) == rows_hash([row])
    assert question_of([{"role": "system", "content": "x"}, {"role": "user", "content": "Who?"}]) == "Who?"
