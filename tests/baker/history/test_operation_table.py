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
