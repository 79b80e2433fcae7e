"""Trials: when there is another one, what is kept of each, and what others see meanwhile."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import trio

from tests.support import add_here, fail, forever, give, give_later, nothing
from trio_graph_scheduler import (
    BadType,
    BadValue,
    Change,
    GraphFailed,
    IllegalTransition,
    Report,
    Retry,
    Task,
    TaskFailed,
    TaskGraph,
    TaskState,
    TaskType,
    Trial,
    TryAgain,
    current_graph,
    current_task,
    done,
    execute_graph,
    failed,
    open_graph,
    settled,
    skipped,
)

Run = Callable[..., Any]
DAY = 86_400


def trial() -> int:
    """Return which trial of the current task this is."""
    return len(current_task().trials)


async def fail_until(last: int, duration: float = 1.0) -> str:
    """Take a while, and fail in all trials before the last."""
    await trio.sleep(duration)
    if trial() < last:
        raise ConnectionError(f"in trial {trial()}")
    return f"in trial {trial()}"


def spans(task: Task[Any]) -> list[tuple[float, float | None]]:
    """Return when the trials of a task began and ended."""
    return [(one.start, one.end) for one in task.trials]


def ends(task: Task[Any]) -> list[str]:
    """Return how the trials of a task ended."""
    return [str(one.state) for one in task.trials]


def finished(graph: TaskGraph) -> None:
    """Check that nothing is left of the times that a graph was to wake up at."""
    graph.check()
    assert graph.timetable.next == math.inf


# How many, and when -----------------------------------------------------------------------------------------


def test_a_task_that_fails_a_few_times_and_then_succeeds(run: Run, size: int) -> None:
    """Each trial begins exactly its delay after the end of the one before; the last one's value counts."""

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={"default": size, "other": 1}, worker_assignments={"give_later": "other"}
        )
        task = graph.add(TaskType(fail_until, retry=Retry(5, delay=2, backoff=3)), 4)
        other = graph.add(give_later, 1, 10)
        report = await execute_graph(graph)
        assert spans(task) == [(0, 1), (3, 4), (10, 11), (29, 30)]
        assert ends(task) == ["FAILED"] * 3 + ["SUCCEEDED"]
        assert task.result_nowait() == "in trial 4"
        assert other.state is TaskState.SUCCEEDED
        assert report.failures == ()
        finished(graph)

    run(main)


def test_a_task_that_always_fails(run: Run, size: int) -> None:
    """There are exactly `attempts` trials, and the error of the last one is the task's."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(fail_until, retry=Retry(3, delay=1)), 99)
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        assert spans(task) == [(0, 1), (2, 3), (4, 5)]
        assert ends(task) == ["FAILED"] * 3
        assert [str(one.outcome) for one in task.trials] == [f"in trial {number}" for number in (1, 2, 3)]
        assert caught.value.exceptions == (task.error,)
        assert task.error is task.trials[-1].outcome
        assert graph.failures == [task]
        finished(graph)

    run(main)


def test_an_error_that_is_not_worth_another_trial(run: Run) -> None:
    """The first such error ends the task, at once."""

    async def body() -> None:
        await trio.sleep(1)
        raise ConnectionError if trial() < 3 else KeyError("no")

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(body, retry=Retry(9, delay=1, on=OSError)))
        await execute_graph(graph, raise_failures=False)
        assert spans(task) == [(0, 1), (2, 3), (4, 5)]
        assert isinstance(task.error, KeyError)
        assert trio.current_time() == 5
        finished(graph)

    run(main)


def test_until_counts_from_the_start_of_the_first_trial(run: Run) -> None:
    """The wait for a place before it does not count; running and delays do."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(give_later, 1, 100)
        task = graph.add(TaskType(fail_until, retry=Retry(None, delay=2, until=10)), 99)
        await execute_graph(graph, raise_failures=False)
        assert [start - 100 for start, _ in spans(task)] == [0, 3, 6, 9]
        finished(graph)

    run(main)


def test_a_day_of_retries(run: Run) -> None:
    """The times of late trials are as exact as those of early ones."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(fail_until, retry=Retry(None, delay=60, until=DAY)), 10**6, 0)
        await execute_graph(graph, raise_failures=False)
        assert [start for start, _ in spans(task)] == list(range(0, DAY + 1, 60))
        assert trio.current_time() == DAY
        finished(graph)

    run(main)


def test_a_thousand_trials(run: Run, size: int) -> None:
    """They are all kept, each in its place, and others have their turns meanwhile."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(fail_until, retry=Retry(1000)), 1000, 0)
        other = graph.add(TaskType(fail_until, name="other", retry=Retry(5)), 5, 0)
        waits = graph.add(give, task)
        await execute_graph(graph)
        assert [one.number for one in task.trials] == list(range(1, 1001))
        assert Counter(ends(task)) == {"FAILED": 999, "SUCCEEDED": 1}
        assert waits.result_nowait() == "in trial 1000"
        assert other.result_nowait() == "in trial 5"
        assert trio.current_time() == 0
        finished(graph)

    run(main)


def test_a_body_in_a_thread_is_tried_again(size: int) -> None:
    """A thread's error counts as any other, and so does its `TryAgain`."""
    threads: list[bool] = []

    def body(last: int, error: type[Exception]) -> int:
        threads.append(threading.current_thread() is threading.main_thread())
        if trial() < last:
            raise error
        return trial()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        kind = TaskType(body, retry=Retry(3))
        tasks = [graph.add(kind, 3, ConnectionError), graph.add(kind.but(retry=None), 4, TryAgain)]
        bad = graph.add(kind, 4, KeyError)
        await execute_graph(graph, raise_failures=False)
        assert [task.result_nowait() for task in tasks] == [3, 4]
        assert len(bad.trials) == 3
        assert isinstance(bad.error, KeyError)
        finished(graph)

    trio.run(main)
    assert threads == [False] * 10


def test_a_trial_that_fails_while_it_waits_for_another_task(run: Run, size: int) -> None:
    """What a body awaits fails, or its own patience ends while it is SUSPENDED: the trial has failed, and the
    next one waits anew.
    """
    source: Any = None

    async def waits() -> str:
        with trio.fail_after(2):
            await source.wait()
        return str(await current_graph().add(fail_until, 1).result())

    async def needs() -> Any:
        return await current_graph().add(fail if trial() == 1 else nothing).result()

    async def main() -> None:
        nonlocal source
        graph = TaskGraph(
            worker_loops={"default": size, "other": 1}, worker_assignments={"give_later": "other"}
        )
        source = graph.add(give_later, 1, 7)
        slow = graph.add(TaskType(waits, retry=Retry(5, delay=1, on=trio.TooSlowError)))
        failing = graph.add(TaskType(needs, retry=Retry(2, delay=1, on=ValueError)))
        await execute_graph(graph)
        assert spans(slow) == [(0, 2), (3, 5), (6, 8)]
        assert slow.result_nowait() == "in trial 1"
        assert spans(failing) == [(0, 0), (1, 1)]
        finished(graph)

    run(main)


# Between trials ---------------------------------------------------------------------------------------------


def test_a_task_between_trials_holds_no_place(run: Run) -> None:
    """In a group of one another task runs while it is RETRYING; if that is still at it when the time has
    come, the retried one is READY and waits.
    """

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(fail_until, retry=Retry(2, delay=5)), 2)
        short, long = graph.add(give_later, 1, 1), graph.add(give_later, 1, 6)
        async with open_graph(graph):
            await trio.sleep(3)
            assert str(task.state) == "RETRYING"
            assert long.state is TaskState.RUNNING
            graph.check()
            await trio.sleep(4)
            assert str(task.state) == "READY"
            graph.check()
        assert spans(short) == [(1, 2)]
        assert spans(long) == [(2, 8)]
        assert spans(task) == [(0, 1), (8, 9)]
        finished(graph)

    run(main)


@pytest.mark.parametrize(
    ("priority", "order"), [(0, ["first 1", "a", "b", "first 2"]), (1, ["first 1", "first 2", "a", "b"])]
)
def test_a_retried_task_queues_again(run: Run, priority: int, order: list[str]) -> None:
    """It comes after those that were READY before it became so again, but ahead of lower priorities."""
    seen: list[str] = []

    async def note(name: str) -> None:
        seen.append(name)

    async def first() -> None:
        seen.append(f"first {trial()}")
        await trio.sleep(1)
        if trial() == 1:
            raise TryAgain

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(first, priority=priority)
        for name in "ab":
            graph.add(note, name)
        await execute_graph(graph)
        finished(graph)

    run(main)
    assert seen == order


@pytest.mark.parametrize(("when", "state"), [(3.5, "RUNNING"), (7, "READY"), (10, "SUSPENDED")])
def test_cancelled_in_a_later_trial(run: Run, when: float, state: str) -> None:
    """A task that is cancelled in its second trial, or while it waits for a place or for another task after
    that, is CANCELLED at that time and not tried again, though its policy would.
    """

    async def body() -> None:
        await trio.sleep(1)
        if trial() == 3:
            await current_graph().add(TaskType(forever, group="other")).wait()
        raise ConnectionError

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1, "other": 1})
        task = graph.add(TaskType(body, retry=Retry(None, delay=2)))
        after = graph.add(nothing, after=done(task))
        async with open_graph(graph):
            await trio.sleep(min(when, 4.5))
            if when > 4.5:
                graph.add(give_later, 1, 4)  # holds the place until 8.5
                await trio.sleep(when - 4.5)
            assert str(task.state) == state
            task.cancel("enough")
            await task.wait()
            graph.check()
            assert (str(task.state), task.reason, trio.current_time()) == ("CANCELLED", "enough", when)
        assert spans(task)[:1] == [(0, 1)]
        assert (
            ends(task)
            == {
                "RUNNING": ["FAILED", "CANCELLED"],
                "READY": ["FAILED", "FAILED"],
                "SUSPENDED": ["FAILED", "FAILED", "CANCELLED"],
            }[state]
        )
        assert str(after.state) == "SUCCEEDED"
        finished(graph)

    run(main)


def test_cancelled_while_retrying(run: Run, size: int) -> None:
    """A RETRYING task is CANCELLED at once, and its next trial is not waited for; its past trials stay."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(fail_until, retry=Retry(2, delay=DAY)), 2)
        after = graph.add(nothing, after=task)
        async with open_graph(graph):
            await trio.sleep(2)
            assert str(task.state) == "RETRYING"
            task.cancel("enough")
            assert str(task.state) == "CANCELLED"
            assert str(after.state) == "SKIPPED"
            graph.check()
        assert trio.current_time() == 2
        assert (task.reason, spans(task), ends(task)) == ("enough", [(0, 1)], ["FAILED"])
        finished(graph)

    run(main)


def test_what_a_cancelled_body_raises_is_not_retried(run: Run) -> None:
    """A body that raises while it is being cancelled has FAILED with that error, whatever its policy."""

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise TryAgain

    async def main() -> None:
        graph = TaskGraph()
        tasks = [graph.add(TaskType(body, retry=retry, name=str(retry))) for retry in (None, Retry(None))]
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(1)
            for task in tasks:
                task.cancel()
        assert [ends(task) for task in tasks] == [["FAILED"]] * 2
        finished(graph)

    run(main)


def test_dependents_and_conditions_wait_for_the_last_trial(run: Run, size: int) -> None:
    """Only how a task ends at last counts: for its dependents, for `failed`, `done` and `settled`."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        kind = TaskType(fail_until, retry=Retry(2, delay=5))
        good, bad = graph.add(kind, 2, 0), graph.add(kind, 3, 0)
        of_good = [graph.add(nothing, after=condition) for condition in (good, done(good), settled(good))]
        of_bad = [graph.add(nothing, after=condition) for condition in (failed(bad), done(bad), settled(bad))]
        never = [graph.add(nothing, after=failed(good)), graph.add(nothing, after=bad)]
        no_chance = graph.add(nothing, after=skipped(never[1]))
        await execute_graph(graph)
        assert [spans(task) for task in (*of_good, *of_bad, no_chance)] == [[(5, 5)]] * 7
        assert {task.state for task in never} == {TaskState.SKIPPED}
        finished(graph)

    run(main)


def test_children_of_a_failed_trial_stay(run: Run, size: int) -> None:
    """What a trial added goes on, as children of the task; the next trial adds its own."""

    async def body() -> int:
        add_here(give_later, trial(), 2, name=f"child of trial {trial()}")
        if trial() < 3:
            raise ConnectionError
        return trial()

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={"default": size, "other": 9}, worker_assignments={"give_later": "other"}
        )
        task = graph.add(TaskType(body, retry=Retry(3, delay=1)))
        all_of_it = graph.add(nothing, after=settled(task))
        await execute_graph(graph)
        assert [child.name for child in task.children] == [f"child of trial {n}" for n in (1, 2, 3)]
        assert [spans(child) for child in task.children] == [[(0, 2)], [(1, 3)], [(2, 4)]]
        assert spans(all_of_it) == [(4, 4)]
        finished(graph)

    run(main)


def test_the_first_failure_that_cancels_a_graph_is_a_final_one(run: Run) -> None:
    """With `on_failure="cancel"` a trial that is followed by another one cancels nothing."""

    async def main() -> None:
        graph = TaskGraph(on_failure="cancel")
        kind = TaskType(fail_until)
        good, bad = graph.add(kind.but(retry=Retry(3)), 3), graph.add(kind.but(retry=Retry(5)), 9)
        other = graph.add(forever)
        with pytest.raises(GraphFailed):
            await execute_graph(graph)
        assert trio.current_time() == 5
        assert good.state is TaskState.SUCCEEDED
        assert bad.state is TaskState.FAILED
        assert other.reason == f"task {bad.uid} 'fail_until' has failed"
        finished(graph)

    run(main)


def test_waiting_from_outside_for_a_task_that_is_retried(run: Run, size: int) -> None:
    """`result()` and `wait()` return at the end of the last trial, not before, and raise the last error."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        kind = TaskType(fail_until, retry=Retry(2, delay=5))
        async with open_graph(graph):
            good = graph.add(kind, 2, 0)
            await trio.sleep(1)
            assert good.state is TaskState.RETRYING
            with pytest.raises(trio.WouldBlock, match="RETRYING"):
                good.result_nowait()
            assert await good.result() == "in trial 2"
            assert trio.current_time() == 5
            bad = graph.add(kind, 9, 0)
            with pytest.raises(ConnectionError, match="in trial 2"):
                await bad.result()
            assert trio.current_time() == 10
        finished(graph)

    run(main)


def test_a_body_that_waits_for_a_task_that_is_retried(run: Run) -> None:
    """It is SUSPENDED over all trials; in a group of one they take turns."""

    async def waits() -> str:
        return str(await current_graph().add(TaskType(fail_until, retry=Retry(3, delay=2)), 3).result())

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(waits)
        await execute_graph(graph)
        assert task.result_nowait() == "in trial 3"
        assert spans(task) == [(0, 7)]
        finished(graph)

    run(main)


# Asking for another trial -----------------------------------------------------------------------------------


def test_try_again_needs_no_policy(run: Run, size: int) -> None:
    """Without one every request is granted, after the time asked for or at once."""

    async def body(*afters: float | None) -> int:
        await trio.sleep(1)
        if trial() <= len(afters):
            raise TryAgain(after=afters[trial() - 1])
        return trial()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(body, None, 5, 0, DAY)
        await execute_graph(graph)
        assert [start for start, _ in spans(task)] == [0, 1, 7, 8, DAY + 9]
        assert task.result_nowait() == 5
        finished(graph)

    run(main)


def test_try_again_with_a_policy(run: Run) -> None:
    """`after` takes the place of the policy's delay; attempts, `until` and `give_up_on` still decide."""

    async def body(after: float | None) -> None:
        raise TryAgain(after)

    async def main() -> None:
        graph = TaskGraph()
        policies = [
            Retry(3, delay=7, max_delay=8, on=OSError),
            Retry(None, delay=7, until=20),
            Retry(give_up_on=TryAgain),
        ]
        tasks = [
            [graph.add(TaskType(body, name=f"{policy} {after}", retry=policy), after) for after in (None, 10)]
            for policy in policies
        ]
        await execute_graph(graph, raise_failures=False)
        starts = [[[start for start, _ in spans(task)] for task in row] for row in tasks]
        assert starts == [[[0, 7, 14], [0, 10, 20]], [[0, 7, 14], [0, 10, 20]], [[0], [0]]]
        assert {type(task.error) for task in graph} == {TryAgain}
        finished(graph)

    run(main)


def test_a_policy_may_be_any_function(run: Run) -> None:
    """It is asked once after each failed trial, with the error, the number of that trial, and the time since
    the first one began.
    """
    asked: list[tuple[str, int, float]] = []

    def policy(error: Exception, number: int, elapsed: float) -> float | None:
        asked.append((str(error), number, elapsed))
        return [3, 0, 10, None][number - 1]

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(give_later, 1, 2)
        task = graph.add(TaskType(fail_until, retry=policy), 99)
        await execute_graph(graph, raise_failures=False)
        assert spans(task) == [(2, 3), (6, 7), (7, 8), (18, 19)]
        finished(graph)

    run(main)
    assert asked == [
        ("in trial 1", 1, 1),
        ("in trial 2", 2, 5),
        ("in trial 3", 3, 6),
        ("in trial 4", 4, 17),
    ]


def test_a_function_as_policy_and_try_again(run: Run) -> None:
    """It gets TryAgain as the error; where it grants another trial, `after` takes the place of its delay."""

    def policy(error: Exception, number: int, elapsed: float) -> float | None:  # noqa: ARG001 - the shape of a policy
        assert isinstance(error, TryAgain)
        return 3 if number < 4 else None

    async def body() -> None:
        raise TryAgain([None, 10, 0, 5][trial() - 1])

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(body, retry=policy))
        await execute_graph(graph, raise_failures=False)
        assert [start for start, _ in spans(task)] == [0, 3, 13, 13]
        assert isinstance(task.error, TryAgain)
        finished(graph)

    run(main)


@pytest.mark.parametrize(
    "nonsense",
    [math.nan, -1, math.inf, -math.inf, "soon", True, [], 10**400],
    ids=lambda value: repr(value)[:9],
)
def test_a_policy_that_says_nonsense(run: Run, nonsense: Any) -> None:
    """The task fails with an error that says so, with the body's own behind it; everything else goes on."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(fail, retry=lambda *_: nonsense), "the body")
        others = [graph.add(nothing, after=done(task)), graph.add(give_later, 1)]
        await execute_graph(graph)
        assert isinstance(task.error, BadValue)
        original = task.error.__cause__ or task.error.__context__
        assert repr(original) == "ValueError('the body')"
        assert len(task.trials) == 1
        assert {other.state for other in others} == {TaskState.SUCCEEDED}
        finished(graph)

    run(main)


@pytest.mark.parametrize("refuses_notes", [False, True])
def test_a_policy_that_raises(run: Run, refuses_notes: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The task fails with the policy's error, with the body's own behind it; everything else goes on."""
    kind = NoNotes if refuses_notes else LookupError

    def policy(error: Exception, number: int, elapsed: float) -> float:  # noqa: ARG001 - the shape of a policy
        if number == 2:
            raise kind("the policy")
        return 1

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(fail, retry=policy), "the body")
        others = [graph.add(nothing, after=done(task)), graph.add(give_later, 1)]
        await execute_graph(graph)
        assert type(task.error) is kind
        assert task.error is not None
        assert repr(task.error.__cause__ or task.error.__context__) == "ValueError('the body')"
        if not refuses_notes:
            assert "retry policy" in "".join(task.error.__notes__)
        assert ends(task) == ["FAILED"] * 2
        assert {other.state for other in others} == {TaskState.SUCCEEDED}
        finished(graph)

    run(main)


def test_a_policy_that_raises_the_error_it_is_asked_about(run: Run) -> None:
    """That is the task's error then, and not its own cause."""

    def policy(error: Exception, number: int, elapsed: float) -> float:  # noqa: ARG001 - the shape of a policy
        raise error

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(fail, retry=policy), "the body")
        await execute_graph(graph, raise_failures=False)
        assert repr(task.error) == "ValueError('the body')"
        assert task.error is not None
        assert task.error.__cause__ is not task.error
        finished(graph)

    run(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_policy_that_raises_what_is_no_exception(run: Run, error: type[BaseException]) -> None:
    """As from a body, that ends the run and comes out of it, and every task has ended."""

    def policy(*_: object) -> float:
        raise error("the policy")

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(fail, retry=policy), "the body")
        other = graph.add(forever)
        with pytest.raises(error, match="the policy"):
            await execute_graph(graph)
        assert task.state.ended
        assert other.state is TaskState.CANCELLED
        finished(graph)

    run(main)


@pytest.mark.parametrize("victim", ["task", "graph"])
@pytest.mark.parametrize("answer", [0, 1, None])
def test_a_policy_that_cancels(run: Run, victim: str, answer: float | None) -> None:
    """One that cancels its own task, or the graph, gets no further trial of it: the task ends."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2})

        def policy(*_: object) -> float | None:
            (task if victim == "task" else graph).cancel("by the policy")
            return answer

        task = graph.add(TaskType(fail, retry=policy), "the body")
        other = graph.add(give_later, 1)
        await execute_graph(graph, raise_failures=False)
        assert ends(task) == ["FAILED"]
        assert repr(task.error) == "ValueError('the body')"
        assert str(other.state) == ("SUCCEEDED" if victim == "task" else "CANCELLED")
        finished(graph)

    run(main)


def test_a_policy_that_is_none_is_refused() -> None:
    """What cannot be called is no policy."""
    with pytest.raises(BadType, match="the retry policy of 'nothing'"):
        TaskType(nothing, retry=3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(BadType, match="the retry policy of 'nothing'"):
        TaskType(nothing).but(retry=3)


# What is kept of a trial ------------------------------------------------------------------------------------


def test_what_a_trial_says(run: Run) -> None:
    """Its number, times, state, outcome and worker, while it runs and however it ends."""
    long: Any = None

    async def ask_to_skip() -> None:
        current_task().skip("nothing new")

    async def wait_for_long() -> None:
        await long.wait()

    async def main() -> None:
        nonlocal long
        graph = TaskGraph(worker_loops={"default": 1, "http": 1, "long": 1})
        http = partial(TaskType, group="http")
        good = graph.add(http(fail_until, retry=Retry(2)), 2)
        skips = graph.add(http(ask_to_skip))
        bad = graph.add(http(fail), "no")
        never = [graph.add(nothing, after=bad), graph.add(nothing, after=skips)]
        long = graph.add(TaskType(forever, group="long"))
        suspended = graph.add(wait_for_long)
        unstarted = graph.add(forever, after=done(long))
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(5)
            assert long.trials == (Trial(1, TaskState.RUNNING, 0, None, None, "long-1", 0),)
            assert suspended.trials == (Trial(1, TaskState.SUSPENDED, 0, None, None, "default-1", 0),)
            assert unstarted.trials == ()
            unstarted.cancel("not needed")
            suspended.cancel("why")
            await suspended.wait()
            long.cancel()
        error = good.trials[0].outcome
        assert isinstance(error, ConnectionError)
        assert good.trials == (
            Trial(1, TaskState.FAILED, 0, 1, error, "http-1", 0),
            Trial(2, TaskState.SUCCEEDED, 1, 2, "in trial 2", good.trials[1].worker, 1),
        )
        assert [one.error for one in good.trials] == [error, None]
        assert [(one.state, one.outcome, one.error) for one in skips.trials] == [
            (TaskState.SKIPPED, "nothing new", None)
        ]
        assert [(one.state, one.outcome, one.error) for one in bad.trials] == [
            (TaskState.FAILED, bad.error, bad.error)
        ]
        assert suspended.trials == (Trial(1, TaskState.CANCELLED, 0, 5, "why", "default-1", 0),)
        assert long.trials == (Trial(1, TaskState.CANCELLED, 0, 5, None, "long-1", 0),)
        assert [task.trials for task in (*never, unstarted)] == [()] * 3
        finished(graph)

    run(main)


def test_a_trial_never_sees_what_an_earlier_one_has_set(run: Run) -> None:
    """Each runs in a fresh copy of the context that its task was added in."""
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    seen: list[str] = []

    async def body() -> None:
        seen.append(variable.get())
        variable.set(f"by trial {trial()}")
        add_here(child)
        await trio.sleep(1)
        if trial() < 3:
            raise ConnectionError

    async def child() -> None:
        seen.append(variable.get())

    async def main() -> None:
        variable.set("outside")
        graph = TaskGraph(worker_loops={"default": 2})
        graph.add(TaskType(body, retry=Retry(3, delay=1)))
        variable.set("later")
        await execute_graph(graph)
        assert variable.get() == "later"

    run(main)
    assert seen == ["outside", "by trial 1", "outside", "by trial 2", "outside", "by trial 3"]


def test_the_last_error_tells_of_earlier_trials(run: Run) -> None:
    """It has a note for each of the last ten of them, and one on how many more there were."""

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(fail_until)
        once = graph.add(kind.but(retry=Retry(1)), 99, 0.5)
        thrice = graph.add(kind.but(retry=Retry(3)), 99, 0.5)
        many, good = (graph.add(kind.but(retry=Retry(14)), last, 0) for last in (99, 14))
        await execute_graph(graph, raise_failures=False)
        assert once.error is not None
        assert not hasattr(once.error, "__notes__")
        assert thrice.error is not None
        assert thrice.error.__notes__ == [
            f"trial {number} failed after 0.5 s: ConnectionError('in trial {number}')" for number in (1, 2)
        ]
        assert many.error is not None
        assert many.error.__notes__ == [
            "before these, 3 more failed",
            *[
                f"trial {number} failed after 0 s: ConnectionError('in trial {number}')"
                for number in range(4, 14)
            ],
        ]
        assert not any(hasattr(one.error, "__notes__") for one in (*many.trials[:-1], *good.trials[:-1]))

    run(main)


class NoNotes(Exception):
    """An exception that takes no notes."""

    def add_note(self, note: str, /) -> None:
        """Refuse."""
        raise RuntimeError(note)


class Secretive(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class OddNotes(Exception):
    """An exception whose notes are no notes."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":
            raise RuntimeError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", [NoNotes, Secretive, OddNotes])
@pytest.mark.parametrize("last", [NoNotes, Secretive, OddNotes, ValueError])
def test_no_exception_breaks_the_notes(run: Run, kind: type[Exception], last: type[Exception]) -> None:
    """Whatever the errors of trials are like, they are kept, and the last one is the task's."""

    async def body() -> None:
        raise kind if trial() < 3 else last

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(body, retry=Retry(3)))
        report = await execute_graph(graph, raise_failures=False)
        assert [type(one.outcome) for one in task.trials] == [kind, kind, last]
        assert type(task.error) is last
        assert str(report)
        if last is ValueError and kind is Secretive:
            assert task.error is not None
            assert task.error.__notes__ == [f"trial {n} failed after 0 s: <Secretive>" for n in (1, 2)]
        finished(graph)

    run(main)


@pytest.mark.parametrize("attempts", [2, 3, 50])
def test_the_same_exception_raised_in_every_trial(run: Run, attempts: int) -> None:
    """One object serves all of them: it has one note for each at most, and is never its own context."""
    error = ValueError("the same")

    async def body() -> None:
        await trio.sleep(trial())
        raise error

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(body, retry=Retry(attempts)))
        await execute_graph(graph, raise_failures=False)
        assert [one.outcome for one in task.trials] == [error] * attempts
        assert task.error is error
        assert error.__cause__ is error.__context__ is None
        assert len(error.__notes__) == min(attempts - 1, 11)

    run(main)


@pytest.mark.parametrize("how", ["plain", "caused", "handling", "group"])
def test_what_a_failed_trial_had_at_hand_is_freed(run: Run, how: str) -> None:
    """When another trial follows, the local variables of the failed one's frames go, also of those that are
    only in the traceback of a cause, a context, or a member of a group; the tracebacks stay.
    """

    class Big:
        pass

    kept: list[weakref.ref[Big]] = []

    def keep() -> Big:
        big = Big()
        kept.append(weakref.ref(big))
        return big

    async def inner() -> None:
        big = keep()
        await trio.sleep(1)
        raise ConnectionError(id(big))

    async def body() -> None:
        big = keep()
        if how == "group":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inner)
                nursery.start_soon(nothing)
        try:
            await inner()
        except ConnectionError as error:
            if how == "plain":
                raise
            raise ValueError(id(big)) from (error if how == "caused" else None)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(body, retry=Retry(2, delay=5)))
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(3)
            assert str(task.state) == "RETRYING"
            gc.collect()
            assert len(kept) == 2
            assert [ref() for ref in kept] == [None, None]
            traceback = task.trials[0].outcome.__traceback__
            assert traceback.tb_frame.f_code.co_name == "body"

    run(main)


# Looking at it ----------------------------------------------------------------------------------------------


def test_figures_and_reasons_while_a_task_is_retrying(run: Run) -> None:
    """`statistics()` counts it, `tasks(state=)` finds it, `why()` says what failed and when it goes on."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(fail_until, retry=Retry(3, delay=10)), 3)
        async with open_graph(graph):
            await trio.sleep(4)
            states = graph.statistics().states
            assert {state: count for state, count in states.items() if count} == {TaskState.RETRYING: 1}
            assert str(graph.statistics()) == "1 task: 1 RETRYING"
            assert graph.tasks(state="retrying") == (task,)
            assert graph.why(task) == (
                "task 1 'fail_until' is retrying: trial 1 failed with ConnectionError('in trial 1'),"
                " and trial 2 may start in 7 s, at 11"
            )
            assert (graph.active, graph.at_standstill, task.state.ended) == (1, False, False)
            graph.check()
        assert graph.statistics().states[TaskState.RETRYING] == 0
        finished(graph)

    run(main)


@pytest.mark.parametrize("delay", [0, 3])
def test_listeners_hear_of_every_trial(run: Run, delay: float) -> None:
    """They are told of RUNNING, RETRYING, READY, RUNNING, each once and in order, also without delay."""
    heard: list[str] = []

    async def main() -> None:
        graph = TaskGraph()
        graph.subscribe(lambda change: heard.append(str(change.after)))
        task = graph.add(TaskType(fail_until, retry=Retry(3, delay=delay)), 3, 0)
        await execute_graph(graph)
        assert len(task.trials) == 3

    run(main)
    assert heard == ["WAITING", "READY", "RUNNING", *["RETRYING", "READY", "RUNNING"] * 2, "SUCCEEDED"]


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize("state", ["RETRYING", "READY", "RUNNING"])
def test_a_listener_may_cancel_a_task_between_trials(run: Run, delay: float, state: str) -> None:
    """Whatever it is told of last, the cancellation holds."""

    def listen(change: Change) -> None:
        if str(change.after) == state and len(change.task.trials) > (state == "RUNNING"):
            change.task.cancel("by a listener")

    async def main() -> None:
        graph = TaskGraph()
        graph.subscribe(listen)
        task = graph.add(TaskType(fail_until, retry=Retry(3, delay=delay)), 3)
        await execute_graph(graph)
        assert task.state is TaskState.CANCELLED
        assert len(task.trials) == 1 + (state == "RUNNING")
        finished(graph)

    run(main)


# Saying so --------------------------------------------------------------------------------------------------


def test_a_declared_failure_is_asked_about_too(run: Run) -> None:
    """`current_task().fail()` fails the trial when its body returns; the policy decides, and the next trial
    declares anew.
    """
    asked: list[Exception] = []

    def policy(error: Exception, number: int, elapsed: float) -> float | None:  # noqa: ARG001 - the shape of a policy
        asked.append(error)
        return 1 if number < 3 else None

    async def body(last: int) -> str:
        if trial() < last:
            current_task().fail(f"no luck in trial {trial()}")
            await trio.sleep(1)
        return "dropped, or not"

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(body, retry=policy)
        good, bad = graph.add(kind, 3), graph.add(kind, 4)
        await execute_graph(graph, raise_failures=False)
        assert good.result_nowait() == "dropped, or not"
        assert good.reason is None
        assert spans(good) == [(0, 1), (2, 3), (4, 4)]
        assert spans(bad) == [(0, 1), (2, 3), (4, 5)]
        assert isinstance(bad.error, TaskFailed)
        assert bad.reason == "no luck in trial 3"
        finished(graph)

    run(main)
    assert {type(error) for error in asked} == {TaskFailed}
    assert len(asked) == 5


@pytest.mark.parametrize("thread", [False, True], ids=["async", "thread"])
def test_a_body_may_have_itself_skipped(thread: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """It is SKIPPED when its body returns, whose value is dropped, and so is what needs its success. Of
    several declarations the first counts, and an error counts more than any.
    """

    def say(*words: str) -> str:
        for word in words:
            if word == "raise":
                raise KeyError(word)
            (current_task().fail if word.startswith("fail") else current_task().skip)(word)
        return "value"

    async def say_async(*words: str) -> str:
        await trio.lowlevel.checkpoint()
        return say(*words)

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(say if thread else say_async, name="say")
        skips, both, first_fails = (
            graph.add(kind, *words) for words in (["a"], ["b", "fail"], ["fail", "c"])
        )
        raises = graph.add(kind, "d", "raise")
        dependents = [graph.add(nothing, after=after) for after in (skips, skipped(skips), done(skips))]
        await execute_graph(graph, raise_failures=False)
        assert [str(task.state) for task in (skips, both, first_fails, raises)] == [
            "SKIPPED",
            "SKIPPED",
            "FAILED",
            "FAILED",
        ]
        assert [task.reason for task in (skips, both, first_fails, raises)] == ["a", "b", "fail", None]
        assert isinstance(raises.error, KeyError)
        assert [str(task.state) for task in dependents] == ["SKIPPED", "SUCCEEDED", "SUCCEEDED"]
        assert dependents[0].reason == f"task {skips.uid} 'say' was SKIPPED"
        assert skips.uid not in graph.results  # type: ignore[operator]  # a dict
        finished(graph)

    trio.run(main)


def test_progress_and_notes_are_announced(run: Run) -> None:
    """Each is a Change whose before and after are the same state; notes of all trials are kept, and the
    progress of the last one.
    """
    heard: list[tuple[str, str, object, object]] = []

    def listen(change: Change) -> None:
        task = change.task
        heard.append((str(change.before), str(change.after), task.progress_made, task.notes))

    async def body() -> None:
        me = current_task()
        me.note(f"trial {trial()}")
        if trial() == 1:
            me.progress(3)
            raise ConnectionError
        me.progress(1, 4)
        await trio.sleep(1)
        me.progress(2.5, 4.0)

    async def main() -> None:
        graph = TaskGraph()
        graph.subscribe(listen)
        task = graph.add(TaskType(body, retry=Retry(2)))
        assert (task.progress_made, task.notes) == (None, ())
        await execute_graph(graph)
        assert task.progress_made == (2.5, 4.0)
        assert task.notes == ("trial 1", "trial 2")
        finished(graph)

    run(main)
    first, both = ("trial 1",), ("trial 1", "trial 2")
    assert heard == [
        ("None", "WAITING", None, ()),
        ("WAITING", "READY", None, ()),
        ("READY", "RUNNING", None, ()),
        ("RUNNING", "RUNNING", None, first),
        ("RUNNING", "RUNNING", (3, None), first),
        ("RUNNING", "RETRYING", None, first),
        ("RETRYING", "READY", None, first),
        ("READY", "RUNNING", None, first),
        ("RUNNING", "RUNNING", None, both),
        ("RUNNING", "RUNNING", (1, 4), both),
        ("RUNNING", "RUNNING", (2.5, 4.0), both),
        ("RUNNING", "SUCCEEDED", (2.5, 4.0), both),
    ]


def test_progress_and_notes_from_threads() -> None:
    """A thread may say them too. Listeners are told in trio's thread; the last word is there at the end."""
    heard: list[tuple[bool, bool]] = []

    def listen(change: Change) -> None:
        heard.append((threading.current_thread() is threading.main_thread(), change.before is change.after))

    def body() -> None:
        for step in range(10):
            current_task().progress(step, 9)
            current_task().note(f"step {step}")

    async def main() -> None:
        graph = TaskGraph()
        graph.subscribe(listen)
        tasks = [graph.add(body) for _ in range(4)]
        await execute_graph(graph)
        for task in tasks:
            said = (task.progress_made, task.notes)
            assert said == ((9, 9), tuple(f"step {step}" for step in range(10)))
        finished(graph)

    trio.run(main)
    assert {in_main for in_main, _ in heard} == {True}
    assert any(same for _, same in heard)


@pytest.mark.parametrize(
    ("arguments", "fine"),
    [
        ((0,), True),
        ((5, 5), True),
        ((0, 0), True),
        ((1.5, 2), True),
        ((10**300, None), True),
        ((-1,), False),
        ((3, 2), False),
        ((10**400,), False),
        ((math.nan,), False),
        ((1, math.nan), False),
        ((math.inf,), False),
        ((0, math.inf), False),
        (("1",), False),
        ((1, "2"), False),
        ((True,), False),
        ((None,), False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_progress_is_numbers(arguments: tuple[Any, ...], fine: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Where 0 <= done <= total does not hold, `BadValue` is raised and nothing changes."""
    graph = TaskGraph()
    task = graph.add(nothing)
    graph.take("default")
    task.progress(1, 2)
    if fine:
        task.progress(*arguments)
        assert task.progress_made == (*arguments, None)[:2]
    else:
        with pytest.raises(BadValue, match="progress"):
            task.progress(*arguments)
        assert task.progress_made == (1, 2)


def test_only_an_executing_task_has_something_to_say() -> None:
    """In every other state `fail`, `skip`, `progress` and `note` raise, and nothing changes."""
    graph = TaskGraph(worker_loops={"default": 9})
    by_name = {
        name: graph.add(nothing, name=name) for name in ("SUCCEEDED", "FAILED", "CANCELLED", "RETRYING")
    }
    for _ in by_name:
        graph.take("default")
    graph.finish(by_name["SUCCEEDED"])
    graph.fail(by_name["FAILED"], ValueError())
    graph.cancelled(by_name["CANCELLED"])
    graph.retry(by_name["RETRYING"], ValueError(), 5)
    by_name["READY"] = graph.add(nothing)
    by_name["WAITING"] = graph.add(nothing, after=by_name["READY"])
    by_name["SKIPPED"] = graph.add(nothing, after=by_name["FAILED"])
    for state, task in by_name.items():
        assert str(task.state) == state
        for say in (task.fail, task.skip, task.note):
            with pytest.raises(IllegalTransition):
                say("something")
        with pytest.raises(IllegalTransition):
            task.progress(1)
        assert (str(task.state), task.progress_made, task.notes) == (state, None, ())
    graph.check()


# By hand, without trio --------------------------------------------------------------------------------------


def test_trials_by_hand() -> None:
    """Whoever drives by hand says what time it is, and calls `tick` when something is due."""
    graph = TaskGraph(worker_loops={"default": 1})
    task = graph.add(TaskType(fail_until, retry=Retry(3, delay=2, backoff=2)), 3)
    after = graph.add(nothing, after=task)
    graph.now = 5.0
    assert graph.take("default") is task
    graph.now = 6.0
    first, second = ConnectionError("1"), ConnectionError("2")
    graph.fail(task, first)
    assert str(task.state) == "RETRYING"
    assert graph.timetable.next == 8
    graph.check()
    for graph.now in (6.5, 7.9):
        graph.tick()
        assert graph.take("default") is None
    graph.now = 8.0
    assert str(task.state) == "RETRYING"
    graph.tick()
    assert str(task.state) == "READY"
    graph.now = 9.0
    assert graph.take("default") is task
    graph.fail(task, second)
    graph.now = 100.0
    graph.tick()
    graph.check()
    assert graph.take("default") is task
    graph.now = 101.0
    graph.finish(task, "value")
    assert str(after.state) == "READY"
    assert task.trials == (
        Trial(1, TaskState.FAILED, 5, 6, first, None, 0),
        Trial(2, TaskState.FAILED, 9, 9, second, None, 8),
        Trial(3, TaskState.SUCCEEDED, 100, 101, "value", None, 100),
    )
    finished(graph)


def test_a_driver_may_decide_on_another_trial_itself() -> None:
    """`graph.retry` needs no policy; wrong delays and states are refused, and leave all as it was."""
    graph = TaskGraph(worker_loops={"default": 2})
    task = graph.add(nothing)
    error = ValueError("x")
    with pytest.raises(IllegalTransition):
        graph.retry(task, error, 1)
    graph.take("default")
    for delay in (-1, math.nan, math.inf, "1", None, True, 10**400):
        with pytest.raises(BadValue, match="the delay before the next trial"):
            graph.retry(task, error, delay)  # type: ignore[arg-type]  # wrong on purpose
        assert str(task.state) == "RUNNING"
        graph.check()
    graph.retry(task, error, 0)
    assert str(task.state) == "READY"
    graph.take("default")
    graph.retry(task, error, 3)
    with pytest.raises(IllegalTransition):
        graph.retry(task, error, 3)
    with pytest.raises(IllegalTransition):
        graph.start(task)
    graph.check()
    graph.now = 3.0
    graph.tick()
    graph.start(task)
    task.cancel("enough")
    with pytest.raises(IllegalTransition, match="it has been cancelled"):
        graph.retry(task, error, 0)
    graph.cancelled(task)
    assert ends(task) == ["FAILED", "FAILED", "CANCELLED"]
    finished(graph)


def test_trials_of_several_runs(run: Run) -> None:
    """A task that is RETRYING when a run is cut short is CANCELLED, and one retried by hand before a run goes
    on in it.
    """

    async def main() -> None:
        graph = TaskGraph()
        cut = graph.add(TaskType(fail_until, retry=Retry(2, delay=10)), 2)
        with trio.move_on_after(5):
            await execute_graph(graph)
        assert cut.state is TaskState.CANCELLED
        by_hand = graph.add(TaskType(give, retry=Retry()), 7)
        graph.now = trio.current_time()
        graph.take("default")
        graph.retry(by_hand, ValueError(), 3)
        graph.check()
        report: Report = await execute_graph(graph)
        assert by_hand.result_nowait() == 7
        assert spans(by_hand) == [(5, 5), (8, 8)]
        assert report.duration == 3
        finished(graph)

    run(main)
