"""A run as a whole: its exact end, standstills, reports, what it refuses, what it leaves behind."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.lowlevel

from tests.support import add_here, fail, fail_later, forever, give, give_later, nothing
from trio_graph_scheduler import (
    AlreadyRunning,
    BadValue,
    Condition,
    GraphFailed,
    GraphStalled,
    NotInTrio,
    NotRunning,
    Task,
    TaskGraph,
    TaskState,
    WouldCloseCycle,
    at_least,
    current_graph,
    done,
    execute_graph,
    open_graph,
    settled,
)

Run = Callable[..., Any]


def test_the_end_is_exact(run: Run, size: int) -> None:
    """A run ends when nothing can run any more: empty, all done, all failed, all skipped; and takes no time
    for it.
    """

    async def main() -> None:
        begin = trio.current_time()
        report = await execute_graph(TaskGraph(worker_loops={"default": size}))
        assert report.statistics.total == 0
        failing = TaskGraph(worker_loops={"default": size})
        for _ in range(3):
            failing.add(nothing, after=failing.add(fail))
        report = await execute_graph(failing, raise_failures=False)
        assert report.statistics.states[TaskState.SKIPPED] == 3
        one = TaskGraph(worker_loops={"default": size})
        one.add(nothing)
        await execute_graph(one, 3)
        assert trio.current_time() == begin
        timed = TaskGraph(worker_loops={"default": size})
        timed.add(give_later, 1, 5)
        assert (await execute_graph(timed)).duration == 5

    run(main)


def test_an_open_graph_stays_open_while_its_body_runs(run: Run) -> None:
    """Nothing to do is not the end while someone may add; an idle open graph does nothing at all."""
    steps: list[int] = []

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the interface
            steps.append(1)

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph) as running:
            assert running.graph is graph
            early = running.report
            assert early is None
            await graph.add(give, 1).result()
            await trio.sleep(100)
            trio.lowlevel.add_instrument(instrument := Steps())
            await trio.sleep(1000)
            trio.lowlevel.remove_instrument(instrument)
            late = graph.add(give_later, 2, 3)
        assert running.report is not None
        assert running.report.duration == 1103
        assert late.result_nowait() == 2

    run(main)
    assert len(steps) == 1


def test_a_task_added_after_the_run_belongs_to_the_next(run: Run) -> None:
    """What is added to a graph that has run waits for the next run, which keeps earlier results."""

    async def main() -> None:
        graph = TaskGraph()
        first = graph.add(give, 1)
        await execute_graph(graph)
        second = graph.add(give, first)
        assert second.state is TaskState.READY
        assert graph.why(second).endswith("nothing runs its graph")
        with pytest.raises(NotRunning, match="open_graph"):
            await second.wait()
        await execute_graph(graph)
        assert await second.result() == 1

    run(main)


def test_a_cycle_is_reported_and_never_a_hang(run: Run, size: int) -> None:
    """Tasks left in a cycle are named once, whole; the rest has run; failures come along as the cause."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        a, b, c = (graph.add(nothing, name=name) for name in "abc")
        graph.connect(a, b)
        graph.connect(b, c)
        graph.connect(c, a)
        alone = graph.add(nothing, name="alone")
        graph.connect(alone, alone)
        runs = graph.add(give_later, 1)
        graph.add(fail)
        with pytest.raises(GraphStalled) as caught:
            await execute_graph(graph)
        graph.check()
        assert set(caught.value.cycle) in ({a, b, c}, {alone})
        assert set(caught.value.unmet) == {a, b, c, alone}
        assert str(caught.value).count("these wait for each other") == 1
        assert runs.state is TaskState.SUCCEEDED
        assert isinstance(caught.value.__cause__, GraphFailed)
        assert a.state is TaskState.WAITING
        graph.disconnect(c, a)
        graph.disconnect(alone, alone)
        await execute_graph(graph)
        assert c.state is alone.state is TaskState.SUCCEEDED

    run(main)


def test_a_task_that_waits_for_its_own_spawner_to_settle_is_stuck(run: Run) -> None:
    """A child that waits until its parent has settled waits for itself: a standstill that is named."""

    async def parent() -> None:
        add_here(nothing, name="child", after=settled(current_graph().tasks(name="parent")[0]))

    async def main() -> None:
        graph = TaskGraph()
        graph.add(parent, name="parent")
        with pytest.raises(GraphStalled, match="'child'"):
            await execute_graph(graph)

    run(main)


def test_closing_a_cycle_in_a_running_graph_is_refused(run: Run) -> None:
    """On a running graph `connect` finds the cycle, refuses, changes nothing, and the run goes on; a way
    around is no cycle.
    """

    async def main() -> None:
        graph = TaskGraph()
        gate = graph.add(give_later, 1, 5)
        a = graph.add(nothing, name="a", after=gate)
        b = graph.add(nothing, name="b", after=a)
        c = graph.add(nothing, name="c", after=at_least(1, [b, gate]))
        d = graph.add(nothing, name="d", after=done(b) & settled(b))
        async with open_graph(graph):
            circles: list[tuple[Task[Any] | Condition, Task[Any]]]
            circles = [(a, a), (b, a), (d, a), (done(d), a)]
            for first, then in circles:
                with pytest.raises(WouldCloseCycle, match="would close a cycle"):
                    graph.connect(first, then)
                graph.check()
            graph.connect(c, b)
            graph.check()
        assert {task.state for task in graph} == {TaskState.SUCCEEDED}

    run(main)


def test_a_graph_is_run_once_at_a_time(run: Run) -> None:
    """Running a graph that runs is an error: from elsewhere, from inside one of its tasks, from another
    thread.
    """
    errors: list[BaseException] = []

    async def inside() -> None:
        with pytest.raises(AlreadyRunning, match="add tasks"):
            await execute_graph(current_graph())

    def elsewhere(graph: TaskGraph) -> None:
        try:
            trio.run(execute_graph, graph)
        except AlreadyRunning as error:
            errors.append(error)

    async def main() -> None:
        graph = TaskGraph()
        graph.add(inside)
        async with open_graph(graph):
            with pytest.raises(AlreadyRunning):
                await execute_graph(graph)
            thread = threading.Thread(target=elsewhere, args=(graph,))
            thread.start()
            thread.join()
        assert len(errors) == 1

    run(main)


def test_outside_of_trio() -> None:
    """Running a graph outside of trio is a clear error."""
    with pytest.raises(NotInTrio, match=r"trio\.run"):
        asyncio.run(execute_graph(TaskGraph()))


@pytest.mark.parametrize("value", [0, -1, "1", True])
def test_options_are_checked(run: Run, value: Any) -> None:
    """A wrong `warn_blocking_after` is refused before anything has begun."""

    async def main() -> None:
        graph = TaskGraph()
        with pytest.raises(BadValue, match="warn_blocking_after"):
            await execute_graph(graph, warn_blocking_after=value)
        assert not graph.running

    run(main)


@pytest.mark.parametrize("where", ["body", "blocked"])
def test_ctrl_c(where: str) -> None:
    """SIGINT once while tasks run: their clean-up runs, and KeyboardInterrupt itself comes out."""
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await trio.lowlevel.checkpoint()
            if where == "body":
                signal.raise_signal(signal.SIGINT)
            trio.lowlevel.current_trio_token().run_sync_soon(signal.raise_signal, signal.SIGINT)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            cleaned.append("work")

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(work)
        try:
            await execute_graph(graph)
        finally:
            graph.check()
            assert task.state is TaskState.CANCELLED

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert cleaned == ["work"]


def test_nothing_is_left_behind(run: Run) -> None:
    """After many runs no trio task, listener or waiter is left over."""

    async def main() -> None:
        for _ in range(300):
            graph = TaskGraph()
            bad = graph.add(fail_later, "x", 0)
            with graph.subscribe(lambda _: None):
                async with open_graph(graph, raise_failures=False) as running:
                    await graph.add(nothing, after=done(bad)).wait()
                    stopped = graph.add(forever)
                    await trio.lowlevel.checkpoint()
                    stopped.cancel()
            assert running._waits._on == {}
            assert running._waits._returning == {}
            assert graph._announcer.observers == []
            assert graph._settling == {}
            assert graph._awaited == {}
        assert trio.lowlevel.current_task().child_nurseries == []

    run(main)


def test_worker_loops_start_when_needed(run: Run) -> None:
    """There are as many loops as can be busy, not as many as the limit allows."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1000, "unused": 1000})
        async with open_graph(graph) as running:
            for _ in range(3):
                for _ in range(5):
                    graph.add(give_later, 1)
                await trio.sleep(10)
            crews = {group.name: crew for group, crew in running._crews.items()}
            assert len(crews["default"].loops) == 5
            assert not crews["unused"].loops
            assert len(crews["default"].resting) == 5

    run(main)


def test_loops_beyond_the_limit_end(run: Run) -> None:
    """Loops that waits in bodies made necessary end when they have nothing to do; at most `limit` rest."""

    async def nested(depth: int) -> None:
        if depth:
            await add_here(nested, depth - 1).wait()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2})
        async with open_graph(graph) as running:
            await graph.add(nested, 30).wait()
            await trio.sleep(1)
            (crew,) = running._crews.values()
            assert len(crew.loops) == len(crew.resting) == 2

    run(main)


def test_a_standstill_tells_of_twenty_tasks(run: Run) -> None:
    """The message of GraphStalled stays short, and names what a task waits for and not what has ended."""

    async def main() -> None:
        graph = TaskGraph()
        ended = graph.add(give, 1)
        a = graph.add(nothing, name="a", after=[ended, done(ended)])
        graph.connect(a, a)
        stuck = [a, *(graph.add(nothing, after=a) for _ in range(24))]
        with pytest.raises(GraphStalled, match=r"25 tasks can never end") as caught:
            await execute_graph(graph)
        error = caught.value
        assert error.cycle == (a,)
        assert list(error.unmet) == stuck
        lines = str(error).splitlines()
        assert lines[1] == "these wait for each other: task 2 'a' -> task 2 'a'"
        assert lines[2].startswith("task 2 'a' waits for ")
        assert "give" not in lines[2]
        assert len(lines) == 23
        assert lines[-1] == "... and 5 more"

    run(main)


def test_a_wait_link_that_closes_a_cycle_is_refused(run: Run) -> None:
    """A wait task of a running graph gets no predecessor that waits for it, and is as it was."""

    async def main() -> None:
        graph = TaskGraph({"nothing": nothing}, {"default": 1})
        gate = graph.add(give_later, 1)
        async with open_graph(graph):
            uid = await graph.create_wait_task("nothing", ((), {}), [gate.uid], True)
            after = graph.add(nothing, after=graph[uid])
            with pytest.raises(WouldCloseCycle, match="would close a cycle"):
                graph.create_wait_link(after.uid, uid)
            graph.check()
        assert {task.state for task in graph} == {TaskState.SUCCEEDED}

    run(main)


def test_a_ready_wait_task_gets_one_more_predecessor(run: Run) -> None:
    """A wait task that only lacks a place waits again when it gets a predecessor that has not ended."""

    async def main() -> None:
        graph = TaskGraph(
            {"nothing": nothing},
            {"default": 0, "timed": 2},
            worker_assignments={"give": "timed", "give_later": "timed"},
        )
        first, later = graph.add(give, 1), graph.add(give_later, 2, 5)
        async with open_graph(graph):
            task = graph[await graph.create_wait_task("nothing", ((), {}), [first.uid], True)]
            await trio.sleep(1)
            assert str(task.state) == "READY"
            graph.create_wait_link(later.uid, task.uid)
            graph.check()
            assert str(task.state) == "WAITING"
            graph.groups["default"].resize(1)
            await later.wait()
            await task.wait()
            assert later.state is task.state is TaskState.SUCCEEDED
            graph.check()

    run(main)
