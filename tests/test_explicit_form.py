"""The explicit form, as its first user wrote it: names, uids, wait tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import trio

from tests.support import fail
from trio_graph_scheduler import AlreadyStarted, Task, TaskState, current_task
from trio_graph_scheduler.execution import execute_graph
from trio_graph_scheduler.graph import TaskGraph, wait_tasks

Run = Callable[..., Any]


async def get_html(url: str, *, suffix: str = "") -> str:
    """Fetch, as it were."""
    await trio.sleep(1)
    return f"<{url}{suffix}>"


async def process_html(predecessors: list[Task[str]]) -> str:
    """Use the tasks waited for."""
    return "".join([task.result_nowait() for task in predecessors])


async def join(*parts: str, end: str = "") -> str:
    """Use plain arguments."""
    return "+".join(parts) + end


async def count_done(predecessors: list[Task[Any]]) -> int:
    """Count the predecessors that have ended."""
    return len([task for task in predecessors if task.state.ended])


TASK_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "get_html": get_html,
    "process_html": process_html,
    "join": join,
    "count_done": count_done,
    "fail": fail,
}
WORKER_ASSIGNMENTS = {"get_html": "http"}


def make_graph(size: int = 2) -> TaskGraph:
    """Return an empty graph of the functions above."""
    return TaskGraph(TASK_FUNCTIONS, {"default": size, "http": 2}, WORKER_ASSIGNMENTS)


def test_the_program_of_the_first_user_runs_as_written(run: Run, size: int) -> None:
    """Tables of names, uids, a wait task, a redundant wait link, and a second argument for execute_graph."""

    async def main() -> None:
        graph = make_graph(size)
        url = "https://example.org"
        html_task_uid = await graph.create_task("get_html", ((url,), {}), graph.root.uid)
        uid = await graph.create_wait_task("process_html", None, [html_task_uid], True)
        graph.create_wait_link(html_task_uid, uid)
        await execute_graph(graph, 3)
        graph.check()
        assert graph[uid].result_nowait() == "<https://example.org>"
        assert graph[html_task_uid].group.name == "http"
        assert graph[uid].predecessors == (graph[html_task_uid],)

    run(main)


def test_the_ways_to_give_a_wait_task_its_arguments(run: Run, size: int) -> None:
    """A value, None for the list of predecessors, or a function of them, sync or async."""

    def computed(predecessors: list[Task[str]]) -> tuple[tuple[str, ...], Mapping[str, Any]]:
        return tuple(task.result_nowait() for task in predecessors), {"end": "!"}

    async def computed_later(predecessors: list[Task[str]]) -> tuple[list[str], dict[str, Any]]:
        assert current_task().name == "join"
        await trio.sleep(1)
        return [predecessors[-1].result_nowait()], {}

    def broken(_: list[Task[str]]) -> Any:
        raise ValueError("no arguments")

    async def main() -> None:
        graph = make_graph(size)
        a = await graph.create_task("get_html", (["a"], {"suffix": "1"}), graph.root.uid)
        b = await graph.create_task("get_html", (("b",), {}), a)
        given: dict[str, wait_tasks.WaitArguments] = {
            "value": (("x", "y"), {"end": "."}),
            "computed": computed,
            "later": computed_later,
            "broken": broken,
            "tasks": ((graph[b], graph[a]), {}),
        }
        uids = {
            name: await graph.create_wait_task("join", what, [a, b], True) for name, what in given.items()
        }
        listed = await graph.create_wait_task("process_html", None, [b, a, b], "SUCCESS__ALL")
        await execute_graph(graph, raise_failures=False)
        graph.check()
        assert graph[uids["value"]].result_nowait() == "x+y."
        assert graph[uids["computed"]].result_nowait() == "<a1>+<b>!"
        assert graph[uids["later"]].result_nowait() == "<b>"
        assert graph[uids["tasks"]].result_nowait() == "<b>+<a1>"
        assert str(graph[uids["broken"]].error) == "no arguments"
        assert graph[listed].result_nowait() == "<b><a1>"
        assert graph[b].parent is graph[a]

    run(main)


@pytest.mark.parametrize(
    ("mode", "state"),
    [
        (True, "SUCCEEDED"),
        (False, "SKIPPED"),
        ("COMPLETE__ALL", "SUCCEEDED"),
        ("SUCCESS__ALL", "SKIPPED"),
        ("SUCCESS__2", "SUCCEEDED"),
        ("SUCCESS__3", "SKIPPED"),
        ("COMPLETE__3", "SUCCEEDED"),
        ("COMPLETE__0", "SUCCEEDED"),
    ],
)
def test_modes(run: Run, mode: bool | str, state: str) -> None:  # noqa: FBT001 - drawn by name
    """Two predecessors succeed and one fails: each mode runs or skips the wait task as its name says."""

    async def main() -> None:
        graph = make_graph()
        uids = [await graph.create_task(name, None, 0) for name in ("join", "fail", "join")]
        uid = await graph.create_wait_task("count_done", None, uids, mode)
        await execute_graph(graph, raise_failures=False)
        graph.check()
        assert str(graph[uid].state) == state

    run(main)


def test_tasks_are_created_while_the_graph_runs(run: Run, size: int) -> None:
    """Inside a task both calls return uids and record who scheduled what; links work until the start."""

    async def spread() -> int:
        graph, me = current_task().graph, current_task()
        first = await graph.create_task("join", (("x",), {}), me.uid)
        html = await graph.create_task("get_html", (("y",), {}), first)
        total: int = await graph.create_wait_task("process_html", None, [html], False)
        graph.create_wait_link(first, total)
        assert graph[html].parent in (graph[first], me)
        return total

    async def main() -> None:
        graph = TaskGraph(
            {**TASK_FUNCTIONS, "spread": spread}, {"default": size, "http": 2}, WORKER_ASSIGNMENTS
        )
        uid = await graph.create_task("spread", None, graph.root.uid)
        await execute_graph(graph)
        graph.check()
        total = graph[graph[uid].result_nowait()]
        assert total.result_nowait() == "<y>x"
        with pytest.raises(AlreadyStarted):
            graph.create_wait_link(uid, total.uid)

    run(main)


def test_a_wait_link_to_any_other_task_waits_for_success(run: Run) -> None:
    """A task that was not created as a wait task then waits for the success of what it is linked to."""

    async def main() -> None:
        graph = make_graph()
        bad = await graph.create_task("fail", None, 0)
        uid = await graph.create_task("join", (("x",), {}), 0)
        graph.create_wait_link(bad, uid)
        await execute_graph(graph, raise_failures=False)
        assert graph[uid].state is TaskState.SKIPPED

    run(main)
