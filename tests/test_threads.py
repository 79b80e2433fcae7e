"""Plain functions, in threads. These tests use the real clock, as a clock that jumps would jump past the
threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
import trio

from tests.support import give, nothing
from trio_graph_scheduler import (
    ReturnedCoroutine,
    TaskGraph,
    TaskState,
    TaskType,
    WrongThread,
    current_graph,
    current_task,
    execute_graph,
    open_graph,
)


def test_plain_functions_run_in_threads(size: int) -> None:
    """A plain function runs off trio's thread, knows its task, and its limit is that of its group."""
    barrier = threading.Barrier(size, timeout=20)

    def work(value: int) -> tuple[int, str, bool]:
        barrier.wait()
        return value, current_task().name, threading.get_ident() == main_thread

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        tasks = [graph.add(work, value, name=f"work{value}") for value in range(2 * size)]
        total = graph.add(partial(max, default=None), tasks)
        await execute_graph(graph)
        graph.check()
        assert [task.result_nowait() for task in tasks] == [(n, f"work{n}", False) for n in range(2 * size)]
        assert total.result_nowait() == (2 * size - 1, f"work{2 * size - 1}", False)

    main_thread = threading.get_ident()
    trio.run(main)


def test_a_thread_reaches_the_graph_through_trio() -> None:
    """Changing a running graph from a thread is an error that says how to do it right; that way the parent is
    right too.
    """

    def work() -> int:
        graph = current_graph()
        for attempt in (
            partial(graph.add, nothing),
            graph.cancel,
            partial(graph.groups["default"].resize, 3),
        ):
            with pytest.raises(WrongThread, match="from_thread"):
                attempt()
        child = trio.from_thread.run_sync(graph.add, give, 5)
        assert child.parent is current_task()
        return int(trio.from_thread.run(child.result))

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(work)
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == 5

    trio.run(main)


def test_a_thread_that_returns_a_coroutine_fails() -> None:
    """A plain function that returns a coroutine, in a thread, is a clear error at that task."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(lambda: give(1), name="wrong"))
        await execute_graph(graph, raise_failures=False)
        assert isinstance(task.error, ReturnedCoroutine)

    trio.run(main)


def test_a_thread_may_notice_its_cancellation() -> None:
    """A cancelled thread is waited for, and can end early through `trio.from_thread.check_cancelled`."""
    started = threading.Event()

    def work() -> None:
        started.set()
        while True:
            trio.from_thread.run(trio.lowlevel.checkpoint)
            trio.from_thread.check_cancelled()

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(work)
        async with open_graph(graph):
            await trio.to_thread.run_sync(started.wait)
            task.cancel("enough")
        assert task.state is TaskState.CANCELLED
        assert task.reason == "enough"

    trio.run(main)


@pytest.mark.parametrize("stop", ["task", "scope"])
def test_a_thread_that_ignores_its_cancellation_is_abandoned(stop: str) -> None:
    """With `abandon_after` the run goes on without the thread after that time, reports it, and all counts are
    right.
    """
    started, release = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(20)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(work, abandon_after=0.01))
        other = graph.add(nothing)
        with trio.CancelScope() as scope:
            async with open_graph(graph) as run:
                await trio.to_thread.run_sync(started.wait)
                if stop == "task":
                    task.cancel()
                else:
                    scope.cancel()
        graph.check()
        assert task.state is TaskState.CANCELLED
        assert other.state is (TaskState.SUCCEEDED if stop == "task" else TaskState.CANCELLED)
        assert run.report is not None
        assert run.report.abandoned == (task,)
        assert "thread abandoned: task 1 'work'" in str(run.report)

    try:
        trio.run(main)
    finally:
        release.set()


@pytest.mark.parametrize("outcome", ["value", "error"])
def test_a_thread_with_patience_ends_as_any_other(outcome: str) -> None:
    """`abandon_after` changes nothing for a thread that nobody cancels."""

    def work() -> str:
        if outcome == "error":
            raise ValueError(outcome)
        return outcome

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(work, abandon_after=1))
        report = await execute_graph(graph, raise_failures=False)
        assert report.abandoned == ()
        if outcome == "value":
            assert task.result_nowait() == "value"
        else:
            assert isinstance(task.error, ValueError)

    trio.run(main)


def test_an_error_of_a_thread_that_is_being_waited_for_is_kept() -> None:
    """A cancelled thread that raises before it is abandoned has FAILED with its own error."""
    started, release = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(20)
        raise ValueError("late")

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(work, abandon_after=20))
        async with open_graph(graph, raise_failures=False):
            await trio.to_thread.run_sync(started.wait)
            task.cancel()
            release.set()
        assert isinstance(task.error, ValueError)

    trio.run(main)


def test_no_thread_leaks() -> None:
    """Many runs with threads leave no more threads behind than trio keeps for reuse."""

    def work() -> None:
        pass

    async def once(make: Callable[[], TaskGraph]) -> None:
        graph = make()
        for _ in range(3):
            graph.add(work)
        await execute_graph(graph)

    async def main() -> None:
        await once(TaskGraph)
        before = threading.active_count()
        for _ in range(50):
            await once(TaskGraph)
        assert threading.active_count() <= before + 3

    trio.run(main)
