"""What runs when: dependencies, results, tasks that add tasks, groups, order, contexts."""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel

from tests import support
from tests.support import Meter, add_here, fail, forever, give, give_later, nothing, states
from trio_graph_scheduler import (
    ForeignTask,
    GraphFailed,
    NoCurrentTask,
    Task,
    TaskCancelled,
    TaskFailed,
    TaskGraph,
    TaskSkipped,
    TaskState,
    TaskType,
    WorkerGroup,
    any_of,
    at_least,
    current_graph,
    current_task,
    done,
    execute_graph,
    failed,
    open_graph,
    settled,
    skipped,
    succeeded,
    worker_context,
)

Run = Callable[..., Any]


def test_results_flow_into_arguments(run: Run, size: int) -> None:
    """Tasks among the arguments, however nested, are awaited and replaced by their results."""

    async def gather(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return (*args, kwargs)

    async def main() -> tuple[Any, ...]:
        graph = TaskGraph(worker_loops={"default": size})
        one, two = graph.add(give_later, 1), graph.add(give_later, 2, 0.5)
        nested = {"a": [one, (two,)], "b": {"c": {one}}}
        total = graph.add(partial(gather, one, extra=[two]), nested, partial(max, one))
        await execute_graph(graph)
        graph.check()
        args = total.result_nowait()
        return args[0], args[1], args[2].args, args[3]

    assert run(main) == (1, {"a": [1, (2,)], "b": {"c": {1}}}, (1,), {"extra": [2]})


def test_a_body_starts_when_its_condition_holds_and_not_before(run: Run, size: int) -> None:
    """Each kind of condition starts its task at the moment it holds."""
    begin = 0.0
    started: dict[str, float] = {}

    async def note(name: str) -> None:
        started[name] = trio.current_time() - begin

    async def fail_at(delay: float) -> None:
        await trio.sleep(delay)
        raise ValueError

    async def main() -> None:
        nonlocal begin
        begin = trio.current_time()
        graph = TaskGraph(
            worker_loops={"default": size, "timed": 10},
            worker_assignments={"give_later": "timed", "fail_at": "timed"},
        )
        a, b, c = graph.add(give_later, 0, 1), graph.add(give_later, 0, 2), graph.add(fail_at, 3)
        conditions: dict[str, Any] = {
            "a": a,
            "a and b": succeeded(a, b),
            "c failed": failed(c),
            "all done": done(a, b, c),
            "two": at_least(2, [a, b, c]),
            "any": any_of(a, b),
            "mixed": (a_or_b := any_of(a, b)) & failed(c),
            "or": a_or_b | failed(c),
            "list": [a, done(c)],
        }
        for name, condition in conditions.items():
            graph.add(note, name, after=condition)
        never = graph.add(nothing, after=c)
        graph.add(note, "skipped", after=skipped(never))
        impossible = graph.add(nothing, after=at_least(3, [a, b, c]))
        await execute_graph(graph)
        graph.check()
        assert impossible.state is TaskState.SKIPPED

    run(main)
    assert started == {
        "a": 1,
        "a and b": 2,
        "c failed": 3,
        "all done": 3,
        "two": 2,
        "any": 1,
        "mixed": 3,
        "or": 1,
        "list": 3,
        "skipped": 3,
    }


def test_settled_waits_for_all_that_a_task_spawns(run: Run, size: int) -> None:
    """`settled` covers what a task spawns later, directly or not; children are recorded and block nobody."""
    seen: list[int] = []

    async def spread(depth: int) -> None:
        await trio.sleep(depth)
        for _ in range(2 if depth else 0):
            add_here(spread, depth - 1)
        seen.append(depth)

    async def count() -> int:
        return len(seen)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        start = graph.add(spread, 3)
        after = graph.add(count, after=settled(start))
        await execute_graph(graph)
        graph.check()
        assert after.result_nowait() == 15
        assert [child.arguments for child in start.children] == [(2,), (2,)]
        assert start.children[0].path == (start, start.children[0])
        assert start.settled
        assert after.parent is graph.root

    run(main)
    assert Counter(seen) == {3: 1, 2: 2, 1: 4, 0: 8}


def test_what_is_added_late_starts_at_once(run: Run) -> None:
    """A task added while the graph runs, from outside, that waits only for what has ended, starts at that
    moment.
    """

    async def main() -> None:
        graph = TaskGraph()
        begin = trio.current_time()
        async with open_graph(graph):
            early = graph.add(give, 1)
            assert await early.result() == 1
            await trio.sleep(5)
            assert await graph.add(give, early).result() == 1
            assert graph.add(nothing, after=failed(early)).state is TaskState.SKIPPED
            assert graph.add(nothing, after=any_of(early, succeeded())).state is TaskState.READY
            assert trio.current_time() - begin == 5

    run(main)


def test_a_new_task_can_be_put_in_front_of_a_waiting_one(run: Run, size: int) -> None:
    """A running task connects a new task to a waiting one, which then waits for it too."""
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})

        async def first() -> None:
            await trio.sleep(1)
            graph.connect(add_here(note, "inserted"), last)

        head = graph.add(first)
        last = graph.add(note, "last", after=head)
        await execute_graph(graph)
        graph.check()

    run(main)
    assert order == ["inserted", "last"]


def test_groups_are_bounded_and_independent(run: Run, size: int) -> None:
    """Never more than `limit` of a group run, `limit` do if there is work, and a full group holds up no
    other.
    """
    meters = {"default": Meter(), "http": Meter()}

    async def work(group: str) -> None:
        with meters[group]:
            await trio.sleep(1)

    async def main() -> float:
        graph = TaskGraph([TaskType(work, name="get", group="http")], {"default": size, "http": 3})
        begin = trio.current_time()
        for _ in range(24):
            graph.add("get", "http")
            graph.add(work, "default")
        await execute_graph(graph)
        graph.check()
        return trio.current_time() - begin

    assert run(main) == max(24 / size, 8)
    assert meters["default"].most == size
    assert meters["http"].most == 3


def test_assignments_go_by_name(run: Run) -> None:
    """`worker_assignments` puts functions and types into groups by their names; a type that names its group
    keeps it.
    """

    async def main() -> None:
        graph = TaskGraph(
            {"named": give},
            {"default": 1, "a": 1, "b": 1},
            {"give_later": "a", "named": "b", "own": "b"},
        )
        groups = [
            graph.add(kind, 1).group.name
            for kind in (give, give_later, "named", TaskType(give, name="own", group="a"))
        ]
        assert groups == ["default", "a", "b", "a"]
        await execute_graph(graph)

    run(main)


def test_order_within_a_group(run: Run) -> None:
    """Higher priority first, then keys in turn, then first ready first."""
    order: list[str] = []

    async def note(name: str) -> None:
        order.append(name)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        for name, priority, key in [
            ("x1", 0, "x"), ("x2", 0, "x"), ("x3", 0, "x"), ("y1", 0, "y"), ("none1", 0, None),
            ("high1", 5, None), ("y2", 0, "y"), ("low", -1, None), ("high2", 5, None), ("none2", 0, None),
        ]:  # fmt: skip
            graph.add(note, name, priority=priority, key=key)
        await execute_graph(graph)

    run(main)
    assert order == ["high1", "high2", "x1", "y1", "none1", "x2", "y2", "none2", "x3", "low"]


@pytest.mark.parametrize("count", [1, 10, 100_000])
def test_a_task_adds_many_children_in_a_group_of_one(count: int) -> None:
    """Any number of tasks can be added from inside of one, with one worker too."""

    async def spawn() -> None:
        for _ in range(count):
            add_here(nothing)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(spawn)
        await execute_graph(graph, warn_blocking_after=None)
        assert len(graph.tasks(state="SUCCEEDED")) == count + 1

    support.run(main)


def test_a_group_of_zero_holds_its_tasks_until_resized(run: Run) -> None:
    """A limit of 0 pauses a group; resizing starts its tasks, and one below what runs lets them drain."""
    meter = Meter()

    async def work() -> None:
        with meter:
            await trio.sleep(2)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 0})
        tasks = [graph.add(work) for _ in range(6)]
        async with open_graph(graph):
            await trio.sleep(10)
            assert meter.total == 0
            assert "paused" in graph.why(tasks[-1])
            graph.groups["default"].resize(4)
            await trio.sleep(1)
            assert meter.now == 4
            graph.groups["default"].resize(1)
            graph.check()
            await trio.sleep(2)
            assert meter.now == 1
            assert "full (limit 1)" in graph.why(tasks[-1])
        assert meter.total == 6
        graph.check()

    run(main)


def test_worker_contexts(run: Run, size: int) -> None:
    """A group's context manager is entered once per worker loop, its value is within reach of that loop's
    tasks, and it is left.
    """
    entered: list[int] = []
    left: list[int] = []
    used: list[int] = []

    @asynccontextmanager
    async def context() -> AsyncIterator[int]:
        await trio.sleep(0.1)
        number = len(entered)
        entered.append(number)
        yield number
        await trio.sleep(0.1)
        left.append(number)

    async def use() -> None:
        number = worker_context()
        await trio.sleep(1)
        assert worker_context() == number
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - a child nursery is what this is about
            nursery.start_soon(lambda: _note(used))

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(size, context=context)})
        for _ in range(20):
            graph.add(use)
        await execute_graph(graph)

    async def _note(numbers: list[int]) -> None:
        numbers.append(worker_context())

    run(main)
    assert len(entered) == size
    assert sorted(left) == entered
    assert set(used) == set(entered)
    assert len(used) == 20


def test_a_worker_context_that_fails_ends_the_run(run: Run) -> None:
    """What a group's context manager raises, on entry or exit, comes out of the run, with a note that names
    the group.
    """

    @asynccontextmanager
    async def broken(when: str) -> AsyncIterator[None]:
        if when == "entry":
            raise OSError(when)
        yield
        raise OSError(when)

    async def main(when: str) -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(2, context=partial(broken, when))})
        task = graph.add(nothing)
        with pytest.raises(OSError, match=when) as caught:
            await execute_graph(graph)
        assert "'default'" in caught.value.__notes__[0]
        assert task.state is (TaskState.CANCELLED if when == "entry" else TaskState.SUCCEEDED)
        graph.check()

    run(main, "entry")
    run(main, "exit")


def test_a_task_added_by_the_exit_of_a_worker_context_runs(run: Run) -> None:
    """Between the last task's end and the run's end a task can still be added, and runs."""
    ran: list[str] = []

    async def note() -> None:
        ran.append("late")

    async def main() -> None:
        @asynccontextmanager
        async def context() -> AsyncIterator[None]:
            yield
            if not ran:
                graph.add(note)

        graph = TaskGraph(worker_loops={"default": WorkerGroup(1, context=context)})
        graph.add(nothing)
        await execute_graph(graph)
        graph.check()

    run(main)
    assert ran == ["late"]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_a_body_runs_in_the_context_of_whoever_added_it(run: Run, size: int) -> None:
    """A body sees the context variables of its adder as they were then; what it sets is seen by nobody else
    but its children.
    """
    seen: list[tuple[str, str]] = []

    async def look(name: str) -> None:
        seen.append((name, variable.get()))
        variable.set(f"set by {name}")
        await trio.lowlevel.checkpoint()
        seen.append((name, variable.get()))
        if name == "a":
            add_here(look, "child")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        variable.set("first")
        graph.add(look, "a")
        variable.set("second")
        graph.add(look, "b")
        graph.add(look, "c")
        variable.set("third")
        await execute_graph(graph)
        assert variable.get() == "third"

    run(main)
    assert sorted(seen) == sorted(
        [
            ("a", "first"), ("a", "set by a"), ("child", "set by a"), ("child", "set by child"),
            ("b", "second"), ("b", "set by b"), ("c", "second"), ("c", "set by c"),
        ]
    )  # fmt: skip


def test_current_task_is_known_in_bodies_only(run: Run) -> None:
    """`current_task` and its kin work in a body and its nurseries, and raise outside."""

    async def body() -> Task[Any]:
        found: list[Task[Any]] = []

        async def inner() -> None:
            found.append(current_task())

        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - a child nursery is what this is about
            nursery.start_soon(inner)
        assert found == [current_task()]
        assert current_graph() is current_task().graph
        assert worker_context() is None
        return current_task()

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(body)
        await execute_graph(graph)
        assert task.result_nowait() is task
        for ask in (current_task, current_graph, worker_context):
            with pytest.raises(NoCurrentTask, match=ask.__name__):
                ask()

    run(main)


def test_two_graphs_never_meet(run: Run) -> None:
    """A body may run a graph of its own: its tasks are not children of the body, and Tasks do not mix."""

    async def outer() -> int:
        inner = TaskGraph()
        async with open_graph(inner):
            task = inner.add(give_later, 7)
            assert task.parent is inner.root
            with pytest.raises(ForeignTask):
                current_graph().add(nothing, after=task)
            value: int = await task.result()
        assert current_task().children == ()
        return value

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(outer)
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == 7
        assert len(graph) == 1

    run(main)


def test_a_task_declares_itself_failed(run: Run) -> None:
    """`current_task().fail(reason)` fails the task when its body returns; nothing needs to be raised."""

    async def give_up() -> int:
        current_task().fail("no such page")
        await trio.sleep(1)
        return 1

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(give_up)
        skipped_one = graph.add(nothing, after=task)
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        assert isinstance(task.error, TaskFailed)
        assert task.reason == "no such page"
        assert caught.value.exceptions == (task.error,)
        assert skipped_one.state is TaskState.SKIPPED
        with pytest.raises(TaskFailed, match="no such page"):
            task.result_nowait()

    run(main)


def test_one_condition_releases_many_tasks(run: Run, size: int) -> None:
    """A condition used for many tasks is followed once and releases all of them."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        gate = at_least(2, [graph.add(give_later, n, n) for n in range(1, 5)])
        tasks = [graph.add(nothing, after=gate) for _ in range(10)]
        async with open_graph(graph):
            await trio.sleep(100)
            assert {task.state for task in tasks} == {TaskState.SUCCEEDED}
            assert graph.add(nothing, after=gate).state is TaskState.READY
        graph.check()

    run(main)


def test_queries_while_and_after_it_runs(run: Run) -> None:
    """Results, states and figures can be read at any time, and tasks found by name, type, group and state."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2})
        slow = graph.add(give_later, 1, 5, name="slow")
        quick = graph.add(give, 2, name="quick")
        end = graph.add(nothing, after=[slow, quick], name="end")
        async with open_graph(graph):
            await trio.sleep(1)
            assert states(graph) == {"slow": "RUNNING", "quick": "SUCCEEDED", "end": "WAITING"}
            assert quick.result_nowait() == 2
            with pytest.raises(trio.WouldBlock, match="task 1 'slow' is RUNNING"):
                slow.result_nowait()
            assert (
                graph.tasks(state="RUNNING")
                == graph.tasks(name="slow")
                == graph.tasks(type=give_later)
                == (slow,)
            )
            assert "task 1 'slow' (RUNNING)" in graph.why(end)
            assert graph.statistics().waiting == 1
        assert end.predecessors == (slow, quick)
        assert states(graph) == {"slow": "SUCCEEDED", "quick": "SUCCEEDED", "end": "SUCCEEDED"}
        assert await slow.result() == 1

    run(main)


def test_the_result_of_a_task_without_one(run: Run) -> None:
    """Whoever asks for the result of a failed, skipped or cancelled task gets its error, and that handles the
    failure.
    """

    async def main() -> None:
        graph = TaskGraph()
        bad = graph.add(fail, "broken")
        after = graph.add(nothing, after=bad)
        stopped = graph.add(forever)
        async with open_graph(graph):
            with pytest.raises(ValueError, match="broken"):
                await bad.result()
            with pytest.raises(TaskSkipped, match=r"skipped \(task 1 'fail' has FAILED\)"):
                await after.result()
            stopped.cancel("enough")
            with pytest.raises(TaskCancelled, match="enough"):
                await stopped.result()

    run(main)


class Later:
    """Something to await that is no coroutine."""

    def __await__(self) -> Generator[Any, Any, str]:
        """Wait a second."""
        return (yield from give_later("later").__await__())


def test_a_body_may_return_any_awaitable(run: Run, size: int) -> None:
    """What a function that runs on trio's thread returns is awaited, if it can be."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(Later, executor="async"))
        report = await execute_graph(graph)
        assert task.result_nowait() == "later"
        assert report.duration == 1
        graph.check()

    run(main)
