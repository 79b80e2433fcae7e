"""What is to be done: tasks, what each waits for, and what came out. Knows nothing of trio."""

from .changes import Change, Subscription
from .conditions import Condition, all_of, any_of, at_least, done, failed, settled, skipped, succeeded
from .groups import WorkerGroup
from .inspection import GroupStatistics, Statistics
from .lifecycle import Driver
from .results import ResultStore
from .task import Task, TaskState
from .task_graph import TaskGraph
from .task_type import TaskType, task_type

__all__ = [
    "Change",
    "Condition",
    "Driver",
    "GroupStatistics",
    "ResultStore",
    "Statistics",
    "Subscription",
    "Task",
    "TaskGraph",
    "TaskState",
    "TaskType",
    "WorkerGroup",
    "all_of",
    "any_of",
    "at_least",
    "done",
    "failed",
    "settled",
    "skipped",
    "succeeded",
    "task_type",
]
