"""What a graph asks of whoever drives it; what a driver does with a graph is in `lifecycle`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from .errors import NotRunning

if TYPE_CHECKING:
    from .groups import WorkerGroup
    from .task import Task


class Driver(Protocol):
    """What a graph asks of whoever drives it.

    The graph calls the synchronous methods in the middle of a change. They only take note or wake somebody;
    they must not run a body, nor change the graph, before the call that led to them has returned. (`ended`
    and `standstill` come at the end of a change, and `ended` may call `resume`.)
    """

    async def wait(self, task: Task[Any]) -> None:  # noqa: ASYNC910 - there is nothing to checkpoint with
        """Wait until a task has ended; always checkpoint. `task.wait()` and `task.result()` call this.

        If the caller is the body of another task of the graph, that one is suspended meanwhile. Raises
        `NotRunning` if the task is open and nothing drives its graph, `WaitsForItself` in the task's own
        body, and `GraphStalled` when the wait could never end.
        """

    async def checkpoint(self) -> None:
        """Let other tasks run, and a cancellation arrive, after a task was added by `create_task`."""

    def cancel(self, task: Task[Any]) -> None:
        """Stop the body of an executing task; once it has stopped, the driver calls `graph.cancelled(task)`.

        The body may end otherwise first, and then the driver reports that.
        """

    def resumed(self, task: Task[Any]) -> None:
        """Let a suspended body go on for which `resume` had returned False.

        It has got its place back, or goes on without one: it is being cancelled, has ended, or has begun to
        wait for yet another task.
        """

    def ended(self, task: Task[Any]) -> None:
        """Take note that a task has ended, or was removed, for which `graph.watch(task)` was called.

        It is called once for a task, when all that follows from its end has been decided.
        """

    def now(self) -> float:
        """Return what time it is, in seconds on the driver's clock."""

    def wake_at(self, when: float) -> None:
        """Call `graph.tick()` at this time, or as soon as possible if that has passed.

        An earlier time takes the place of what was asked for before.
        """

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in the thread that drives the graph, as soon as possible; from any thread."""

    def holders(self, group: WorkerGroup) -> Iterable[Task[Any]]:
        """Return the tasks of a group that are RUNNING."""

    def standstill(self) -> None:
        """Take note that no task is READY, RUNNING or RETRYING, so that nothing happens any more by itself.

        Only an addition or another change from outside, or a body that stops waiting, gets things going
        again. It may be called several times in a row.
        """


class NoDriver:
    """Stands for the driver of a graph that nobody has run yet."""

    async def wait(self, task: Task[Any]) -> None:  # noqa: ASYNC910 - there is nothing to checkpoint with
        """Return if the task has ended, without a checkpoint, else raise `NotRunning`."""
        if not task.state.ended:
            raise NotRunning(task)

    async def checkpoint(self) -> None:
        """Do nothing, as nobody else runs."""

    def cancel(self, task: Task[Any]) -> None:
        """Do nothing: whoever executes the task without a driver finds `task.cancelling` True."""

    resumed = ended = cancel

    def now(self) -> float:
        """Return 0, for lack of a clock."""
        return 0.0

    def wake_at(self, when: float) -> None:
        """Do nothing: whoever drives by hand calls `graph.tick()`."""

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call the function at once, as nobody drives."""
        function(*args)

    def holders(self, group: WorkerGroup) -> Iterable[Task[Any]]:
        """Return the RUNNING tasks of a group, found by looking at all."""
        return [] if group.graph is None else group.graph.tasks(state="running", group=group)

    def standstill(self) -> None:
        """Do nothing, as nobody waits for the end."""
