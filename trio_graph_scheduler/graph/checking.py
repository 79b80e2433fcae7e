"""Check all that a graph keeps count of, by counting it anew."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from .conditions import SETTLED, Condition, holds
from .task import (
    END_STATES,
    FAILED,
    READY,
    RETRYING,
    RUNNING,
    SUCCEEDED,
    SUSPENDED,
    WAITING,
    Task,
    TaskState,
)
from .thresholds import Gate

if TYPE_CHECKING:
    from .cohorts import Cohort
    from .groups import WorkerGroup
    from .lifecycle import Lifecycle


def check(graph: Lifecycle) -> None:
    """Compare every count and list of a graph with what a look at all tasks gives.

    Raises `AssertionError` where they differ.
    """
    tasks = [task for task in graph._tasks.values() if task.parent is not None]
    states = Counter(task.state for task in tasks)
    thresholds = [task._course.threshold for task in tasks if task._course is not None]
    hedges = sum(threshold.hedging for threshold in thresholds if threshold is not None)
    assert graph._awake == states[READY] + states[RUNNING] + states[RETRYING] + hedges
    assert not graph._news
    assert graph._awaited.keys() == {task for task in tasks if task.state is SUSPENDED}
    assert set(graph.failures) <= {task for task in tasks if task.state is FAILED}
    for uid, task in graph._tasks.items():
        assert task.uid == uid
        assert task.graph is graph
    for task in tasks:
        _check_task(graph, task)
    _check_families(graph)
    for cohort in graph._cohorts.values():
        _check_cohort(cohort, [task for task in tasks if task.cohort is cohort])
    assert {task.cohort for task in tasks} <= set(graph._cohorts.values())
    for group in graph.groups.values():
        _check_group(group, [task for task in tasks if task.group is group])
    seen: set[Condition] = set()
    for task in tasks:
        for item in task._inputs:
            for node in item.nodes() if isinstance(item, Condition) else ():
                if node not in seen:
                    seen.add(node)
                    _check_condition(graph, node)


def _check_task(graph: Lifecycle, task: Task[Any]) -> None:
    holding = [holds(item) for item in task._inputs]
    if task.state in (WAITING, READY):
        assert task._missing == sum(not held for held in holding)
        assert (task.state is READY) == all(holding)
        assert False not in holding
        assert not task._cancelled
        for item, held in zip(task._inputs, holding, strict=True):
            if held is None:
                assert item._dependents is not None
                assert item._dependents.count(task) == 1
    if task.state is SUCCEEDED:
        assert task.uid in graph.results  # type: ignore[operator]  # a dict, in tests
    assert (task.error is not None) == (task.state is FAILED)
    if task.state in END_STATES:
        assert task.context is None


def _check_families(graph: Lifecycle) -> None:
    """Check that every task is in its parent's list, and that each counts what is open below it."""
    unsettled = {task: 0 if task.state in END_STATES and task.parent else 1 for task in graph._tasks.values()}
    children: dict[Task[Any], list[Task[Any]]] = {task: [] for task in unsettled}
    for task in sorted(unsettled, key=lambda task: len(task.path), reverse=True):
        assert task._unsettled == unsettled[task]
        if task.parent is not None:
            children[task.parent].append(task)
            unsettled[task.parent] += bool(unsettled[task])
    for task, found in children.items():
        assert set(task.children) == set(found)
        assert len(task.children) == len(found)


def _check_group(group: WorkerGroup, tasks: list[Task[Any]]) -> None:
    states = Counter(task.state for task in tasks)
    assert group.running == states[RUNNING]
    assert group.suspended == states[SUSPENDED]
    assert group.ready == states[READY]
    queued = list(group._queue)
    assert len(queued) == len(group._queue) == len(set(queued))
    assert {task for task in queued if task not in group._stale} == {
        task for task in tasks if task.state is READY
    }
    assert set(queued) >= group._stale
    assert group.returning <= states[SUSPENDED]


def _check_cohort(cohort: Cohort, tasks: list[Task[Any]]) -> None:
    states = Counter(task.state for task in tasks)
    assert cohort.total == len(tasks)
    assert cohort.states == {state: states[state] for state in TaskState}
    durations = [
        (task._over or 0) - (task._began or 0)
        for task in tasks
        if task.state is SUCCEEDED and task._began is not None
    ]
    assert math.isclose(cohort.seconds, sum(durations), abs_tol=1e-6)
    assert all(task.type.name == cohort.name for task in tasks)


def _check_condition(graph: Lifecycle, node: Condition) -> None:
    assert node.graph is graph
    if isinstance(node, Gate):
        return
    verdicts = [node.verdict_on(operand) for operand in node.operands]
    fulfilled, impossible = verdicts.count(True), verdicts.count(False)
    assert (node.fulfilled, node.impossible) == (fulfilled, impossible)
    if node.holds is None:
        assert fulfilled < node.needed <= len(verdicts) - impossible
    for operand, verdict in zip(node.operands, verdicts, strict=True):
        if verdict is None:
            settling = isinstance(operand, Task) and node.verb is SETTLED
            listed = graph._settling.get(operand, []) if settling else operand._dependents  # type: ignore[arg-type]
            assert listed is not None
            assert node in listed
