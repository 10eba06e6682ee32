"""KL between two next-token distributions of which only the likeliest tokens are known."""

import numpy as np
from numpy.typing import NDArray

from baker.types import Distribution

TINY = 1e-9


def top_kl(teacher: Distribution, student: Distribution) -> float:
    """A lower bound of KL(teacher || student), in nats per token, from the K likeliest tokens of each at T positions.

    Tokens that both have count one by one. Those that only the teacher has form a bucket, and all others form a second:
    merging tokens never raises a KL. How the student shares its remaining probability between the two buckets is not
    known, so the share with the lowest KL counts.
    """
    return float(position_kls(teacher, student).mean())


def position_kls(teacher: Distribution, student: Distribution) -> NDArray[np.float64]:
    """`top_kl` of each of the T positions, in nats."""
    rows = zip(teacher.top_ids_TK, teacher.top_logprobs_TK, student.top_ids_TK, student.top_logprobs_TK, strict=True)
    return np.array([_position_kl(*row) for row in rows], np.float64)


def _position_kl(
    teacher_ids: NDArray[np.int32],
    teacher_logprobs: NDArray[np.float32],
    student_ids: NDArray[np.int32],
    student_logprobs: NDArray[np.float32],
) -> float:
    p, q = np.exp(teacher_logprobs, dtype=np.float64), np.exp(student_logprobs, dtype=np.float64)
    _, in_p, in_q = np.intersect1d(teacher_ids, student_ids, return_indices=True)
    shared_p, shared_q = p[in_p], q[in_q]
    only_p = max(p.sum() - shared_p.sum(), 0.0)
    rest_p = max(1.0 - p.sum(), 0.0)
    remaining_q = max(1.0 - shared_q.sum(), TINY)
    # None of the teacher's own tokens is likelier than the student's K-th, and they are all outside the student's K.
    most_q = min((len(p) - len(in_p)) * q.min(), max(1.0 - q.sum(), 0.0))
    only_q = min(most_q, remaining_q * only_p / max(only_p + rest_p, TINY))
    shared = float((shared_p * np.log(shared_p / shared_q)).sum())
    return shared + _term(only_p, only_q) + _term(rest_p, remaining_q - only_q)


def _term(p: float, q: float) -> float:
    return p * float(np.log(p / max(q, TINY))) if p > TINY else 0.0
