"""Ways to run a shape: this library, and three without it. Bodies do nothing, so what is measured is what scheduling costs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from graphlib import TopologicalSorter

import trio

from trio_graph_scheduler import Task, TaskGraph, current_task, execute_graph

from .shapes import Shape

LIMIT = 10


async def nothing() -> None:
    """Do nothing."""


async def library(shape: Shape) -> TaskGraph:
    """Add all tasks to a graph and execute it."""
    graph = TaskGraph(worker_loops={"default": LIMIT})
    add = graph.add
    tasks: list[Task[None]] = []
    for needs in shape:
        tasks.append(add(nothing, after=[tasks[index] for index in needs]) if needs else add(nothing))
    await execute_graph(graph)
    return graph


async def plain_loop(shape: Shape) -> None:
    """Await the bodies one after another, in topological order: the floor."""
    for _ in shape:
        await nothing()


def _sorter(shape: Shape) -> TopologicalSorter[int]:
    sorter = TopologicalSorter({index: needs for index, needs in enumerate(shape)})
    sorter.prepare()
    return sorter


async def start_soon(shape: Shape) -> None:
    """Start a trio task for every ready task, and limit them with a CapacityLimiter."""
    sorter = _sorter(shape)
    limiter = trio.CapacityLimiter(LIMIT)

    async def body(index: int) -> None:
        async with limiter:
            await nothing()
        sorter.done(index)
        for ready in sorter.get_ready():
            nursery.start_soon(body, ready)

    async with trio.open_nursery() as nursery:
        for ready in sorter.get_ready():
            nursery.start_soon(body, ready)


async def channel(shape: Shape) -> None:
    """Feed ten worker loops over a memory channel."""
    sorter = _sorter(shape)
    send, receive = trio.open_memory_channel[int](math.inf)

    async def worker() -> None:
        async for index in receive:
            await nothing()
            sorter.done(index)
            for ready in sorter.get_ready():
                send.send_nowait(ready)
            if not sorter.is_active():
                send.close()

    async with trio.open_nursery() as nursery:
        for ready in sorter.get_ready():
            send.send_nowait(ready)
        for _ in range(LIMIT):
            nursery.start_soon(worker)


# The tree is not known beforehand: a task spawns two children, down to n nodes, and a task that adds their sums up when both have.


async def library_tree(n: int) -> TaskGraph:
    """Spawn and sum with children and dependencies."""
    graph = TaskGraph(worker_loops={"default": LIMIT})

    async def add_up(left: Task[int], right: Task[int]) -> int:
        return 1
    async def node(index: int) -> None:
        left = 2 * index + 1
        if left + 1 < n:
            add = current_task().graph.add
            add(nothing, after=[add(node, left), add(node, left + 1)])

    graph.add(node, 0)
    await execute_graph(graph)
    return graph
