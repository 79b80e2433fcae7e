"""Waiting for tasks: in the bodies of others, which give their places back meanwhile, and from outside."""

from __future__ import annotations

import math
from typing import Any

import attrs
import trio

from trio_graph_scheduler.graph import Task, TaskGraph
from trio_graph_scheduler.graph.cycles import stall
from trio_graph_scheduler.graph.errors import GraphStalled, NotRunning, WaitsForItself
from trio_graph_scheduler.graph.task import CURRENT_TASK, EXECUTING


@attrs.define(eq=False)
class Wait:
    """One call that waits for a task."""

    trio_task: trio.lowlevel.Task
    """The trio task that made the call."""
    waiter: Task[Any] | None
    """The task in whose body the call was made; None: outside of all."""
    forever: bool
    """Whether nothing but the end of the awaited task ends it, as far as can be known."""
    error: GraphStalled | None = None
    """What the call raises when it goes on."""


class Waits:
    """All waits for tasks of one graph."""

    def __init__(self, graph: TaskGraph) -> None:
        self._graph = graph
        # The waits for each task that has not ended, in the order in which they began.
        self._on: dict[Task[Any], dict[Wait, None]] = {}
        # Those whose wait is over but who have to get a place first, by waiter: one at most for each.
        self._returning: dict[Task[Any], trio.lowlevel.Task] = {}

    async def wait(self, target: Task[Any]) -> None:
        """Wait until a task has ended; see `Task.wait`."""
        if target.state.ended:
            await trio.lowlevel.checkpoint()
            return
        if not self._graph.running:
            raise NotRunning(target)
        waiter = self._waiter()
        if waiter is target:
            raise WaitsForItself(target)
        wait = Wait(trio.lowlevel.current_task(), waiter, trio.current_effective_deadline() == math.inf)
        await self._rest(wait, target)
        if wait.error is not None:
            raise wait.error
        if waiter is not None and waiter.stopping:  # it got no place to go on with
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _rest(self, wait: Wait, target: Task[Any]) -> None:
        """Give the waiter's place back, wait, and take a place again."""
        waiter = wait.waiter
        if target not in self._on:
            self._on[target] = {}
            self._graph.watch(target)
        waits = self._on[target]
        waits[wait] = None
        if waiter is not None:
            self._graph.suspend(waiter, target)

        def abort(_: object) -> trio.lowlevel.Abort:
            # Once it only waits for its place it must have that before it may go on, unless the whole task is
            # cancelled, and then it is let go by `let_go`.
            if wait not in waits:
                return trio.lowlevel.Abort.FAILED
            del waits[wait]
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        except BaseException:
            if waiter is not None and self._must_queue(waiter, target):
                self._returning[waiter] = wait.trio_task
                await trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC102 - abort() refuses now
            raise

    def _waiter(self) -> Task[Any] | None:
        task = CURRENT_TASK.get()
        return task if task is not None and task.graph is self._graph and task.state in EXECUTING else None

    def _must_queue(self, waiter: Task[Any], target: Task[Any]) -> bool:
        """Ask for the waiter's place back; return whether it has to wait for that."""
        return waiter.state in EXECUTING and not self._graph.resume(waiter, target)

    def ended(self, target: Task[Any]) -> None:
        """Let those go on who wait for this task, or queue for their places."""
        waits = self._on.pop(target)
        for wait in tuple(waits):
            del waits[wait]
            if wait.waiter is not None and self._must_queue(wait.waiter, target):
                self._returning[wait.waiter] = wait.trio_task
            else:
                trio.lowlevel.reschedule(wait.trio_task)

    def let_go(self, waiter: Task[Any]) -> None:
        """Let the body go on that waited for its place."""
        trio.lowlevel.reschedule(self._returning.pop(waiter))

    def tell_outsiders(self) -> None:
        """Raise `GraphStalled` in those who wait from outside, at a standstill that is hopeless."""
        for waits in self._on.values():
            for wait in [wait for wait in waits if wait.waiter is None and wait.forever]:
                del waits[wait]
                wait.error = stall(self._graph)
                trio.lowlevel.reschedule(wait.trio_task)

    def are_hopeless(self) -> bool:
        """Return whether no body will ever go on from a standstill: all wait for tasks, none for a place."""
        waiting = {wait.trio_task for waits in self._on.values() for wait in waits if _is_forever(wait)}
        bodies = [task.worker.trio_task for task in self._graph.suspended]
        return not self._returning and all(_only_waits(trio_task, waiting) for trio_task in bodies)


def _is_forever(wait: Wait) -> bool:
    """Return whether nothing but the end of the awaited task ends a wait, nor the body that it is made in.

    The deadline of the graph does not count, for after it there is nothing to wait for.
    """
    task = wait.waiter
    limited = task is not None and (task.type.timeout is not None or task.deadline < task.graph.deadline)
    return wait.forever and not limited


def _only_waits(top: trio.lowlevel.Task, waiting: set[trio.lowlevel.Task]) -> bool:
    """Return whether a trio task and all below it only wait: for tasks, or for their children."""
    below = [top]
    for trio_task in below:
        children = [child for nursery in trio_task.child_nurseries for child in nursery.child_tasks]
        if not children and trio_task not in waiting:
            return False
        below += children
    return True
