"""Tasks that wait for tasks, scheduled on Trio.

    async with open_graph(graph):
        page = graph.add(fetch, url)
        words = graph.add(count_words, page)

`trio_graph_scheduler.graph` is what is to be done and knows nothing of trio; `trio_graph_scheduler.execution`
does it on trio. Their public names are all here.
"""

import importlib
from typing import TYPE_CHECKING

from .graph import (
    AlreadyRunning,
    AlreadyStarted,
    BadType,
    BadValue,
    CancelledSwallowed,
    Change,
    Condition,
    ConditionAsBoolean,
    Driver,
    DuplicateType,
    ForeignTask,
    GraphError,
    GraphFailed,
    GraphStalled,
    GroupStatistics,
    IllegalTransition,
    NoCurrentTask,
    NotConnected,
    NotInTrio,
    NotRunning,
    ResultNeeded,
    ResultStore,
    ReturnedCoroutine,
    Statistics,
    StrayCancelled,
    Subscription,
    Task,
    TaskCancelled,
    TaskFailed,
    TaskGraph,
    TaskSkipped,
    TaskState,
    TaskType,
    UnknownGroup,
    UnknownName,
    UnknownTask,
    UnknownType,
    WaitsForItself,
    WorkerGroup,
    WouldBlock,
    WouldCloseCycle,
    WrongThread,
    all_of,
    any_of,
    at_least,
    done,
    failed,
    settled,
    skipped,
    succeeded,
    task_type,
)

if TYPE_CHECKING:
    from .execution import (
        Report,
        Run,
        TaskBlocksLoop,
        current_graph,
        current_task,
        execute_graph,
        open_graph,
        worker_context,
    )

__all__ = [
    "AlreadyRunning",
    "AlreadyStarted",
    "BadType",
    "BadValue",
    "CancelledSwallowed",
    "Change",
    "Condition",
    "ConditionAsBoolean",
    "Driver",
    "DuplicateType",
    "ForeignTask",
    "GraphError",
    "GraphFailed",
    "GraphStalled",
    "GroupStatistics",
    "IllegalTransition",
    "NoCurrentTask",
    "NotConnected",
    "NotInTrio",
    "NotRunning",
    "Report",
    "ResultNeeded",
    "ResultStore",
    "ReturnedCoroutine",
    "Run",
    "Statistics",
    "StrayCancelled",
    "Subscription",
    "Task",
    "TaskBlocksLoop",
    "TaskCancelled",
    "TaskFailed",
    "TaskGraph",
    "TaskSkipped",
    "TaskState",
    "TaskType",
    "UnknownGroup",
    "UnknownName",
    "UnknownTask",
    "UnknownType",
    "WaitsForItself",
    "WorkerGroup",
    "WouldBlock",
    "WouldCloseCycle",
    "WrongThread",
    "all_of",
    "any_of",
    "at_least",
    "current_graph",
    "current_task",
    "done",
    "execute_graph",
    "failed",
    "open_graph",
    "settled",
    "skipped",
    "succeeded",
    "task_type",
    "worker_context",
]


def __getattr__(name: str) -> object:
    # What runs graphs is imported when it is first asked for: `graph` works where there is no trio.
    if name in __all__:
        return getattr(importlib.import_module(f"{__name__}.execution"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
