"""Who waits for whom: the edges of a graph, and how they are changed while it lives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .conditions import SETTLED, Condition, holds
from .cycles import would_close_cycle
from .errors import AlreadyStarted, BadType, ForeignTask, NotConnected, ResultNeeded, WouldCloseCycle
from .lifecycle import Lifecycle
from .places import Input
from .task import CANCELLED, END_STATES, READY, WAITING, Task

After = Input | Iterable[Input] | None


class Wiring(Lifecycle):
    """The edges between tasks and conditions: made when a task is added, changed until it starts."""

    def connect(self, first: Input, then: Task[Any]) -> None:
        """Let `then`, which has not started, wait for `first` too; if they are connected, nothing happens.

        Before a run it may close a cycle (found when the graph is run); on a running graph it searches, and
        raises `WouldCloseCycle`. Raises `AlreadyStarted`, `ForeignTask`, `BadType`, `WrongThread`; nothing
        has changed then.
        """
        self._check_change("connect", then)
        self._checked((first,))
        if first in then._inputs:
            return
        if self.running and would_close_cycle(self, first, then):
            raise WouldCloseCycle(first, then)
        then._inputs = (*then._inputs, first)
        self._wait_for(then, first)
        self._take_back(then)
        self._touch(then)
        self._propagate()

    def disconnect(self, first: Input, then: Task[Any]) -> None:
        """Let `then`, which has not started, no longer wait for `first`.

        `first` is a Task or the very Condition object that `then` was given. Takes time linear in the number
        of tasks that wait for `first`. Raises `NotConnected`, `ResultNeeded` if `then` uses the result of
        `first`, `AlreadyStarted`, `ForeignTask`, `BadType`, `WrongThread`; nothing has changed then.
        """
        self._check_change("disconnect", then)
        if first not in then._inputs:
            raise NotConnected(first, then)
        if isinstance(first, Task) and _uses_result(then, first):
            raise ResultNeeded(first, [then], "disconnect")
        then._inputs = tuple(item for item in then._inputs if item is not first)
        if isinstance(first, Condition):
            first.release()
        # What was rerun while the task executed is open, and the task does not wait for it any more.
        if holds(first) is None and then in dependents_of(first):
            dependents_of(first).remove(then)
            self._count_down(then)
        self._touch(then)
        self._propagate()

    def remove(self, task: Task[Any]) -> None:  # noqa: C901 - all that may have to do with a task, one by one
        """Take a task that has not started out of the graph, as if it had never been added.

        Whoever waited for it no longer does; a condition counts without it, so that `at_least(2, [a, b])`
        without `b` can no longer hold. Tasks that it is recorded as the scheduler of become its parent's.
        Whoever still holds it finds it CANCELLED.

        Raises `AlreadyStarted` (also if it is READY or WAITING after an earlier trial), `ForeignTask`,
        `BadType`, `WrongThread`, and `ResultNeeded` if a task takes its result as an argument; nothing has
        changed then.
        """
        self._check_change("remove", task)
        if task.trials:
            raise AlreadyStarted(task, "remove")
        dependents = task._dependents or []
        users = [
            d for d in dependents if isinstance(d, Task) and d.state is WAITING and _uses_result(d, task)
        ]
        if users:
            raise ResultNeeded(task, users, "remove")
        for item in task._inputs:
            if isinstance(item, Condition):
                item.release()
        before = task.state
        if before is READY:
            self._awake -= 1
            task.group.withdraw(task)
        task.state, task._outcome, task.context = CANCELLED, "removed from the graph", None
        task.cohort.move(before, None)
        self._forget(task)
        if self._observers:
            self._announcer.note(task, before, None)
        for dependent in dependents:
            if isinstance(dependent, Task):
                dependent._inputs = tuple(item for item in dependent._inputs if item is not task)
                self._touch(dependent)
                self._count_down(dependent)
            elif dependent.drop(task):
                self._news.append(dependent)
        self._news += [condition for condition in self._settling.pop(task, ()) if condition.drop(task)]
        if task._course is not None and task._course.threshold is not None:
            task._course.threshold.abandon()
        self._adopt_children(task)
        self._settle(task)
        self._propagate()
        if task in self._watched:
            self._watched.remove(task)
            self.driver.ended(task)

    def extend(self, condition: Condition, first: Task[Any], then: Task[Any]) -> None:
        """Let the condition of one task count one more operand.

        Raises as `connect` does.
        """
        self._check_change("extend", then)
        self._checked((first,))
        if first in condition.operands:
            return
        if self.running and would_close_cycle(self, first, then):
            raise WouldCloseCycle(first, then)
        before = condition.holds
        condition.operands[first] = None
        self._touch(then)
        if before and condition.verdict_on(first):
            condition.count(verdict=True)
            self._announce()
            return
        if before and condition.fulfilled < condition.needed:  # all had come true, and now there is one more
            before = condition.holds = None
            then._missing += 1
            if then not in condition._dependents:
                condition._dependents.append(then)
        self._follow_operand(condition, first)
        condition.note_failure(first)
        self._take_back(then)
        if condition.holds is not before:
            self._news.append(condition)
        self._propagate()

    # The parts of it ----------------------------------------------------------------------------------------

    def _wait_for(self, task: Task[Any], item: Input) -> None:
        """Let a task wait for one of its inputs; if that can no longer come true the task is skipped."""
        if isinstance(item, Condition):
            self._follow(item)
            item.use()
        verdict = holds(item)
        if verdict:
            return
        task._missing += 1
        if verdict is None:
            dependents_of(item).append(task)
        elif task.state not in END_STATES:
            self._rule_out(task, item)

    def _follow(self, condition: Condition) -> None:
        """Begin to count for a condition, at its first use."""
        if condition.graph is not None:
            return
        for node in condition.nodes():
            if node.graph is None:
                node.graph = self  # type: ignore[assignment]  # a Wiring is a TaskGraph, which builds on it
                for operand in node.operands:
                    self._follow_operand(node, operand)
                node.decide()

    def _follow_operand(self, node: Condition, operand: Input) -> None:
        if type(operand) is Task and node.verb is SETTLED and operand._unsettled:
            self._settling.setdefault(operand, []).append(node)
            return
        verdict = node.verdict_on(operand)
        if verdict is None:
            dependents_of(operand).append(node)
        else:
            node.count(verdict)

    def _count_down(self, task: Task[Any]) -> None:
        task._missing -= 1
        if not task._missing and task.state is WAITING:
            self._make_ready(task)

    def _take_back(self, task: Task[Any]) -> None:
        """Let a READY task wait again, if it misses something."""
        if task.state is READY and task._missing:
            task.group.withdraw(task)
            self._awake -= 1
            self._change(task, WAITING)

    def _adopt_children(self, task: Task[Any]) -> None:
        """Give the children of a removed task to its parent."""
        parent = task.parent
        for child in task.children:
            child.parent = parent
            self._touch(child)
            parent._children.append(child)  # type: ignore[union-attr]  # it lists the task at least
            parent._unsettled += not child.settled
        task._unsettled = 1
        task._children = None
        self._gaps.pop(task, None)

    def _forget(self, task: Task[Any]) -> None:
        """Take a removed task out of all lists.

        In that of its siblings it stays until more than half of them have been removed.
        """
        del self._tasks[task.uid]
        self._deduped.pop((task.type.origin, task.label.dedupe), None)
        parent = task.parent
        gaps = self._gaps[parent] = self._gaps.get(parent, 0) + 1
        if gaps > len(parent._children) // 2:  # type: ignore[arg-type]  # it lists the task at least
            parent._children = list(parent.children)
            del self._gaps[parent]

    def _check_change(self, attempt: str, task: Task[Any]) -> None:
        self._check_thread(attempt)
        if not isinstance(task, Task):
            raise BadType(f"what {attempt}() is to change", task, "it must be a Task")
        self._checked((task,))
        if task.state not in (WAITING, READY):
            raise AlreadyStarted(task, attempt)

    def _checked(self, inputs: tuple[Input, ...]) -> tuple[Input, ...]:
        """Return these inputs, each once; raise `ForeignTask` or `BadType` for what cannot be one here."""
        known = self._tasks.get
        for item in inputs:
            if type(item) is Task:
                if known(item.uid) is not item:
                    raise ForeignTask(item)
            elif not isinstance(item, Condition):
                raise BadType("an item of after", item, AFTER)
            elif item.graph is not self:
                for task in item.tasks:
                    if known(task.uid) is not task:
                        raise ForeignTask(task)
        if len(inputs) > 1 and len(set(inputs)) < len(inputs):
            return tuple(dict.fromkeys(inputs))
        return inputs


AFTER = "it must be a Task, a condition such as done(task), or an iterable of them"


def as_inputs(after: object) -> tuple[Any, ...]:
    """Return what `after=` was given as a tuple. Raises `BadType`."""
    if type(after) is list or type(after) is tuple:
        return tuple(after)
    if isinstance(after, (Task, Condition)):
        return (after,)
    if isinstance(after, (str, bytes)) or not isinstance(after, Iterable):
        raise BadType("after", after, AFTER)
    return tuple(after)


def dependents_of(item: Input) -> list[Any]:
    """Return the list of those who are told when this ends or is decided, to be added to."""
    if item._dependents is None:
        item._dependents = []
    return item._dependents


def _uses_result(then: Task[Any], first: Task[Any]) -> bool:
    return not isinstance(then.arguments, tuple) and first in then.arguments.results_of
