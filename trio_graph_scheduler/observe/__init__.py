"""Watching graphs: while they run, from within the program and from outside, and afterwards.

    async with progress(graph):
        await execute_graph(graph)
    await report.write(graph, "run.html")

Modules that need a package which is not always there are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from . import profile, report, trace
from .changes import ChangeStream, Skipped, open_changes
from .drawing import GraphvizFailed, NoGraphviz, to_dot, to_json, to_mermaid, to_svg
from .feed import Feed, FeedSession, Mirror, Watch
from .logs import JSONFormatter, LineFormatter, TaskContext, TaskLog, TreeFormatter
from .terminal import RichNeeded, progress

if TYPE_CHECKING:
    from .client import Remote, watch
    from .telemetry import spans
    from .websocket import serve_websocket

__all__ = [
    "ChangeStream",
    "Feed",
    "FeedSession",
    "GraphvizFailed",
    "JSONFormatter",
    "LineFormatter",
    "Mirror",
    "NoGraphviz",
    "Remote",
    "RichNeeded",
    "Skipped",
    "TaskContext",
    "TaskLog",
    "TreeFormatter",
    "Watch",
    "open_changes",
    "profile",
    "progress",
    "report",
    "serve_websocket",
    "spans",
    "to_dot",
    "to_json",
    "to_mermaid",
    "to_svg",
    "trace",
    "watch",
]

_LATER = {"Remote": "client", "watch": "client", "spans": "telemetry", "serve_websocket": "websocket"}


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
