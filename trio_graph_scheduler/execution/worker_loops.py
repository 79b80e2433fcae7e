"""Worker loops: long-lived trio tasks, each of which runs the tasks of one group, one after another.

A trio task per graph task would cost several times what a graph task does. A loop lends the task it runs its
own cancel scope, makes a new one only when a cancellation has used it up, and drives the body by hand so that
it runs in a context of its own. Ctrl-C may interrupt a body, but not the loop around it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context
from time import perf_counter
from types import CoroutineType, TracebackType, coroutine
from typing import TYPE_CHECKING, Any

import trio

from trio_graph_scheduler.graph.errors import (
    CancelledSwallowed,
    ReturnedCoroutine,
    StrayCancelled,
    add_note,
    title,
)
from trio_graph_scheduler.graph.task import CURRENT_TASK, RUNNING

from .cancelled import without_cancelled
from .executors import call_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from trio_graph_scheduler.graph import Task, WorkerGroup

    from .run import Run

SLICE = 0.001
"""Seconds of back-to-back work after which a loop lets others run."""
BLOCKED = object()
"""What `_enter` returns for a body that has not ended but waits for something."""


class TaskBlocksLoop(RuntimeWarning):
    """A task kept trio's thread to itself for long, so that nothing else could run."""


class Crew:
    """The worker loops of one group: started when there is work for them; at most `limit` of them rest."""

    def __init__(self, run: Run, group: WorkerGroup) -> None:
        self.run = run
        self.group = group
        # All that have been started and have not ended, in that order.
        self.loops: dict[WorkerLoop, None] = {}
        self.resting: list[WorkerLoop] = []
        # Loops that will look for a task as soon as they run: they have been started or woken, or let others
        # run between two tasks.
        self.coming = 0
        # How many have been started, for their names.
        self._started = 0

    def staff(self) -> None:
        """Wake or start a loop for every task that could start now."""
        for _ in range(self.group.startable - self.coming):
            self.coming += 1
            if self.resting:
                self.resting.pop().wake()
            else:
                self._started += 1
                loop = WorkerLoop(self, f"{self.group.name}-{self._started}")
                self.loops[loop] = None
                self.run.nursery.start_soon(loop.run_loop, name=f"worker loop {loop.name!r} of a task graph")

    def holders(self) -> list[Task[Any]]:
        """Return the tasks that run in these loops."""
        tasks = [loop.task for loop in self.loops if loop.task is not None and loop.task.worker is loop]
        return [task for task in tasks if task.state is RUNNING]

    def dismiss(self) -> None:
        """Let the loops that rest end."""
        while self.resting:
            self.coming += 1
            self.resting.pop().wake()


class WorkerLoop:
    """One worker loop. `context` is the value of its group's context manager."""

    __slots__ = (
        "_body",
        "_message",
        "_scope",
        "_told",
        "_used_up",
        "context",
        "crew",
        "name",
        "run",
        "task",
        "trio_task",
    )

    def __init__(self, crew: Crew, name: str) -> None:
        self.crew = crew
        self.name = name
        # The task that it runs, or ran last.
        self.task: Task[Any] | None = None
        self.run = crew.run
        self.context: Any = None
        self.trio_task: trio.lowlevel.Task | None = None
        # The scope that is lent to the task it runs; whether that has been cancelled; whether the body has
        # been told.
        self._scope = trio.CancelScope()
        self._used_up = self._told = False
        # What `_enter` leaves to `_drive`: the body that waits, and what it waits for in trio's terms.
        self._body: Coroutine[Any, Any, Any] | None = None
        self._message: Any = None

    @trio.lowlevel.enable_ki_protection
    async def run_loop(self) -> None:  # noqa: ASYNC910 - the whole of a trio task, which owes no checkpoint
        """Run tasks until the run is over."""
        self.trio_task = trio.lowlevel.current_task()
        manager = self.crew.group.context
        try:
            if manager is None:
                await self._work()
            else:
                await self._work_within(manager)
        finally:
            del self.crew.loops[self]
            self.run.look()

    async def _work_within(self, manager: Callable[[], AbstractAsyncContextManager[Any]]) -> None:  # noqa: ASYNC910 - see run_loop
        try:
            async with manager() as self.context:
                await self._work()
        except Exception as error:  # noqa: BLE001 - of the context manager; it ends the run, which raises it
            add_note(error, f"in the context manager of worker group {self.crew.group.name!r}")
            self.run.crash(error)

    def wake(self) -> None:
        """Let a loop that rests look for work."""
        trio.lowlevel.reschedule(self.trio_task)  # type: ignore[arg-type]  # it rests, so it runs

    async def _work(self) -> None:  # noqa: ASYNC910 - see run_loop
        self.crew.coming -= 1
        staying = True
        while staying:
            with trio.CancelScope() as self._scope:
                self._used_up = self._told = False
                staying = await self._run_tasks()

    async def _rest(self) -> bool:
        """Wait for work; return whether there may be some, or False to end."""
        crew = self.crew
        if self.run.dismissing or len(crew.resting) >= max(1, crew.group.limit):
            return False  # noqa: ASYNC910 - the loop ends
        crew.resting.append(self)

        def leave(_: object) -> trio.lowlevel.Abort:
            crew.resting.remove(self)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
        crew.coming -= 1
        await trio.lowlevel.checkpoint_if_cancelled()
        return True

    async def _let_others_run(self) -> None:
        self.crew.coming += 1
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self.crew.coming -= 1

    async def _run_tasks(self) -> bool:  # noqa: C901, PLR0912 - all that a task costs, in the order it happens
        """Run tasks until there is nothing more to do (False), or until the scope is used up (True)."""
        group, graph, longest_stretch = self.crew.group, self.run.graph, self.run.longest_stretch
        take, finish, enter = graph.take, graph.finish, self._enter
        # Whenever others have run, all may have been cancelled, and then nothing is to start any more.
        await trio.lowlevel.checkpoint_if_cancelled()
        graph.now = trio.current_time()
        resumed = began = perf_counter()
        while True:  # noqa: ASYNC913 - it lets others run after a SLICE, not after each task
            task = take(group)
            if task is None:
                if not await self._rest():
                    return False
                graph.now = trio.current_time()
                resumed = began = perf_counter()
                continue
            task.worker = self
            self.task = task
            # A copy for each trial, so that none finds what an earlier one has set.
            context: Context = task.context.copy()  # type: ignore[union-attr]  # it goes when the task has ended
            arguments, task_type = task.arguments, task.type
            blocked = False
            try:
                if type(arguments) is tuple and task_type.executor == "async":
                    value = context.run(enter, task, task_type.function, arguments)
                else:
                    value = context.run(enter, task, *call_of(task))
                if value is BLOCKED:
                    blocked = True
                    value = await self._drive(task, context, began)
                    graph.now = trio.current_time()
                if self._used_up or type(value) is CoroutineType:
                    self._finish_with_doubt(task, value)
                else:
                    finish(task, value)
            except BaseException as error:  # noqa: ASYNC103 - _ended_badly() knows what is to go on
                if self._ended_badly(task, error):
                    raise
            if self._used_up:
                return True
            now = perf_counter()
            if blocked:
                await trio.lowlevel.checkpoint_if_cancelled()
                resumed = began = now
                continue
            if now - began > longest_stretch:
                self._warn(task, now - began)
            if now - resumed > SLICE:
                await self._let_others_run()
                graph.now = trio.current_time()
                resumed = now = perf_counter()
            began = now

    # The body of a task -------------------------------------------------------------------------------------

    @trio.lowlevel.disable_ki_protection
    def _enter(self, task: Task[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Start a body in its context; return its value, or BLOCKED and leave `_body` and `_message`."""
        CURRENT_TASK.set(task)
        body = function(*args)
        if type(body) is not CoroutineType:
            if not isinstance(body, Awaitable):
                return body
            body = _awaited(body)
        try:
            self._message = body.send(None)
        except StopIteration as end:
            return end.value
        self._body = body
        return BLOCKED

    @trio.lowlevel.disable_ki_protection
    @coroutine
    def _drive(self, task: Task[Any], context: Context, began: float) -> Generator[Any, Any, Any]:
        """Pass messages between a body and trio until it ends; return its value."""
        body: Coroutine[Any, Any, Any] = self._body  # type: ignore[assignment]  # `_enter` left it
        step: Callable[[Any], Any]
        message, ended = self._message, False
        self._body = self._message = None
        while True:
            stretch = perf_counter() - began
            if stretch > self.run.longest_stretch:
                self._warn(task, stretch)
            if ended:
                return message
            try:
                answer = yield message
            except BaseException as raised:  # noqa: ASYNC103, BLE001 - the body's to handle
                step, answer = body.throw, raised
            else:
                step = body.send
                # Trio sends outcomes; it is the body that unwraps them.
                error = getattr(answer, "error", None)
                if isinstance(error, trio.Cancelled) and error.reason == self._reason_for(task):
                    self._told = True
            began = perf_counter()
            try:
                message = context.run(step, answer)
            except StopIteration as end:
                message, ended = end.value, True

    def __str__(self) -> str:
        return self.name

    def cancel(self, task: Task[Any]) -> None:
        """Cancel the body that runs in this loop."""
        self._used_up = True
        self._scope.cancel(self._reason_for(task))

    @staticmethod
    def _reason_for(task: Task[Any]) -> str:
        return f"{title(task)} is cancelled"

    # Its end ------------------------------------------------------------------------------------------------

    def _finish_with_doubt(self, task: Task[Any], value: object) -> None:
        """Finish a task that was cancelled meanwhile, or whose value cannot be right."""
        graph = self.run.graph
        if isinstance(value, Coroutine):
            value.close()
            graph.fail(task, ReturnedCoroutine(task))
        elif self._told:
            graph.fail(task, CancelledSwallowed(task))
        else:
            graph.finish(task, value)  # it had done its work before the cancellation reached it

    def _ended_badly(self, task: Task[Any], error: BaseException) -> bool:
        """Record how a task ended that raised; return whether the exception is to go on."""
        graph = self.run.graph
        graph.now = trio.current_time()
        error.__traceback__ = _without_ours(error.__traceback__)
        if isinstance(error, Exception):
            graph.fail(task, error)
            return False
        rest = without_cancelled(error)
        from_outside = not self._used_up and trio.current_effective_deadline() == -math.inf
        if from_outside:
            graph.cancel("the run was cancelled")  # before what waits for this task is told of its end
        if rest is None:
            if self._used_up or from_outside:
                graph.cancelled(task)
                return True
            rest = StrayCancelled(task)
        if isinstance(rest, Exception):
            graph.fail(task, rest)
        else:
            graph.cancelled(task, f"{type(rest).__name__} was raised in it")
            self.run.crash(rest)
        return False

    def _warn(self, task: Task[Any], stretch: float) -> None:
        message = (
            f"{title(task)} blocked the event loop for {stretch:.3f} s: nothing else could run meanwhile."
            " Await something in it, or make it a plain function, which runs in a thread"
        )
        try:
            warnings.warn(message, TaskBlocksLoop, stacklevel=2)
        except TaskBlocksLoop as warning:  # where warnings are errors
            self.run.crash(warning)


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the body on.

    Our frames say nothing, and would keep their locals and so the error itself alive.
    """
    while (
        traceback is not None
        and traceback.tb_next is not None
        and traceback.tb_frame.f_code.co_filename == __file__
    ):
        traceback = traceback.tb_next
    return traceback
