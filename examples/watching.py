"""Ways to watch the crawler: from another process, in the terminal, and afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from trio_graph_scheduler import TaskGraph
from trio_graph_scheduler.observe import progress, report, serve_websocket, trace

TIME_TO_WRITE = 10.0
"""Seconds to write files after a crawl that was interrupted."""


@dataclass(frozen=True)
class Watching:
    """How a crawl is watched."""

    socket: bool = False
    """Whether a websocket tells whoever connects."""
    bars: bool = False
    """Whether the terminal shows how it gets on."""
    trace: Path | None = None
    report: Path | None = None
    """Where to write them when it is over."""


@asynccontextmanager
async def watched(graph: TaskGraph, ways: Watching) -> AsyncIterator[None]:
    """Let a graph be watched while the body runs it; write down how it went, however it ended."""
    try:
        async with AsyncExitStack() as stack:
            if ways.socket:
                nursery = await stack.enter_async_context(trio.open_nursery())
                stack.callback(nursery.cancel_scope.cancel)
                address = await nursery.start(serve_websocket, graph)
                print(f"Watch it at {address}", flush=True)
            if ways.bars:
                await stack.enter_async_context(progress(graph))
            yield
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + TIME_TO_WRITE):
            if ways.trace is not None:
                await trace.write(graph, ways.trace)
            if ways.report is not None:
                await report.write(graph, ways.report)
