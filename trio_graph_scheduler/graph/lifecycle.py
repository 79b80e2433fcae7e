"""How bodies end, and all that follows from it: the other half of the driver's side of a graph.

A driver takes READY tasks, runs their bodies wherever it likes, and reports how they ended:

    task = graph.take("default")        # RUNNING now, and holding a place
    graph.finish(task, value)           # or graph.fail(task, error), or graph.cancelled(task)

Between these calls nothing happens by itself but what is due at a certain time (`graph.tick()`), and each is
atomic: when it returns, everything that follows from it has been done. No call costs more than the edges that
it touches, and none recurses.
"""

from __future__ import annotations

import math
import sys
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from .driver import Driver
from .errors import (
    AlreadyRunning,
    BadType,
    BadValue,
    BudgetExceeded,
    IllegalTransition,
    TaskFailed,
    add_note,
    title,
)
from .places import Input, Places
from .policies import request_in
from .task import (
    CANCELLED,
    EXECUTING,
    FAILED,
    READY,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    SUSPENDED,
    WAITING,
    Task,
    TaskState,
)
from .trials import Expiry, clear_locals, tell_of_earlier_trials
from .values import is_seconds

if TYPE_CHECKING:
    from .conditions import Condition
    from .results import ResultStore
    from .thresholds import Threshold


class Lifecycle(Places):
    """The states of a graph's tasks; `TaskGraph` adds to it how tasks come in and are looked at."""

    def __init__(self, results: ResultStore, *, cancel_on_failure: bool) -> None:
        super().__init__()
        self.results = results
        self._cancel_on_failure = cancel_on_failure
        self.failures: list[Task[Any]] = []
        """The tasks that FAILED in this run or since the last one, in the order they failed."""
        # Tasks that have ended and conditions that have been decided, what follows from which is still to be
        # done. Empty between operations.
        self._news: list[Input] = []
        # When each run began and ended.
        self._runs: list[tuple[float, float | None]] = []
        # READY tasks whose budgets count from the beginning of the run.
        self._unbegun: list[Task[Any]] = []
        # Open tasks -> the conditions that are told when they have settled.
        self._settling: dict[Task[Any], list[Condition]] = {}
        # Open tasks whose end the driver wants to be told of.
        self._watched: set[Task[Any]] = set()
        # (kind, value of `dedupe`) -> the task that was added with it.
        self._deduped: dict[tuple[object, object], Task[Any]] = {}
        # How many of the children that a task lists have been removed from the graph.
        self._gaps: dict[Task[Any], int] = {}

    # Who drives ---------------------------------------------------------------------------------------------

    def attach(self, driver: Driver) -> None:
        """Let a driver run the graph from this thread, until `detach`. Raises `AlreadyRunning`."""
        if self._thread is not None:
            raise AlreadyRunning
        self.driver = driver
        self._thread = get_ident()
        self.failures.clear()
        now = self.time()
        self._runs.append((now, None))
        for group in self.groups.values():
            group.began(now)
        for task in self._unbegun:
            self._begin_budget(task)
        self._unbegun.clear()
        root = self._tasks[0]
        self.set_deadline(root, root.deadline)  # in each run anew
        self.timetable.tell(driver.wake_at)
        self._announcer.wake()

    def detach(self) -> None:
        """End a run. The driver stays known: it is asked when someone waits for a task that ended."""
        self._runs[-1] = (self._runs[-1][0], self.time())
        self._thread = None
        root = self._tasks[0]
        root._cancelled = False
        if root._course is not None:
            self.timetable.cancel(root._course.deadline_timer)
        self.timetable.tell(None)
        for group in self.groups.values():
            group.bell = None
        self._announcer.wake()

    @property
    def runs(self) -> tuple[tuple[float, float | None], ...]:
        """When each run began and ended, on trio's clock; the end of one that goes on is None.

        Each `trio.run` has a clock of its own, so times of different ones cannot be compared.
        """
        return tuple(self._runs)

    def run_at(self, when: float) -> float | None:
        """Return when the run began that this moment was in, or None if it was in none."""
        for began, ended in reversed(self._runs):
            if began <= when and (ended is None or when <= ended):
                return began
        return None

    def watch(self, task: Task[Any]) -> None:
        """Have `driver.ended(task)` called once an open task has ended, or was removed."""
        self._watched.add(task)

    # How a body ends ----------------------------------------------------------------------------------------

    def finish(self, task: Task[Any], value: object = None) -> None:
        """End an executing task with a value: SUCCEEDED, or as it has declared.

        What the result store raises comes out of here, and the task is as it was. Raises `IllegalTransition`
        or `ForeignTask`.
        """
        cohort = task.cohort
        group = cohort.group
        rare = group.returning or self._watched or self._observers or task._course is not None
        if task.state is not RUNNING or task._outcome is not None or rare or group.graph is not self:
            self._finish_in_full(task, value)
            return
        # What follows is what `_end` and `_propagate` do for nearly all tasks, at two thirds of their cost.
        self.results[task.uid] = value
        group.running -= 1
        cohort.finished += 1
        task.state = SUCCEEDED
        task.context = None
        task._over = now = self.now
        if now is not task._began:
            cohort.seconds += now - task._began  # type: ignore[operator]  # it runs, so it has begun
        if task._dependents is not None:
            for dependent in task._dependents:
                if type(dependent) is not Task:
                    if dependent.hear(task):
                        self._news.append(dependent)
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
            self._settle(task)
        if self._news or not self._awake:
            self._propagate()

    def _finish_in_full(self, task: Task[Any], value: object) -> None:
        self._expect("finish", task)
        if isinstance(task._outcome, TaskFailed):
            self.fail(task, task._outcome)
            return
        if task._outcome is not None:
            self._end(task, SKIPPED, task._outcome)
        else:
            self.results[task.uid] = value
            self._end(task, SUCCEEDED, None)
        self._propagate()

    def fail(self, task: Task[Any], error: Exception) -> None:
        """End the trial of an executing task with an exception: RETRYING if its policy says so, else FAILED.

        Raises `BadType` if that is no `Exception`, `IllegalTransition` or `ForeignTask`.
        """
        self._expect("fail", task)
        if not isinstance(error, Exception):
            raise BadType(
                "the error of a task", error, "it must be an Exception; others are not kept as outcomes"
            )
        try:
            delay = self._delay_before_next(task, error)
        except Exception as broken:  # noqa: BLE001 - of the user's policy: it decides nothing, but must not be lost
            add_note(broken, f"in the retry policy of {title(task)}, asked about {type(error).__name__}")
            if broken is not error:
                broken.__cause__ = error
            error, delay = broken, None
        except BaseException:
            self._end(task, FAILED, error)
            self._propagate()
            raise
        self._expect("fail", task)  # the policy is code of others, which may have done anything
        if delay is not None and not task._cancelled:
            self.retry(task, error, delay)
            return
        self._end(task, FAILED, error)
        self._propagate()

    def _delay_before_next(self, task: Task[Any], error: Exception) -> float | None:
        """Ask the retry policy for how long to wait until the next trial; None: there is to be none."""
        policy = task.type.retry
        request = request_in(error)
        after = None if request is None else request.after
        if task._cancelled:
            return None
        if policy is None:
            return None if request is None else after or 0.0
        course = self._course_of(task)
        earlier = len(course.past) - course.before_rerun
        began = course.past[course.before_rerun].start if earlier else cast("float", task._began)
        delay = policy(error, earlier + 1, self.time() - began)
        if delay is not None and not is_seconds(delay):
            rule = "a retry policy returns a number of seconds, 0 or more, or None to give up"
            raise BadValue("the delay before the next trial", delay, rule)
        return delay if delay is None or after is None else after

    def retry(self, task: Task[Any], error: Exception, delay: float) -> None:
        """End the trial of an executing task with an exception, and let another one begin after a delay.

        It is RETRYING for so many seconds, and READY then. `fail` does this where a retry policy says so.
        Raises `BadValue` if the delay is no number of seconds, `IllegalTransition` (also for a task that has
        been cancelled) or `ForeignTask`.
        """
        self._expect("retry", task)
        if not is_seconds(delay):
            raise BadValue(
                "the delay before the next trial", delay, "it must be a number of seconds, or None"
            )
        if task._cancelled:
            raise IllegalTransition(task, "retry", "it has been cancelled")
        course = self._course_of(task)
        self._leave(task)
        course.past.append(task._trial(FAILED, self.time(), error))
        clear_locals(error)
        task._began = task._outcome = task.worker = course.expired = course.progress = None
        self._change(task, RETRYING)
        self._awake += 1
        course.timer = self.timetable.at(self.now + delay, self._begin_next_trial, task) if delay else None
        if not delay:
            self._begin_next_trial(task)
        self._propagate()

    def _begin_next_trial(self, task: Task[Any]) -> None:
        self._awake -= 1
        self._make_ready(task)

    def cancelled(self, task: Task[Any], reason: str | None = None) -> None:
        """End an executing task whose body was stopped: CANCELLED.

        Its reason is this one, else that of `task.cancel(reason)`. If it was stopped because its trial timed
        out or a deadline has passed, it fails. Raises `IllegalTransition` or `ForeignTask`.
        """
        self._expect("cancelled", task)
        if isinstance(task._cancelled, Expiry):
            self.fail(task, BudgetExceeded(task, task._cancelled))
        elif not task._cancelled and task._course is not None and task._course.expired is not None:
            self.fail(task, task._course.expired)
        else:
            self._end(task, CANCELLED, reason or task._cancel_reason)
            self._propagate()

    # Cancelling, and the end of time ------------------------------------------------------------------------

    def cancel_subtree(self, top: Task[Any], reason: str | None = None) -> None:
        """Cancel a task and what it spawned; `task.cancel(reason)` and `graph.cancel(reason)` call this.

        Raises `WrongThread`.
        """
        self._check_thread("cancel")
        self._stop(top, reason or True)
        self._propagate()
        self._forget_cancelling()

    def _forget_cancelling(self) -> None:
        if not self.running:
            self._tasks[0]._cancelled = False  # what is added to the graph later is for the next run

    def _stop(self, top: Task[Any], why: str | bool | Expiry) -> None:  # noqa: FBT001 - True: without a reason
        """Stop a task and what it spawned; `_propagate` must follow.

        When it is a deadline that stops them, those that had their turn fail.
        """
        executing: list[Task[Any]] = []
        subtree = [] if top.settled or top._cancelled else [top]
        for task in subtree:
            task._cancelled = why
            state = task.state
            if state in EXECUTING:
                executing.append(task)
            elif isinstance(why, Expiry) and (state is READY or state is RETRYING):
                self._end(task, FAILED, BudgetExceeded(task, why))
            elif not state.ended:
                self._end(task, CANCELLED, task._cancel_reason)
            if task._children:
                subtree += [child for child in task._children if not child.settled and not child._cancelled]
        # All of the subtree is stopped before any dependent is told, so that none of it goes on, starts or is
        # skipped instead.
        for task in executing:
            self._stop_body(task)

    def set_deadline(self, task: Task[Any], when: float) -> None:
        """Give a task (or the graph, by its root) a deadline of its own; `task.deadline = when` calls this.

        Raises `BadValue`, `WrongThread`.
        """
        self._check_thread("deadline")
        if isinstance(when, bool) or not isinstance(when, int | float) or not _is_time(when):
            rule = "it must be a time on trio's clock, such as trio.current_time() + 60, or math.inf"
            raise BadValue("a deadline", when, rule)
        course = self._course_of(task)
        self.timetable.cancel(course.deadline_timer)
        course.deadline = when
        course.deadline_timer = None
        if when < math.inf and not task.settled:
            course.deadline_timer = self.timetable.at(when, self._deadline_passes, task, when)

    def _begin_budget(self, task: Task[Any]) -> None:
        """Let the budget of a task count from now on, if it has one that does not count yet."""
        course = task._course
        budget = task.type.budget
        if budget is None or course is None or course.budget_began or task.state.ended:
            return
        if self._thread is None:
            self._unbegun.append(task)
            return
        course.budget_began = True
        self.set_deadline(task, min(course.deadline, self.time() + budget))

    def _deadline_passes(self, task: Task[Any], when: float) -> None:
        self._stop(task, Expiry(task, when))
        self._propagate()
        self._forget_cancelling()

    # The one place where states change ----------------------------------------------------------------------

    def _make_ready(self, task: Task[Any]) -> None:
        course = task._course
        if course is not None:
            if course.threshold is not None:
                self._end_with_value_of(course.threshold, task)
                return
            self._begin_budget(task)
        cohort = task.cohort
        if task.state is WAITING:
            cohort.waiting -= 1
        else:
            cohort.move(RETRYING, READY)
        if self._observers:
            self._announcer.note(task, task.state, READY)
        task.state = READY
        task._ready = self.now
        self._awake += 1
        group = cohort.group
        if group._stale:
            group.unwithdraw(task)
        group._queue.append(task)
        if group.bell is not None:
            task._ready = self.time()  # where loops rest, nobody has looked at the clock for a while
            group.bell(group)

    def _rule_out(self, task: Task[Any], source: Input) -> None:
        """End a WAITING task, as something that it waits for can no longer come true."""
        course = task._course
        if task.parent._cancelled:
            self._cancel_with_parent(task)
        elif course is not None and course.threshold is source:
            self._end(task, FAILED, course.threshold.missed(task))
        else:
            self._end(task, SKIPPED, source)

    def _cancel_with_parent(self, task: Task[Any]) -> None:
        """End a task that is added to one that is being cancelled."""
        task._cancelled = task.parent._cancelled
        self._end(task, CANCELLED, task._cancel_reason)

    def _end_with_value_of(self, threshold: Threshold, task: Task[Any]) -> None:
        """End a task without a body, now that its threshold has been reached."""
        try:
            self.results[task.uid] = threshold.results()
        except Exception as error:  # noqa: BLE001 - the store of results may refuse a value
            self._end(task, FAILED, error)
        else:
            self._end(task, SUCCEEDED, None)

    def _end(self, task: Task[Any], state: TaskState, outcome: object) -> None:
        """Put a task into an end state and give back what it held; `_propagate` must follow."""
        self._leave(task)
        self._change(task, state)
        task._outcome = outcome
        task.context = None
        task._over = self.now
        if state is SUCCEEDED and task._began is not None:
            task.cohort.seconds += task._over - task._began
        self._news.append(task)
        if isinstance(outcome, Exception):
            self.failures.append(task)
        course = task._course
        if course is not None:
            if isinstance(outcome, Exception):
                tell_of_earlier_trials(outcome, course.past[course.before_rerun :])
            course.expired = None

    def _leave(self, task: Task[Any]) -> None:
        """Give back all that a task holds in its state, as it is about to leave that."""
        before = task.state
        group = task.group
        if before is RUNNING:
            self._awake -= 1
            self._leave_place(task)
            if group.returning:
                self.offer(group)
        elif before is READY:
            self._awake -= 1
            group.withdraw(task)
        elif before is SUSPENDED:
            group.suspended -= 1
            self._give_up_place(task)
            del self._awaited[task]
        elif before is RETRYING:
            self._awake -= 1
        if task._course is not None:
            self.timetable.cancel(task._course.timer)

    def _propagate(self) -> None:  # noqa: C901, PLR0912 - calls would cost more than they tell
        """Do all that follows from the news."""
        news = self._news
        for source in news:  # grows while it is walked: a chain of a million tasks must not recurse
            is_task = type(source) is Task
            if source._dependents:
                holds = source.state is SUCCEEDED if is_task else source.holds  # type: ignore[union-attr]  # is_task
                for dependent in source._dependents:
                    if type(dependent) is not Task:
                        if dependent.hear(source):
                            news.append(dependent)
                    elif holds:
                        dependent._missing -= 1
                        if not dependent._missing and dependent.state is WAITING:
                            self._make_ready(dependent)
                    elif dependent.state is WAITING:
                        self._rule_out(dependent, source)
            if is_task:
                if source._course is not None and source._course.threshold is not None:  # type: ignore[union-attr]  # is_task
                    source._course.threshold.over()  # type: ignore[union-attr]  # is_task
                self._settle(source)  # type: ignore[arg-type]  # is_task
        self._news = []
        if self._watched:
            for source in news:
                if source in self._watched:
                    self._watched.remove(source)
                    self.driver.ended(source)
        if self._cancel_on_failure:
            for source in news:
                if isinstance(source, Task) and source.state is FAILED and not source.handled:
                    self.cancel_subtree(self._tasks[0], f"{title(source)} has failed")
        if not self._awake:
            self.driver.standstill()
        if self._observers:
            self._announce()

    def _settle(self, task: Task[Any]) -> None:
        """Count the end of a task in itself and in those that spawned it.

        Every task settles once, so this is constant work per task. The root never does.
        """
        task._unsettled -= 1
        while not task._unsettled:
            if task._course is not None:
                self.timetable.cancel(task._course.deadline_timer)
            for condition in self._settling.pop(task, ()):
                if condition.count(verdict=True):
                    self._news.append(condition)
            task = task.parent
            task._unsettled -= 1


def _is_time(when: float) -> bool:
    """Return whether this is not NaN, and not an integer beyond what a float can hold."""
    return when in (math.inf, -math.inf) or abs(when) <= sys.float_info.max
