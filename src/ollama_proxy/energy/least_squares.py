"""Least squares of a handful of terms from their normal equations, by hand: no array library is worth its weight here.

With `S = sum(w x x')` and `r = sum(w x y)`, the coefficients `c` minimise `c' S c - 2 r' c`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]

#: A pivot below this share of its term's own size says that the data does not tell the terms apart.
_LEAST_PIVOT = 1e-10
#: A term that sums up to less has no size: dividing by it would overflow.
_LEAST_SIZE = 1e-100


def invert(matrix: Matrix) -> list[list[float]] | None:
    """The inverse of a symmetric positive matrix; None when it has none to speak of.

    Gauss-Jordan with rows and columns scaled to a diagonal of ones first, so that joules a token and joules a request
    are judged alike.
    """
    size = len(matrix)
    if any(matrix[i][i] < _LEAST_SIZE for i in range(size)):
        return None
    scale = [matrix[i][i] ** -0.5 for i in range(size)]
    rows = [
        [matrix[i][j] * scale[i] * scale[j] for j in range(size)] + [float(i == j) for j in range(size)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = rows[column][column]
        if pivot < _LEAST_PIVOT:
            return None
        rows[column] = [value / pivot for value in rows[column]]
        for i in range(size):
            if i != column and (factor := rows[i][column]):
                rows[i] = [value - factor * lead for value, lead in zip(rows[i], rows[column], strict=True)]
    return [[rows[i][size + j] * scale[i] * scale[j] for j in range(size)] for i in range(size)]


def multiply(matrix: Matrix, vector: Vector) -> list[float]:
    """Matrix times vector."""
    return [dot(row, vector) for row in matrix]


def dot(left: Vector, right: Vector) -> float:
    """The scalar product."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def solve_nonnegative(matrix: Matrix, vector: Vector) -> list[float]:
    """The coefficients, none below zero, that fit best; zeros where nothing can be told.

    Every choice of terms that are not zero is tried: exact, and cheap for the four terms there are at most.
    """
    size = len(vector)
    best, best_cost = [0.0] * size, 0.0
    for count in range(size, 0, -1):
        for terms in combinations(range(size), count):
            inverse = invert([[matrix[i][j] for j in terms] for i in terms])
            if inverse is None:
                continue
            right = [vector[i] for i in terms]
            found = multiply(inverse, right)
            cost = -dot(found, right)
            if min(found) >= 0 and cost < best_cost:
                if count == size:
                    return found  # nothing fits better than the fit without any bound
                best, best_cost = [0.0] * size, cost
                for i, value in zip(terms, found, strict=True):
                    best[i] = value
    return best
