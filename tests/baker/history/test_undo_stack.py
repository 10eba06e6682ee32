"""Undo steps back, redo forward; against a model that keeps every state."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import ConflictError, NotFoundError
from baker.history import undo_stack
from baker.history.operation_table import Operation


class Log:
    """A log of operations, beside a model of it: the states before and after the present one."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.past: list[int] = []
        """Numbers of the operations in force."""
        self.future: list[int] = []

    def add(self, verb: str, target: int | None = None, *, is_undoable: bool = True) -> int:
        number = len(self.operations) + 1
        self.operations.append(Operation(number, verb, [], "alice", 0, target, is_undoable))
        return number

    def do(self, *, is_undoable: bool = True) -> None:
        self.past.append(self.add("promote", is_undoable=is_undoable))
        self.future.clear()

    def step(self, verb: str) -> None:
        back, forward = (self.past, self.future) if verb == "undo" else (self.future, self.past)
        if not back:
            with pytest.raises(ConflictError, match=f"nothing to {verb}"):
                undo_stack.steps(self.operations, verb)
            return
        (entry,) = undo_stack.steps(self.operations, verb)
        assert entry.operation.id == back[-1]
        self.add(verb, entry.operation.id)
        forward.append(back.pop())

    def numbers(self, verb: str, number: int | None = None) -> list[int]:
        return [entry.operation.id for entry in undo_stack.steps(self.operations, verb, number)]


@given(st.lists(st.sampled_from(["do", "undo", "redo"]), max_size=40))
def test_each_step_takes_back_or_brings_back_what_a_list_of_states_says(actions: list[str]) -> None:
    log = Log()
    for action in actions:
        if action == "do":
            log.do()
        else:
            log.step(action)


@given(st.integers(1, 12), st.data())
def test_as_many_undos_lead_to_the_start_and_as_many_redos_to_the_end(count: int, data: Any) -> None:
    log = Log()
    for _ in range(count):
        log.do()
    for _ in range(count):
        log.step("undo")
    assert log.past == []
    back = data.draw(st.integers(1, count))
    for _ in range(back):
        log.step("redo")
    assert log.past == list(range(1, back + 1))


def test_a_number_steps_down_to_that_operation() -> None:
    log = Log()
    for _ in range(4):
        log.do()
    assert log.numbers("undo", 2) == [4, 3, 2]
    for number in (4, 3, 2):
        log.add("undo", number)
    assert log.numbers("redo", 3) == [2, 3]
    with pytest.raises(NotFoundError, match=r"no operation 4 to undo\. Next are: 1$"):
        log.numbers("undo", 4)


def test_what_can_t_be_undone_stops_a_plain_undo_and_is_passed_over_on_the_way_to_an_older_operation() -> None:
    log = Log()
    log.do()
    log.do(is_undoable=False)
    log.do()
    log.step("undo")
    with pytest.raises(ConflictError, match=r'Operation 2 \(promote\) can\'t be undone.*send {"operation": 1}'):
        log.numbers("undo")
    with pytest.raises(ConflictError, match="can't be undone"):
        log.numbers("undo", 2)
    assert log.numbers("undo", 1) == [1]
    log.add("undo", 1)
    assert log.numbers("redo", 3) == [1, 3], "what was passed over stays as it is"


def test_a_redo_that_was_undone_again_is_what_the_next_redo_inverts() -> None:
    log = Log()
    log.do()
    for verb in ("undo", "redo", "undo"):
        log.step(verb)
    (entry,) = undo_stack.steps(log.operations, "redo")
    assert (entry.operation.id, entry.applied.id) == (1, 4)


def test_a_discarded_bake_is_no_longer_there_to_undo_or_redo() -> None:
    log = Log()
    log.do()
    log.add("bake")
    log.add("discard", 2, is_undoable=False)
    assert log.numbers("undo") == [1]
    assert undo_stack.stacks(log.operations).redo == []


def test_a_push_stops_a_plain_undo_and_a_fetch_is_no_step() -> None:
    log = Log()
    log.do()
    log.step("undo")
    log.add("fetch", is_undoable=False)
    assert log.numbers("redo") == [1]
    log.add("push", is_undoable=False)
    with pytest.raises(ConflictError, match=r"\(push\) can't be undone: another server received it"):
        log.numbers("undo")


def test_an_operation_whose_files_are_gone_says_so() -> None:
    log = Log()
    log.do(is_undoable=False)
    with pytest.raises(ConflictError, match="there is none before it that can"):
        log.numbers("undo")
