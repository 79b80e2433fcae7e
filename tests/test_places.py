"""Places of a group: given back while a task waits for another in its body, and taken again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support import Meter, add_here, fail_later, forever, give, give_later, nothing
from trio_graph_scheduler import (
    GraphStalled,
    Task,
    TaskGraph,
    TaskState,
    WaitsForItself,
    current_graph,
    current_task,
    done,
    execute_graph,
    open_graph,
)
from trio_graph_scheduler.execution import worker_loops

Run = Callable[..., Any]


def test_nested_waits_never_deadlock(run: Run, size: int) -> None:
    """A tree of tasks that wait for their children in their bodies ends with one worker too, and never
    exceeds the limit.
    """
    meter = Meter()

    async def count(depth: int) -> int:
        with meter:
            await trio.sleep(0.1)
            children = [add_here(count, depth - 1) for _ in range(2 if depth else 0)]
        found = 1
        for child in children:
            found += await child.result()
            with meter:
                await trio.sleep(0.1)
        return found

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(count, 5)
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == 63

    run(main)
    assert meter.most <= size


def test_several_waits_at_once_in_one_task(run: Run, size: int) -> None:
    """A body that waits for several tasks in a nursery gives back its one place, and takes it, once."""
    meter = Meter()

    async def child(delay: float) -> float:
        with meter:
            await trio.sleep(delay)
        return delay

    async def parent() -> list[float]:
        children = [add_here(child, delay) for delay in (3, 1, 2)]
        async with trio.open_nursery() as nursery:
            for task in children:
                nursery.start_soon(task.wait)
        with meter:
            await trio.sleep(1)
            assert current_task().state is TaskState.RUNNING
        return [task.result_nowait() for task in children]

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        tasks = [graph.add(parent) for _ in range(3)]
        async with open_graph(graph):
            await trio.sleep(0.5)
            graph.check()
        graph.check()
        assert [task.result_nowait() for task in tasks] == [[3, 1, 2]] * 3

    run(main)
    assert meter.most == min(size, 9)


def test_the_first_of_several_waits_goes_on_at_once(run: Run, size: int) -> None:
    """Waits can race: the one that is over first may cancel the others, and only then the place is taken
    back.
    """

    async def first_of(*delays: float) -> float:
        tasks = [add_here(give_later, delay, delay) for delay in delays]
        results: list[float] = []

        async def racer(task: Any) -> None:
            results.append(await task.result())
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(racer, task)
        assert current_task().state is TaskState.RUNNING
        for task in tasks:
            task.cancel()
        return results[0]

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={"default": size, "slow": 3}, worker_assignments={"give_later": "slow"}
        )
        begin = trio.current_time()
        task = graph.add(first_of, 3, 1, 2)
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == 1
        assert trio.current_time() - begin == 1

    run(main)


def test_who_resumes_goes_ahead_of_newcomers(run: Run) -> None:
    """A body whose wait is over gets the next place, before tasks that have been ready for longer."""
    outside: Any = None
    order: list[str] = []

    async def waits() -> None:
        await outside.wait()
        order.append("resumed")

    async def work(name: str) -> None:
        order.append(name)
        await trio.sleep(2)

    async def main() -> None:
        nonlocal outside
        graph = TaskGraph(worker_loops={"default": 1, "other": 1}, worker_assignments={"give_later": "other"})
        outside = graph.add(give_later, 0, 1)
        graph.add(waits)
        for name in "abc":
            graph.add(work, name)
        async with open_graph(graph):
            await trio.sleep(1.5)
            graph.check()
        graph.check()

    run(main)
    assert order == ["a", "resumed", "b", "c"]


def test_a_wait_that_times_out_takes_its_place_back_first(run: Run) -> None:
    """Cancelling a wait (not the task) lets the body go on only when it has a place again, so the limit
    holds.
    """
    never: Any = None
    begin = 0.0
    meter = Meter()

    async def impatient() -> float:
        with trio.move_on_after(1) as scope:
            await never.wait()
        assert scope.cancelled_caught
        with meter:
            assert current_task().state is TaskState.RUNNING
            await trio.sleep(1)
        return trio.current_time() - begin

    async def work() -> None:
        with meter:
            await trio.sleep(5)

    async def main() -> None:
        nonlocal never, begin
        graph = TaskGraph(worker_loops={"default": 1, "other": 1}, worker_assignments={"forever": "other"})
        begin = trio.current_time()
        never = graph.add(forever)
        task = graph.add(impatient)
        graph.add(work)
        async with open_graph(graph):
            assert await task.result() == 6
            graph.check()
            never.cancel()

    run(main)
    assert meter.most == 1


def test_waiting_for_what_has_ended_goes_on_at_once(run: Run) -> None:
    """Waiting for an ended task checkpoints and nothing else: the place is kept."""
    early: Any = None

    async def body() -> None:
        await early.wait()
        assert current_task().state is TaskState.RUNNING

    async def main() -> None:
        nonlocal early
        graph = TaskGraph(worker_loops={"default": 1})
        early = graph.add(give, 1)
        graph.add(body, after=early)
        await execute_graph(graph)
        graph.check()

    run(main)


def test_waiting_for_a_task_that_fails_is_no_failure(run: Run, size: int) -> None:
    """`wait` returns however the task ends; `result` raises what it raised, which handles the failure."""

    async def body() -> str:
        bad = add_here(fail_later, "inner")
        await bad.wait()
        with pytest.raises(ValueError, match="inner"):
            await bad.result()
        return "fine"

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(body)
        await execute_graph(graph)
        assert task.result_nowait() == "fine"

    run(main)


def test_a_task_cannot_wait_for_itself(run: Run) -> None:
    """Waiting for one's own end is an error at once."""

    async def body() -> None:
        with pytest.raises(WaitsForItself, match="task 1 'body'"):
            await current_task().wait()

    async def main() -> None:
        graph = TaskGraph()
        graph.add(body)
        await execute_graph(graph)

    run(main)


def test_tasks_wait_for_each_others_groups(run: Run, size: int) -> None:
    """Two groups whose tasks wait for tasks of the other one do not deadlock."""

    async def ping(depth: int) -> int:
        return 1 + (await add_here(pong, depth - 1).result() if depth else 0)

    async def pong(depth: int) -> int:
        return 1 + (await add_here(ping, depth - 1).result() if depth else 0)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"a": size, "b": 1}, worker_assignments={"ping": "a", "pong": "b"})
        tasks = [graph.add(ping, 9) for _ in range(3)]
        await execute_graph(graph)
        graph.check()
        assert [task.result_nowait() for task in tasks] == [10, 10, 10]

    run(main)


@pytest.mark.parametrize("together", [False, True], ids=["direct", "in a nursery"])
def test_bodies_that_wait_for_each_other_are_a_standstill(run: Run, size: int, *, together: bool) -> None:
    """Bodies that wait for what waits for them end the run with GraphStalled, which names the cycle, and
    never hang.
    """

    async def first() -> None:
        if together:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tasks[1].wait)
                nursery.start_soon(tasks[2].wait)
        else:
            await tasks[1].wait()

    async def second() -> None:
        await tasks[0].wait()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        tasks.extend([graph.add(first), graph.add(second)])
        tasks.append(graph.add(nothing, after=done(tasks[0])))
        with pytest.raises(GraphStalled) as caught:
            await execute_graph(graph)
        graph.check()
        assert set(caught.value.cycle) == set(tasks[:2]) or set(caught.value.cycle) == {tasks[0], tasks[2]}
        assert caught.value.unmet.keys() == set(tasks)
        assert {task.state for task in tasks} == {TaskState.CANCELLED}
        assert tasks[0].reason == "the graph stalled"

    tasks: list[Any] = []
    run(main)


def test_a_wait_with_a_way_out_is_no_standstill(run: Run) -> None:
    """A body that waits for its own dependent, but not for ever, goes on when its time is up."""
    dependent: Any = None

    async def body() -> str:
        with trio.move_on_after(5):
            await dependent.wait()
        return "went on"

    async def main() -> None:
        nonlocal dependent
        graph = TaskGraph()
        task = graph.add(body)
        dependent = graph.add(nothing, after=task)
        await execute_graph(graph)
        assert task.result_nowait() == "went on"
        assert dependent.state is TaskState.SUCCEEDED

    run(main)


def test_a_strand_outside_of_the_wait_keeps_the_run_alive(run: Run) -> None:
    """While another strand of a waiting body still does something, that is no standstill."""
    dependent: Any = None

    async def body() -> None:
        async def helper() -> None:
            await trio.sleep(3)
            current_graph().disconnect(current_task(), dependent)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            await dependent.wait()

    async def main() -> None:
        nonlocal dependent
        graph = TaskGraph()
        dependent = graph.add(nothing, after=graph.add(body))
        await execute_graph(graph)
        graph.check()
        assert dependent.state is TaskState.SUCCEEDED

    run(main)


def test_an_outsider_who_waits_for_a_stuck_task_is_told(run: Run) -> None:
    """The body of `open_graph` that waits for a task in a cycle gets GraphStalled instead of waiting for
    ever.
    """

    async def main() -> None:
        graph = TaskGraph()
        a = graph.add(nothing, name="a")
        b = graph.add(nothing, name="b", after=a)
        graph.connect(b, a)
        with pytest.raises(GraphStalled, match="task 1 'a'"):
            async with open_graph(graph):
                graph.add(give, 1)
                await b.wait()
        graph.check()

    run(main)


def test_many_waiters_for_one_task(run: Run, size: int) -> None:
    """All who wait for a task go on when it ends, from bodies and from outside; a cancelled wait leaves
    nothing behind.
    """
    slow: Any = None

    async def waiter() -> int:
        return int(await slow.result())

    async def main() -> None:
        nonlocal slow
        graph = TaskGraph(
            worker_loops={"default": size, "slow": 1}, worker_assignments={"give_later": "slow"}
        )
        slow = graph.add(give_later, 4, 10)
        tasks = [graph.add(waiter) for _ in range(20)]
        async with open_graph(graph) as running:
            for _ in range(50):
                with trio.move_on_after(0.1):
                    await slow.wait()
            assert len(running._waits._on[slow]) == 20
            assert await slow.result() == 4
        graph.check()
        assert [task.result_nowait() for task in tasks] == [4] * 20

    run(main)


def test_an_outsider_who_waits_for_bodies_that_wait_for_each_other_is_told(run: Run) -> None:
    """Also a wait from outside for a suspended task ends, when the bodies wait for each other for ever."""
    tasks: list[Task[Any]] = []

    async def body() -> None:
        await tasks[1].wait()

    async def main() -> None:
        graph = TaskGraph()
        with pytest.raises(GraphStalled, match="wait for each other"):
            async with open_graph(graph):
                tasks.append(graph.add(body))
                tasks.append(graph.add(nothing, after=tasks[0]))
                await tasks[0].wait()
        graph.check()
        assert {task.state for task in tasks} == {TaskState.CANCELLED}

    run(main)


def test_an_outsider_waits_on_while_a_body_has_a_way_out(run: Run) -> None:
    """A standstill that a body will end by itself, as its wait has a deadline, is none for those outside."""
    tasks: list[Task[Any]] = []

    async def body() -> None:
        with trio.move_on_after(5):
            await tasks[1].wait()

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            tasks.append(graph.add(body))
            tasks.append(graph.add(give, 7, after=tasks[0]))
            assert await tasks[1].result() == 7

    run(main)


def test_a_body_held_by_a_paused_group_is_no_standstill(run: Run) -> None:
    """Who waits for a place of a group of 0 goes on when it is resized, and so do those who wait for it."""
    tasks: list[Task[Any]] = []

    async def held() -> int:
        return int(await tasks[0].result())

    async def waits_for_it() -> int:
        return int(await tasks[1].result())

    async def main() -> None:
        graph = TaskGraph(worker_loops={"held": 1}, worker_assignments={"held": "held"})
        tasks.extend([graph.add(give_later, 3, 3), graph.add(held), graph.add(waits_for_it)])

        async def pause_and_resume() -> None:
            await trio.sleep(1)
            graph.groups["held"].resize(0)
            await trio.sleep(10)
            graph.groups["held"].resize(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pause_and_resume)
            await execute_graph(graph)
        graph.check()
        assert tasks[2].result_nowait() == 3

    run(main)


def test_loops_that_let_others_run_are_not_replaced(
    run: Run, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that become ready meanwhile wait for these loops, so that there are no more than places."""
    monkeypatch.setattr(worker_loops, "SLICE", -1)  # after every task

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})

        async def spawn(depth: int) -> None:
            for _ in range(2 if depth else 0):
                graph.add(spawn, depth - 1)

        graph.add(spawn, 6)
        await execute_graph(graph)
        assert len({task.trials[0].worker for task in graph}) <= size

    run(main)
