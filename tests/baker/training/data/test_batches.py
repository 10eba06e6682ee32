import msgspec
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baker.training.data.batches import cut, length_of, make_batch, plan_epoch, read_groups, shorten, teacher_view
from baker.types import Trajectory


def trajectory(context: int, response: int, width: int = 3, first: int = 0) -> Trajectory:
    ids = np.arange(first, first + context + response, dtype=np.int32)
    return Trajectory(
        teacher_ids=np.zeros(1, np.int32),
        student_ids=ids[:context],
        response_ids=ids[context:],
        top_ids_TK=np.arange(response * width, dtype=np.int32).reshape(response, width) + first,
        top_logprobs_TK=-np.ones((response, width), np.float32) * (1 + first),
        stimulus=str(first),
    )


sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6)


@given(sizes)
def test_each_position_predicts_its_response_token(sizes: list[tuple[int, int]]) -> None:
    rows = [trajectory(context, response, first=100 * index) for index, (context, response) in enumerate(sizes)]
    batch = make_batch(rows)
    flat = batch.input_ids_BT.flatten()
    at = 0
    for row in rows:
        sequence = [*row.student_ids, *row.response_ids]
        for index, token in enumerate(row.response_ids):
            before = sequence[len(row.student_ids) + index - 1]
            assert batch.response_ids_N[at] == token
            assert flat[batch.positions_N[at]] == before
            assert batch.top_ids_NK[at].tolist() == row.top_ids_TK[index].tolist()
            assert batch.top_logprobs_NK[at].tolist() == row.top_logprobs_TK[index].tolist()
            at += 1
    assert at == len(batch.positions_N) == len(batch.top_ids_NK)
    assert batch.positions_N.unique().numel() == at
    assert batch.tokens == sum(context + response for context, response in sizes)


def test_rows_are_padded_on_the_right_and_no_further_than_needed() -> None:
    batch = make_batch([trajectory(2, 3, first=10), trajectory(1, 2, first=20)])
    assert batch.input_ids_BT.tolist() == [[10, 11, 12, 13], [20, 21, 0, 0]]


def test_the_smallest_top_k_of_a_batch_counts() -> None:
    assert make_batch([trajectory(2, 3, width=4), trajectory(2, 3, width=2)]).top_ids_NK.shape == (6, 2)


@given(st.lists(st.integers(1, 500), max_size=200), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_row_exactly_once(lengths: list[int], size: int, seed: int) -> None:
    plan = plan_epoch(lengths, size, seed)
    assert sorted(row for batch in plan for row in batch) == list(range(len(lengths)))
    assert len(plan) == -(-len(lengths) // size)
    assert sorted({len(batch) for batch in plan} | {size})[1:] in ([], [size])
    assert plan == plan_epoch(lengths, size, seed)


def test_epochs_differ_and_waste_little() -> None:
    lengths = np.random.default_rng(0).integers(40, 140, size=256).tolist()
    plans = [plan_epoch(lengths, 4, seed) for seed in range(5)]
    assert len({str(plan) for plan in plans}) == 5
    for plan in plans:
        computed = sum(max(lengths[row] for row in batch) * len(batch) for batch in plan)
        assert computed < 1.05 * sum(lengths)
        first_lengths = [lengths[batch[0]] for batch in plan]
        assert first_lengths != sorted(first_lengths)


@settings(max_examples=50)
@given(sizes, st.integers(1, 20))
def test_cutting_takes_the_end_of_responses_and_counts(sizes: list[tuple[int, int]], limit: int) -> None:
    rows = [trajectory(context, response) for context, response in sizes]
    result = cut(rows, limit)
    assert result.dropped == sum(context >= limit for context, _ in sizes)
    assert result.shortened == sum(context < limit < context + response for context, response in sizes)
    kept = [row for row, (context, _) in zip(rows, sizes, strict=True) if context < limit]
    for new, old in zip(result.rows, kept, strict=True):
        length = min(length_of(old), limit)
        assert length_of(new) == length
        assert new.student_ids is old.student_ids
        assert new.response_ids.tolist() == old.response_ids[: length - len(old.student_ids)].tolist()
        assert len(new.top_ids_TK) == len(new.top_logprobs_TK) == len(new.response_ids)


def test_without_a_limit_only_empty_responses_are_dropped() -> None:
    rows = [trajectory(5, 3), trajectory(5, 0)]
    result = cut(rows, None)
    assert (len(result.rows), result.shortened, result.dropped) == (1, 0, 1)
    assert result.rows[0] is rows[0]
    assert torch.equal(make_batch([shorten(rows[0], 2)]).response_ids_N, torch.tensor([5, 6]))


def test_a_group_without_gradients_has_a_limit_of_rows_and_of_padded_tokens() -> None:
    row = trajectory(3, 4)
    short, long = row, msgspec.structs.replace(row, teacher_ids=np.zeros(5000, np.int32))
    half = msgspec.structs.replace(row, teacher_ids=np.zeros(2000, np.int32))
    rows = [*[short] * 9, long, half, half, half]
    views = [teacher_view(row) for row in rows]
    assert [len(group) for group in read_groups(views)] == [8, 1, 1, 2, 1]
    assert [row for group in read_groups(views) for row in group] == views
    assert [len(group) for group in read_groups([short, half, short])] == [3], "by the student's length"
