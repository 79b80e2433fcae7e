"""Every change of a task's state, and what follows from it: the driver's side of a graph.

A driver takes READY tasks, runs their bodies wherever it likes, and reports how they ended:

    task = graph.take("default")        # RUNNING now, and holding a place
    graph.finish(task, value)           # or graph.fail(task, error), or graph.cancelled(task)

Between these calls nothing happens by itself, and each is atomic: when it returns, everything that follows
from it has been done. No call costs more than the edges that it touches, and none recurses.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Union

from .changes import Announcer, Listener, Subscription
from .driver import Driver, NoDriver
from .errors import (
    AlreadyRunning,
    BadType,
    ForeignTask,
    IllegalTransition,
    UnknownGroup,
    WrongThread,
    shown,
    title,
)
from .groups import WorkerGroup
from .task import CANCELLED, FAILED, READY, RUNNING, SKIPPED, SUCCEEDED, SUSPENDED, WAITING, Task, TaskState

if TYPE_CHECKING:
    from .conditions import Condition
    from .results import ResultStore

Input = Union[Task[Any], "Condition"]
"""What a task may wait for, and what can be decided: that a task ends, or whether a condition holds."""

# Which event may come in which state; every other pair raises IllegalTransition and leaves all as it was.
EVENTS: dict[str, frozenset[TaskState]] = {
    "start": frozenset({READY}),
    "suspend": frozenset({RUNNING, SUSPENDED}),
    "resume": frozenset({SUSPENDED}),
    "finish": frozenset({RUNNING, SUSPENDED}),
    "fail": frozenset({RUNNING, SUSPENDED}),
    "cancelled": frozenset({RUNNING, SUSPENDED}),
}
EXECUTING = EVENTS["finish"]


class Lifecycle:
    """The states of a graph's tasks; `TaskGraph` adds to it how tasks come in and are looked at."""

    def __init__(self, results: ResultStore, *, cancel_on_failure: bool) -> None:
        self.results = results
        self.groups: dict[str, WorkerGroup] = {}
        self.driver: Driver = NoDriver()
        """Whoever runs the graph, or ran it last."""
        self._cancel_on_failure = cancel_on_failure
        self._tasks: dict[int, Task[Any]] = {}
        self._ended = {SUCCEEDED: 0, FAILED: 0, CANCELLED: 0, SKIPPED: 0}
        # How many tasks are READY or RUNNING. While there are any, something may still happen by itself.
        self._awake = 0
        self.failures: list[Task[Any]] = []
        """The FAILED tasks, in the order they failed."""
        # SUSPENDED tasks -> the tasks they wait for in their bodies. An empty list: the waits are over, but
        # the body has not got its place back.
        self._awaited: dict[Task[Any], list[Task[Any]]] = {}
        # Open tasks -> the conditions that are told when they have settled.
        self._settling: dict[Task[Any], list[Condition]] = {}
        # Open tasks whose end the driver wants to be told of.
        self._watched: set[Task[Any]] = set()
        # (kind, value of `dedupe`) -> the task that was added with it.
        self._deduped: dict[tuple[object, object], Task[Any]] = {}
        # How many of the children that a task lists have been removed from the graph.
        self._gaps: dict[Task[Any], int] = {}
        self._announcer = Announcer()
        self._subscriptions = self._announcer.subscriptions
        self._thread: int | None = None

    # Who drives, and who listens ----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a driver runs the graph now."""
        return self._thread is not None

    @property
    def active(self) -> int:
        """How many tasks are READY, RUNNING or SUSPENDED.

        A run is over when there are none and nobody may add any.
        """
        return self._awake + len(self._awaited)

    @property
    def at_standstill(self) -> bool:
        """Whether no task is READY or RUNNING; those that are active all wait for others in their bodies."""
        return not self._awake

    def attach(self, driver: Driver) -> None:
        """Let a driver run the graph from this thread, until `detach`. Raises `AlreadyRunning`."""
        if self._thread is not None:
            raise AlreadyRunning
        self.driver = driver
        self._thread = get_ident()

    def detach(self) -> None:
        """End a run. The driver stays known: it is asked when someone waits for a task that ended."""
        self._thread = None
        self._tasks[0]._cancelled = False
        for group in self.groups.values():
            group.bell = None

    def subscribe(self, listener: Listener) -> Subscription:
        """Call `listener(change)` on every `Change` of state from now on, synchronously, in order.

        The listener is called when the operation that made the change is complete, and may change the graph.
        If it raises it is closed, and the graph goes on. `with graph.subscribe(listener): ...` closes it at
        the end of the block.
        """
        return self._announcer.subscribe(listener)

    # What a driver does with a task -------------------------------------------------------------------------

    @property
    def ready(self) -> tuple[Task[Any], ...]:
        """The READY tasks, in the order they were added; what `take` gives is one of them."""
        return tuple(task for task in self._tasks.values() if task.state is READY)

    def take(self, group: WorkerGroup | str) -> Task[Any] | None:
        """Start the next READY task of a group and return it; None if it has none, or no place.

        Raises `UnknownGroup`.
        """
        if isinstance(group, str):
            group = self.group(group)
        if group.running >= group.limit:
            return None
        task = group.pop()
        if task is not None:
            task.state = RUNNING
            group.running += 1
            if self._subscriptions:
                self._tell(task, READY)
        return task

    def start(self, task: Task[Any]) -> None:
        """Start this READY task, ahead of its turn.

        Raises `IllegalTransition` if it is not READY or its group is full, and `ForeignTask`.
        """
        self._expect("start", task)
        if not task.group.free:
            raise IllegalTransition(task, "start", f"its group {shown(task.group.name)} has no free place")
        task.group.withdraw(task)
        task.state = RUNNING
        task.group.running += 1
        self._tell(task, READY)

    def finish(self, task: Task[Any], value: object = None) -> None:
        """End an executing task with a value: SUCCEEDED, or FAILED if it declared itself failed.

        What the result store raises comes out of here, and the task is as it was. Raises `IllegalTransition`
        or `ForeignTask`.
        """
        group = task.group
        rare = group._returning or self._watched or self._subscriptions
        if task.state is not RUNNING or task._outcome is not None or rare or group.graph is not self:
            self._finish_in_full(task, value)
            return
        # What follows is what `_end` and `_propagate` do for nearly all tasks, at two thirds of their cost.
        self.results[task.uid] = value
        group.running -= 1
        task.state = SUCCEEDED
        task.context = None
        self._ended[SUCCEEDED] += 1
        decided: list[Input] = []
        if task._dependents is not None:
            for dependent in task._dependents:
                if type(dependent) is not Task:
                    if dependent.count(dependent.verdict_on(task)):  # type: ignore[arg-type]  # it has ended
                        decided.append(dependent)
                else:
                    dependent._missing -= 1
                    if not dependent._missing and dependent.state is WAITING:
                        self._make_ready(dependent)
        self._awake -= 1
        parent = task.parent
        if task._unsettled == 1 and parent._unsettled > 1 and task not in self._settling:
            task._unsettled = 0
            parent._unsettled -= 1
        else:
            self._settle(task, decided)
        if decided or not self._awake:
            self._propagate(decided)

    def _finish_in_full(self, task: Task[Any], value: object) -> None:
        self._expect("finish", task)
        if task._outcome is not None:
            self.fail(task, task._outcome)
            return
        self.results[task.uid] = value
        self._end(task, SUCCEEDED, None)
        self._propagate([task])

    def fail(self, task: Task[Any], error: Exception) -> None:
        """End an executing task with an exception: FAILED.

        Raises `BadType` if that is no `Exception`, `IllegalTransition` or `ForeignTask`.
        """
        self._expect("fail", task)
        if not isinstance(error, Exception):
            raise BadType(
                "the error of a task", error, "it must be an Exception; others are not kept as outcomes"
            )
        self._end(task, FAILED, error)
        self.failures.append(task)
        self._propagate([task])
        if self._cancel_on_failure and not task.handled:
            self.cancel_subtree(self._tasks[0], f"{title(task)} has failed")

    def cancelled(self, task: Task[Any], reason: str | None = None) -> None:
        """End an executing task whose body was stopped: CANCELLED.

        Its reason is this one, else that of `task.cancel(reason)`. Raises `IllegalTransition` or
        `ForeignTask`.
        """
        self._expect("cancelled", task)
        self._end(task, CANCELLED, reason or task._cancel_reason)
        self._propagate([task])

    def suspend(self, task: Task[Any], awaited: Task[Any]) -> None:
        """Take note that the body of a task now waits for another one, so that its place is free.

        A body may wait for several at once. Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("suspend", task)
        group = task.group
        if task.state is RUNNING:
            self._awaited[task] = [awaited]
            task.state = SUSPENDED
            self._awake -= 1
            group.suspended += 1
            group.running -= 1
            self._note(task, RUNNING)
            self._offer_places(group)
        else:
            self._awaited[task].append(awaited)
            # An earlier wait may be over and want the place back. During this one it has no claim to it.
            self._give_up_place(task)
        if not self._awake:
            self.driver.standstill()
        self._announce()

    def resume(self, task: Task[Any], awaited: Task[Any]) -> bool:
        """Take note that a body no longer waits for this task; return whether it may go on now.

        False: its place was given away; it is the next to get one, and then `driver.resumed(task)` is called.
        While the body still waits for other tasks it goes on without a place, and so does one that is being
        cancelled. Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("resume", task)
        group = task.group
        awaits = self._awaited[task]
        if awaited not in awaits:
            raise IllegalTransition(task, "resume", f"it does not wait for {title(awaited)}")
        awaits.remove(awaited)
        if awaits or task._cancelled:
            return True
        if group.running < group.limit:
            self._regain_place(task)
            self._announce()
            return True
        group._returning[task] = None
        return False

    def resize(self, group: WorkerGroup, limit: int) -> None:
        """Change the limit of a group; `group.resize(limit)` checks it and calls this.

        Raises `WrongThread`.
        """
        self._check_thread("resize")
        group.limit = limit
        self._offer_places(group)
        self._announce()

    def declare_failed(self, task: Task[Any], error: Exception) -> None:
        """Let an executing task be FAILED with this error when its body returns a value.

        The first such error counts. Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("fail", task)
        if task._outcome is None:
            task._outcome = error

    def watch(self, task: Task[Any]) -> None:
        """Have `driver.ended(task)` called once an open task has ended, or was removed."""
        self._watched.add(task)

    # Cancelling ---------------------------------------------------------------------------------------------

    def cancel_subtree(self, top: Task[Any], reason: str | None = None) -> None:
        """Cancel a task and what it spawned; `task.cancel(reason)` and `graph.cancel(reason)` call this.

        Raises `WrongThread`.
        """
        self._check_thread("cancel")
        ended: list[Input] = []
        executing: list[Task[Any]] = []
        subtree = [] if top.settled or top._cancelled else [top]
        for task in subtree:
            task._cancelled = reason or True
            if task.state is WAITING or task.state is READY:
                self._end(task, CANCELLED, reason)
                ended.append(task)
            elif task.state in EXECUTING:
                executing.append(task)
            if task._children:
                subtree += [child for child in task._children if not child.settled and not child._cancelled]
        # All of the subtree is cancelled before any dependent is told, so that none of it goes on, starts or
        # is skipped instead.
        for task in executing:
            self._give_up_place(task)
            self.driver.cancel(task)
        self._propagate(ended)
        if not self.running:
            self._tasks[0]._cancelled = False  # what is added to the graph later is for the next run

    # The one place where states change ----------------------------------------------------------------------

    def _make_ready(self, task: Task[Any]) -> None:
        task.state = READY
        self._awake += 1
        if self._subscriptions:
            self._note(task, WAITING)
        group = task.group
        if group._stale:
            group.unwithdraw(task)
        group._queue.append(task)
        if group.bell is not None:
            group.bell(group)

    def _end(self, task: Task[Any], state: TaskState, outcome: object) -> None:
        """Put a task into an end state and give back what it held; `_propagate` must follow."""
        before = task.state
        group = task.group
        if before is RUNNING:
            self._awake -= 1
            group.running -= 1
            if group._returning:
                self._offer_places(group)
        elif before is READY:
            self._awake -= 1
            group.withdraw(task)
        elif before is SUSPENDED:
            group.suspended -= 1
            del self._awaited[task]
            self._give_up_place(task)
        task.state = state
        task._outcome = outcome
        task.context = None
        self._ended[state] += 1
        if self._subscriptions:
            self._note(task, before)

    def _propagate(self, decided: list[Input]) -> None:  # noqa: C901, PLR0912 - calls would cost more than they tell
        """Do all that follows from these tasks having ended and these conditions having been decided."""
        for source in decided:  # grows while it is walked: a chain of a million tasks must not recurse
            is_task = type(source) is Task
            if source._dependents:
                holds = source.state is SUCCEEDED if is_task else source.holds  # type: ignore[union-attr]  # is_task
                for dependent in source._dependents:
                    if type(dependent) is not Task:
                        dependent.note_failure(source)
                        if dependent.count(dependent.verdict_on(source)):  # type: ignore[arg-type]  # decided
                            decided.append(dependent)
                    elif holds:
                        dependent._missing -= 1
                        if not dependent._missing and dependent.state is WAITING:
                            self._make_ready(dependent)
                    elif dependent.state is WAITING:
                        self._end(dependent, SKIPPED, source)
                        decided.append(dependent)
            if is_task:
                self._settle(source, decided)  # type: ignore[arg-type]  # is_task
        if self._watched:
            for source in decided:
                if source in self._watched:
                    self._watched.remove(source)
                    self.driver.ended(source)
        if not self._awake:
            self.driver.standstill()
        if self._subscriptions:
            self._announce()

    def _settle(self, task: Task[Any], decided: list[Input]) -> None:
        """Count the end of a task in itself and in those that spawned it.

        Every task settles once, so this is constant work per task. The root never does.
        """
        task._unsettled -= 1
        while not task._unsettled:
            for condition in self._settling.pop(task, ()):
                if condition.count(verdict=True):
                    decided.append(condition)  # noqa: PERF401 - most settle nothing, and a comprehension is a call
            task = task.parent
            task._unsettled -= 1

    def _offer_places(self, group: WorkerGroup) -> None:
        """Give free places to bodies that want to go on; ring for others if any are left."""
        while group._returning and group.running < group.limit:
            task = group._returning.popitem(last=False)[0]
            self._regain_place(task)
            self.driver.resumed(task)
        if group.running < group.limit:
            group.ring()

    def _regain_place(self, task: Task[Any]) -> None:
        del self._awaited[task]
        task.state = RUNNING
        self._awake += 1
        task.group.suspended -= 1
        task.group.running += 1
        self._note(task, SUSPENDED)

    def _give_up_place(self, task: Task[Any]) -> None:
        """Let a body that wants its place back go on without it."""
        if task in task.group._returning:
            del task.group._returning[task]
            self.driver.resumed(task)

    def _note(self, task: Task[Any], before: TaskState | None) -> None:
        if self._subscriptions:
            self._announcer.note(task, before, task.state)

    def _tell(self, task: Task[Any], before: TaskState | None) -> None:
        self._note(task, before)
        self._announce()

    def _announce(self) -> None:
        if self._subscriptions:
            self._announcer.announce()

    # Checks -------------------------------------------------------------------------------------------------

    def group(self, name: str) -> WorkerGroup:
        """Return a worker group by its name. Raises `UnknownGroup`."""
        try:
            return self.groups[name]
        except KeyError:
            raise UnknownGroup([name], self.groups) from None

    def _expect(self, event: str, task: Task[Any]) -> None:
        if task.graph is not self:
            raise ForeignTask(task)
        if task.state not in EVENTS[event]:
            states = " or ".join(sorted(str(state) for state in EVENTS[event]))
            raise IllegalTransition(task, event, f"that comes only while a task is {states}")

    def _check_thread(self, attempt: str) -> None:
        if self._thread is not None and self._thread != get_ident():
            raise WrongThread(attempt)
