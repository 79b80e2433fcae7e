"""What the body of a task may ask about where it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trio_graph_scheduler.graph.errors import NoCurrentTask
from trio_graph_scheduler.graph.task import CURRENT_TASK, EXECUTING

if TYPE_CHECKING:
    from trio_graph_scheduler.graph import Task, TaskGraph


def current_task() -> Task[Any]:
    """Return the task whose body this is, also in its child nurseries and threads.

    Raises `NoCurrentTask` outside of one.
    """
    task = CURRENT_TASK.get()
    if task is None:
        raise NoCurrentTask("current_task")
    return task


def current_graph() -> TaskGraph:
    """Return the graph that runs this body.

    Raises `NoCurrentTask` outside of one.
    """
    task = CURRENT_TASK.get()
    if task is None:
        raise NoCurrentTask("current_graph")
    return task.graph


def worker_context() -> Any:
    """Return what the context manager of this body's worker loop gave; None if its group has none.

        WorkerGroup(2, context=open_connection)  # worker_context() is then this loop's own connection

    Raises `NoCurrentTask` outside of a body that runs.
    """
    task = CURRENT_TASK.get()
    if task is None or task.state not in EXECUTING or task.worker is None:
        raise NoCurrentTask("worker_context")
    return task.worker.context
