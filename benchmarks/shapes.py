"""The graphs that are measured, as plain data: for each task the indices of what it needs.

The tree is not among them, for nobody knows it beforehand: see `tree`.
"""

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
    """Return n tasks, each of which needs the one before it."""
    return [(index - 1,) if index else () for index in range(n)]


def layered(n: int) -> Shape:
    """Return n tasks in layers of 100, each of which needs 3 tasks of the layer before; always the same."""
    rng = random.Random(n)  # noqa: S311 - nothing secret about it
    shape: Shape = []
    for index in range(n):
        layer = index // LAYER * LAYER
        shape.append(tuple(rng.sample(range(layer - LAYER, layer), NEEDS)) if layer else ())
    return shape


def map_reduce(n: int) -> Shape:
    """Return n maps, and what reduces them by 10 until one is left: a ninth more tasks."""
    shape: Shape = [()] * n
    level = range(n)
    while len(level) > 1:
        shape += [tuple(level[start : start + REDUCE_BY]) for start in range(0, len(level), REDUCE_BY)]
        level = range(level.stop, len(shape))
    return shape


SHAPES: dict[str, Callable[[int], Shape]] = {
    "wide": wide,
    "chain": chain,
    "layered": layered,
    "map-reduce": map_reduce,
}
