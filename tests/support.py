"""What the tests of execution share: ways to run trio, and small bodies."""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

from trio_graph_scheduler import TaskGraph, current_graph, current_task

T = TypeVar("T")
SEEDS = (0, 1, 2)
SIZES = (1, 2, 8)


def examples(most: int) -> int:
    """Return how many examples to try: fewer where coverage is measured, which takes much longer."""
    coverage = sys.modules.get("coverage")
    return max(1, most // 5) if coverage is not None and coverage.Coverage.current() else most


def run(main: Callable[..., Awaitable[T]], *args: object, seed: int = 0, clock: bool = True) -> T:
    """Run an async function on a mock clock that jumps, in an order of trio tasks that depends on the seed
    only.
    """
    trio._core._run._r = random.Random(seed)  # noqa: S311 - nothing secret about it
    return trio.run(main, *args, clock=MockClock(autojump_threshold=0) if clock else None)


class Meter:
    """Counts bodies that execute at the same time."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.total = 0

    def __enter__(self) -> None:
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


async def nothing() -> None:
    """Do nothing."""


async def give(value: T) -> T:
    """Return the value, at once."""
    return value


async def give_later(value: T, delay: float = 1.0) -> T:
    """Return the value after a while."""
    await trio.sleep(delay)
    return value


async def fail(message: str = "no") -> None:
    """Raise at once."""
    raise ValueError(message)


async def fail_later(message: str = "no", delay: float = 1.0) -> None:
    """Raise after a while."""
    await trio.sleep(delay)
    raise ValueError(message)


async def forever() -> None:
    """Never end."""
    await trio.sleep_forever()


def states(graph: TaskGraph) -> dict[str, str]:
    """Return the states of all tasks by name."""
    return {task.name: str(task.state) for task in graph}


def add_here(kind: Callable[..., Any], *args: object, **options: Any) -> Any:
    """Add a task to the graph of the current task."""
    assert current_task().graph is current_graph()
    return current_graph().add(kind, *args, **options)
