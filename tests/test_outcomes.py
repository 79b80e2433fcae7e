"""How tasks end badly, and what comes out of a run then."""

from __future__ import annotations

import gc
import sys
import time
import traceback
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel

from tests.support import add_here, fail, fail_later, forever, give, give_later, nothing
from trio_graph_scheduler import (
    Change,
    GraphFailed,
    ReturnedCoroutine,
    TaskBlocksLoop,
    TaskGraph,
    TaskState,
    TaskType,
    WorkerGroup,
    done,
    execute_graph,
    failed,
    open_graph,
)
from trio_graph_scheduler.execution import worker_loops

Run = Callable[..., Any]


def test_a_failure_stops_its_branch_only(run: Run, size: int) -> None:
    """Dependents on success are skipped, transitively; those on the end or failure run; unrelated tasks go
    on.
    """

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        bad = graph.add(fail_later, "bad")
        skipped_one = graph.add(nothing, after=bad)
        skipped_two = graph.add(give, skipped_one)
        runs = [
            graph.add(nothing, after=done(skipped_two)),
            graph.add(nothing, after=failed(bad)),
            graph.add(give_later, 1, 5),
        ]
        report = await execute_graph(graph)
        graph.check()
        assert {task.state for task in runs} == {TaskState.SUCCEEDED}
        assert skipped_one.state is skipped_two.state is TaskState.SKIPPED
        assert skipped_one.reason == "task 1 'fail_later' has FAILED"
        assert skipped_two.reason == "task 2 'nothing' was SKIPPED"
        assert report.failures == ()

    run(main)


def test_unhandled_failures_are_raised_together(run: Run, size: int) -> None:
    """The end raises GraphFailed with the tasks' own exceptions, each with its traceback and a note that
    names task and path.
    """

    async def parent() -> None:
        add_here(fail, "child", name="the child")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        graph.add(parent, name="the parent")
        graph.add(fail_later, "later")
        handled = graph.add(fail, "handled")
        graph.add(nothing, after=done(handled))
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        errors = {str(error): error for error in caught.value.exceptions}
        assert errors.keys() == {"child", "later"}
        assert errors["child"].__notes__ == ["in task 1 'the parent' > task 5 'the child'"]
        assert [frame.name for frame in traceback.extract_tb(errors["child"].__traceback__)] == ["fail"]
        assert len(caught.value.report.failures) == 2
        assert caught.value.split(ValueError)[0].report is caught.value.report  # type: ignore[union-attr]

    run(main)


def test_failures_can_be_left_to_the_report(run: Run) -> None:
    """With `raise_failures=False` the report has them, and a second run does not report them again."""

    async def main() -> None:
        graph = TaskGraph()
        bad = graph.add(fail, "bad")
        report = await execute_graph(graph, raise_failures=False)
        assert report.failures == (bad,)
        assert "bad" in str(report)
        graph.add(nothing)
        assert (await execute_graph(graph)).failures == ()

    run(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException])
def test_other_base_exceptions_end_the_run_and_come_out(
    run: Run, size: int, error: type[BaseException]
) -> None:
    """They are never kept as results: all is cancelled and cleaned up, states are recorded, the exception
    comes out as it is.
    """
    cleaned: list[int] = []

    async def body() -> None:
        await trio.sleep(1)
        raise error("stop")

    async def other() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(1)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(body)
        others = [graph.add(other), graph.add(nothing, after=done(task))]
        with pytest.raises(error, match="stop"):
            await execute_graph(graph)
        graph.check()
        assert task.state is TaskState.CANCELLED
        assert task.reason == f"{error.__name__} was raised in it"
        assert {one.state for one in others} == {TaskState.CANCELLED}
        assert cleaned == [1] * (size > 1)

    run(main)


class Nasty(Exception):
    """An exception that cannot be shown or pickled."""

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __reduce__(self) -> str:
        raise RuntimeError("reduce")


def deep_group(depth: int) -> ExceptionGroup[Exception]:
    """Return an exception group nested in groups."""
    group: ExceptionGroup[Exception] = ExceptionGroup("innermost", [ValueError("x")])
    for _ in range(depth):
        group = ExceptionGroup("outer", [group])
    return group


def circular() -> Exception:
    """Return an exception that is its own cause's cause."""
    error, cause = ValueError("a"), ValueError("b")
    error.__cause__, cause.__cause__ = cause, error
    return error


class Unnotable(Exception):
    """An exception that takes no notes."""

    def add_note(self, note: str, /) -> None:
        """Refuse."""
        raise RuntimeError(note)


@pytest.mark.parametrize(
    "make",
    [Nasty, partial(deep_group, 5_000), circular, Unnotable],
    ids=["nasty", "deep group", "circular", "no notes"],
)
def test_no_exception_breaks_the_recorder(run: Run, make: Callable[[], Exception]) -> None:
    """Whatever an exception is like, it is recorded and raised at the end, and the run is none the worse."""
    error = make()

    async def body() -> None:
        raise error

    async def main() -> list[bool]:
        graph = TaskGraph()
        task, other = graph.add(body), graph.add(give_later, 1)
        raised: BaseException | None = None
        try:
            await execute_graph(graph)
        except GraphFailed as failure:
            raised = failure.exceptions[0]
            str(failure.report)
        return [
            raised is error,
            task.error is error,
            other.state is TaskState.SUCCEEDED,
            bool(graph.why(task)),
        ]

    assert run(main) == [True] * 4


def test_a_returned_coroutine_is_an_error_at_that_task(run: Run) -> None:
    """A body that returns a coroutine has failed: nobody would ever run that."""

    async def body() -> Any:
        return give(1)

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(body)
        await execute_graph(graph, raise_failures=False)
        assert isinstance(task.error, ReturnedCoroutine)

    run(main)


def test_inline_functions(run: Run) -> None:
    """A plain function may run on trio's thread, and what it returns is awaited if it can be."""

    def plain(value: int) -> int:
        return value

    def wrapper(value: int) -> Any:
        return give_later(value)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        inline = [TaskType(plain, executor="async"), TaskType(wrapper, executor="async")]
        tasks = [graph.add(kind, n) for n, kind in enumerate(inline)]
        await execute_graph(graph)
        assert [task.result_nowait() for task in tasks] == [0, 1]

    run(main)


def test_wrong_arguments_fail_the_task(run: Run) -> None:
    """A body that cannot be called with its arguments has failed with Python's own error."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(give, 1, 2, 3)
        await execute_graph(graph, raise_failures=False)
        assert isinstance(task.error, TypeError)

    run(main)


def test_a_result_store_that_refuses_fails_the_task(run: Run) -> None:
    """What the store raises for a result is the task's error, and its dependents never see the result."""

    class Picky(dict[int, object]):
        def __setitem__(self, uid: int, value: object) -> None:
            if value == "unstorable":
                raise ValueError("cannot store that")
            super().__setitem__(uid, value)

    async def main() -> None:
        graph = TaskGraph(results=Picky())
        bad, good = graph.add(give, "unstorable"), graph.add(give, "fine")
        after = graph.add(give, bad)
        await execute_graph(graph, raise_failures=False)
        graph.check()
        assert str(bad.error) == "cannot store that"
        assert after.state is TaskState.SKIPPED
        assert good.result_nowait() == "fine"

    run(main)


def test_a_task_that_blocks_the_loop_is_named() -> None:
    """A body that keeps trio's thread for longer than allowed is named in a warning, also after it has
    waited.
    """

    async def at_once() -> None:
        time.sleep(0.02)  # noqa: ASYNC251 - this is what it is about

    async def afterwards() -> None:
        await trio.lowlevel.checkpoint()
        time.sleep(0.02)  # noqa: ASYNC251 - this is what it is about

    async def main() -> None:
        assert worker_loops.SLICE < 0.01
        graph = TaskGraph()
        graph.add(at_once)
        graph.add(afterwards)
        graph.add(nothing)
        with pytest.warns(TaskBlocksLoop) as caught:
            await execute_graph(graph, warn_blocking_after=0.01)
        messages = [str(warning.message) for warning in caught]
        assert any(message.startswith("task 1 'at_once' blocked") for message in messages)
        assert any(message.startswith("task 2 'afterwards' blocked") for message in messages)
        again = graph.add(at_once)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await execute_graph(graph, warn_blocking_after=None)
        assert again.state is TaskState.SUCCEEDED

    trio.run(main)


def test_listeners_see_every_change_and_harm_nothing(run: Run, size: int) -> None:
    """A listener is told each change in order; one that raises is shown once and closed, no more."""
    seen: list[tuple[int, str, str]] = []
    shown: list[Any] = []

    def listen(change: Change) -> None:
        seen.append((change.task.uid, str(change.before), str(change.after)))

    def broken(_: Change) -> None:
        raise ValueError("broken listener")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        closed = graph.subscribe(broken)
        with graph.subscribe(listen):
            first = graph.add(give_later, 1)
            graph.add(nothing, after=first)
            await execute_graph(graph)
        graph.add(nothing)
        assert isinstance(closed.error, ValueError)
        assert len(shown) == 1
        graph.check()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", shown.append)
        run(main)
    assert [entry for entry in seen if entry[0] == 1] == [
        (1, "None", "WAITING"), (1, "WAITING", "READY"), (1, "READY", "RUNNING"), (1, "RUNNING", "SUCCEEDED"),
    ]  # fmt: skip
    assert [entry for entry in seen if entry[0] == 2] == [
        (2, "None", "WAITING"), (2, "WAITING", "READY"), (2, "READY", "RUNNING"), (2, "RUNNING", "SUCCEEDED"),
    ]  # fmt: skip
    assert seen.index((1, "RUNNING", "SUCCEEDED")) < seen.index((2, "WAITING", "READY"))


def test_nothing_is_kept_alive_by_a_run(run: Run) -> None:
    """After a run, dropping the graph frees tasks, results and errors without the cyclic garbage collector's
    help for each task.
    """

    class Big:
        pass

    async def make() -> Big:
        return Big()

    async def broken() -> None:
        local = Big()
        found.append(weakref.ref(local))
        raise ValueError

    async def main() -> None:
        graph = TaskGraph()
        good, bad = graph.add(make), graph.add(broken)
        await execute_graph(graph, raise_failures=False)
        found.append(weakref.ref(good.result_nowait()))
        assert bad.error is not None
        assert good.context is bad.context is None

    found: list[Any] = []
    run(main)
    gc.collect()
    assert [ref() for ref in found] == [None, None]


def test_the_body_of_open_graph_may_fail(run: Run, size: int) -> None:
    """What the body raises comes out as it is, after all tasks have been cancelled and have cleaned up."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(forever)
        with pytest.raises(ValueError, match="body") as caught:
            async with open_graph(graph):
                await trio.sleep(1)
                raise ValueError("body")
        assert caught.value.__context__ is None
        graph.check()
        assert task.state is TaskState.CANCELLED
        assert task.reason == "the run ended with ValueError"

    run(main)


def test_a_body_that_waits_in_another_librarys_way_fails(run: Run, size: int) -> None:
    """Trio's error for what it cannot wait for is raised in the body, and the worker loop goes on."""
    caught: list[TypeError] = []

    class Foreign:
        def __await__(self) -> Generator[str, None, None]:
            yield "what another library waits for"

    async def body() -> None:
        try:
            await Foreign()
        except TypeError as error:
            caught.append(error)
            raise

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task, other = graph.add(body), graph.add(give_later, 1)
        await execute_graph(graph, raise_failures=False)
        assert [task.error] == caught
        assert other.result_nowait() == 1
        graph.check()

    run(main)


def test_the_first_thing_that_ends_a_run_is_raised(run: Run) -> None:
    """What goes wrong while a run is being ended does not hide why it is."""

    @asynccontextmanager
    async def context() -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise OSError("second")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(1, context=context)})
        graph.add(nothing)
        with pytest.raises(ValueError, match="first") as caught:
            async with open_graph(graph):
                await trio.sleep(1)
                raise ValueError("first")
        graph.check()
        assert not graph.running
        assert caught.value.__notes__ == ["while the run ended, there was also OSError('second')"]

    run(main)


def test_a_warning_that_is_an_error_ends_the_run() -> None:
    """Where warnings are errors, a task that blocks the loop ends the run with the warning."""

    async def blocks() -> None:
        time.sleep(0.02)  # noqa: ASYNC251 - this is what it is about

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(blocks)
        after = graph.add(forever)
        with pytest.raises(TaskBlocksLoop, match="task 1 'blocks' blocked"):
            await execute_graph(graph, warn_blocking_after=0.01)
        assert task.state is TaskState.SUCCEEDED
        assert after.state is TaskState.CANCELLED
        graph.check()

    trio.run(main)


@pytest.mark.parametrize("error", [SystemExit, OSError])
def test_what_ends_a_run_comes_out_also_while_its_body_waits(run: Run, error: type[BaseException]) -> None:
    """An error of a worker context is raised, not the Cancelled that it makes of the body of `open_graph`."""

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise error("broken")
        yield  # type: ignore[unreachable]  # what makes it a generator

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(1, context=broken)})
        task = graph.add(nothing)
        with pytest.raises(error, match="broken"):
            async with open_graph(graph):
                await trio.sleep(10)
        graph.check()
        assert task.state is TaskState.CANCELLED

    run(main)


def test_no_failure_is_lost_when_something_else_ends_the_run(run: Run) -> None:
    """An error of the body of `open_graph` carries notes about the failures that nobody has handled."""

    async def main() -> None:
        graph = TaskGraph()
        graph.add(fail, "lost?", name="unlucky")
        with pytest.raises(KeyError) as caught:
            async with open_graph(graph):
                await trio.sleep(1)
                raise KeyError("body")
        assert caught.value.__notes__ == ["task 1 'unlucky' had failed: ValueError('lost?')"]

    run(main)
