"""The trials of a graph's tasks, and what made each of them READY."""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Any

import attrs

from trio_graph_scheduler.graph import Condition, Task, TaskState
from trio_graph_scheduler.graph.conditions import SETTLED
from trio_graph_scheduler.graph.task import SUCCEEDED
from trio_graph_scheduler.observe.drawing.summary import Input

SAME = 1e-6
"""Seconds by which two times may differ that are one moment."""
MOST_LATEST = 8
"""As many of the trials that a condition came true with are known as the latest."""


class Cause(enum.Enum):
    """What made a task READY: the last event before that which had to do with it."""

    PREDECESSOR = "predecessor"
    """Something that it waited for had ended; that may be the last that a predecessor had spawned."""
    SPAWNED = "spawned"
    """It was added by a body that ran, and waited for nothing."""
    RETRY = "retry"
    """Its earlier trial had failed, and the delay was over."""
    OUTSIDE = "outside"
    """It was there when the run began or was added from outside, or no task had to do with it."""


@attrs.define(eq=False)
class Attempt:
    """One trial of a task, with times in seconds from the beginning of the first run.

    A trial that goes on ends now.
    """

    task: Task[Any]
    number: int
    state: TaskState
    error: str | None
    """The name of the exception's class."""
    worker: str | None
    run: int
    ready: float
    start: float
    end: float
    cause: Cause = Cause.OUTSIDE
    due_to: Attempt | None = None
    """What had ended last, the earlier trial, or whose body had added the task; None: OUTSIDE."""
    needed: tuple[Attempt | Barrier, ...] = ()
    """What had ended when it became READY, of all that it waited for."""
    added: float = 0.0
    """When the task was there, as far as is known: not later than this trial was READY."""
    adder: Attempt | None = None
    """The trial in which the task was added; None: from outside."""

    @property
    def sources(self) -> tuple[Attempt, ...]:
        """Whom arrows to it come from: `due_to`, and of all that it waited for what ended last, at most 8."""
        if self.cause is not Cause.PREDECESSOR:
            return () if self.due_to is None else (self.due_to,)
        trials = [trial for part in self.needed for trial in _latest(part)]
        return tuple(trials if len(trials) == 1 else nlargest(MOST_LATEST, dict.fromkeys(trials), key=_end))

    @property
    def ran(self) -> float:
        """How many seconds it took."""
        return self.end - self.start

    @property
    def waited(self) -> float:
        """How many seconds it was READY and had no place."""
        return self.start - self.ready


@attrs.frozen(eq=False)
class Barrier:
    """What had ended, of all that a condition is about, when a trial that waited for it became READY.

    One condition may hold back many tasks, and they share this.

    - `trials`: with these it had come true.
    - `latest`: those of them that ended last, the very last one first; at most 8.
    - `settled`: the tasks that had to settle: of these, all that they spawned had to end too.
    """

    trials: tuple[Attempt, ...]
    latest: tuple[Attempt, ...]
    settled: tuple[Task[Any], ...]


# What decided a task that never ran, or a condition, as far as is known: of its parts the last one that
# SUCCEEDED, and the first one that did not.
Decision = tuple[Attempt | None, Attempt | None]


class Causes:
    """Finds what made each trial READY: the latest of all events before it that had to do with it.

    A task that never ran, such as a threshold or one that was skipped, has no times of its own. It stands for
    the predecessor that decided it: of a threshold the last one that SUCCEEDED, else the first that did not.
    """

    def __init__(self, tasks: Sequence[Task[Any]], trials: Mapping[Task[Any], list[Attempt]]) -> None:
        self._tasks = tasks
        self._trials = trials
        # For each run, as soon as it matters: the trial that ended last, of a task and all that it spawned.
        self._last_within: dict[int, dict[Task[Any], Attempt]] = {}
        self._decisions: dict[Input, Decision] = {}
        self._barriers: dict[tuple[Condition, int], Barrier] = {}

    def find(self) -> None:
        """Set what is known of the causes of all trials."""
        # No task was added before those that were added before it.
        known = 0.0
        for task in self._tasks:
            previous = None
            for attempt in self._trials.get(task, ()):
                self._find(attempt, previous if previous and previous.run == attempt.run else None)
                if attempt.cause is Cause.PREDECESSOR:
                    began = 0.0 if attempt.adder is None else attempt.adder.start
                    attempt.added = min(attempt.ready, max(known, began))
                elif previous is None:
                    known = max(known, attempt.ready)
                previous = attempt

    def _find(self, attempt: Attempt, previous: Attempt | None) -> None:
        """Set the cause of a trial; `previous` is the one before it in the same run."""
        moment = attempt.ready
        needed = tuple(self._needed(attempt))
        latest = max((_latest(part)[0] for part in needed), key=_end, default=None)
        if previous is not None and (latest is None or latest.end <= previous.end):
            attempt.cause, attempt.due_to = Cause.RETRY, previous
            return
        attempt.needed = needed
        attempt.added = moment
        attempt.adder = self._last_before(attempt.task.parent, moment, _start)
        if latest is not None and latest.end >= moment - SAME:
            attempt.cause, attempt.due_to = Cause.PREDECESSOR, latest
        elif attempt.adder is not None and attempt.adder.end >= moment - SAME:
            attempt.cause, attempt.due_to = Cause.SPAWNED, attempt.adder

    # What had ended by a moment -----------------------------------------------------------------------------

    def _needed(self, attempt: Attempt) -> Iterator[Attempt | Barrier]:
        for item in attempt.task.inputs:
            if isinstance(item, Task):
                last = self._ended(item, attempt.ready)
                if last is not None:
                    yield last
            else:
                for node in item.nodes():
                    barrier = self._barrier(node, attempt)
                    if barrier.trials:
                        yield barrier

    def _ended(self, task: Task[Any], moment: float) -> Attempt | None:
        """Return the trial that a task had ended with by a moment, if it had."""
        if task in self._trials:
            return self._last_before(task, moment, _end)
        return _if_before(self._stand_in(task), moment)

    def _settled(self, task: Task[Any], attempt: Attempt) -> Attempt | None:
        """Return the last trial in this run of a task and all that it spawned, if it was over by then."""
        last_within = self._last_within.get(attempt.run)
        if last_within is None:
            last_within = self._last_within[attempt.run] = {}
            of_run = (
                trial for trials in self._trials.values() for trial in trials if trial.run == attempt.run
            )
            # Of those that ended in the same moment the one that was added last.
            for trial in sorted(of_run, key=lambda trial: (trial.end, trial.task.uid), reverse=True):
                above = trial.task
                while above is not None and above not in last_within:
                    last_within[above] = trial
                    above = above.parent
        return _if_before(last_within.get(task), attempt.ready)

    def _last_before(
        self, task: Task[Any], moment: float, when: Callable[[Attempt], float]
    ) -> Attempt | None:
        """Return the last trial of a task that began, or ended, by a moment."""
        trials = self._trials.get(task, [])
        place = bisect_right(trials, moment + SAME, key=when)
        return trials[place - 1] if place else None

    def _barrier(self, node: Condition, attempt: Attempt) -> Barrier:
        """Return what had ended when a trial was READY, of the tasks that a condition is about itself."""
        moment = attempt.ready
        known = self._barriers.get((node, attempt.run))
        if known is not None and (not known.latest or known.latest[0].end <= moment + SAME):
            return known
        tasks = [task for task in node.operands if isinstance(task, Task)]
        settled = node.verb is SETTLED
        ends = (self._settled(task, attempt) if settled else self._ended(task, moment) for task in tasks)
        trials = tuple(trial for trial in ends if trial is not None)
        latest = tuple(nlargest(MOST_LATEST, trials, key=_end))
        barrier = self._barriers[node, attempt.run] = Barrier(trials, latest, tuple(tasks if settled else ()))
        return barrier

    # Tasks that never ran -----------------------------------------------------------------------------------

    def _stand_in(self, task: Task[Any]) -> Attempt | None:
        """Return the trial that decided a task that never ran, if that is known."""
        if task not in self._decisions:
            self._decide(task)
        went_well, did_not = self._decisions[task]
        return went_well or did_not

    def _decide(self, first: Input) -> None:
        entered: set[Input] = set()
        stack = [first]
        while stack:
            top = stack[-1]
            parts = self._parts(top)
            if top not in entered:
                entered.add(top)  # those in a cycle are met once
                stack += [part for part in parts if part not in self._decisions and part not in entered]
                continue
            stack.pop()
            if top not in self._decisions:
                self._decisions[top] = self._decision(top, parts)

    def _parts(self, item: Input) -> tuple[Input, ...]:
        if isinstance(item, Condition):
            return tuple(item.operands)
        return () if item in self._trials else item.inputs

    def _decision(self, item: Input, parts: tuple[Input, ...]) -> Decision:
        if isinstance(item, Task) and item in self._trials:
            decisive: Attempt | None = self._trials[item][-1]
        else:
            known = [self._decisions.get(part, (None, None)) for part in parts]
            last = max((good for good, _ in known if good is not None), key=_end, default=None)
            first = min((bad for _, bad in known if bad is not None), key=_end, default=None)
            if isinstance(item, Condition):
                return last, first
            decisive = (last or first) if item.state is SUCCEEDED else (first or last)
        return (decisive, None) if item.state is SUCCEEDED else (None, decisive)


def _if_before(attempt: Attempt | None, moment: float) -> Attempt | None:
    return attempt if attempt is not None and attempt.end <= moment + SAME else None


def in_causal_order(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return trials in the order given, but for those that come before their sources.

    Of trials in the same moment, shorter than the clock can tell, times do not tell which one came first.
    """
    ordered: dict[Attempt, None] = {}
    entered: set[Attempt] = set()
    for attempt in attempts:
        stack = [attempt]
        while stack:
            top = stack[-1]
            if top not in entered:
                entered.add(top)
                stack += [source for source in top.sources if source not in entered]
            else:
                ordered[top] = None
                stack.pop()
    return list(ordered)


def _latest(part: Attempt | Barrier) -> tuple[Attempt, ...]:
    return part.latest if isinstance(part, Barrier) else (part,)


def _start(attempt: Attempt) -> float:
    return attempt.start


def _end(attempt: Attempt) -> float:
    return attempt.end
