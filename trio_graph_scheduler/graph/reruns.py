"""Reruns: tasks that have ended are opened again, and with them what depends on them.

`TaskGraph.rerun` says what happens; here is how. A task knows who waits for it only as long as it is open. So
one look at all tasks finds who depends on whom, and what is opened is counted anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, cast

import attrs

from .conditions import SETTLED, Condition, holds
from .errors import BadType, CannotRerun
from .task import CANCELLED, EXECUTING, FAILED, READY, RETRYING, SUCCEEDED, WAITING, Task
from .thresholds import Gate, Threshold
from .wiring import dependents_of

BUSY = frozenset({*EXECUTING, RETRYING})

if TYPE_CHECKING:
    from .places import Input
    from .task_graph import TaskGraph


def rerun(
    graph: TaskGraph, tasks: Task[Any] | Iterable[Task[Any]] | None, *, downstream: bool
) -> tuple[Task[Any], ...]:
    """Open tasks again; `TaskGraph.rerun` is the public form."""
    graph._check_thread("rerun")
    affected = _affected(graph, _chosen(graph, tasks), downstream=downstream)
    found = sorted((item for item in affected if isinstance(item, Task)), key=lambda task: task.uid)
    busy = [task for task in found if task.state in BUSY]
    if busy:
        raise CannotRerun(busy, "would have to be opened again: cancel them first, or pass downstream=False")
    opened = [task for task in found if task.state.ended]
    conditions = [item for item in affected if isinstance(item, Condition)]
    for task in opened:
        _open(graph, task)
    graph.failures = [task for task in graph.failures if task.state is FAILED]
    for condition in conditions:
        condition.reopen()
    told = _Told(graph)
    for condition in _operands_first(conditions):
        _count_anew(condition, told)
    for task in found:
        _wait_anew(graph, task, told)
    graph._propagate()
    return tuple(opened)


class _Told:
    """Sees to it that whoever waits for something is told of it, and once only."""

    def __init__(self, graph: TaskGraph) -> None:
        self._settling = graph._settling
        # Those who are told already, by what they wait for (and whether it is that this has settled).
        self._known: dict[tuple[Input, bool], set[Input]] = {}

    def add(self, item: Input, waiter: Input, *, settling: bool = False) -> None:
        """Tell a waiter when this ends, is decided or has settled."""
        listed: list[Any] = (
            self._settling.setdefault(item, []) if settling else dependents_of(item)  # type: ignore[arg-type]  # a Task settles
        )
        known = self._known.setdefault((item, settling), set())
        if not known:
            known.update(listed)
        if waiter not in known:
            known.add(waiter)
            listed.append(waiter)


def _chosen(graph: TaskGraph, tasks: object) -> list[Task[Any]]:
    if tasks is None:
        return [task for task in graph.tasks(state=FAILED) if not _was_replaced(task)]
    listed = [tasks] if isinstance(tasks, Task) else tasks
    if not isinstance(listed, Iterable):
        raise BadType("what rerun() is to open", tasks, "it must be a Task, or an iterable of Tasks")
    chosen = list(dict.fromkeys(listed))
    for task in chosen:
        if not isinstance(task, Task):
            raise BadType("what rerun() is to open", task, "it must be a Task, or an iterable of Tasks")
    graph._checked(tuple(chosen))
    if graph.root in chosen:
        raise CannotRerun([graph.root], "is the root of the graph, which never runs")
    still_open = [task for task in chosen if not task.state.ended]
    if still_open:
        raise CannotRerun(still_open, "has not ended: cancel it first, or wait for its end")
    return chosen


def _was_replaced(task: Task[Any]) -> bool:
    """Return whether a task failed as the candidate of a threshold that has been reached without it."""
    return any(isinstance(other, Threshold) and other.holds for other in task._dependents or ())


def _affected(graph: TaskGraph, chosen: list[Task[Any]], *, downstream: bool) -> dict[Input, None]:
    """Return these tasks, and the tasks and conditions that have to do with their being open again."""
    dependents, settling = _edges(graph)
    affected: dict[Input, None] = dict.fromkeys(chosen)
    climbed: set[Task[Any]] = set()
    pending: list[Input] = list(affected)
    for item in pending:  # grows while it is walked
        # Conditions that nobody waits for at the moment are known to what they speak of alone.
        unused = (other for other in item._dependents or () if isinstance(other, Condition))
        told = [*dependents.get(item, ()), *unused]
        # Who waits for it to settle waits for all that it spawns, and so on up to the root.
        node = item if isinstance(item, Task) else None
        while node is not None and node not in climbed:
            climbed.add(node)
            told += settling.get(node, ())
            node = node.parent
        for dependent in told:
            ended = isinstance(dependent, Task) and dependent.state.ended
            busy = isinstance(dependent, Task) and dependent.state in BUSY
            if dependent in affected or ((ended or busy) and not downstream):
                continue
            affected[dependent] = None
            if ended or isinstance(dependent, Condition):
                pending.append(dependent)
    return affected


def _edges(graph: TaskGraph) -> tuple[dict[Input, list[Input]], dict[Task[Any], list[Condition]]]:
    """Return who waits for whom, whether they are open or not: by success or verdict, and by settling."""
    dependents: dict[Input, list[Input]] = {}
    settling: dict[Task[Any], list[Condition]] = {}
    nodes: dict[Condition, None] = {}
    for task in graph._tasks.values():
        for item in task._inputs:
            dependents.setdefault(item, []).append(task)
            if isinstance(item, Condition):
                nodes[item] = None
    pending = list(nodes)
    for node in pending:  # grows while it is walked
        for operand in node.operands:
            if isinstance(operand, Task) and node.verb is SETTLED:
                settling.setdefault(operand, []).append(node)
            else:
                dependents.setdefault(operand, []).append(node)
            if isinstance(operand, Condition) and operand not in nodes:
                nodes[operand] = None
                pending.append(operand)
    return dependents, settling


def _open(graph: TaskGraph, task: Task[Any]) -> None:
    """Take a task that has ended back to WAITING."""
    course = graph._course_of(task)
    if task._began is not None:
        last = task.trials[-1]
        course.past.append(attrs.evolve(last, outcome=last.outcome))  # the store will have the next one
    course.before_rerun = len(course.past)
    if task.state is SUCCEEDED and task._began is not None:
        task.cohort.seconds -= cast("float", task._over) - task._began
    graph._change(task, WAITING)
    task.context = copy_context()
    task._outcome = task._began = task._over = task.worker = task._dependents = course.progress = None
    task.handled = False
    task._inputs = tuple(item for item in task._inputs if not isinstance(item, Gate))
    course.budget_began = False
    graph.set_deadline(task, math.inf)
    # What spawned it has not settled any more. Deadlines and cancellations that are over do not concern it,
    # and later cancellations must come down to it; one that is in force does concern it.
    opened = []
    node = task
    node._unsettled += 1
    while node._unsettled == 1:
        opened.append(node)
        if node._course is not None:
            node._course.deadline = math.inf
        node = node.parent
        node._unsettled += 1
    in_force = (node if opened else task.parent)._cancelled
    for node in opened or [task]:
        node._cancelled = in_force


def _operands_first(conditions: list[Condition]) -> Iterator[Condition]:
    """Yield conditions so that each comes after those that it is built of."""
    left = dict.fromkeys(conditions)
    for start in conditions:
        path = [start] if start in left else []
        while path:
            node = path[-1]
            below = [o for o in node.operands if isinstance(o, Condition) and o in left and o is not node]
            if below:
                path += below
            else:
                path.pop()
                if node in left:
                    del left[node]
                    yield node


def _count_anew(condition: Condition, told: _Told) -> None:
    for operand in condition.operands:
        verdict = condition.verdict_on(operand)
        if verdict is not None:
            condition.count(verdict)
        else:
            settling = isinstance(operand, Task) and condition.verb is SETTLED
            told.add(operand, condition, settling=settling)
    condition.decide()


def _wait_anew(graph: TaskGraph, task: Task[Any], told: _Told) -> None:
    """Let a task wait for what it needs, and go on at once if that has come true."""
    course = task._course
    if task.state is WAITING and course is not None and course.threshold is not None:
        course.threshold.begin(graph)
    task._missing = 0
    obstacle: Input | None = None
    for item in task._inputs:
        verdict = holds(item)
        if not verdict:
            task._missing += 1
        if verdict is None:
            told.add(item, task)
        elif not verdict:
            obstacle = item
    if task.state is READY:
        graph._take_back(task)
    elif task._cancelled:
        graph._end(task, CANCELLED, task._cancel_reason)
    elif obstacle is not None:
        graph._rule_out(task, obstacle)
    elif not task._missing:
        graph._make_ready(task)
