"""The best approximation of a product of two long factors by one of smaller rank, from small matrices alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from baker.adapters.updates import SAME, Update

RESOLUTION = 1e-6
"""Share of the largest singular value below which one is rounding of the factors' float32."""


class LowRank(NamedTuple):
    """B @ A as (B @ left) @ (right @ A), exact for the singular values in `values`. Its first r columns of `left` and
    rows of `right` give the best approximation of rank r. Both factors have the same norms."""

    values: NDArray[np.float64]
    """Singular values of B @ A without rounding, largest first: shape (n,), n <= k."""
    left: NDArray[np.float64]
    """Shape (k, n)."""
    right: NDArray[np.float64]
    """Shape (n, k)."""


def low_rank(update: Update) -> LowRank:
    """Of an update with factors of shapes (out, k) and (k, in).

    With orthonormal bases Q_B and Q_A of the factors, B @ A = Q_B (C) Q_A, and the singular values of C, of shape at
    most (k, k), are those of B @ A. Here the bases come from the factors' Gram matrices, in float64, which is exact to
    1e-8 of the largest column. A QR of the factors would be exact to 1e-16, and took 40 times as long where other
    processes use the cores: its threads wait for each other.
    """
    gram_b, gram_a = update.b.T @ update.b, update.a @ update.a.T
    norms_b, norms_a = np.sqrt(np.diag(gram_b)), np.sqrt(np.diag(gram_a))
    # Column i of B and row i of A get the same norm: a Gram matrix loses columns that are 1e-8 of the largest.
    used = (norms_b > 0) & (norms_a > 0)
    balance = np.sqrt(norms_a[used] / norms_b[used])
    root_b, basis_b = _root(gram_b[np.ix_(used, used)] * np.outer(balance, balance))
    root_a, basis_a = _root(gram_a[np.ix_(used, used)] / np.outer(balance, balance))
    u, values, v = np.linalg.svd(root_b.T @ root_a, full_matrices=False)
    largest_term = (norms_b * norms_a).max(initial=0.0)
    count = int((values > max(RESOLUTION * values.max(initial=0.0), SAME * largest_term)).sum())
    half = np.sqrt(values[:count])
    left, right = np.zeros((len(used), count)), np.zeros((count, len(used)))
    left[used] = balance[:, None] * (basis_b @ (u[:, :count] * half))
    right[:, used] = ((half[:, None] * v[:count]) @ basis_a.T) / balance
    return LowRank(values[:count], left, right)


def _root(gram: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For X of shape (n, k) with gram = X'X: the coordinates of X's columns in an orthonormal basis of their span, as
    rows of shape (k, m), and the matrix (k, m) with which X @ matrix is that basis."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > values.max(initial=0.0) * len(gram) * np.finfo(np.float64).eps
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, vectors[:, kept] / roots
