"""One unit of work: what it is, what it waits for, how it stands, what came out."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final

import attrs

from .errors import TaskCancelled, TaskFailed, TaskSkipped, still_open, title
from .trials import Course, Expiry, Stored, Trial

if TYPE_CHECKING:
    from .arguments import Arguments, ComputedArguments
    from .cohorts import Cohort
    from .conditions import Condition
    from .groups import WorkerGroup
    from .limits import Needs
    from .task_graph import TaskGraph
    from .task_type import TaskType

T = TypeVar("T")


class TaskState(enum.Enum):
    """How a task stands. States print as their names, and `TaskState("ready")` parses one in any case."""

    WAITING = "WAITING"
    """Something that it waits for has not come true yet."""
    READY = "READY"
    """It may start as soon as its group has a place."""
    RUNNING = "RUNNING"
    """Its body runs, and holds a place of its group."""
    SUSPENDED = "SUSPENDED"
    """Its body waits for another task, and holds no place."""
    RETRYING = "RETRYING"
    """A trial failed, and it is READY again when the time of the next one has come. It holds no place."""
    SUCCEEDED = "SUCCEEDED"
    """Its body returned a value."""
    FAILED = "FAILED"
    """Its body raised an exception, or declared the task failed."""
    CANCELLED = "CANCELLED"
    """It was cancelled before it started, or its body was stopped."""
    SKIPPED = "SKIPPED"
    """It never started, for something that it waited for can no longer come true."""

    @classmethod
    def _missing_(cls, value: object) -> TaskState | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    def __str__(self) -> str:
        return self.value

    # States are hashed on every change of state. Each exists once, so identity will do, and it is faster than
    # Enum's own hash, which is written in Python.
    __hash__ = object.__hash__

    @property
    def ended(self) -> bool:
        """Whether nothing follows on this state."""
        return self in END_STATES


WAITING, READY, RUNNING, SUSPENDED, RETRYING = (
    TaskState.WAITING,
    TaskState.READY,
    TaskState.RUNNING,
    TaskState.SUSPENDED,
    TaskState.RETRYING,
)
SUCCEEDED, FAILED, CANCELLED, SKIPPED = (
    TaskState.SUCCEEDED,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.SKIPPED,
)
END_STATES = frozenset({SUCCEEDED, FAILED, CANCELLED, SKIPPED})
EXECUTING = frozenset({RUNNING, SUSPENDED})

CURRENT_TASK: ContextVar[Task[Any] | None] = ContextVar("trio_graph_scheduler.current_task", default=None)
"""The task whose body runs in this context: what it adds to its own graph is its child."""


@attrs.frozen
class Label:
    """What distinguishes a task from others of its type; see `TaskGraph.add`."""

    name: str | None = None
    priority: float = 0
    key: Any = None
    dedupe: Any = None


NO_LABEL = Label()


@final
@attrs.define(eq=False, repr=False, weakref_slot=False)
class Task(Generic[T]):
    """A unit of work in a graph.

        page = graph.add(fetch, url)
        text = await page.result()

    Only `graph.add(...)` and its like make tasks, and only the graph changes them; others read, await and
    cancel them. A body that awaits another task of its graph gives its place back meanwhile, so that nested
    waits cannot deadlock a group.
    """

    uid: int
    type: TaskType[..., Any]
    cohort: Cohort
    # None for the root alone. `| Any` lets type checkers accept both a look at whether it is None and none.
    parent: Task[Any] | Any
    state: TaskState

    # For its driver: the positional arguments, or an object that gives them where that is not all.
    arguments: tuple[Any, ...] | Arguments | ComputedArguments
    # For its driver: a copy of the context of whoever added it. As that may keep much alive, it is None once
    # the task has ended.
    context: Context | None

    # What it waits for, in the order declared and each once: a Task here means that it must succeed.
    _inputs: tuple[Task[Any] | Condition, ...]
    # How many of `_inputs` have not come true. A WAITING task has some, a READY one none; after that it means
    # nothing.
    _missing: int = 0

    # What `add` was told about this task in particular; most have none.
    label: Label = NO_LABEL

    # How many tasks of its subtree, itself included, have not ended. At zero it is settled, once and for all.
    _unsettled: int = 1
    # Who is told when it ends: tasks that need its success, and conditions on it. None if it never had any.
    _dependents: list[Task[Any] | Condition] | None = None
    # What it added, in order; some may have been removed from the graph. None if it never added any.
    _children: list[Task[Any]] | None = None
    # FAILED: the exception. SKIPPED: the input that failed it, or why it skipped itself. CANCELLED: the
    # reason given. While it runs: the TaskFailed, or the reason to be skipped, that its body has declared.
    _outcome: Any = None
    # Once it is being cancelled: the reason, or True; or the deadline that stopped it. It then holds for all
    # that it adds.
    _cancelled: str | bool | Expiry = False
    handled: bool = False
    """Whether someone took note of its failure: a condition on that or on its end, or `result()`."""
    worker: Any = None
    """For its driver: who runs its body, or ran it last; `str(worker)` names it."""
    # When it was last READY, and when its last trial began and ended, on the driver's clock. Many tasks share
    # these floats.
    _ready: float = 0.0
    _began: float | None = None
    _over: float | None = None
    # What else there is to know: earlier trials, timers, named limits. None for most tasks.
    _course: Course | None = None

    @property
    def graph(self) -> TaskGraph:
        """The graph that it is a part of."""
        return cast("TaskGraph", self.cohort.group.graph)

    @property
    def group(self) -> WorkerGroup:
        """The worker group that it runs in."""
        return self.cohort.group

    @property
    def name(self) -> str:
        """The name it was added with, else that of its type. Names need not be unique."""
        return self.label.name or self.type.name

    @property
    def priority(self) -> float:
        """Higher ones are taken first within the group."""
        return self.label.priority

    @property
    def key(self) -> Any:
        """Within a priority, keys are served in turn."""
        return self.label.key

    @property
    def children(self) -> tuple[Task[Any], ...]:
        """The tasks that it added, in order."""
        return tuple(child for child in self._children or () if child in self.graph)

    @property
    def path(self) -> tuple[Task[Any], ...]:
        """The tasks from the one that was added from outside of all down to this one.

        Each is the child of the one before.
        """
        line: list[Task[Any]] = []
        task: Task[Any] = self
        while task.parent is not None:
            line.append(task)
            task = task.parent
        return tuple(reversed(line))

    @property
    def predecessors(self) -> tuple[Task[Any], ...]:
        """The tasks that its start depends on, each once.

        They come in the order declared: those among the arguments, those of `after=`, then connected ones.
        """
        return tuple(self.iter_predecessors())

    @property
    def inputs(self) -> tuple[Task[Any] | Condition, ...]:
        """What its start depends on, in the order declared: Tasks, which must succeed, and Conditions."""
        return self._inputs

    def iter_predecessors(self) -> Iterator[Task[Any]]:
        """Yield its predecessors, as `predecessors` lists them, for who needs only the first few of many."""
        found: set[Task[Any]] = set()
        for item in self._inputs:
            for task in (item,) if isinstance(item, Task) else item.iter_tasks():
                if task not in found:
                    found.add(task)
                    yield task

    @property
    def settled(self) -> bool:
        """Whether it and everything that it spawned has ended."""
        return self._unsettled == 0

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The attempts at it, the one that runs included; none if it has not started.

        They are kept as long as the graph is. Of a failed trial that was followed by another one the
        traceback is kept, but not the local variables of its frames.
        """
        past = () if self._course is None else self._course.past
        if self._began is None:
            return tuple(past)
        succeeded = self.state is SUCCEEDED
        outcome = Stored(self.graph.results, self.uid) if succeeded else self.error or self.reason
        return (*past, self._trial(self.state, self._over, outcome if self.state.ended else None))

    def _trial(self, state: TaskState, end: float | None, outcome: object) -> Trial:
        """Return the trial that runs, or ran last."""
        worker = None if self.worker is None else str(self.worker)
        start = cast("float", self._began)
        run_began = self.graph.run_at(start)
        ready = self._ready if run_began is None else max(self._ready, run_began)
        return Trial(self.trial_number, state, start, end, outcome, worker, min(ready, start))

    @property
    def began_at(self) -> float | None:
        """When its last trial began, in seconds on trio's clock; None if none has begun."""
        return self._began

    @property
    def ended_at(self) -> float | None:
        """When it ended, in seconds on trio's clock, whether it had begun or not; None if it is open."""
        return self._over if self.state.ended else None

    @property
    def trial_number(self) -> int:
        """The number of the trial that runs, or ran last; 0 if none has begun."""
        past = 0 if self._course is None else len(self._course.past)
        return past + (self._began is not None)

    @property
    def needs(self) -> Needs:
        """The named limits that it takes while it executes, and how much of each."""
        return () if self._course is None else self._course.needs

    @property
    def deadline(self) -> float:
        """When it must have ended, on trio's clock, with all that it spawned; infinity if nothing says so.

        This is the earliest of its own (see `TaskType.budget`), those of all who spawned it, and the graph's.
        Setting it sets its own, at any time before it has settled. Raises `BadValue` for what is no time, and
        `WrongThread` while the graph runs in another thread.
        """
        earliest = math.inf
        task: Task[Any] | None = self
        while task is not None:
            if task._course is not None:
                earliest = min(earliest, task._course.deadline)
            task = task.parent
        return earliest

    @deadline.setter
    def deadline(self, when: float) -> None:
        self.graph.set_deadline(self, when)

    @property
    def _cancel_reason(self) -> str | None:
        return None if isinstance(self._cancelled, bool) else str(self._cancelled)

    @property
    def cancelling(self) -> bool:
        """Whether it has been cancelled and its body has not ended yet."""
        return bool(self._cancelled) and not self.state.ended

    @property
    def stopping(self) -> bool:
        """Whether its body is being stopped, as the task has been cancelled or its trial has timed out."""
        expired = self._course is not None and self._course.expired is not None
        return (expired or bool(self._cancelled)) and self.state in EXECUTING

    @property
    def error(self) -> Exception | None:
        """The exception of a FAILED task, else None."""
        return self._outcome if self.state is FAILED else None

    @property
    def reason(self) -> str | None:
        """Why it was skipped or cancelled, or as what it declared itself failed.

        None for all other tasks, and where no reason was given.
        """
        outcome = self._outcome
        if isinstance(outcome, TaskFailed):
            return outcome.reason
        if self.state not in (CANCELLED, SKIPPED) or outcome is None or isinstance(outcome, str):
            return outcome if isinstance(outcome, str) else None
        if isinstance(outcome, Task):
            verb = {SUCCEEDED: "is", FAILED: "has"}.get(outcome.state, "was")
            return f"{title(outcome)} {verb} {outcome.state}"
        return f"{outcome} can no longer hold"

    async def wait(self) -> None:
        """Wait until it has ended, in whatever way.

        Always checkpoints. In the body of another task of the graph the place of that task is free meanwhile;
        it goes on ahead of newcomers. Cancelling the wait harms nothing; it too takes the place back first,
        unless the whole task is cancelled.

        Raises `NotRunning` if it is open and nothing runs its graph, `WaitsForItself` in its own body, and
        `GraphStalled` when the graph has come to a standstill in which it can never end.
        """
        await self.graph.driver.wait(self)

    async def result(self) -> T:
        """Wait until it has ended and return its value, or raise as `result_nowait` does.

        Always checkpoints, and gives a place back and raises, as `wait` does.
        """
        await self.wait()
        return self.result_nowait()

    def result_nowait(self) -> T:
        """Return its value.

        Raises its exception if it failed (which counts as handled then), `TaskCancelled` or `TaskSkipped` if
        it has none, and `trio.WouldBlock` while it is open.
        """
        if self.state is SUCCEEDED:
            return cast("T", self.graph.results[self.uid])
        if self.state is FAILED:
            self.handled = True
            raise self._outcome
        if self.state is CANCELLED:
            raise TaskCancelled(self)
        if self.state is SKIPPED:
            raise TaskSkipped(self)
        raise still_open(self)

    def cancel(self, reason: str | None = None) -> None:
        """Cancel it and everything that it spawned or still spawns; what has ended stays as it is.

        Those that have not started are CANCELLED at once, those that run as soon as their bodies have cleaned
        up. Doing so twice is fine. Raises `WrongThread` while the graph runs in another thread.
        """
        self.graph.cancel_subtree(self, reason)

    def fail(self, reason: str) -> None:
        """Declare it failed without raising, from its own body.

            current_task().fail("no such page")

        When its body returns a value, this trial has FAILED with a `TaskFailed` of this reason. Raises
        `IllegalTransition` unless it is executing.
        """
        self.graph.declare(self, "fail", TaskFailed(reason))

    def skip(self, reason: str) -> None:
        """Declare it skipped, from its own body: there is nothing for it to do.

            current_task().skip("not modified")

        When its body returns a value, that is dropped and the task is SKIPPED for this reason, and with it
        all that needs its success. Of several declarations the first counts. Raises `IllegalTransition`
        unless it is executing.
        """
        self.graph.declare(self, "skip", str(reason))

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far it has come, from its own body; a thread may do so too.

            for row, line in enumerate(lines):
                current_task().progress(row, len(lines))

        It is shown wherever the graph is watched, and `task.progress_made` gives it back. Raises
        `IllegalTransition` unless it is executing, and `BadValue` unless these are numbers with
        0 <= done <= total.
        """
        self.graph.take_progress(self, done, total)

    @property
    def progress_made(self) -> tuple[float, float | None] | None:
        """What it last said with `progress`, as (done, total); None if it said nothing in its last trial."""
        return None if self._course is None else self._course.progress

    def note(self, text: str) -> None:
        """Say something about what it does, from its own body; a thread may do so too.

        It is shown wherever the graph is watched, and `task.notes` lists all. Raises `IllegalTransition`
        unless it is executing.
        """
        self.graph.take_note(self, str(text))

    @property
    def last_note(self) -> str | None:
        """The last of its `notes`, or None if there are none."""
        return self._course.notes[-1] if self._course is not None and self._course.notes else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What it said with `note`, in all of its trials."""
        return () if self._course is None else tuple(self._course.notes)

    def __repr__(self) -> str:
        return f"<{title(self)} {self.state}>"

    __str__ = __repr__
