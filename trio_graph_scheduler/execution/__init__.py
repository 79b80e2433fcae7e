"""Running a graph on trio."""

from .context import current_graph, current_task, worker_context
from .run import Report, Run, execute_graph, open_graph
from .worker_loops import TaskBlocksLoop

__all__ = [
    "Report",
    "Run",
    "TaskBlocksLoop",
    "current_graph",
    "current_task",
    "execute_graph",
    "open_graph",
    "worker_context",
]
