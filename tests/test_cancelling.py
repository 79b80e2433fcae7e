"""Cancelling: one task, a subtree, everything; at every checkpoint of a rich scenario."""

from __future__ import annotations

import math
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support import Meter, add_here, fail_later, forever, give, give_later, nothing, states
from trio_graph_scheduler import (
    CancelledSwallowed,
    Change,
    GraphFailed,
    Rate,
    Retry,
    StrayCancelled,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    TrialTimeout,
    TryAgain,
    WorkerGroup,
    at_least,
    current_graph,
    current_task,
    done,
    execute_graph,
    failed,
    open_graph,
    settled,
)

Run = Callable[..., Any]


def test_a_cancelled_task_stops_with_all_it_spawned(run: Run, size: int) -> None:
    """`cancel` stops the subtree, also what it adds while it cleans up, and nothing else; others see the end
    as such.
    """
    cleaned: list[str] = []

    async def branch(depth: int) -> None:
        if depth:
            add_here(branch, depth - 1, name=f"branch{depth - 1}")
        try:
            await trio.sleep_forever()
        finally:
            add_here(nothing, name="late")
            cleaned.append(current_task().name)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 8, "other": size})
        top = graph.add(branch, 2, name="branch2")
        other = graph.add(give_later, 1, 5)
        after = graph.add(nothing, after=done(top), name="after")
        on_success = graph.add(nothing, after=top, name="on success")
        all_of_it = graph.add(nothing, after=settled(top), name="settled")
        async with open_graph(graph):
            await trio.sleep(1)
            top.cancel("no longer wanted")
            top.cancel("again")
        graph.check()
        assert sorted(cleaned) == ["branch0", "branch1", "branch2"]
        assert {task.state for task in graph.tasks(name="late")} == {TaskState.CANCELLED}
        assert top.reason == graph.tasks(name="branch0")[0].reason == "no longer wanted"
        assert other.state is after.state is all_of_it.state is TaskState.SUCCEEDED
        assert on_success.state is TaskState.SKIPPED

    run(main)


@pytest.mark.parametrize(
    "state", ["WAITING", "READY", "RUNNING", "SUSPENDED", "SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED"]
)
def test_cancelling_in_every_state(run: Run, state: str) -> None:
    """A task that has not ended is CANCELLED, at once or when its body has cleaned up; an ended one stays as
    it is.
    """
    long: Any = None

    async def waits() -> None:
        await long.wait()

    async def main() -> None:
        nonlocal long
        graph = TaskGraph(worker_loops={"default": 1, "long": 1}, worker_assignments={"forever": "long"})
        long = graph.add(forever)
        tasks = {
            "SUSPENDED": graph.add(waits),
            "SUCCEEDED": graph.add(give, 1),
            "FAILED": (bad := graph.add(fail_later, "x", 0)),
            "SKIPPED": graph.add(nothing, after=bad),
            "CANCELLED": graph.add(nothing, after=long),
            "RUNNING": graph.add(partial(give_later, delay=1000), 1),
            "READY": graph.add(nothing),
            "WAITING": graph.add(nothing, after=long),
        }
        graph.add(nothing, after=failed(bad))
        tasks["CANCELLED"].cancel("first")
        async with open_graph(graph):
            await trio.sleep(1)
            task = tasks[state]
            assert str(task.state) == state
            task.cancel("second")
            graph.check()
            await trio.testing.wait_all_tasks_blocked()
            ended = state in ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELLED")
            assert str(task.state) == (state if ended else "CANCELLED")
            if not ended:
                assert task.reason == "second"
            long.cancel()
            tasks["RUNNING"].cancel()
        graph.check()

    run(main)


def test_cancelling_the_graph(run: Run, size: int) -> None:
    """`graph.cancel` cancels everything and what is still added; the next run starts afresh."""

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            add_here(nothing, name="late")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        bodies = [graph.add(body, name=f"body{index}") for index in range(10)]
        graph.add(nothing, after=done(bodies[-1]), name="after")
        async with open_graph(graph):
            await trio.sleep(1)
            graph.cancel("enough")
            graph.add(nothing, name="too late")
            graph.cancel("twice")
        graph.check()
        assert set(states(graph).values()) == {"CANCELLED"}
        assert len(graph.tasks(name="late")) == min(size, 10)
        assert {task.reason for task in graph} == {"enough"}
        again = graph.add(give, 1)
        await execute_graph(graph)
        assert again.result_nowait() == 1

    run(main)


def test_cancelling_the_callers_scope(run: Run, size: int) -> None:
    """The run's scope is cancelled: bodies clean up, waiting tasks are CANCELLED and never start, Cancelled
    goes on.
    """
    meter = Meter()

    async def body() -> None:
        with meter:
            await trio.sleep(10)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        tasks = [graph.add(body) for _ in range(5)]
        after = graph.add(nothing, after=done(*tasks))
        with trio.move_on_after(5) as scope:
            await execute_graph(graph)
        assert scope.cancelled_caught
        graph.check()
        assert {task.state for task in tasks} == {TaskState.CANCELLED}
        assert after.state is TaskState.CANCELLED
        assert after.reason == "the run was cancelled"

    run(main)
    assert meter.total == min(size, 5)
    assert meter.now == 0


def test_a_suspended_task_that_is_cancelled_needs_no_place(run: Run) -> None:
    """A body cancelled while it waits for another task ends, clean-up included, without taking its place
    back.
    """
    long: Any = None
    begin = 0.0
    events: list[str] = []

    async def waits() -> None:
        try:
            await long.wait()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            events.append(f"cleaned up at {trio.current_time() - begin}")

    async def main() -> None:
        nonlocal long, begin
        begin = trio.current_time()
        graph = TaskGraph(worker_loops={"default": 1, "long": 1}, worker_assignments={"forever": "long"})
        long = graph.add(forever)
        task = graph.add(waits)
        holder = graph.add(forever, name="holder")
        graph.add(give_later, 1, 100)
        async with open_graph(graph):
            await trio.sleep(1)
            task.cancel()
            await task.wait()
            graph.check()
            assert holder.state is TaskState.READY
            graph.cancel()

    run(main)
    assert events == ["cleaned up at 2.0"]


def test_a_body_that_wants_its_place_back_can_be_cancelled(run: Run) -> None:
    """A body whose wait is over, but whose group is full, ends at once when it is cancelled."""
    quick: Any = None

    async def waits() -> None:
        await quick.wait()

    async def main() -> None:
        nonlocal quick
        graph = TaskGraph(worker_loops={"default": 1, "other": 1}, worker_assignments={"give_later": "other"})
        quick = graph.add(give_later, 1)
        task = graph.add(waits)
        holder = graph.add(forever)
        async with open_graph(graph):
            await trio.sleep(2)
            assert str(task.state) == "SUSPENDED"
            assert graph.why(task).endswith("its place in group 'default'")
            graph.check()
            task.cancel()
            await task.wait()
            assert task.state is TaskState.CANCELLED
            graph.check()
            holder.cancel()

    run(main)


def test_a_body_may_cancel_itself_and_others(run: Run, size: int) -> None:
    """Cancelling from inside a body works on itself, at its next checkpoint, and on siblings."""

    async def victim() -> None:
        await trio.sleep_forever()

    async def body() -> None:
        for task in current_graph().tasks(name="victim"):
            task.cancel("by body")
        current_task().cancel("by itself")
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={"default": size, "victims": 2}, worker_assignments={"victim": "victims"}
        )
        victims = [graph.add(victim) for _ in range(3)]
        task = graph.add(body)
        await execute_graph(graph)
        graph.check()
        assert [t.reason for t in [*victims, task]] == ["by body"] * 3 + ["by itself"]

    run(main)


def test_a_body_that_ends_before_its_cancellation_arrives_has_succeeded(run: Run) -> None:
    """Cancelled work that completes without another checkpoint keeps its result: one outcome, and nothing
    lost.
    """

    async def body() -> int:
        current_task().cancel()
        return 5

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task, other = graph.add(body), graph.add(give, 1)
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == 5
        assert other.result_nowait() == 1

    run(main)


def test_a_body_that_swallows_its_cancellation_fails(run: Run) -> None:
    """Going on after Cancelled is an error at that task, and the worker loop is none the worse for it."""

    async def deaf() -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        return "as if nothing had happened"

    async def critical() -> str:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(3):
                await trio.sleep_forever()
        return "completed"

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2})
        task, shielded = graph.add(deaf), graph.add(critical)
        with pytest.raises(GraphFailed) as caught:
            async with open_graph(graph):
                await trio.sleep(1)
                task.cancel()
                shielded.cancel()
        assert isinstance(task.error, CancelledSwallowed)
        assert caught.value.exceptions == (task.error,)
        assert shielded.result_nowait() == "completed"
        graph.check()

    run(main)


def test_a_cancelled_raised_by_hand_fails_the_task(run: Run) -> None:
    """A Cancelled kept from elsewhere and raised later is an error at that task, and cancels nothing."""

    async def stray() -> None:
        kept: BaseException | None = None
        with trio.CancelScope() as scope:  # noqa: ASYNC912 - it does have one
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:  # noqa: ASYNC103 - keeping it is what this is about
                kept = error
        assert kept is not None
        raise kept

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task, other = graph.add(stray), graph.add(give_later, 1)
        await execute_graph(graph, raise_failures=False)
        assert isinstance(task.error, StrayCancelled)
        assert other.state is TaskState.SUCCEEDED

    run(main)


def test_an_error_in_the_clean_up_is_kept(run: Run) -> None:
    """A body that raises while it is being cancelled has FAILED with that error, alone or beside Cancelled in
    a group.
    """

    async def clumsy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("clumsy")

    async def group() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clumsy)
            nursery.start_soon(trio.sleep_forever)

    async def main() -> None:
        graph = TaskGraph()
        tasks = [graph.add(clumsy), graph.add(group)]
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(1)
            graph.cancel()
        assert isinstance(tasks[0].error, ValueError)
        assert isinstance(tasks[1].error, ValueError)
        graph.check()

    run(main)


def test_on_failure_cancel(run: Run, size: int) -> None:
    """`on_failure="cancel"` cancels the graph at the first failure that nobody handles, and not at one that
    somebody does.
    """

    async def main() -> None:
        begin = trio.current_time()
        graph = TaskGraph(worker_loops={"default": 3 + size}, on_failure="cancel")
        handled = graph.add(fail_later, "handled", 1)
        graph.add(nothing, after=failed(handled))
        bad = graph.add(fail_later, "bad", 2)
        other = graph.add(give_later, 1, 3)
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        assert caught.value.exceptions == (bad.error,)
        assert other.state is TaskState.CANCELLED
        assert other.reason == f"task {bad.uid} 'fail_later' has failed"
        assert trio.current_time() == begin + 2

    run(main)


# One run for every checkpoint of a scenario -----------------------------------------------------------------


class Bomb(trio.abc.Instrument):
    """Cancels a scope before the n-th step of any trio task."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.scope = trio.CancelScope()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the interface
        """Count down."""
        self.left -= 1
        if self.left == 0:
            self.scope.cancel()


def run_with_bomb(bomb: Bomb, seed: int, graph: TaskGraph, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario until the bomb goes off, and check that nothing of its graph is left undone."""

    async def main() -> None:
        with bomb.scope:
            await scenario()
        main_nursery = trio.lowlevel.current_task().parent_nursery
        assert main_nursery is not None
        assert len(main_nursery.child_tasks) == 1
        assert not trio.lowlevel.current_task().child_nurseries

    trio._core._run._r = random.Random(seed)  # noqa: S311 - nothing secret about it
    trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[bomb])
    graph.check()
    assert all(task.state.ended for task in graph)
    assert not graph.running
    stopped = [task for task in graph if task.reason == "the run was cancelled"]
    assert bomb.scope.cancelled_caught or not stopped


async def rich_scenario(graph: TaskGraph, meter: Meter, limit: int, log: list[str]) -> None:
    """Use everything at once: dynamic tasks, waits in bodies, conditions, failures, cancelling, surgery."""

    async def work(depth: int) -> int:
        with meter:
            await trio.sleep(0.5)
            children = [add_here(work, depth - 1) for _ in range(2 if depth else 0)]
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(child.wait)
        assert current_task().state is TaskState.RUNNING
        with meter, trio.move_on_after(0.1):
            await trio.sleep(1)
        below: int = sum([child.result_nowait() for child in children])
        return 1 + below

    async def clean() -> None:
        try:
            await trio.sleep(1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            log.append("cleaned")

    top = graph.add(work, 2)
    bad = graph.add(fail_later, "bad", 0.7)
    graph.add(nothing, after=bad)
    graph.add(nothing, after=done(bad) & settled(top))
    graph.add(give, top)
    graph.add(nothing, after=at_least(2, [bad, graph.add(clean), graph.add(clean)]))
    async with open_graph(graph, raise_failures=False):
        await trio.sleep(0.6)
        graph.groups["default"].resize(limit)
        victim = graph.add(forever)
        later = graph.add(give_later, 1)
        graph.connect(later, graph.add(nothing, after=top))
        await trio.sleep(0.6)
        victim.cancel()
        await later.wait()


@pytest.mark.parametrize("limit", [1, 2, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_cancelled_at_every_checkpoint(limit: int, seed: int) -> None:
    """Whatever the moment of the cancellation: all tasks end, the limit holds, clean-up runs, Cancelled goes
    on, and nothing leaks.
    """

    def once(step: int) -> bool:
        graph = TaskGraph(worker_loops={"default": limit})
        meter, bomb = Meter(), Bomb(step)
        log: list[str] = []
        begun: list[str] = []
        started_late: list[str] = []

        def listen(change: Change) -> None:
            if change.before is TaskState.READY and change.after is TaskState.RUNNING:
                begun.append(change.task.name)
                if bomb.left <= 0:
                    started_late.append(change.task.name)

        graph.subscribe(listen)
        run_with_bomb(bomb, seed, graph, partial(rich_scenario, graph, meter, limit, log))
        assert not started_late
        assert meter.now == 0
        assert meter.most <= limit
        assert len(log) == begun.count("clean")
        return bomb.left <= 0

    step = 1
    while once(step):
        step += 1
    assert step > 50


# Trials, times and limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "timeout", "budget"])
@pytest.mark.parametrize("slowly", [0, 2])
def test_a_suspended_body_that_is_being_stopped_is_no_standstill(run: Run, how: str, slowly: float) -> None:
    """While such a body cleans up the graph is not stuck, though nothing else executes, and though what it
    waited for has ended or waits for it.
    """
    tasks: dict[str, Any] = {}

    async def waits(name: str) -> None:
        try:
            await tasks[name].wait()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(slowly)

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(waits)
        stopped = kind if how == "cancel" else kind.but(**{how: 2})
        tasks["short"] = graph.add(give_later, 1, 3)
        tasks["long"] = graph.add(give_later, 1, 2)
        first = graph.add(stopped, "short")
        second = tasks["second"] = graph.add(stopped, "third")
        tasks["third"] = graph.add(kind, "second")
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(2)
            if how == "cancel":
                first.cancel()
                second.cancel()
        expected = TaskState.CANCELLED if how == "cancel" else TaskState.FAILED
        assert first.state is second.state is expected
        assert tasks["third"].state is tasks["short"].state is TaskState.SUCCEEDED
        assert trio.current_time() == max(3, 2 + 2 * slowly)
        graph.check()

    run(main)


def test_who_waits_outside_for_a_body_that_is_being_stopped_is_told_its_end(run: Run) -> None:
    """Not that the graph has come to a standstill, though nothing but that body's clean-up goes on in it."""
    short: Any = None

    async def waits() -> None:
        try:
            await short.wait()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

    async def main() -> None:
        nonlocal short
        graph = TaskGraph()
        short = graph.add(give_later, 1, 1.5)
        task = graph.add(waits)
        async with open_graph(graph):
            await trio.sleep(1)
            task.cancel()
            await task.wait()
            assert trio.current_time() == 3
        assert task.state is TaskState.CANCELLED
        graph.check()

    run(main)


async def timed_scenario(graph: TaskGraph, meters: dict[str, Meter], log: list[str]) -> None:
    """Use all that has to do with time: trials, timeouts, budgets, rates, hedging; and named limits."""

    async def flaky(depth: int) -> int:
        with meters["http"], meters["database"]:
            await trio.sleep(0.1)
            if len(current_task().trials) == 1:
                raise ConnectionError
            if len(current_task().trials) == 2:
                await trio.sleep(5)  # its timeout is shorter
        below = add_here(quick, depth - 1) if depth else None
        return 1 + (await below.result() if below is not None else 0)

    async def clean() -> None:
        try:
            await trio.sleep(5)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.1)
            log.append("cleaned")
            add_here(nothing, name="late")

    async def spread() -> None:
        add_here(TaskType(clean, timeout=0.3, retry=Retry(3, delay=0.2)))
        add_here(forever, name="never ends")
        add_here(nothing, after=add_here(forever, name="never ends"))
        await trio.sleep(0.1)

    async def ask(delay: float) -> float:
        await trio.sleep(delay)
        if delay == 0.35:
            raise TryAgain(after=0.1)
        return delay

    policy = Retry(4, delay=0.3, backoff=2, on=(ConnectionError, TrialTimeout))
    quick = TaskType(flaky, name="quick", group="http", retry=policy, timeout=0.4, limits={"database": 1})
    top = [graph.add(quick.but(timeout=2.5), depth) for depth in (1, 0, 0)]
    graph.add(TaskType(spread, budget=1.2, limits={"database": 2}))
    race = graph.add_threshold(
        [partial(ask, delay) for delay in (0.9, 0.35, 0.8, 0.2, 0.1)],
        target=2,
        hedge_after=0.2,
        cancel_running=True,
    )
    graph.add(give, race)
    graph.add(nothing, after=done(*top))
    async with open_graph(graph, raise_failures=False):
        await trio.sleep(0.5)
        graph.limits["database"].resize(3)
        top[2].deadline = trio.current_time() + 0.3
        graph.groups["http"].pause()
        await trio.sleep(0.1)
        graph.groups["http"].resume()
        await race.wait()
        await top[0].wait()


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_cancelled_at_every_checkpoint_of_a_timed_scenario(limit: int, seed: int) -> None:
    """Whatever the moment of the cancellation: all tasks end, those that are RETRYING or READY too, nothing
    starts any more, no limit is left used, Cancelled goes on, and nothing leaks.
    """
    retrying_at_the_end = 0

    def once(step: int) -> bool:
        nonlocal retrying_at_the_end
        graph = TaskGraph(
            worker_loops={"default": limit, "http": WorkerGroup(limit, rate=Rate(10, burst=2))},
            limits={"database": 2},
        )
        meters, bomb = {"http": Meter(), "database": Meter()}, Bomb(step)
        log: list[str] = []
        begun: list[str] = []
        started_late: list[Change] = []
        was_retrying: list[Task[Any]] = []

        def listen(change: Change) -> None:
            if change.after is TaskState.RUNNING and change.before is TaskState.READY:
                begun.append(change.task.name)
                if bomb.left <= 0:
                    started_late.append(change)
            if change.before is TaskState.RETRYING and bomb.left <= 0:
                was_retrying.append(change.task)

        graph.subscribe(listen)
        run_with_bomb(bomb, seed, graph, partial(timed_scenario, graph, meters, log))
        assert not started_late
        assert not graph.statistics().states[TaskState.RETRYING]
        assert {str(task.state) for task in was_retrying} <= {"CANCELLED"}
        assert [(limit.used, limit.claims) for limit in graph.limits.values()] == [(0, {})]
        assert [(meter.now, meter.most <= 3) for meter in meters.values()] == [(0, True)] * 2
        assert meters["http"].most <= limit
        assert len(log) == begun.count("clean")
        retrying_at_the_end += len(was_retrying)
        return bomb.left <= 0

    step = 1
    while once(step):
        step += 1
    assert step > 50
    assert retrying_at_the_end > 20


def test_ctrl_c_while_a_task_is_retrying(run: Run, size: int) -> None:
    """The next trial is not waited for: the task is CANCELLED, and KeyboardInterrupt comes out."""
    trials = 0

    async def flaky() -> None:
        nonlocal trials
        trials += 1
        raise ConnectionError

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(flaky, retry=Retry(None, delay=10)))
        with pytest.raises(KeyboardInterrupt):
            async with open_graph(graph):
                await trio.sleep(12)
                assert str(task.state) == "RETRYING"
                signal.raise_signal(signal.SIGINT)
                await trio.lowlevel.checkpoint()
        assert str(task.state) == "CANCELLED"
        assert task.reason == "the run ended with KeyboardInterrupt"
        assert [str(trial.state) for trial in task.trials] == ["FAILED"] * 2
        assert trio.current_time() == 12
        graph.check()
        assert graph.timetable.next == math.inf

    run(main)
    assert trials == 2
