"""What the log gets: one operation for what one request changed, by the one who asked."""

import pytest

from baker.history.operation_table import Change
from baker.history.recorder import composed, is_master
from baker.repos.catalog import Catalog

HERE = ("alice", "repo")


def change(before: object, after: object, name: str = "one") -> Change:
    return Change("prompt", name, before, after)


def logged(catalog: Catalog) -> list[list[Change]]:
    return [operation.changes for operation in catalog.history.operations.of_repo(*HERE)]


def test_what_changes_nothing_is_no_operation(catalog: Catalog) -> None:
    log = catalog.history.log
    assert log.record(*HERE, "put-prompt", [change({"a": 1, "b": 2}, {"b": 2, "a": 1})]) is None
    assert log.record(*HERE, "put-prompt", []) is None
    assert log.record(*HERE, "put-prompt", [change({"a": 1}, {"a": True})]) == 1, "to Python these are equal"


def test_several_changes_of_one_thing_are_one(catalog: Catalog) -> None:
    changes = [change(None, 1), change(7, 8, "other"), change(1, 2), change(8, 7, "other")]
    assert composed(changes) == [change(None, 2)]


def test_a_block_is_one_operation_without_what_failed_in_it(catalog: Catalog) -> None:
    log = catalog.history.log
    with log.as_one(*HERE, "put-prompt"):
        log.record(*HERE, "put-prompt", [change(None, 1)])
        with pytest.raises(ValueError, match="wrong"), log.unless_it_fails():
            log.record(*HERE, "put-prompt", [change(None, 2, "other")])
            raise ValueError("wrong")
        with log.as_one(*HERE, "inner"):
            log.record(*HERE, "put-prompt", [change(1, 3)])
    assert logged(catalog) == [[change(None, 3)]]


def test_a_block_that_fails_is_no_operation_and_the_next_one_is(catalog: Catalog) -> None:
    log = catalog.history.log
    with pytest.raises(ValueError, match="wrong"), catalog.store.transaction(), log.as_one(*HERE, "put-prompt"):
        log.record(*HERE, "put-prompt", [change(None, 1)])
        raise ValueError("wrong")
    assert logged(catalog) == []
    log.record(*HERE, "put-prompt", [change(None, 1)])
    assert logged(catalog) == [[change(None, 1)]]


def test_the_master_key_is_named_when_it_acts_for_a_user(catalog: Catalog) -> None:
    catalog.history.log.record(*HERE, "put-prompt", [change(None, 1)])
    token = is_master.set(True)
    catalog.history.log.record(*HERE, "put-prompt", [change(1, 2)])
    is_master.reset(token)
    assert [each.by for each in catalog.history.operations.of_repo(*HERE)] == ["alice", "admin"]


def test_a_bake_that_trains_on_keeps_its_first_value(catalog: Catalog) -> None:
    log = catalog.history.log
    log.record(*HERE, "bake", [change(4, 10)])
    (operation,) = catalog.history.operations.of_repo(*HERE)
    log.record_more(operation, [change(10, 20)])
    assert logged(catalog) == [[change(4, 20)]]
