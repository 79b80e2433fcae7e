"""Ways to run a shape: this library, and three without it.

Each is what one would write by hand if that were all that is needed, and includes building what it
schedules by: every `add` here, the `TopologicalSorter` there. The bodies are passed in, so that tests see
what runs when.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from graphlib import TopologicalSorter

import trio

from trio_graph_scheduler import Task, TaskGraph, execute_graph

from .shapes import Shape

Body = Callable[[], Awaitable[None]]
Way = Callable[[Shape, Sequence[Body]], Awaitable[None]]

LIMIT = 10


async def nothing() -> None:
    """Be the body that is measured with: what is left is what scheduling costs."""


def graph_of(shape: Shape, bodies: Sequence[Body]) -> TaskGraph:
    """Return a graph of all the tasks."""
    graph = TaskGraph(worker_loops={"default": LIMIT})
    tasks: list[Task[None]] = []
    for needs, body in zip(shape, bodies, strict=True):
        tasks.append(graph.add(body, after=[tasks[index] for index in needs]) if needs else graph.add(body))
    return graph


async def library(shape: Shape, bodies: Sequence[Body]) -> None:
    """Add all tasks to a graph and execute it."""
    await execute_graph(graph_of(shape, bodies), warn_blocking_after=None)  # see tree.library


async def plain_loop(shape: Shape, bodies: Sequence[Body]) -> None:
    """Await one body after another in topological order, which is the order they are in: the floor."""
    for _, body in zip(shape, bodies, strict=True):
        await body()


async def start_soon(shape: Shape, bodies: Sequence[Body]) -> None:
    """Start a trio task for every task that graphlib says is ready, and limit them with a CapacityLimiter."""
    sorter = _sorter(shape)
    limiter = trio.CapacityLimiter(LIMIT)

    async def run(index: int) -> None:
        async with limiter:
            await bodies[index]()
        sorter.done(index)
        start_ready()

    def start_ready() -> None:
        for index in sorter.get_ready():
            nursery.start_soon(run, index)

    async with trio.open_nursery() as nursery:
        start_ready()


async def channel(shape: Shape, bodies: Sequence[Body]) -> None:
    """Let ten worker loops receive what graphlib says is ready from a memory channel."""
    sorter = _sorter(shape)
    send, receive = trio.open_memory_channel[int](math.inf)

    async def work() -> None:
        async for index in receive:
            await bodies[index]()
            sorter.done(index)
            send_ready()

    def send_ready() -> None:
        for index in sorter.get_ready():
            send.send_nowait(index)
        if not sorter.is_active():
            send.close()

    async with trio.open_nursery() as nursery:
        send_ready()
        for _ in range(LIMIT):
            nursery.start_soon(work)


def _sorter(shape: Shape) -> TopologicalSorter[int]:
    sorter = TopologicalSorter(dict(enumerate(shape)))
    sorter.prepare()
    return sorter


WAYS: dict[str, Way] = {
    "library": library,
    "plain loop": plain_loop,
    "start_soon": start_soon,
    "channel": channel,
}
