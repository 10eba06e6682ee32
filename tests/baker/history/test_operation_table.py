"""Operations come back in order, with what they changed; numbers are never used twice."""

from baker.history.operation_table import Change
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
    assert [(each.id, each.verb, each.target, each.changes) for each in operations.outline("admin", "repo")] == [
        (each.id, each.verb, each.target, []) for each in whole
    ]
