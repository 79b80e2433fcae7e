"""What it costs a graph to be watched, in CPU time of its process.

The same graph runs unobserved, with a session of the feed that is read in the program, and with websocket
clients, which run in a process of their own and are connected before the first task is added. What is
measured is from there to the end of the run. Each session and client is told something every 50 ms at most.
Of several clients one never reads; what that takes in memory is measured beside one that does.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, process_time

import trio

from trio_graph_scheduler import TaskGraph, execute_graph, settled
from trio_graph_scheduler.observe import Feed, serve_websocket

from .measuring import ratio
from .tree import Tree
from .ways import LIMIT, nothing

INTERVAL = 0.05
SIZE = 100_000
NOBODY, FEED = "nobody", "feed"
CLIENTS = (1, 10, 100)
Add = Callable[[TaskGraph], None]


@dataclass
class Watched:
    """What was measured of a shape with certain observers."""

    observers: str
    seconds: list[float] = field(default_factory=list)
    """CPU time, one of every round."""
    pace: list[float] = field(default_factory=list)
    """Messages per second to each client, one of every round."""


@dataclass(frozen=True)
class WatchedShape:
    """What was measured of a shape."""

    shape: str
    size: int
    rows: list[Watched]
    reader_bytes: int
    """The most memory with one client that reads."""
    idler_bytes: int
    """The most memory with one that reads and one that never does."""

    def ratio(self, row: Watched) -> float:
        """Return the time with these observers over that with none, in the same round; median."""
        return ratio(row.seconds, self.rows[0].seconds)

    @property
    def growth(self) -> float:
        """What the client that never reads makes of the memory."""
        return self.idler_bytes / self.reader_bytes


def measure_watched(shape: str, size: int, rounds: int) -> WatchedShape:
    """Measure a shape with all observers, which take turns."""
    add = partial(SHAPES[shape], size)
    rows = [Watched(NOBODY), Watched(FEED), *[Watched(_clients(count)) for count in CLIENTS]]
    for _ in range(rounds):
        for row, count in zip(rows, (None, 0, *CLIENTS), strict=True):
            gc.collect()
            seconds, pace = trio.run(_run, add, count)
            row.seconds.append(seconds)
            row.pace += pace
    reader, idler = (trio.run(_memory, add, count) for count in (1, 2))
    return WatchedShape(shape, size, rows, reader, idler)


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


# The programs -----------------------------------------------------------------------------------------------


def _add_wide(size: int, graph: TaskGraph) -> None:
    for _ in range(size):
        graph.add(nothing)


def _add_tree(size: int, graph: TaskGraph) -> None:
    tree = Tree(size)

    async def node(index: int) -> None:
        children = [graph.add(node, child) for child in tree.visit(index)]
        if children:
            graph.add(tree.add_up, index, after=settled(*children))

    graph.add(node, 0)


SHAPES: Mapping[str, Callable[[int, TaskGraph], None]] = {"wide": _add_wide, "tree": _add_tree}
"""What adds the tasks of a shape of some size."""


async def _run(add: Add, clients: int | None) -> tuple[float, list[float]]:
    """Run a graph with so many clients, or a session of the feed (0), or nobody (None)."""
    graph = TaskGraph(worker_loops={"default": LIMIT})
    async with _watched(graph, clients) as counted:
        began, clock = process_time(), perf_counter()
        add(graph)
        await execute_graph(graph, warn_blocking_after=None)  # see tree.library
        seconds, elapsed = process_time() - began, perf_counter() - clock
    return seconds, [count / elapsed for count in counted]


async def _memory(add: Add, clients: int) -> int:
    graph = TaskGraph(worker_loops={"default": LIMIT})
    async with _watched(graph, clients):
        gc.collect()
        tracemalloc.start()
        try:
            add(graph)
            await execute_graph(graph, warn_blocking_after=None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@asynccontextmanager
async def _watched(graph: TaskGraph, clients: int | None) -> AsyncIterator[list[int]]:
    """Have a graph watched within the block; give a list that has the messages of each client after it."""
    counted: list[int] = []
    async with trio.open_nursery() as nursery:
        if clients is None:
            yield counted
        elif not clients:
            await nursery.start(_listen, graph)
            yield counted
        else:
            address = await nursery.start(partial(serve_websocket, graph, interval=INTERVAL))
            command = [sys.executable, "-m", "benchmarks.clients", str(address.port), str(clients)]
            process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdin is not None  # noqa: S101 - these are pipes
            assert process.stdout is not None  # noqa: S101 - see above
            await process.stdout.receive_some()
            yield counted
            await process.stdin.aclose()
            told = b"".join([part async for part in process.stdout])
            counted += map(int, told.split())
            await process.wait()
        nursery.cancel_scope.cancel()


async def _listen(graph: TaskGraph, task_status: trio.TaskStatus) -> None:
    with Feed(graph).session(interval=INTERVAL) as session:
        task_status.started()
        async for _ in session:
            pass
