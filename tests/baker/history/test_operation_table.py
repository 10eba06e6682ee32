"""Operations come back in order, with what they changed; numbers are never used twice."""

import msgspec
import pytest

from baker.history.operation_table import Change, PointerMove, target_of
from baker.repos.catalog import Catalog


def test_operations_come_back_oldest_first(catalog: Catalog) -> None:
    operations = catalog.history.operations
    change = Change("prompt", "pirate", None, {"messages": [{"role": "user", "content": None}]})
    first = operations.add("admin", "repo", "put-prompt", [change], by="user")
    second = operations.add("admin", "repo", "undo", [], by="admin", target=first, is_undoable=False)
    operations.add("user", "repo", "branch", [], by="user")
    known = operations.of_repo("admin", "repo")
    assert [each.id for each in known] == [first, second]
    assert (known[0].changes, known[0].by, known[0].target, known[0].is_undoable) == ([change], "user", None, True)
    assert (known[1].verb, known[1].target, known[1].is_undoable) == ("undo", first, False)


def test_pages_and_outlines_agree_with_the_whole(catalog: Catalog) -> None:
    operations = catalog.history.operations
    change = Change("bake", "yoda", None, {"step": 3, "commit": None, "job": 1, "moves": []})
    for verb in ("put-bake", "bake", "undo", "redo"):
        operations.add("admin", "repo", verb, [change] if verb == "bake" else [], by="admin", target=2)
    whole = operations.of_repo("admin", "repo")
    assert operations.page("admin", "repo", 2, None) == whole[:1:-1]
    assert operations.page("admin", "repo", 9, whole[2].id) == whole[1::-1]
    assert operations.find("admin", "repo", whole[1].id) == whole[1]
    assert operations.find("other", "repo", whole[1].id) is None
    assert operations.touching("admin", "repo", "bake", "yoda") == [whole[1]]
    assert operations.touching("admin", "repo", "prompt", "yoda") == []
    assert operations.since("admin", "repo", whole[0].created) == []
    assert operations.since("admin", "repo", whole[0].created - 0.5) == whole
    assert operations.outline("admin", "repo") == [msgspec.structs.replace(each, changes=[]) for each in whole]
    with pytest.raises(LookupError, match="no operation 99"):
        operations.get("admin", "repo", 99)


def test_the_moves_are_what_the_operations_say_of_pointers_also_after_they_change(catalog: Catalog) -> None:
    operations = catalog.history.operations
    bake = Change("bake", "yoda", None, {"step": 3, "commit": "a" * 64, "job": 1, "moves": []})
    branch = Change("branch", "main", {"target": "a" * 64}, {"target": "b" * 64, "commit": None})
    head, prompt = Change("head", "HEAD", None, "main"), Change("prompt", "yoda", None, {"target": "c" * 64})

    def moves() -> list[PointerMove]:
        known = operations.moves("admin", "repo")
        changes = [change for each in operations.of_repo("admin", "repo") for change in each.changes]
        assert known == [
            PointerMove(each.kind, each.name, target_of(each.before), target_of(each.after))
            for each in changes
            if each.kind in ("bake", "branch", "tag", "head")
        ]
        return known

    first = operations.add("admin", "repo", "bake", [prompt, bake, head], by="admin")
    operations.add("admin", "repo", "branch", [branch], by="admin")
    operations.add("admin", "other", "branch", [branch], by="admin")
    assert moves() == [
        ("bake", "yoda", None, "a" * 64),
        ("head", "HEAD", None, "main"),
        ("branch", "main", "a" * 64, "b" * 64),
    ]
    operations.replace_changes(first, [msgspec.structs.replace(bake, after={"commit": "d" * 64}), prompt])
    assert [move.after for move in moves()] == ["d" * 64, "b" * 64]
    (whole,) = operations.touching("admin", "repo", "bake", "yoda")
    operations.purge(whole, "bake", "yoda")
    assert [move.after for move in moves()] == [None, "b" * 64]
    assert [each.id for each in operations.touching("admin", "repo", "prompt", "yoda")] == [first]
    catalog.store.remove_repo("admin", "repo")
    assert moves() == [] and len(operations.moves("admin", "other")) == 1
