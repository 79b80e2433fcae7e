"""Places: who executes, who waits for a place to start or to go on, and what time it is.

The lowest layer of a graph, and the first half of the driver's side: `take` a READY task, `suspend` and
`resume` its body. The other half, how bodies end and what follows, is in `lifecycle`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Union

from .changes import Announcer, Follower, Listener, Subscription
from .cohorts import Cohort
from .driver import Driver, NoDriver
from .errors import (
    BadValue,
    ForeignTask,
    IllegalTransition,
    TaskFailed,
    TrialTimeout,
    UnknownGroup,
    WrongThread,
    shown,
    title,
)
from .groups import WorkerGroup
from .limits import Limit, claimants
from .task import EXECUTING, READY, RUNNING, SUSPENDED, Task, TaskState
from .timetable import Timetable
from .trials import Course
from .values import is_seconds

if TYPE_CHECKING:
    from .conditions import Condition

Input = Union[Task[Any], "Condition"]
"""What a task may wait for, and what can be decided: that a task ends, or whether a condition holds."""

# Which event may come in which state; every other pair raises IllegalTransition and leaves all as it was.
EVENTS: dict[str, frozenset[TaskState]] = {
    "start": frozenset({READY}),
    "suspend": EXECUTING,
    "resume": frozenset({SUSPENDED}),
    "finish": EXECUTING,
    "fail": EXECUTING,
    "retry": EXECUTING,
    "cancelled": EXECUTING,
    "skip": EXECUTING,
    "progress": EXECUTING,
    "note": EXECUTING,
}


class Places:
    """Who holds the places of a graph's groups."""

    def __init__(self) -> None:
        self.groups: dict[str, WorkerGroup] = {}
        self.driver: Driver = NoDriver()
        """Whoever runs the graph, or ran it last."""
        self.now = 0.0
        """The time, in seconds on the clock of whoever drives the graph, as far as that has told."""
        self.timetable = Timetable()
        self._tasks: dict[int, Task[Any]] = {}
        # (name of a type, name of a group) -> how many of its tasks are in which state.
        self._cohorts: dict[tuple[str, str], Cohort] = {}
        # How many tasks are READY, RUNNING or RETRYING, and how many thresholds are to start a spare when its
        # time has come. While there are any, something may still happen by itself.
        self._awake = 0
        # SUSPENDED tasks -> the tasks they wait for in their bodies. An empty list: the waits are over, but
        # the body has not got its place back.
        self._awaited: dict[Task[Any], list[Task[Any]]] = {}
        self._announcer = Announcer()
        self._observers = self._announcer.observers
        self._thread: int | None = None

    # Who drives, and who listens ----------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether a driver runs the graph now."""
        return self._thread is not None

    @property
    def active(self) -> int:
        """How many tasks are READY, RUNNING, SUSPENDED or RETRYING.

        A run is over when there are none and nobody may add any.
        """
        return self._awake + len(self._awaited)

    @property
    def at_standstill(self) -> bool:
        """Whether no task is READY, RUNNING or RETRYING.

        Those that are active all wait for others in their bodies then.
        """
        return not self._awake

    def subscribe(self, listener: Listener) -> Subscription:
        """Call `listener(change)` on every `Change` of state from now on, synchronously, in order.

        The listener is called when the operation that made the change is complete, and may change the graph.
        If it raises it is closed, and the graph goes on. `with graph.subscribe(listener): ...` closes it at
        the end of the block.
        """
        return self._announcer.subscribe(listener)

    def follow(self, wake: Callable[[], object], *, most: float = math.inf) -> Follower:
        """Keep the set of the tasks that change from now on, for whoever looks at it from time to time.

            with graph.follow(event.set) as follower:
                await event.wait()
                for task in follower.take():
                    print(task)

        However often a task changes until `take`, it is there once: this takes memory for the tasks and not
        for the changes, and less time than a listener that is told each. `wake()` is called once there is
        something to take, and when a run begins or ends or a group changes, but not again until `take`. If it
        raises, that closes the follower, and the graph goes on. When more than `most` tasks have changed, the
        follower is closed, and `follower.overflowed` says so: whoever wanted them looks at the whole graph.
        """
        return self._announcer.follow(wake, most)

    # Time ---------------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Return what time it is now, in seconds on the driver's clock; without a driver, `now`."""
        if self._thread is not None:
            self.now = self.driver.now()
        return self.now

    def tick(self) -> None:
        """Do all that is due by now.

        The driver calls this at the time that it was given with `wake_at`; without a driver set `now` first.
        """
        now = self.time()
        for timer in self.timetable.due(now):
            timer.go_off()
        if self._thread is not None:
            self.timetable.tell(self.driver.wake_at)
        self._announce()

    # What a driver does with places -------------------------------------------------------------------------

    @property
    def ready(self) -> tuple[Task[Any], ...]:
        """The READY tasks, in the order they were added; what `take` gives is one of them."""
        return tuple(task for task in self._tasks.values() if task.state is READY)

    @property
    def suspended(self) -> tuple[Task[Any], ...]:
        """The SUSPENDED tasks, in the order in which they began to wait."""
        return tuple(self._awaited)

    def holders(self, group: WorkerGroup) -> Iterable[Task[Any]]:
        """Return the RUNNING tasks of a group: those that hold its places."""
        return self.driver.holders(group)

    def take(self, group: WorkerGroup | str) -> Task[Any] | None:
        """Start the next READY task of a group and return it; None if it has none, or none that may start.

        Raises `UnknownGroup`.
        """
        if type(group) is not WorkerGroup:
            group = self.group(group)
        if group.running >= group.limit:
            return None
        if group._simple and not group._stale:  # as it is nearly always; else `pop` knows what to do
            task = group._queue.popleft() if group._queue else None  # type: ignore[union-attr]  # a deque, if simple
        else:
            task = group.pop()
        if task is not None:
            task.state = RUNNING
            task._began = self.now
            task.cohort.started += 1
            group.running += 1
            if task._course is not None:
                self._begin_trial(task, task._course)
            if self._observers:
                self._tell(task, READY)
        return task

    def start(self, task: Task[Any]) -> None:
        """Start this READY task, ahead of its turn.

        Raises `IllegalTransition` if it is not READY, or if its group has no place for it, and `ForeignTask`.
        """
        self._expect("start", task)
        group = task.group
        if not group.free:
            raise IllegalTransition(task, "start", f"its group {shown(group.name)} has no free place")
        obstacle = group.obstacle(task)
        if obstacle is not None:
            raise IllegalTransition(task, "start", obstacle)
        group.acquire(task)
        group.withdraw(task)
        task.state = RUNNING
        task._began = self.time()
        task.cohort.started += 1
        group.running += 1
        if task._course is not None:
            self._begin_trial(task, task._course)
        self._tell(task, READY)

    def suspend(self, task: Task[Any], awaited: Task[Any]) -> None:
        """Take note that the body of a task now waits for another one, so that its place is free.

        A body may wait for several at once. Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("suspend", task)
        if task.state is RUNNING:
            self._awaited[task] = [awaited]
            self._change(task, SUSPENDED)
            self._awake -= 1
            task.group.suspended += 1
            self._leave_place(task)
            self.offer(task.group)
        else:
            # An earlier wait may be over and want the place back. During this one it has no claim to it.
            self._give_up_place(task)
            self._awaited[task].append(awaited)
        if not self._awake:
            self.driver.standstill()
        self._announce()

    def resume(self, task: Task[Any], awaited: Task[Any]) -> bool:
        """Take note that a body no longer waits for this task; return whether it may go on now.

        False: its place was given away; it is the next to get one, and then `driver.resumed(task)` is called.
        While the body still waits for other tasks it goes on without a place, and so does one that is being
        stopped. Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("resume", task)
        awaits = self._awaited[task]
        if awaited not in awaits:
            raise IllegalTransition(task, "resume", f"it does not wait for {title(awaited)}")
        awaits.remove(awaited)
        if awaits or task.stopping:
            return True
        task.group.add_returning(task)
        self._let_return(task.group, but_tell_not=task)
        self._announce()
        return task.state is RUNNING

    def resize(self, group: WorkerGroup, limit: int) -> None:
        """Change the limit of a group; `group.resize(limit)` checks it and calls this.

        Raises `WrongThread`.
        """
        self._check_thread("resize")
        group.limit = limit
        if not limit:
            group.drop_claims()
        self.offer(group)
        self._announcer.wake()
        self._announce()

    def resize_limit(self, limit: Limit, size: int) -> None:
        """Change how much there is of a named limit; `limit.resize(size)` checks that and calls this.

        Raises `WrongThread`.
        """
        self._check_thread("resize")
        limit.limit = size
        # With less, too, something may start: what was kept for those who can no longer be served.
        for group in claimants([limit]):
            self.offer(group)
        self._announce()

    def pause(self, group: WorkerGroup, paused: bool) -> None:  # noqa: FBT001 - the new state itself
        """Pause a group, or let it go on; `group.pause()` and `group.resume()` call this.

        Raises `WrongThread`.
        """
        self._check_thread("pause" if paused else "resume")
        group.set_paused(paused)
        self.offer(group)
        self._announcer.wake()
        self._announce()

    def offer(self, group: WorkerGroup) -> None:
        """Give free places to bodies that want to go on; ring for others if any are left.

        To be called when places, keys or limits may have come free for a group.
        """
        if group.returning:
            self._let_return(group)
        group.ring()

    # What a body says of itself -----------------------------------------------------------------------------

    def declare(self, task: Task[Any], event: str, outcome: TaskFailed | str) -> None:
        """Let an executing task be FAILED or SKIPPED when its body returns a value.

        `task.fail(reason)` and `task.skip(reason)` call this. The first declaration counts. Raises
        `IllegalTransition` or `ForeignTask`.
        """
        self._expect(event, task)
        if task._outcome is None:
            task._outcome = outcome

    def take_progress(self, task: Task[Any], done: float, total: float | None) -> None:
        """Take note of how far an executing task has come; `task.progress(done, total)` calls this.

        Raises `BadValue`, `IllegalTransition` or `ForeignTask`.
        """
        self._expect("progress", task)
        numbers = [done] if total is None else [done, total]
        if not all(is_seconds(number) for number in numbers) or done > numbers[-1]:
            rule = "these must be numbers with 0 <= done <= total; leave the total out if it is not known"
            raise BadValue("progress(done, total)", (done, total), rule)
        self._course_of(task).progress = (done, total)
        self._tell_from_anywhere(task)

    def take_note(self, task: Task[Any], text: str) -> None:
        """Keep a note of an executing task; `task.note(text)` calls this.

        Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("note", task)
        self._course_of(task).notes.append(text)
        self._tell_from_anywhere(task)

    def _tell_from_anywhere(self, task: Task[Any]) -> None:
        """Announce that something about a task has changed, which its state has not; from any thread."""
        if not self._observers:
            return
        if self._thread is None or self._thread == get_ident():
            self._tell(task, task.state)
        else:
            self.driver.soon(self._tell_in_turn, task)

    def _tell_in_turn(self, task: Task[Any]) -> None:
        self._tell(task, task.state)

    # The parts of it ----------------------------------------------------------------------------------------

    def _let_return(self, group: WorkerGroup, but_tell_not: Task[Any] | None = None) -> None:
        """Let bodies go on, as far as there are places for them."""
        while (task := group.pop_returning()) is not None:
            del self._awaited[task]
            self._change(task, RUNNING)
            self._awake += 1
            group.suspended -= 1
            group.running += 1
            if task is not but_tell_not:
                self.driver.resumed(task)

    def _leave_place(self, task: Task[Any]) -> None:
        """Give back the place of an executing task, and what named limits and keys it held."""
        task.group.running -= 1
        if task._course is not None:
            task.group.release(task)

    def _give_up_place(self, task: Task[Any]) -> None:
        """Let a body that wants its place back go on without it."""
        if task.group.drop_returning(task):
            self.driver.resumed(task)

    def _begin_trial(self, task: Task[Any], course: Course) -> None:
        timeout = task.type.timeout
        if timeout is not None:
            course.timer = self.timetable.at(self.time() + timeout, self._trial_expires, task)
        for threshold in course.candidate_of:
            threshold.candidate_began()

    def _trial_expires(self, task: Task[Any]) -> None:
        """Stop the body of a task whose trial has taken too long."""
        if not task.stopping:
            task._course.expired = TrialTimeout(task, task.type.timeout)  # type: ignore[union-attr, arg-type]  # it has both
            self._stop_body(task)

    def _stop_body(self, task: Task[Any]) -> None:
        if task.state is SUSPENDED:
            self._give_up_place(task)
        self.driver.cancel(task)

    def _course_of(self, task: Task[Any]) -> Course:
        if task._course is None:
            task._course = Course()
        return task._course

    def _change(self, task: Task[Any], state: TaskState) -> None:
        task.cohort.move(task.state, state)
        if self._observers:
            self._announcer.note(task, task.state, state)
        task.state = state

    def _tell(self, task: Task[Any], before: TaskState) -> None:
        if self._observers:
            self._announcer.note(task, before, task.state)
            self._announcer.announce()

    def _touch(self, task: Task[Any]) -> None:
        """Let those who follow look at a task again, of which more than its state has changed."""
        if self._observers and self._tasks.get(task.uid) is task:
            self._announcer.touch(task)

    def _announce(self) -> None:
        if self._observers:
            self._announcer.announce()

    # Checks -------------------------------------------------------------------------------------------------

    def group(self, name: str | WorkerGroup) -> WorkerGroup:
        """Return a worker group by its name. Raises `UnknownGroup`."""
        if isinstance(name, WorkerGroup):
            return name
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
