"""Time and memory, measured.

Time is the CPU time of the process: nothing here waits for anything but itself, and unlike the clock on
the wall it does not count what else the machine does. The ways take turns, so that a slow spell hits all
of them, and ratios are taken within a turn. The garbage collector runs as it does for everyone; only
between runs is it told to, and what a run leaves to it then is not counted. Memory is what tracemalloc
sees, in a run of its own, for tracing takes time.
"""

from __future__ import annotations

import gc
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import process_time

import trio

from trio_graph_scheduler import TaskGraph, execute_graph

from . import tree, ways
from .shapes import SHAPES

LIBRARY, PLAIN_LOOP, START_SOON, CHANNEL = ways.WAYS
SHAPE_NAMES = ("wide", "chain", "layered", "tree", "map-reduce")

LARGE = 10_000
"""Sizes above this one are repeated a third as often."""


@dataclass(frozen=True)
class Case:
    """A shape of a size, and how to run it."""

    shape: str
    size: int
    """The N of the shape."""
    tasks: int
    """How many tasks that makes."""
    ways: Mapping[str, Callable[[], Awaitable[None]]]
    build: Callable[[], TaskGraph]
    grows: bool = False
    """Whether it is the tasks that add most of the tasks."""


@dataclass(frozen=True)
class Row:
    """What was measured of a case, per task. Times are CPU seconds, one of each way in every round."""

    shape: str
    size: int
    tasks: int
    seconds: Mapping[str, list[float]]
    bytes_added: float | None
    """Of the library, when all tasks have been added and none has run; None where they are added by tasks."""
    bytes_at_most: float
    """Of the library, from the first task added to the end of the run."""

    def median(self, way: str) -> float:
        """Return the median time of a way."""
        return statistics.median(self.seconds[way])

    def spread(self, way: str) -> float:
        """Return how far the times of a way are apart: half of their range, relative to the median."""
        return spread(self.seconds[way])

    def ratio(self, way: str) -> float | None:
        """Return the library's time over this way's in the same round, median; None without such a way."""
        if way not in self.seconds:
            return None
        return ratio(self.seconds[LIBRARY], self.seconds[way])


def spread(times: Sequence[float]) -> float:
    """Return how far times are apart: half of their range, relative to the median."""
    return (max(times) - min(times)) / 2 / statistics.median(times)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return our time over theirs in the same round, median."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def case_of(shape: str, size: int) -> Case:
    """Return the case of a shape and a size. Making the shape itself is nobody's work, and is done here."""
    if shape == "tree":
        tree_ways = {name: partial(_in_new_tree, way, size) for name, way in tree.WAYS.items()}
        build = partial(_in_new_tree_graph, size)
        return Case(shape, size, tree.Tree(size).tasks, tree_ways, build, grows=True)
    needs = SHAPES[shape](size)
    bodies = [ways.nothing] * len(needs)
    shape_ways = {name: partial(way, needs, bodies) for name, way in ways.WAYS.items()}
    return Case(shape, size, len(needs), shape_ways, partial(ways.graph_of, needs, bodies))


def measure(case: Case, repeats: int) -> Row:
    """Measure a case: every way once per round, then the library's memory."""
    seconds: dict[str, list[float]] = {name: [] for name in case.ways}
    for _ in range(rounds(case.size, repeats)):
        for name, way in case.ways.items():
            gc.collect()
            seconds[name].append(trio.run(_time, way) / case.tasks)
    added, at_most = (total / case.tasks for total in _memory(case.build))
    return Row(case.shape, case.size, case.tasks, seconds, None if case.grows else added, at_most)


def rounds(size: int, repeats: int) -> int:
    """Return how often a size is measured: large ones a third as often."""
    return repeats if size <= LARGE else max(1, repeats // 3)


async def _time(way: Callable[[], Awaitable[None]]) -> float:
    began = process_time()
    await way()
    return process_time() - began


def _memory(build: Callable[[], TaskGraph]) -> tuple[int, int]:
    """Return the bytes of a graph when it has been built, and the most there were until its run ended."""
    gc.collect()
    tracemalloc.start()
    try:
        graph = build()
        added, _ = tracemalloc.get_traced_memory()
        trio.run(execute_graph, graph)
        _, at_most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return added, at_most


async def _in_new_tree(way: tree.Way, size: int) -> None:
    new = tree.Tree(size)
    await way(new)
    new.verify()


def _in_new_tree_graph(size: int) -> TaskGraph:
    return tree.graph_of(tree.Tree(size))
