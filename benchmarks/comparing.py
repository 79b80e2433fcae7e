"""The programs of a comparison, measured as `measuring` measures shapes: taking turns, in CPU time."""

from __future__ import annotations

import gc
import statistics
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import process_time

import trio

from trio_graph_scheduler import Change, TaskGraph, execute_graph

from .measuring import LARGE, ratio, spread
from .policies import Comparison


@dataclass
class Figures:
    """What was measured of a program; times and bytes are per task."""

    seconds: list[float] = field(default_factory=list)
    """CPU time, one of every round."""
    rates: list[float] = field(default_factory=list)
    """The rate reached over the rate asked for, one of every round, where there is one."""
    bytes_at_most: float | None = None
    suspended_at_most: int | None = None
    """The most tasks that were SUSPENDED at a time."""

    @property
    def median(self) -> float:
        """The median time."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """How far its times are apart."""
        return spread(self.seconds)

    @property
    def rate(self) -> float | None:
        """The median of the rates."""
        return statistics.median(self.rates) if self.rates else None


@dataclass(frozen=True)
class Compared:
    """What was measured of a comparison. The first program is the one that uses the policy."""

    policy: str
    case: str
    tasks: int
    programs: Mapping[str, Figures]

    def ratio(self, program: str) -> float | None:
        """Return the time of the first program over this one's in the same round, median; None for itself."""
        first = next(iter(self.programs))
        if program == first:
            return None
        return ratio(self.programs[first].seconds, self.programs[program].seconds)


def compare(comparison: Comparison, repeats: int) -> Compared:
    """Measure a comparison: every program once per round, then memory and SUSPENDED tasks if it says so."""
    programs = {name: Figures() for name in comparison.programs}
    tasks = comparison.tasks
    for _ in range(rounds(comparison, repeats)):
        for name, program in comparison.programs.items():
            gc.collect()
            seconds, rate = trio.run(_time, program.run)
            programs[name].seconds.append(seconds / tasks)
            if rate is not None:
                programs[name].rates.append(rate)
    if comparison.in_depth:
        for name, program in comparison.programs.items():
            gc.collect()
            programs[name].bytes_at_most = trio.run(_memory, program.run) / tasks
            if program.build is not None:
                programs[name].suspended_at_most = most_suspended(program.build())
    return Compared(comparison.policy, comparison.case, tasks, programs)


def rounds(comparison: Comparison, repeats: int) -> int:
    """Return how often a comparison is measured: large ones, and those that take their time, less often."""
    seldom = comparison.tasks > LARGE or comparison.policy == "rate"
    return max(1, repeats // 3) if seldom else repeats


def most_suspended(graph: TaskGraph) -> int:
    """Execute a graph and return how many of its tasks were SUSPENDED at a time, at most."""
    group = graph.groups["default"]
    most = 0

    def look(_: Change) -> None:
        nonlocal most
        most = max(most, group.suspended)

    with graph.subscribe(look):
        trio.run(execute_graph, graph)
    return most


async def _time(run: Callable[[], Awaitable[float | None]]) -> tuple[float, float | None]:
    began = process_time()
    rate = await run()
    return process_time() - began, rate


async def _memory(run: Callable[[], Awaitable[object]]) -> int:
    """Return the most bytes that there were, from building to the end of the run."""
    tracemalloc.start()
    try:
        await run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
