"""Watching graphs: from within the program, from outside, and afterwards.

    async with progress(graph):
        await execute_graph(graph)

What needs a package that is not always there is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING

from .changes import ChangeStream, Skipped, open_changes
from .feed import Feed, FeedSession
from .messages import Watch
from .mirror import Mirror

if TYPE_CHECKING:
    pass

__all__ = [
    "ChangeStream",
    "Feed",
    "FeedSession",
    "Mirror",
    "Skipped",
    "Watch",
    "open_changes",
]
