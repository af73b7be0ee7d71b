"""Dynamic time warping of two sequences of frames.

Shapes: `N` and `M` frames, `W` their width, `P` steps of the path.
"""

from dataclasses import dataclass

import numpy as np

from ondevice.errors import InputError


@dataclass(frozen=True)
class Warp:
    """The cheapest alignment of two sequences, from (0, 0) to (N - 1, M - 1)."""

    first: np.ndarray  # int64 [P], frames of the first sequence, never falling
    second: np.ndarray  # int64 [P]
    cost: float  # sum of the distances along the path


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances float64 [N, M] of frames [N, W] and [M, W]."""
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    close = squares < 1e-6 * ((x**2).sum(1)[:, None] + (y**2).sum(1))
    rows, columns = np.nonzero(close)  # cancellation leaves noise where frames are nearly equal
    squares[rows, columns] = ((x[rows] - y[columns]) ** 2).sum(1)
    return np.sqrt(np.maximum(squares, 0))


def warp(cost: np.ndarray, band: int | None = None) -> Warp:
    """The path of least total cost [N, M], by steps of one frame in either sequence or both, each counted once.

    With `band` the path stays within so many frames of the straight line between the corners (Sakoe & Chiba
    1978). Of equally cheap ways a step in both is preferred. Raises InputError when a sequence is empty or costs
    are not finite.
    """
    cost = np.asarray(cost, np.float64)
    if cost.ndim != 2 or not cost.size:
        raise InputError(f"warp: costs of shape {list(cost.shape)}; expected [N, M] with at least one frame each")
    if not np.isfinite(cost).all():
        raise InputError("warp: costs hold NaN or infinities; expected finite numbers")
    if band is not None:
        cost = np.where(_near_diagonal(*cost.shape, max(1, band)), cost, np.inf)
    first, second = _path(_totals(cost), *cost.shape)
    return Warp(first, second, float(cost[first, second].sum()))


def _near_diagonal(rows: int, columns: int, band: int) -> np.ndarray:
    i, j = np.arange(rows)[:, None], np.arange(columns)
    slope = (columns - 1) / max(rows - 1, 1)
    return np.abs(j - i * slope) <= band * max(1.0, slope)


def _totals(cost: np.ndarray) -> np.ndarray:
    """Cost of the best path to (i, j) at [i + j, i]: float64 [N + M - 1, N].

    Cells of one anti-diagonal depend only on the two before it, so each is one vector operation.
    """
    rows, columns = cost.shape
    total = np.full((rows + columns - 1, rows + 1), np.inf)  # column 0 is frame -1: no way leads from there
    total[0, 1] = cost[0, 0]
    for d in range(1, rows + columns - 1):
        low, high = max(0, d - columns + 1), min(d, rows - 1) + 1
        best = np.minimum(total[d - 1, 1 + low : 1 + high], total[d - 1, low:high])  # from (i, j - 1), (i - 1, j)
        if d > 1:
            best = np.minimum(best, total[d - 2, low:high])  # from (i - 1, j - 1)
        i = np.arange(low, high)
        total[d, 1 + low : 1 + high] = best + cost[i, d - i]
    return total[:, 1:]


def _path(total: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The frames [P] of both sequences along the best path, traced back from its end."""
    i, j = rows - 1, columns - 1
    steps = [(i, j)]
    while i or j:
        ways = []
        if i and j:
            ways.append((total[i + j - 2, i - 1], i - 1, j - 1))
        if i:
            ways.append((total[i + j - 1, i - 1], i - 1, j))
        if j:
            ways.append((total[i + j - 1, i], i, j - 1))
        _, i, j = min(ways, key=lambda way: way[0])
        steps.append((i, j))
    path = np.array(steps[::-1], np.int64)
    return path[:, 0], path[:, 1]
