"""The graphs that are measured, as plain data: for each task the tasks it needs, by index, every task after those it needs."""

from __future__ import annotations

import random
from collections.abc import Callable

Shape = list[tuple[int, ...]]

LAYER = 100
NEEDS = 3
REDUCE_BY = 10


def wide(n: int) -> Shape:
    """Return n tasks that need nothing."""
    return [()] * n


def chain(n: int) -> Shape:
    """Return n tasks each of which needs the one before it."""
    return [(index - 1,) if index else () for index in range(n)]


def layered(n: int) -> Shape:
    """Return layers of 100 tasks, each of which needs 3 tasks of the layer before."""
    rng = random.Random(n)
    shape: Shape = []
    for index in range(n):
        first = index // LAYER * LAYER - LAYER
        shape.append(tuple(sorted(rng.sample(range(first, first + LAYER), NEEDS))) if first >= 0 else ())
    return shape


def map_reduce(n: int) -> Shape:
    """Return n maps whose results are reduced by 10 until one is left: 10 tasks for every 9 of n, about."""
    shape: Shape = [()] * n
    level = list(range(n))
    while len(level) > 1:
        reduced = []
        for start in range(0, len(level), REDUCE_BY):
            reduced.append(len(shape))
            shape.append(tuple(level[start : start + REDUCE_BY]))
        level = reduced
    return shape


SHAPES: dict[str, Callable[[int], Shape]] = {"wide": wide, "chain": chain, "layered": layered, "map-reduce": map_reduce}
