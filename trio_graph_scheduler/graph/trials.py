"""The attempts at a task, and all else that is known only of tasks that are more than one plain attempt."""

from __future__ import annotations

import math
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

import attrs

from .errors import TrialTimeout, add_note, shown_value, title

if TYPE_CHECKING:
    from .limits import Needs
    from .results import ResultStore
    from .task import Task, TaskState
    from .thresholds import Threshold
    from .timetable import Timer

MOST_NOTES = 10
"""As many earlier trials as the last error tells of."""


@attrs.frozen(eq=False)
class Stored:
    """A result that is asked for when somebody wants it, for the store may have to fetch it from afar."""

    results: ResultStore
    uid: int

    @property
    def value(self) -> Any:
        """The result."""
        return self.results[self.uid]


@attrs.frozen
class Trial:
    """One attempt at a task; `task.trials` lists them.

    - `number`: counts from 1.
    - `state`: RUNNING or SUSPENDED, or how it ended.
    - `start`, `end`: seconds on trio's clock, within a millisecond; `end` is None while it goes on.
    - `outcome`: the value if it SUCCEEDED (which is asked of the store of results each time), the exception
      if it FAILED, the reason (or None) if it was CANCELLED or SKIPPED.
    - `worker`: the name of the worker loop, such as `"http-3"`; None if no loop ran it.
    - `ready`: when the task became READY for it, or when its run began if that was later: from then until
      `start` it waited for its turn and a place.
    """

    number: int
    state: TaskState
    start: float
    end: float | None
    _outcome: Any = attrs.field(eq=lambda outcome: outcome.value if isinstance(outcome, Stored) else outcome)
    worker: str | None
    ready: float

    @property
    def outcome(self) -> Any:
        """What came of it."""
        return self._outcome.value if isinstance(self._outcome, Stored) else self._outcome

    @property
    def error(self) -> Exception | None:
        """The exception of a trial that FAILED, else None."""
        return self.outcome if self.state.name == "FAILED" else None


@attrs.frozen
class Expiry:
    """That a deadline has passed: of a task and all that it spawned, or of the graph."""

    owner: Task[Any]
    deadline: float

    def __str__(self) -> str:
        if self.owner.parent is None:
            return (
                f"the deadline of the graph has passed, which is {self.deadline:.6g} on its driver's clock"
                " (graph.deadline = trio.current_time() + seconds moves it)"
            )
        return f"the budget of {title(self.owner)} is spent: its deadline was {self.deadline:.6g}"


@attrs.define(eq=False)
class Course:
    """How a task goes, where there is more to say than in a `Task`; most tasks have none."""

    needs: Needs = ()
    """The named limits that it takes while it executes, and how much of each."""
    past: list[Trial] = attrs.Factory(list)
    """The trials before the one that runs or ran last."""
    before_rerun: int = 0
    """How many of them were before the last rerun, and do not count for the retry policy."""
    timer: Timer | None = None
    """While a trial runs that may time out: its end. While RETRYING: the start of the next one."""
    expired: TrialTimeout | None = None
    """Set when the trial that runs has timed out, and its body is being stopped."""
    deadline: float = math.inf
    """Its own; what counts is the earliest of this one and those of all who spawned it."""
    deadline_timer: Timer | None = None
    budget_began: bool = False
    """Whether its budget counts: from when it was READY for the first time."""
    progress: tuple[float, float | None] | None = None
    notes: list[str] = attrs.Factory(list)
    threshold: Threshold | None = None
    """Of a task without a body: what it waits for, and its value."""
    candidate_of: tuple[Threshold, ...] = ()


def clear_locals(error: BaseException) -> None:
    """Drop the local variables of the frames that an exception came through, and those it has to do with.

    Its tracebacks stay. What the variables hold would else be kept for as long as the exception is.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    for one in pending:  # grows while it is walked: chains and groups may be of any depth, and circular
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        clear_frames(one.__traceback__)
        pending += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions


def tell_of_earlier_trials(error: BaseException, past: list[Trial]) -> None:
    """Add notes on the failed trials before the last one to its error."""
    notes = [
        f"trial {trial.number} failed after {(trial.end or trial.start) - trial.start:.3g} s:"
        f" {shown_value(trial.outcome)}"
        for trial in past[-MOST_NOTES:]
    ]
    if len(past) > MOST_NOTES:
        notes.insert(0, f"before these, {len(past) - MOST_NOTES} more failed")
    for note in notes:
        add_note(error, note)
