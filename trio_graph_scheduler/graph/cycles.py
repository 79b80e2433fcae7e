"""Cycles of waits, which can never end: found before and after they close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .conditions import SETTLED, Condition
from .errors import GraphStalled
from .inspection import unmet
from .task import SUSPENDED, WAITING, Task

if TYPE_CHECKING:
    from .lifecycle import Lifecycle


def waits_for(graph: Lifecycle, task: Task[Any]) -> Iterator[Task[Any]]:
    """Yield the open tasks on whose end a task waits, in its condition or in its body."""
    if task.state is SUSPENDED:
        yield from graph._awaited[task]
    if task.state is not WAITING:
        return
    for item in task._inputs:
        if isinstance(item, Task):
            if not item.state.ended:
                yield item
        elif item.holds is None:
            for node in item.nodes():
                for operand in node.operands:
                    if isinstance(operand, Task) and node.verdict_on(operand) is None:
                        yield from _open_subtree(operand) if node.verb is SETTLED else (operand,)


def _open_subtree(top: Task[Any]) -> Iterator[Task[Any]]:
    subtree = [top]
    for task in subtree:
        if not task.state.ended:
            yield task
        subtree += [child for child in task._children or () if not child.settled]


def find_cycle(graph: Lifecycle) -> tuple[Task[Any], ...]:
    """Return a cycle of waits, each task waiting for the one before it, or an empty tuple.

    A depth-first search without recursion, so that a chain may be of any length.
    """
    finished: set[Task[Any]] = set()
    for start in graph._tasks.values():
        if start.state not in (WAITING, SUSPENDED) or start in finished:
            continue
        path: dict[Task[Any], Iterator[Task[Any]]] = {start: waits_for(graph, start)}
        while path:
            task = next(reversed(path))
            for other in path[task]:
                if other in path:
                    line = list(path)
                    return tuple(reversed(line[line.index(other) :]))
                if other not in finished:
                    path[other] = waits_for(graph, other)
                    break
            else:
                finished.add(task)
                del path[task]
    return ()


def stall(graph: Lifecycle) -> GraphStalled:
    """Return the error of a standstill.

    It tells the cycle of waits, if there is one, and what every stuck task waits for.
    """
    stuck = [task for task in graph._tasks.values() if task.state in (WAITING, SUSPENDED)]
    return GraphStalled(find_cycle(graph), {task: unmet(graph, task) for task in stuck})


def would_close_cycle(graph: Lifecycle, first: Task[Any] | Condition, then: Task[Any]) -> bool:
    """Return whether `first` can come true only after `then` has ended.

    It marks, forward from `then` and counting as the graph itself does, all that could not come about if
    `then` never ended. So a way around through an `any_of` is seen, and only what hangs on `then` is looked
    at.
    """
    return _Blocked(graph, then).includes(first)


class _Blocked:
    """All that cannot come about unless one task ends."""

    def __init__(self, graph: Lifecycle, then: Task[Any]) -> None:
        self._marked: dict[Task[Any] | Condition, None] = {then: None}
        self._pending: list[Task[Any] | Condition] = [then]
        # Tasks that cannot settle: the blocked ones and those that spawned them.
        self._unsettled: set[Task[Any]] = set()
        self._hits: Counter[Condition] = Counter()
        suspended_on: dict[Task[Any], list[Task[Any]]] = {}
        for task, targets in graph._awaited.items():
            for target in targets:
                suspended_on.setdefault(target, []).append(task)
        for item in self._pending:  # grows while it is walked
            for dependent in item._dependents or ():
                if isinstance(dependent, Task):
                    self._mark(dependent)
                else:
                    self._hit(dependent)
            if isinstance(item, Task):
                for task in suspended_on.get(item, ()):
                    self._mark(task)
                self._keep_from_settling(graph, item)

    def _mark(self, item: Task[Any] | Condition) -> None:
        if item not in self._marked and not (isinstance(item, Task) and item.state.ended):
            self._marked[item] = None
            self._pending.append(item)

    def _hit(self, condition: Condition) -> None:
        self._hits[condition] += 1
        possible = len(condition.operands) - condition.impossible - self._hits[condition]
        if condition.holds is None and possible < condition.needed:
            self._mark(condition)

    def _keep_from_settling(self, graph: Lifecycle, task: Task[Any]) -> None:
        node: Task[Any] | None = task
        while node is not None and node not in self._unsettled:
            self._unsettled.add(node)
            for condition in graph._settling.get(node, ()):
                self._hit(condition)
            node = node.parent

    def includes(self, first: Task[Any] | Condition) -> bool:
        if isinstance(first, Task) or first.graph is not None:
            return first in self._marked
        # Nobody has used the condition yet, so that no dependents lead to it: it is judged from its operands.
        impossible: set[Task[Any] | Condition] = set()
        for node in first.nodes():
            undoable = [o for o in node.operands if o in impossible or node.verdict_on(o) is False]
            doable = len(node.operands) - len(undoable)
            if doable < node.needed:
                impossible.add(node)  # whether or not `then` ends
            elif doable - len([o for o in node.operands if self._holds_up(node, o)]) < node.needed:
                self._marked[node] = None
        return first in self._marked

    def _holds_up(self, node: Condition, operand: Task[Any] | Condition) -> bool:
        if isinstance(operand, Task) and node.verb is SETTLED:
            return operand in self._unsettled
        return operand in self._marked
