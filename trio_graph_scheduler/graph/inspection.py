"""Looking at a graph: its figures, and why a task is not running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from .conditions import Condition
from .errors import shown, title, titles
from .task import FAILED, READY, RUNNING, SUSPENDED, WAITING, Task, TaskState

if TYPE_CHECKING:
    from .groups import WorkerGroup
    from .lifecycle import Lifecycle


@attrs.frozen
class GroupStatistics:
    """How a worker group stands: its limit, and how many of its tasks are RUNNING, SUSPENDED and READY."""

    limit: int
    running: int
    suspended: int
    ready: int


@attrs.frozen
class Statistics:
    """How many tasks are in each state, and how each group stands."""

    states: Mapping[TaskState, int]
    groups: Mapping[str, GroupStatistics]

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return sum(self.states.values())

    @property
    def waiting(self) -> int:
        """How many tasks are WAITING."""
        return self.states[WAITING]

    def __str__(self) -> str:
        counts = [f"{count} {state}" for state, count in self.states.items() if count]
        return f"{self.total} tasks" + (": " + ", ".join(counts) if counts else "")


def statistics(graph: Lifecycle) -> Statistics:
    """Return the figures of a graph, from what it keeps count of."""
    groups = {
        name: GroupStatistics(g.limit, g.running, g.suspended, g.ready) for name, g in graph.groups.items()
    }
    states = {
        WAITING: len(graph._tasks) - 1 - graph.active - sum(graph._ended.values()),
        READY: sum(group.ready for group in groups.values()),
        RUNNING: sum(group.running for group in groups.values()),
        SUSPENDED: sum(group.suspended for group in groups.values()),
        **graph._ended,
    }
    return Statistics(states, groups)


def why(graph: Lifecycle, task: Task[Any]) -> str:
    """Return in words why a task is not running."""
    state = task.state
    if state is WAITING:
        return f"{title(task)} waits for {unmet(graph, task)}"
    if state is READY:
        return f"{title(task)} is ready{_why_not_started(graph, task.group)}"
    if state is RUNNING:
        return f"{title(task)} is running"
    if state is SUSPENDED:
        return f"{title(task)} is suspended: it waits in its body for {unmet(graph, task)}"
    detail = type(task.error).__name__ if state is FAILED else task.reason
    return f"{title(task)} has ended: {state}" + (f" ({detail})" if detail else "")


def _why_not_started(graph: Lifecycle, group: WorkerGroup) -> str:
    name = shown(group.name)
    if group.limit == 0:
        return f", but its group {name} is paused: its limit is 0"
    if not graph.running:
        return ", but nothing runs its graph"
    if group.free:
        return f" and about to start in group {name}"
    holders = [other for other in graph._tasks.values() if other.state is RUNNING and other.group is group]
    return f", but its group {name} is full (limit {group.limit}): {titles(holders)}"


def unmet(graph: Lifecycle, task: Task[Any]) -> str:
    """Return in words what a WAITING or SUSPENDED task still waits for."""
    if task.state is SUSPENDED:
        awaited = [f"{title(other)} ({other.state})" for other in graph._awaited[task]]
        return ", ".join(awaited) or f"its place in group {shown(task.group.name)}"
    parts = []
    for item in task._inputs:
        if isinstance(item, Condition):
            if item.holds is None:
                parts.append(item.describe(only_open=True))
        elif not item.state.ended:
            parts.append(f"{title(item)} ({item.state})")
    return ", ".join(parts[:10]) + (f" and {len(parts) - 10} more" if len(parts) > 10 else "")  # noqa: PLR2004 - what a line takes
