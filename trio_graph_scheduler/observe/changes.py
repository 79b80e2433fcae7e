"""Every change of a graph, one after another, for tasks of the same program."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import attrs
import trio

from trio_graph_scheduler.graph import BadValue, Change, TaskGraph
from trio_graph_scheduler.graph.values import is_whole


@attrs.frozen
class Skipped:
    """That the reader was so slow that this many changes, which come before the next one, are lost."""

    count: int


@asynccontextmanager
async def open_changes(graph: TaskGraph, *, buffer: int = 1_000) -> AsyncIterator[ChangeStream]:
    """Iterate over the changes of a graph from now on, until its run is over.

        async with open_changes(graph) as changes:
            async for change in changes:
                print(change)

    Each is a `Change`; the newest ones, `buffer` at most, wait for the reader. When there were more, a
    `Skipped` says how many it has missed, and what comes next are the newest ones. If no run goes on, it
    waits for the next one. Every step of the iteration checkpoints; entering and leaving does not.

    Every change costs the graph a few microseconds while this is open. `Feed` tells the latest state instead
    of every change, and costs less.

    Raises `BadValue` unless `buffer` is a whole number, 1 or more.
    """
    if not is_whole(buffer, 1):
        raise BadValue("buffer", buffer, "it must be a whole number, 1 or more: how many changes are kept")
    stream = ChangeStream(graph, buffer)
    with graph.subscribe(stream.put):
        yield stream  # noqa: ASYNC119 - asynccontextmanager closes the generator


class ChangeStream:
    """The changes of a graph; `open_changes` makes it, and says what it gives."""

    def __init__(self, graph: TaskGraph, buffer: int) -> None:
        self._graph = graph
        self._changes: deque[Change] = deque(maxlen=buffer)
        self._skipped = 0
        self._readers = trio.lowlevel.ParkingLot()
        # The runs that are over now are not the one whose end ends this.
        self._past = len(graph.runs) - graph.running

    def put(self, change: Change) -> None:
        """Keep a change; for the graph."""
        self._skipped += len(self._changes) == self._changes.maxlen
        self._changes.append(change)
        self._readers.unpark()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change | Skipped:
        await trio.lowlevel.checkpoint()
        while not self._changes:
            if len(self._graph.runs) > self._past and not self._graph.running:
                raise StopAsyncIteration
            with self._graph.follow(self._readers.unpark_all):  # which is called at the end of the run too
                await self._readers.park()
        if self._skipped:
            skipped, self._skipped = self._skipped, 0
            return Skipped(skipped)
        return self._changes.popleft()
