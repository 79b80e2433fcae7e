"""Every change of a graph, read by a task of the same program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints

from tests.support import nothing
from trio_graph_scheduler import BadValue, Change, TaskGraph, execute_graph, open_graph
from trio_graph_scheduler.observe import Skipped, open_changes

Run = Callable[..., Any]


def told(change: Change | Skipped) -> object:
    """Return a change as a test states it."""
    if isinstance(change, Skipped):
        return change.count
    return change.task.uid, str(change.before), str(change.after)


def test_every_change_until_the_end_of_the_run(run: Run) -> None:
    """A reader that keeps up gets all of them, in order, and the iteration ends with the run."""
    found: list[object] = []
    graph = TaskGraph()

    async def read(task_status: trio.TaskStatus) -> None:
        async with open_changes(graph) as changes:
            task_status.started()
            async for change in changes:
                found.append(told(change))  # noqa: PERF401 - to be looked at meanwhile

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(read)
            first = graph.add(nothing)
            graph.add(nothing, after=first)
            await trio.sleep(1)
            assert len(found) == 3
            await execute_graph(graph)

    run(main)
    assert found == [
        (1, "None", "WAITING"),
        (1, "WAITING", "READY"),
        (2, "None", "WAITING"),
        (1, "READY", "RUNNING"),
        (1, "RUNNING", "SUCCEEDED"),
        (2, "WAITING", "READY"),
        (2, "READY", "RUNNING"),
        (2, "RUNNING", "SUCCEEDED"),
    ]
    assert not graph._announcer.observers


def test_a_slow_reader_is_told_what_it_missed(run: Run) -> None:
    """The newest changes are kept, and how many are missing is said in their place."""

    async def main() -> None:
        graph = TaskGraph()
        async with open_changes(graph, buffer=3) as changes:
            tasks = [graph.add(nothing) for _ in range(3)]
            assert told(await anext(changes)) == 3
            assert told(await anext(changes)) == (2, "WAITING", "READY")
            tasks[0].cancel()
            tasks[1].cancel()
            assert told(await anext(changes)) == 1
            assert [told(await anext(changes)) for _ in range(3)] == [
                (3, "WAITING", "READY"),
                (1, "READY", "CANCELLED"),
                (2, "READY", "CANCELLED"),
            ]

    run(main)


def test_it_can_be_opened_within_a_run_and_between_runs(run: Run) -> None:
    """What ends the iteration is the end of the run that goes on, or of the next one."""

    async def main() -> None:
        graph = TaskGraph()
        async with trio.open_nursery() as nursery, open_changes(graph) as changes:
            found: list[object] = []

            async def read() -> None:
                found.extend([told(change) async for change in changes])

            async with open_graph(graph):
                nursery.start_soon(read)
                task = graph.add(nothing)
        assert len(found) == 4
        graph.rerun(task)
        async with open_changes(graph) as changes:
            with trio.move_on_after(5) as patience:
                await anext(changes)
            assert patience.cancelled_caught
            await execute_graph(graph)
            assert [told(change) async for change in changes] == [
                (1, "READY", "RUNNING"),
                (1, "RUNNING", "SUCCEEDED"),
            ]
            with pytest.raises(StopAsyncIteration):
                await anext(changes)

    run(main)


def test_several_readers_and_steps_that_checkpoint(run: Run) -> None:
    """Readers of one stream share the changes, and every step lets others run."""

    async def main() -> None:
        graph = TaskGraph()
        async with open_changes(graph) as changes:
            found: list[object] = []

            async def read() -> None:
                found.extend([told(change) async for change in changes])

            graph.add(nothing)
            with assert_checkpoints():
                await anext(changes)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(read)
                await execute_graph(graph)
            assert len(found) == 3

    run(main)


@pytest.mark.parametrize("buffer", [0, 1.5, True, "many"])
def test_what_cannot_be_a_buffer(run: Run, buffer: Any) -> None:
    """It is refused before anything has changed."""

    async def main() -> None:
        graph = TaskGraph()
        with pytest.raises(BadValue, match="buffer"):
            async with open_changes(graph, buffer=buffer):
                pass
        assert not graph._announcer.observers

    run(main)
