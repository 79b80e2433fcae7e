"""One unit of work: what it is, what it waits for, how it stands, what came out."""

from __future__ import annotations

import enum
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs

from .errors import TaskCancelled, TaskFailed, TaskSkipped, still_open, title
from .groups import WorkerGroup

if TYPE_CHECKING:
    from .arguments import Arguments, ComputedArguments
    from .conditions import Condition
    from .task_graph import TaskGraph
    from .task_type import TaskType

T = TypeVar("T")


class TaskState(enum.Enum):
    """How a task stands. States print as their names, and `TaskState("ready")` parses one in any case."""

    WAITING = "WAITING"
    """Its condition is open."""
    READY = "READY"
    """It may start as soon as its group has a place."""
    RUNNING = "RUNNING"
    """Its body runs, and holds a place of its group."""
    SUSPENDED = "SUSPENDED"
    """Its body waits for another task, and holds no place."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    """It never started, for its condition can no longer hold."""

    @classmethod
    def _missing_(cls, value: object) -> TaskState | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    def __str__(self) -> str:
        return self.value

    # Enum hashes names, in Python; states are hashed on every change of state and exist once each.
    __hash__ = object.__hash__

    @property
    def ended(self) -> bool:
        """Whether nothing follows on this state."""
        return self in END_STATES


WAITING, READY, RUNNING, SUSPENDED = (
    TaskState.WAITING,
    TaskState.READY,
    TaskState.RUNNING,
    TaskState.SUSPENDED,
)
SUCCEEDED, FAILED, CANCELLED, SKIPPED = (
    TaskState.SUCCEEDED,
    TaskState.FAILED,
    TaskState.CANCELLED,
    TaskState.SKIPPED,
)
END_STATES = frozenset({SUCCEEDED, FAILED, CANCELLED, SKIPPED})

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


@attrs.define(eq=False, repr=False, weakref_slot=False)
class Task(Generic[T]):
    """A unit of work in a graph, made by `graph.add(...)`. It is only read, awaited and cancelled; the graph
    changes it.

    Awaited in the body of another task of the graph it takes that task's place away until it goes on, so
    nested waits cannot deadlock a group."""

    uid: int
    type: TaskType[..., Any]
    group: WorkerGroup
    parent: Task[Any] | None
    state: TaskState

    # What its driver needs: the positional arguments, or an object that gives them where more is to be said;
    # a copy of the context of whoever added it, which may keep much alive and so is None once it has ended.
    arguments: tuple[Any, ...] | Arguments | ComputedArguments
    context: Context | None

    # What it waits for, in the order declared and each once: a Task here means that it must succeed.
    _inputs: tuple[Task[Any] | Condition, ...]
    # How many of `_inputs` have not come true. A WAITING task has some, a READY one none; after that it is
    # history.
    _missing: int = 0

    # What `add` was told about this task in particular; most have none.
    label: Label = NO_LABEL

    # How many tasks of its subtree, itself included, have not ended. At zero it is settled, once and for all.
    _unsettled: int = 1
    # Who is told when it ends: tasks that need its success, and conditions on it. None
    # while nobody is.
    _dependents: list[Task[Any] | Condition] | None = None
    _children: list[Task[Any]] | None = None
    # FAILED: the exception. SKIPPED: the input that failed it. CANCELLED: the reason given.
    # While it runs: the TaskFailed that it declared itself failed with, if it has.
    _outcome: Any = None
    # Once it is being cancelled: the reason, or True. It then holds for all that it adds.
    _cancelled: str | bool = False
    handled: bool = False
    """Whether someone took note of its failure: a condition on its end or failure, or who asked for its
    result.
    """
    execution: Any = None
    """For its driver: the handle on its body, while it runs."""

    @property
    def graph(self) -> TaskGraph:
        """The graph that it is a part of."""
        return cast("TaskGraph", self.group.graph)

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
        """The tasks from the one that was added from outside down to this one, each the child of the one
        before.
        """
        line: list[Task[Any]] = []
        task: Task[Any] | None = self
        while task is not None and task.parent is not None:
            line.append(task)
            task = task.parent
        return tuple(reversed(line))

    @property
    def predecessors(self) -> tuple[Task[Any], ...]:
        """The tasks that its start depends on, each once, in the order declared: arguments, `after=`, then
        connected ones.
        """
        found: dict[Task[Any], None] = {}
        for item in self._inputs:
            found.update(dict.fromkeys((item,) if isinstance(item, Task) else item.tasks))
        return tuple(found)

    @property
    def settled(self) -> bool:
        """Whether it and everything that it spawned has ended."""
        return self._unsettled == 0

    @property
    def cancelling(self) -> bool:
        """Whether it has been cancelled and its body has not ended yet."""
        return bool(self._cancelled) and not self.state.ended

    @property
    def error(self) -> Exception | None:
        """The exception of a FAILED task, else None."""
        return self._outcome if self.state is FAILED else None

    @property
    def reason(self) -> str | None:
        """Why it was skipped or cancelled, or how it declared itself failed; None for all others, and where
        none was given.
        """
        outcome = self._outcome
        if isinstance(outcome, TaskFailed):
            return outcome.reason
        if self.state not in (CANCELLED, SKIPPED) or outcome is None or isinstance(outcome, str):
            return outcome if isinstance(outcome, str) else None
        if isinstance(outcome, Task):
            return f"{title(outcome)} {'is' if outcome.state is SUCCEEDED else 'was' if outcome.state is not FAILED else 'has'} {outcome.state}"
        return f"{outcome} can no longer hold"

    async def wait(self) -> None:
        """Wait until it has ended, in whatever way.

        Always checkpoints. In the body of another task of the graph the place of that task is free meanwhile;
        it goes on ahead of newcomers. Cancelling the wait harms nothing; it too takes the place back first,
        unless the whole task is cancelled.

        Raises `NotRunning` if it is open and nothing runs its graph, `WaitsForItself` in its own body, and
        `GraphStalled` when the graph has come to a standstill in which it can never end."""
        await self.graph.driver.wait(self)

    async def result(self) -> T:
        """Wait until it has ended and return its value, or raise as `result_nowait` does. Checkpoints as
        `wait` does.
        """
        await self.wait()
        return self.result_nowait()

    def result_nowait(self) -> T:
        """Return its value.

        Raises its exception if it failed (which counts as handled then), `TaskCancelled` or `TaskSkipped` if
        it has none, and `trio.WouldBlock` while it is open."""
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
        Idempotent.

        Those that have not started are CANCELLED at once, those that run as soon as their bodies have cleaned
        up."""
        self.graph.cancel_subtree(self, reason)

    def fail(self, reason: str) -> None:
        """Declare it failed without raising: when its body returns, it is FAILED with a `TaskFailed` of this
        reason.

        For the body itself: `current_task().fail("no such page")`. Raises `IllegalTransition` unless it is
        running."""
        self.graph.declare_failed(self, TaskFailed(reason))

    def __repr__(self) -> str:
        return f"<{title(self)} {self.state}>"

    __str__ = __repr__
