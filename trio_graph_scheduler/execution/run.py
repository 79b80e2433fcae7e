"""One run of a graph: it begins, it is watched for its end or a standstill, and it is reported on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import trio

from trio_graph_scheduler.graph import Statistics, Task, TaskGraph, WorkerGroup
from trio_graph_scheduler.graph.cycles import stall
from trio_graph_scheduler.graph.errors import (
    BadValue,
    GraphFailed,
    GraphStalled,
    NotInTrio,
    add_note,
    shown_value,
    title,
)

from .cancelled import without_cancelled
from .timers import Alarm
from .waits import Waits
from .worker_loops import Crew


@attrs.frozen(eq=False)
class Report:
    """How a run went."""

    graph: TaskGraph
    statistics: Statistics
    """The graph's figures at the end of the run."""
    failures: tuple[Task[Any], ...]
    """The tasks that failed in this run without anyone having handled it."""
    abandoned: tuple[Task[Any], ...]
    """The tasks whose threads did not stop when they were cancelled, and may still be running."""
    duration: float
    """Seconds on trio's clock."""

    def __str__(self) -> str:
        text = f"{self.statistics} in {self.duration:.3g} s"
        for what, tasks in (("not handled", self.failures), ("thread abandoned", self.abandoned)):
            text += "".join(f"\n{what}: {title(task)} {shown_value(task.error)}" for task in tasks[:20])
        return text


@asynccontextmanager
async def open_graph(
    graph: TaskGraph, *, raise_failures: bool = True, warn_blocking_after: float | None = 1.0
) -> AsyncIterator[Run]:
    """Run a graph while the body of an `async with` runs, and until all tasks have ended.

        async with open_graph(graph) as run:
            page = graph.add(fetch, url)
            print(await page.result())
        print(run.report)

    - `raise_failures`: whether failures that nobody handled are raised at the end.
    - `warn_blocking_after`: warn (`TaskBlocksLoop`) of tasks that keep trio's thread longer than this many
      seconds; None: never.

    If the body raises, or its scope is cancelled, all tasks are cancelled and the exception goes on.
    Checkpoints at the end.

    Raises `AlreadyRunning` and `NotInTrio`; at the end `GraphStalled` if tasks are left that can never start
    or end, and `GraphFailed` with the failures.
    """
    if not trio.lowlevel.in_trio_task():
        raise NotInTrio
    run = Run(graph, math.inf if warn_blocking_after is None else warn_blocking_after)
    graph.attach(run)
    try:
        async with trio.open_nursery() as run.nursery:
            run.begin()
            try:
                yield run
            except BaseException as error:  # noqa: ASYNC103, BLE001 - raise_outcome() raises it
                run.crash(error)
            run.close()
    except BaseException as error:  # noqa: ASYNC103 - the rest of it is raised by raise_outcome()
        rest = without_cancelled(error)
        if rest is not None:
            run.crash(rest)
        if run.crashed is None:
            raise
    finally:
        report = run.end()
        graph.detach()
    run.raise_outcome(report, failures=raise_failures)


async def execute_graph(
    graph: TaskGraph,
    polling_delay: float | None = None,  # noqa: ARG001 - older programs pass one
    *,
    raise_failures: bool = True,
    warn_blocking_after: float | None = 1.0,
) -> Report:
    """Run a graph until nothing in it can run any more, and return the `Report`.

        report = await execute_graph(graph)

    Tasks may be added meanwhile, from their bodies and from elsewhere. The second argument, once a polling
    delay, is accepted and not needed: the end is known at once. Options, errors and checkpoints are those of
    `open_graph`.
    """
    async with open_graph(
        graph, raise_failures=raise_failures, warn_blocking_after=warn_blocking_after
    ) as run:
        pass
    return run.report  # type: ignore[return-value]  # it is there when the run is over


class Run:
    """The driver of one run. `report` is there when it is over."""

    nursery: trio.Nursery

    def __init__(self, graph: TaskGraph, longest_stretch: float) -> None:
        if (
            isinstance(longest_stretch, bool)
            or not isinstance(longest_stretch, int | float)
            or not longest_stretch > 0
        ):
            raise BadValue(
                "warn_blocking_after", longest_stretch, "it must be a number of seconds above 0, or None"
            )
        self.graph = graph
        self.report: Report | None = None
        self.longest_stretch = longest_stretch
        self.thread_limiter = trio.CapacityLimiter(math.inf)  # the limits of the groups are the only ones
        self.abandoned: list[Task[Any]] = []
        # What ended the run before its time, and is raised when all is cleaned up.
        self.crashed: BaseException | None = None
        # Whether nobody outside may add tasks any more, for the body of `open_graph` has ended.
        self._closed = False
        # Whether worker loops that find nothing to do are to end.
        self.dismissing = False
        self._stalled: GraphStalled | None = None
        self._waits = Waits(graph)
        self._alarm = Alarm(graph)
        self._token = trio.lowlevel.current_trio_token()
        self._crews = {group: Crew(self, group) for group in graph.groups.values()}
        # Groups that have rung since the host last looked.
        self._rung: list[WorkerGroup] = []
        self._host: trio.lowlevel.Task | None = None
        self._host_rests = False
        self._began = trio.current_time()

    # What the graph asks of its driver ----------------------------------------------------------------------

    async def wait(self, task: Task[Any]) -> None:
        """Wait until the task has ended; always checkpoint."""
        await self._waits.wait(task)

    async def checkpoint(self) -> None:
        """Let others run."""
        await trio.lowlevel.checkpoint()

    def cancel(self, task: Task[Any]) -> None:
        """Stop the body of a task."""
        if task.worker is not None:
            task.worker.cancel(task)
        else:  # it is a listener that stops it, which is told of its start before its loop has got it
            self.soon(self._cancel_started, task)

    @staticmethod
    def _cancel_started(task: Task[Any]) -> None:
        if task.stopping:
            task.worker.cancel(task)

    def resumed(self, task: Task[Any]) -> None:
        """Let a body go on that waited for its place."""
        self._waits.let_go(task)

    def ended(self, task: Task[Any]) -> None:
        """Let those go on who wait for the task."""
        self._waits.ended(task)

    def now(self) -> float:
        """Return the time of trio's clock."""
        return trio.current_time()

    def wake_at(self, when: float) -> None:
        """Set the alarm."""
        self._alarm.set(when)

    def soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function in trio's thread; too late, at the end of trio's run, not at all."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(partial(function, *args))

    def holders(self, group: WorkerGroup) -> list[Task[Any]]:
        """Return the tasks that run in the loops of a group."""
        return self._crews[group].holders()

    def standstill(self) -> None:
        """Look whether this is the end."""
        self.look()

    # Its course ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Do what is due, and start the host, which starts all others."""
        self.graph.tick()
        self._rung = list(self._crews)
        self.nursery.start_soon(self._run_host, name="host of a task graph")
        self._alarm.begin(self.nursery)

    def close(self) -> None:
        """Say that nobody outside adds tasks any more."""
        self._closed = True
        self.look()

    def crash(self, error: BaseException) -> None:
        """End the run before its time: cancel everything, then raise this, or what came first.

        Only a Cancelled gives way to what comes later, for it may be a consequence of that.
        """
        cancelled = without_cancelled(error) is None
        if self.crashed is None or without_cancelled(self.crashed) is None:
            self.crashed = error
        elif not cancelled and error is not self.crashed:
            add_note(self.crashed, f"while the run ended, there was also {shown_value(error)}")
        reason = "the run was cancelled" if cancelled else f"the run ended with {type(error).__name__}"
        self.graph.cancel(reason)
        self.nursery.cancel_scope.cancel()

    def look(self) -> None:
        """Let the host look at how things stand."""
        if self._host_rests:
            self._host_rests = False
            trio.lowlevel.reschedule(self._host)  # type: ignore[arg-type]  # it rests, so it runs

    def _ring(self, group: WorkerGroup) -> None:
        group.bell = None
        self._rung.append(group)
        self.look()

    @trio.lowlevel.enable_ki_protection
    async def _run_host(self) -> None:  # noqa: ASYNC910 - the whole of a trio task, which owes no checkpoint
        """Staff the crews of the groups that ring, until all is over."""
        self._host = trio.lowlevel.current_task()
        try:
            while not self._dispatch():
                self._host_rests = True
                await trio.lowlevel.wait_task_rescheduled(self._abort_rest)
        except trio.Cancelled:
            self.graph.cancel("the run was cancelled")
            raise

    def _abort_rest(self, _: object) -> trio.lowlevel.Abort:
        self._host_rests = False
        return trio.lowlevel.Abort.SUCCEEDED

    def _dispatch(self) -> bool:
        """Staff the groups that have rung, and see to a standstill; return whether the run is over."""
        rung, self._rung = self._rung, []
        for group in rung:
            group.bell = self._ring
            self._crews[group].staff()
        graph = self.graph
        if not graph.at_standstill:
            self.dismissing = False
        elif not self._closed:
            if self._waits.are_hopeless():
                self._waits.tell_outsiders()
        elif graph.active:
            if self._stalled is None and self._waits.are_hopeless():
                self._stalled = stall(graph)
                graph.cancel("the graph stalled")
        else:
            self.dismissing = True
            for crew in self._crews.values():
                crew.dismiss()
            if not any(crew.loops for crew in self._crews.values()):
                self._alarm.stop()
                return True
        return False

    # Its end ------------------------------------------------------------------------------------------------

    def end(self) -> Report:
        """Write the report and return it."""
        graph = self.graph
        failures = tuple(task for task in graph.failures if not task.handled)
        duration = trio.current_time() - self._began
        self.report = Report(graph, graph.statistics(), failures, tuple(self.abandoned), duration)
        if self._stalled is None and self.crashed is None and self.report.statistics.waiting:
            self._stalled = stall(graph)
        return self.report

    def raise_outcome(self, report: Report, *, failures: bool) -> None:
        """Raise what ended the run before its time, a standstill, or the failures that nobody handled."""
        failed = self._failed(report) if report.failures and failures else None
        if self.crashed is not None:
            for task in report.failures if failures else ():
                add_note(self.crashed, f"{title(task)} had failed: {shown_value(task.error)}")
            raise self.crashed
        if self._stalled is not None:
            raise self._stalled from failed
        if failed is not None:
            raise failed

    def _failed(self, report: Report) -> GraphFailed:
        errors: list[Exception] = []
        for task in report.failures:
            error: Exception = task.error  # type: ignore[assignment]  # a failed task has one
            path = " > ".join(title(step) for step in task.path)
            add_note(error, f"in {path}")
            errors.append(error)
        failed = GraphFailed(f"{len(errors)} of {len(self.graph)} tasks failed", errors)
        failed.report = report
        return failed
