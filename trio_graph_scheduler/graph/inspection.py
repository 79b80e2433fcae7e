"""Looking at a graph: its figures, and why a task is not running."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

from .conditions import Condition, holds
from .errors import shown, shown_value, title, titles
from .task import READY, RETRYING, RUNNING, SUSPENDED, WAITING, Task, TaskState

if TYPE_CHECKING:
    from .groups import WorkerGroup
    from .lifecycle import Lifecycle
    from .timetable import Timer
    from .trials import Course


@attrs.frozen
class Holder:
    """A task that holds a place of a group, and since when: seconds on trio's clock."""

    task: Task[Any]
    since: float


@attrs.frozen
class GroupStatistics:
    """How a worker group stands.

    - `limit`: how many of its tasks may execute at a time.
    - `running`, `suspended`, `waiting`: how many of its tasks are RUNNING, SUSPENDED, and READY, that is
      waiting for a place.
    - `paused`: whether it starts no tasks.
    - `holders`: the RUNNING ones, and since when they run.
    """

    limit: int
    running: int
    suspended: int
    waiting: int
    paused: bool
    holders: tuple[Holder, ...]


@attrs.frozen
class TypeStatistics:
    """How the tasks of one type in one group stand.

    - `name`: of the type; types of the same name are counted together.
    - `group`: the name of the group.
    - `states`: how many are in each state.
    - `seconds`: how long those that SUCCEEDED took, all together, each in its last trial.
    """

    name: str
    group: str
    states: Mapping[TaskState, int]
    seconds: float

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return sum(self.states.values())


@attrs.frozen
class Statistics:
    """How many tasks are in each state, and how each group and each type stands.

    `types` has an entry for each type and group that have tasks, in the order they became known.
    """

    states: Mapping[TaskState, int]
    groups: Mapping[str, GroupStatistics]
    types: tuple[TypeStatistics, ...]

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
        return f"{self.total} {'task' if self.total == 1 else 'tasks'}" + (
            ": " + ", ".join(counts) if counts else ""
        )


def statistics(graph: Lifecycle) -> Statistics:
    """Return the figures of a graph, from what it keeps count of."""
    groups = {name: _statistics_of(graph, group) for name, group in graph.groups.items()}
    types = type_statistics(graph)
    states = {state: sum(kind.states[state] for kind in types) for state in TaskState}
    return Statistics(states, groups, types)


def type_statistics(graph: Lifecycle) -> tuple[TypeStatistics, ...]:
    """Return the figures of the types of a graph."""
    return tuple(
        TypeStatistics(cohort.name, cohort.group.name, cohort.states, cohort.seconds)
        for cohort in graph._cohorts.values()
        if cohort.total
    )


def _statistics_of(graph: Lifecycle, group: WorkerGroup) -> GroupStatistics:
    holders = tuple(Holder(task, cast("float", task._began)) for task in graph.holders(group))
    return GroupStatistics(group.limit, group.running, group.suspended, group.ready, group.paused, holders)


def why(graph: Lifecycle, task: Task[Any]) -> str:
    """Return in words why a task is not running."""
    state = task.state
    if state is WAITING:
        return f"{title(task)} waits for {unmet(graph, task)}"
    if state is READY:
        return f"{title(task)} is ready{_why_not_started(graph, task)}"
    if state is RUNNING:
        return f"{title(task)} is running"
    if state is SUSPENDED:
        return f"{title(task)} is suspended: it waits in its body for {unmet(graph, task)}"
    if state is RETRYING:
        return f"{title(task)} is {_when_tried_again(graph, task)}"
    detail = task.reason or (None if task.error is None else type(task.error).__name__)
    return f"{title(task)} has ended: {state}" + (f" ({detail})" if detail else "")


def _why_not_started(graph: Lifecycle, task: Task[Any]) -> str:
    group = task.group
    name = shown(group.name)
    if group.paused:
        return f", but its group {name} is paused: graph.groups[{name}].resume() lets it go on"
    if group.limit == 0:
        return f", but its group {name} is paused: its limit is 0"
    if not graph.running:
        return ", but nothing runs its graph"
    if not group.free:
        return f", but its group {name} is full (limit {group.limit}): {titles(graph.holders(group))}"
    obstacle = group.obstacle(task)
    if obstacle is None:
        return f" and about to start in group {name}"
    wanted = {limit for limit, _ in task.needs}
    everyone = [holder for any_group in graph.groups.values() for holder in graph.holders(any_group)]
    users = [other for other in everyone if wanted & {limit for limit, _ in other.needs}]
    return f", but {obstacle}" + (f"; used by {titles(users)}" if users else "")


def _when_tried_again(graph: Lifecycle, task: Task[Any]) -> str:
    last = task.trials[-1]
    when = cast("Timer", cast("Course", task._course).timer).when
    return (
        f"retrying: trial {last.number} failed with {shown_value(last.outcome)}, and trial"
        f" {last.number + 1} may start in {when - graph.time():.3g} s, at {when:.6g}"
    )


def unmet(graph: Lifecycle, task: Task[Any]) -> str:
    """Return in words what a WAITING or SUSPENDED task still waits for."""
    if task.state is SUSPENDED:
        awaited = [f"{title(other)} ({other.state})" for other in graph._awaited[task]]
        return ", ".join(awaited) or f"its place in group {shown(task.group.name)}"
    open_ones = [item for item in task._inputs if holds(item) is None]
    parts = [
        item.describe(only_open=True) if isinstance(item, Condition) else f"{title(item)} ({item.state})"
        for item in open_ones[:10]
    ]
    return ", ".join(parts) + (f" and {len(open_ones) - 10} more" if len(open_ones) > 10 else "")  # noqa: PLR2004 - what a line takes
