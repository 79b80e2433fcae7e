"""Timeouts of trials, budgets of tasks, deadlines of graphs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support import Meter, add_here, forever, give, give_later, nothing
from trio_graph_scheduler import (
    BadValue,
    BudgetExceeded,
    CancelledSwallowed,
    Change,
    GraphError,
    GraphFailed,
    GraphStalled,
    Retry,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    TrialTimeout,
    WrongThread,
    current_graph,
    current_task,
    done,
    execute_graph,
    open_graph,
    settled,
)

Run = Callable[..., Any]
DAY = 86_400


def trial() -> int:
    """Return which trial of the current task this is."""
    return len(current_task().trials)


def spans(task: Task[Any]) -> list[tuple[float, float | None]]:
    """Return when the trials of a task began and ended."""
    return [(one.start, one.end) for one in task.trials]


def ends(*tasks: Task[Any]) -> list[str]:
    """Return how tasks ended: by the class of the error, or the state."""
    return [type(task.error).__name__ if task.error else str(task.state) for task in tasks]


def finished(graph: TaskGraph) -> None:
    """Check that nothing is left of the times that a graph was to wake up at."""
    graph.check()
    assert graph.timetable.next == math.inf


async def clean_up_slowly(duration: float) -> None:
    """Never end by itself; when cancelled take a while to clean up."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(duration)


# A timeout --------------------------------------------------------------------------------------------------


def test_a_trial_that_takes_too_long_fails(run: Run, size: int) -> None:
    """Its body is cancelled at that time; others, and the next task of the same loop, are not affected."""
    cleaned: list[float] = []

    async def slow() -> None:
        try:
            await trio.sleep(100)
        finally:
            cleaned.append(trio.current_time())

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(slow, timeout=3))
        quick = graph.add(TaskType(give_later, timeout=3), 1, 2)
        others = [graph.add(partial(give_later, delay=4), value) for value in range(9)]
        after = [graph.add(nothing, after=done(task)), graph.add(nothing, after=settled(task))]
        never = graph.add(nothing, after=task)
        await execute_graph(graph)
        assert isinstance(task.error, TrialTimeout)
        assert isinstance(task.error, TimeoutError)
        assert isinstance(task.error, GraphError)
        assert (task.error.task, task.error.timeout) == (task, 3)
        assert str(task.error) == "a trial of task 1 'slow' did not end within its timeout of 3 s"
        assert spans(task) == [(0, 3)]
        assert [other.result_nowait() for other in others] == list(range(9))
        assert set(ends(quick, *after)) == {"SUCCEEDED"}
        assert str(never.state) == "SKIPPED"
        finished(graph)

    run(main)
    assert cleaned == [3]


def test_a_timeout_counts_from_the_start_of_each_trial(run: Run) -> None:
    """The wait for a place does not count; each trial has all of it, and the policy is asked about each."""
    asked: list[tuple[str, int, float]] = []

    def policy(error: Exception, number: int, elapsed: float) -> float | None:
        asked.append((type(error).__name__, number, elapsed))
        return 2

    async def body() -> str:
        await trio.sleep(100 if trial() < 3 else 2)
        return "in time"

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(give_later, 1, 10)
        task = graph.add(TaskType(body, timeout=3, retry=policy))
        await execute_graph(graph)
        assert spans(task) == [(10, 13), (15, 18), (20, 22)]
        assert [type(one.outcome) for one in task.trials] == [TrialTimeout, TrialTimeout, str]
        finished(graph)

    run(main)
    assert asked == [("TrialTimeout", 1, 3), ("TrialTimeout", 2, 8)]


def test_retries_that_all_time_out(run: Run, size: int) -> None:
    """The last TrialTimeout is the error, and tells of the others."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(TaskType(forever, timeout=1, retry=Retry(3, delay=1, on=TrialTimeout)))
        policy = Retry(3, on=OSError, give_up_on=TrialTimeout)
        never = graph.add(TaskType(give_later, timeout=1, retry=policy), 1, 2)
        await execute_graph(graph, raise_failures=False)
        assert [type(one.outcome) for one in task.trials] == [TrialTimeout] * 3
        assert isinstance(task.error, TrialTimeout)
        assert len(task.error.__notes__) == 2
        assert [end - start for start, end in spans(task) if end is not None] == [1, 1, 1]
        assert len(never.trials) == 1
        finished(graph)

    run(main)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("retry", [None, Retry(1)])
def test_a_timeout_in_the_instant_of_the_end(
    run: Run,
    size: int,
    checkpoint: bool,  # noqa: FBT001 - a parameter of the test
    raises: bool,  # noqa: FBT001 - a parameter of the test
    retry: Retry | None,
) -> None:
    """There is one outcome, whichever, and it is announced once."""
    heard: list[str] = []

    async def body() -> int:
        await trio.sleep(3)
        if checkpoint:
            await trio.lowlevel.checkpoint()
        if raises:
            raise KeyError
        return 5

    def listen(change: Change) -> None:
        if change.task.name == "body":
            heard.append(str(change.after))

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        graph.subscribe(listen)
        task = graph.add(TaskType(body, timeout=3, retry=retry))
        other = graph.add(give_later, 1, 4)
        await execute_graph(graph, raise_failures=False)
        assert ends(task)[0] in ("TrialTimeout", "KeyError" if raises else "SUCCEEDED")
        assert spans(task) == [(0, 3)]
        assert heard == ["WAITING", "READY", "RUNNING", str(task.state)]
        assert other.result_nowait() == 1
        finished(graph)

    run(main)


def test_a_body_that_swallows_its_timeout(run: Run) -> None:
    """It fails for that, and the policy is asked about it; the loop is none the worse."""

    async def deaf() -> str:
        with suppress(trio.Cancelled):
            await trio.sleep(100)
        return "as if nothing had happened"

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        kind = TaskType(deaf, timeout=3)
        once = graph.add(kind)
        tried = graph.add(kind.but(retry=Retry(2, on=CancelledSwallowed)))
        other = graph.add(give_later, 1)
        await execute_graph(graph, raise_failures=False)
        assert ends(once, tried) == ["CancelledSwallowed"] * 2
        assert [len(once.trials), len(tried.trials)] == [1, 2]
        assert other.result_nowait() == 1
        finished(graph)

    run(main)


def test_a_body_that_raises_when_it_times_out(run: Run) -> None:
    """What it raises in its clean-up is the error of the trial, also out of a group beside Cancelled."""

    async def clumsy() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("clumsy")

    async def group() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clumsy)
            nursery.start_soon(trio.sleep_forever)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        alone = graph.add(TaskType(clumsy, timeout=1, retry=Retry(2, on=KeyError)))
        in_group = graph.add(TaskType(group, timeout=1, retry=Retry(2, on=KeyError)))
        other = graph.add(give_later, 1)
        await execute_graph(graph, raise_failures=False)
        assert [type(one.outcome) for one in alone.trials] == [KeyError] * 2
        assert [type(one.outcome) for one in in_group.trials] == [KeyError] * 2
        assert other.result_nowait() == 1
        finished(graph)

    run(main)


def test_a_trial_ends_when_its_clean_up_has(run: Run) -> None:
    """The next one comes its delay after that; the place is held until then."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(clean_up_slowly, timeout=3, retry=Retry(2, delay=1)), 2)
        other = graph.add(give, 1)
        await execute_graph(graph, raise_failures=False)
        assert spans(task) == [(0, 5), (6, 11)]
        assert spans(other) == [(5, 5)]
        assert ends(task) == ["TrialTimeout"]
        finished(graph)

    run(main)


def test_cancelled_after_its_timeout(run: Run) -> None:
    """A task that is cancelled while its timed-out body cleans up is CANCELLED, not tried again."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(clean_up_slowly, timeout=3, retry=Retry(None)), 2)
        async with open_graph(graph):
            await trio.sleep(4)
            assert [task.stopping, task.cancelling] == [True, False]
            task.cancel("enough")
            assert [task.stopping, task.cancelling] == [True, True]
        assert (ends(task), task.reason, spans(task)) == (["CANCELLED"], "enough", [(0, 5)])
        finished(graph)

    run(main)


def test_a_timeout_that_passes_during_clean_up(run: Run) -> None:
    """A task that is being cancelled is CANCELLED, however long its body takes for that."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(clean_up_slowly, timeout=4, retry=Retry(None)), 2)
        async with open_graph(graph):
            await trio.sleep(3)
            task.cancel("enough")
        assert (ends(task), task.reason, spans(task)) == (["CANCELLED"], "enough", [(0, 5)])
        finished(graph)

    run(main)


def test_a_body_that_times_out_while_it_waits_for_a_task(run: Run, size: int) -> None:
    """It needs no place to end, is tried again, and the awaited task goes on."""
    other: Any = None

    async def waits() -> Any:
        return await other.result()

    async def main() -> None:
        nonlocal other
        graph = TaskGraph(worker_loops={"default": size, "other": 1})
        other = graph.add(TaskType(give_later, name="other", group="other"), 1, 7)
        task = graph.add(TaskType(waits, timeout=3, retry=Retry(3, delay=1)))
        fillers = [graph.add(give_later, value, 3.5) for value in range(size)]
        await execute_graph(graph)
        assert task.result_nowait() == 1
        assert [type(one.outcome) for one in task.trials[:-1]] == [TrialTimeout] * (len(task.trials) - 1)
        assert spans(task)[0] == (0, 3)
        assert len(task.trials) > 1
        assert set(ends(other, *fillers)) == {"SUCCEEDED"}
        finished(graph)

    run(main)


def test_a_body_that_times_out_while_it_wants_its_place_back(run: Run) -> None:
    """Its wait is over, but its group is full: its trial ends at the timeout all the same."""
    other: Any = None

    async def waits() -> None:
        await other.wait()

    async def main() -> None:
        nonlocal other
        graph = TaskGraph(worker_loops={"default": 1, "other": 1})
        other = graph.add(TaskType(give_later, name="other", group="other"), 1, 1)
        task = graph.add(TaskType(waits, timeout=3))
        filler = graph.add(give_later, 1, 10)
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(2)
            assert str(task.state) == "SUSPENDED"
            await task.wait()
            assert trio.current_time() == 3
            graph.check()
        assert (ends(task), spans(task), spans(filler)) == (["TrialTimeout"], [(0, 3)], [(0, 10)])
        finished(graph)

    run(main)


def test_a_thread_that_takes_too_long() -> None:
    """A thread that looks for cancellations ends at its timeout; the next trial has a fresh one."""

    def look() -> int:
        while trial() < 3:
            trio.from_thread.check_cancelled()
            time.sleep(0.001)
        return trial()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        kind = TaskType(look, timeout=0.02)
        good, bad = graph.add(kind.but(retry=Retry(3))), graph.add(kind.but(retry=Retry(2)))
        other = graph.add(give, 1)
        report = await execute_graph(graph, raise_failures=False)
        assert good.result_nowait() == 3
        assert [type(one.outcome) for one in good.trials[:2]] == [TrialTimeout] * 2
        assert [type(one.outcome) for one in bad.trials] == [TrialTimeout] * 2
        assert report.abandoned == ()
        assert other.result_nowait() == 1
        finished(graph)

    trio.run(main)


def test_a_thread_that_is_abandoned_at_its_timeout() -> None:
    """One that ignores its timeout is left to itself after `abandon_after`; the trial has failed, the task is
    tried again, and the report tells.
    """
    release = threading.Event()

    def ignore() -> int:
        if trial() == 1:
            release.wait(20)
        return trial()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        task = graph.add(TaskType(ignore, timeout=0.01, abandon_after=0.01, retry=Retry(2)))
        report = await execute_graph(graph)
        release.set()
        assert task.result_nowait() == 2
        assert type(task.trials[0].outcome) is TrialTimeout
        assert report.abandoned == (task,)
        finished(graph)

    trio.run(main)


def test_a_thread_that_ends_after_its_timeout() -> None:
    """Without `abandon_after` a thread is waited for; one that notices nothing and returns has SUCCEEDED."""

    def ignore() -> int:
        time.sleep(0.02)
        return 7

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(ignore, timeout=0.001))
        await execute_graph(graph)
        assert task.result_nowait() == 7
        finished(graph)

    trio.run(main)


@pytest.mark.parametrize("option", ["timeout", "budget"])
@pytest.mark.parametrize(
    "seconds", [0, -1, math.nan, math.inf, True, "5", [5], 10**400], ids=lambda value: repr(value)[:9]
)
def test_what_is_no_length_of_time_is_refused(option: str, seconds: object) -> None:
    """A timeout or budget is a finite number of seconds above 0."""
    with pytest.raises(BadValue, match=f"the {option} of 'nothing'"):
        TaskType(nothing, **{option: seconds})  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(BadValue, match=f"the {option} of 'nothing'"):
        TaskType(nothing).but(**{option: seconds})


# A budget ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "state", "trials"),
    [
        (1.5, "RETRYING", [(0, 1)]),
        (3.5, "RUNNING", [(0, 1), (3, 3.5)]),
        (6.5, "READY", [(0, 1), (3, 4)]),
        (10, "SUSPENDED", [(0, 1), (3, 4), (8.5, 10)]),
    ],
)
def test_a_budget_covers_trials_delays_and_waits(
    run: Run, budget: float, state: str, trials: list[tuple[float, float]]
) -> None:
    """Whatever the task does when it is spent, it fails then, and is never tried again."""
    asked: list[Exception] = []

    def policy(error: Exception, number: int, elapsed: float) -> float:  # noqa: ARG001 - the shape of a policy
        asked.append(error)
        return 2

    async def body() -> None:
        await trio.sleep(1)
        if trial() == 3:
            await current_graph().add(TaskType(give_later, group="other", name="other"), 1, 5).wait()
        raise ConnectionError

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1, "other": 1})
        task = graph.add(TaskType(body, budget=budget, retry=policy))
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(min(budget, 4.5) - 0.1)
            filler = graph.add(give_later, 1, 4.1)  # holds the place from 4.4 until 8.5, if it comes to that
            await trio.sleep_until(budget - 0.05)
            assert str(task.state) == state
            assert task.deadline == budget
            filler.handled = True
            await task.wait()
            assert trio.current_time() == budget
            filler.cancel()
        assert isinstance(task.error, BudgetExceeded)
        assert isinstance(task.error, TimeoutError)
        assert task.error.task is task
        assert f"the budget of task 1 'body' is spent: its deadline was {budget}" in str(task.error)
        assert spans(task) == trials
        assert not any(isinstance(error, BudgetExceeded) for error in asked)
        finished(graph)

    run(main)


def test_a_task_that_never_got_a_place_within_its_budget(run: Run) -> None:
    """It was READY all the time, so it fails, without a trial."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(give_later, 1, 10)
        task = graph.add(TaskType(nothing, budget=5))
        after = graph.add(nothing, after=done(task), name="after")
        never = graph.add(nothing, after=task, name="never")
        report = await execute_graph(graph)
        assert (ends(task), task.trials) == (["BudgetExceeded"], ())
        assert ends(after, never) == ["SUCCEEDED", "SKIPPED"]
        assert report.failures == ()
        finished(graph)

    run(main)


def test_a_budget_covers_all_that_a_task_spawns(run: Run) -> None:
    """Children and grandchildren too, after it has ended itself: those that had their turn fail, those that
    were WAITING are CANCELLED, those that have ended stay as they are, and all others go on.
    """

    async def parent() -> str:
        add_here(child)
        add_here(partial(give_later, "quick", 1), name="quick")
        return "ended"

    async def child() -> None:
        grandchild = add_here(TaskType(clean_up_slowly, name="grandchild"), 1)
        add_here(TaskType(failing, retry=Retry(None, delay=DAY)), name="retrying")
        add_here(nothing, after=grandchild, name="waiting")
        add_here(nothing, after=done(grandchild), name="waiting for its end")
        add_here(TaskType(waiter, name="suspended"))
        add_here(TaskType(nothing, name="held", group="held"))

    async def failing() -> None:
        raise ConnectionError

    async def waiter() -> None:
        await current_graph().tasks(name="grandchild")[0].wait()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 9, "held": 0})
        task = graph.add(TaskType(parent, budget=5))
        other = graph.add(give_later, 1, 10)
        whole = graph.add(give, 1, after=settled(task), name="whole")
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(4)
            states = {one.name: str(one.state) for one in graph}
            assert states["grandchild"] == "RUNNING"
            assert states["retrying"] == "RETRYING"
            assert states["suspended"] == "SUSPENDED"
            assert states["held"] == "READY"
            grandchild = graph.tasks(name="grandchild")[0]
            assert grandchild.deadline == 5
            await trio.sleep(1.5)
            late = [one for one in graph if one.name == "grandchild" and not one.state.ended]
            assert late == [grandchild]
            graph.check()
        found = {one.name: ends(one)[0] for one in graph}
        assert found == {
            "parent": "SUCCEEDED",
            "child": "SUCCEEDED",
            "quick": "SUCCEEDED",
            "grandchild": "BudgetExceeded",
            "retrying": "BudgetExceeded",
            "suspended": "BudgetExceeded",
            "held": "BudgetExceeded",
            "waiting": "CANCELLED",
            "waiting for its end": "CANCELLED",
            "give_later": "SUCCEEDED",
            "whole": "SUCCEEDED",
        }
        reason = "the budget of task 1 'parent' is spent: its deadline was 5"
        assert graph.tasks(name="waiting")[0].reason == reason
        assert spans(grandchild) == [(0, 6)]
        assert spans(whole) == [(6, 6)]
        assert spans(other) == [(0, 10)]
        assert len({id(one.error) for one in graph if one.error}) == 4
        finished(graph)

    run(main)


def test_a_budget_counts_from_when_the_task_is_ready(run: Run, size: int) -> None:
    """What it waits for does not count. For tasks that are READY before the run it counts from its start."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size, "long": 9}, worker_assignments={"forever": "long"})
        kind = TaskType(forever, budget=3)
        before = graph.add(kind)
        first = graph.add(give_later, 1, 4)
        dependent = graph.add(kind, after=first)
        await trio.sleep(10)
        assert before.deadline == dependent.deadline == math.inf
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(1)
            assert (before.deadline, dependent.deadline) == (13, math.inf)
            during = graph.add(kind)
            assert during.deadline == 14
            await trio.sleep(4)
            assert dependent.deadline == 17
        assert [spans(task) for task in (before, dependent, during)] == [[(10, 13)], [(14, 17)], [(11, 14)]]
        assert ends(before, dependent, during) == ["BudgetExceeded"] * 3
        finished(graph)

    run(main)


def test_a_budget_counts_once(run: Run) -> None:
    """Another trial does not start it anew, not even after the deadline that it set was moved."""

    async def body() -> None:
        await trio.sleep(1)
        raise ConnectionError

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2})
        kind = TaskType(body, budget=5, retry=Retry(None, delay=1))
        task, moved = graph.add(kind), graph.add(kind)
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(4.5)
            assert task.deadline == moved.deadline == 5
            moved.deadline = 14.5
        assert spans(task) == [(0, 1), (2, 3), (4, 5)]
        assert spans(moved) == [*((start, start + 1) for start in range(0, 14, 2)), (14, 14.5)]
        finished(graph)

    run(main)


def test_a_connected_task_keeps_its_budget(run: Run) -> None:
    """A READY task that is made to wait again keeps its deadline; as it is WAITING then, it is CANCELLED."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        long = graph.add(give_later, 1, 10)
        task = graph.add(TaskType(nothing, name="task", budget=5))
        async with open_graph(graph):
            await trio.sleep(1)
            graph.connect(long, task)
            assert str(task.state) == "WAITING"
            await task.wait()
            assert trio.current_time() == 5
        assert (ends(task), task.reason) == (
            ["CANCELLED"],
            "the budget of task 2 'task' is spent: its deadline was 5",
        )
        finished(graph)

    run(main)


def test_a_body_that_ends_in_spite_of_its_budget(run: Run) -> None:
    """One that returns a value before the cancellation reaches it has SUCCEEDED, one that raises has FAILED
    with that; neither is tried again.
    """

    async def critical(error: Exception | None) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(7)
        if error is not None:
            raise error
        return "completed"

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(critical, budget=5, retry=Retry(None))
        good, bad = graph.add(kind, None), graph.add(kind, KeyError("own"))
        await execute_graph(graph, raise_failures=False)
        assert ends(good, bad) == ["SUCCEEDED", "KeyError"]
        assert spans(good) == spans(bad) == [(0, 7)]
        finished(graph)

    run(main)


@pytest.mark.parametrize("first", ["timeout", "cancel"])
def test_a_budget_that_is_spent_during_clean_up(run: Run, first: str) -> None:
    """A trial that had timed out fails with BudgetExceeded, and no other one follows; a task that had been
    cancelled is CANCELLED.
    """

    async def main() -> None:
        graph = TaskGraph()
        timeout = 3 if first == "timeout" else None
        task = graph.add(TaskType(clean_up_slowly, timeout=timeout, budget=4, retry=Retry(None)), 2)
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(3)
            if first == "cancel":
                task.cancel("enough")
        assert ends(task) == ["BudgetExceeded" if first == "timeout" else "CANCELLED"]
        assert task.reason == (None if first == "timeout" else "enough")
        assert spans(task) == [(0, 5)]
        finished(graph)

    run(main)


def test_what_is_added_after_a_deadline_does_not_run(run: Run) -> None:
    """Clean-up of a body whose budget is spent adds tasks that are CANCELLED at once, for the same reason."""
    added: list[Task[Any]] = []

    async def body() -> None:
        try:
            await trio.sleep_forever()
        finally:
            added.append(add_here(nothing))

    async def main() -> None:
        graph = TaskGraph()
        graph.add(TaskType(body, budget=5))
        await execute_graph(graph, raise_failures=False)
        assert ends(*added) == ["CANCELLED"]
        assert added[0].trials == ()
        assert added[0].reason == "the budget of task 1 'body' is spent: its deadline was 5"
        finished(graph)

    run(main)


# The deadline of a graph ------------------------------------------------------------------------------------


def test_the_deadline_of_a_graph(run: Run, size: int) -> None:
    """When it passes, what had its turn fails, what was WAITING or is still added is CANCELLED."""
    meter = Meter()

    async def body() -> None:
        with meter:
            await clean_up_slowly(1)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size}, deadline=5)
        tasks = [graph.add(body) for _ in range(5)]
        ended = graph.add(TaskType(give, group="default"), 1, priority=1)
        waiting = graph.add(nothing, after=tasks[0])
        last_word = graph.add(nothing, after=done(*tasks))
        assert graph.deadline == tasks[0].deadline == 5
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(5.5)
            late = graph.add(nothing)
            assert ends(late) == ["CANCELLED"]
        assert ends(*tasks) == ["BudgetExceeded"] * 5
        assert ends(ended, waiting, last_word) == ["SUCCEEDED", "CANCELLED", "CANCELLED"]
        assert waiting.reason is not None
        assert waiting.reason.startswith("the deadline of the graph has passed, which is 5")
        assert waiting.reason in str(tasks[-1].error)
        assert trio.current_time() == 6
        finished(graph)

    run(main)
    assert meter.total == min(size, 5)


def test_a_deadline_fails_the_run(run: Run) -> None:
    """The BudgetExceeded of tasks that nobody handles come out of the run."""

    async def main() -> None:
        graph = TaskGraph(deadline=5)
        tasks = [graph.add(forever) for _ in range(3)]
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        assert [type(error) for error in caught.value.exceptions] == [BudgetExceeded] * 3
        assert set(caught.value.report.failures) == set(tasks)

    run(main)


@pytest.mark.parametrize("moved", [8, 3, 1, math.inf, -math.inf, -5])
def test_a_deadline_is_moved(run: Run, moved: float) -> None:
    """Later, earlier, into the past, or away, while the graph runs: the new one counts alone."""

    async def main() -> None:
        graph = TaskGraph(deadline=5)
        task = graph.add(give_later, 1, 20)
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(2)
            graph.deadline = moved
            assert graph.deadline == task.deadline == moved
            graph.check()
        end = 20 if moved == math.inf else max(2, moved)
        assert spans(task) == [(0, end)]
        assert ends(task) == ["SUCCEEDED" if moved == math.inf else "BudgetExceeded"]
        finished(graph)

    run(main)


def test_a_deadline_that_has_passed_before_the_run(run: Run, size: int) -> None:
    """Nothing of the graph runs: what was READY fails, what was WAITING is CANCELLED."""
    meter = Meter()

    async def body() -> None:
        with meter:
            pass

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size}, deadline=-1)
        tasks = [graph.add(body) for _ in range(3)]
        after = graph.add(body, after=tasks)
        await execute_graph(graph, raise_failures=False)
        assert ends(*tasks, after) == ["BudgetExceeded"] * 3 + ["CANCELLED"]
        finished(graph)

    run(main)
    assert meter.total == 0


@pytest.mark.parametrize(
    "value", [math.nan, "soon", True, None, [], 10**400], ids=lambda value: repr(value)[:9]
)
def test_what_is_no_deadline_is_refused(value: Any) -> None:
    """For a graph and for a task, and the one that was there stays."""
    with pytest.raises(BadValue, match="a deadline"):
        TaskGraph(deadline=value)
    graph = TaskGraph(deadline=9)
    task = graph.add(nothing)
    for thing in (graph, task):
        with pytest.raises(BadValue, match="a deadline"):
            thing.deadline = value
        assert thing.deadline == 9


def test_the_deadline_of_a_task_is_the_earliest_of_all(run: Run) -> None:
    """Its own, those of all who spawned it, and the graph's, as they are at the time of reading."""

    async def body(depth: int) -> None:
        if depth:
            add_here(partial(body, depth - 1), name=f"{depth - 1}")
        await trio.sleep(1)

    async def main() -> None:
        graph = TaskGraph()
        top = graph.add(partial(body, 2), name="2")
        async with open_graph(graph):
            await trio.sleep(0.5)
            middle, bottom = graph.tasks(name="1")[0], graph.tasks(name="0")[0]
            line = (top, middle, bottom)
            assert [task.deadline for task in line] == [math.inf] * 3
            middle.deadline = 100
            assert [task.deadline for task in line] == [math.inf, 100, 100]
            bottom.deadline = 200
            assert bottom.deadline == 100
            bottom.deadline = 50
            assert [task.deadline for task in line] == [math.inf, 100, 50]
            graph.deadline = 70
            assert [task.deadline for task in line] == [70, 70, 50]
            graph.deadline = math.inf
            top.deadline = 20
            assert [task.deadline for task in line] == [20] * 3
        assert ends(*line) == ["SUCCEEDED"] * 3
        finished(graph)

    run(main)


@pytest.mark.parametrize("state", ["WAITING", "READY", "RUNNING", "SUSPENDED", "RETRYING", "SUCCEEDED"])
@pytest.mark.parametrize("when", [7, 1])
def test_a_deadline_is_set_in_every_state(run: Run, state: str, when: float) -> None:
    """It holds from then on, at once if it is in the past; on a task that has settled it does nothing."""
    long: Any = None

    async def waits() -> None:
        await long.wait()

    async def fails() -> None:
        raise ConnectionError

    async def main() -> None:
        nonlocal long
        graph = TaskGraph(worker_loops={"default": 9, "held": 0})
        long = graph.add(give_later, 1, 20)
        tasks: dict[str, Task[Any]] = {
            "WAITING": graph.add(nothing, after=long),
            "READY": graph.add(TaskType(nothing, name="held", group="held")),
            "RUNNING": graph.add(forever),
            "SUSPENDED": graph.add(waits),
            "RETRYING": graph.add(TaskType(fails, retry=lambda *_: 10)),
            "SUCCEEDED": graph.add(give, 1),
        }
        task = tasks[state]
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(3)
            assert str(task.state) == state
            task.deadline = when
            assert task.deadline == when
            await task.wait()
            assert trio.current_time() == (3 if state == "SUCCEEDED" else max(3, when))
            graph.cancel()
        expected = {"WAITING": "CANCELLED", "SUCCEEDED": "SUCCEEDED"}.get(state, "BudgetExceeded")
        assert ends(task) == [expected]
        finished(graph)

    run(main)


def test_an_earlier_deadline_of_its_own_beats_the_budget(run: Run) -> None:
    """A deadline set before the budget counts keeps counting, and may be moved beyond the budget later."""

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(forever, budget=5)
        early, late, moved = (graph.add(kind) for _ in range(3))
        early.deadline, late.deadline = 2, 20
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(1)
            assert [task.deadline for task in (early, late, moved)] == [2, 5, 5]
            moved.deadline = 9
        assert [spans(task) for task in (early, late, moved)] == [[(0, 2)], [(0, 5)], [(0, 9)]]
        finished(graph)

    run(main)


def test_deadlines_are_not_set_from_other_threads() -> None:
    """Doing so is an error that says how to do it right."""

    def body() -> None:
        with pytest.raises(WrongThread, match="from_thread"):
            current_task().deadline = 5
        with pytest.raises(WrongThread, match="from_thread"):
            current_graph().deadline = 5

    async def main() -> None:
        graph = TaskGraph()
        graph.add(body)
        await execute_graph(graph)
        assert graph.deadline == math.inf

    trio.run(main)


def test_a_listener_may_set_and_move_deadlines(run: Run) -> None:
    """Also of the very task that it is told of, and into the past."""

    def listen(change: Change) -> None:
        if change.after is TaskState.RUNNING:
            change.task.deadline = -1

    async def main() -> None:
        graph = TaskGraph()
        graph.subscribe(listen)
        task = graph.add(forever)
        await execute_graph(graph, raise_failures=False)
        assert ends(task) == ["BudgetExceeded"]
        assert trio.current_time() == 0
        finished(graph)

    run(main)


# Standstills ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limited", ["timeout", "budget", "deadline", "ancestor"])
def test_a_cycle_of_waits_that_time_ends_is_no_stall(run: Run, size: int, limited: str) -> None:
    """Two bodies wait for each other, and a timeout, a budget or a deadline ends one of them: the other goes
    on then.
    """
    tasks: dict[str, Task[Any]] = {}

    async def waits(name: str) -> str:
        await trio.lowlevel.checkpoint()
        await tasks[name].wait()
        return "went on"

    async def parent() -> None:
        tasks["a"] = add_here(waits, "b", name="a")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        kind = TaskType(waits)
        options = {limited: 5} if limited in ("timeout", "budget") else {}
        if limited == "ancestor":
            graph.add(TaskType(parent, budget=5))
        else:
            tasks["a"] = graph.add(kind.but(**options), "b", name="a")
        tasks["b"] = graph.add(kind, "a", name="b")
        if limited == "deadline":
            tasks["a"].deadline = 5
        await execute_graph(graph, raise_failures=False)
        error = "TrialTimeout" if limited == "timeout" else "BudgetExceeded"
        assert ends(tasks["a"], tasks["b"]) == [error, "SUCCEEDED"]
        assert trio.current_time() == 5
        finished(graph)

    run(main)


def test_a_cycle_of_waits_under_a_deadline_of_the_graph_is_a_stall(run: Run, size: int) -> None:
    """As after that deadline there is nothing to wait for, it is reported at once."""
    tasks: dict[str, Task[Any]] = {}

    async def waits(name: str) -> None:
        await tasks[name].wait()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size}, deadline=DAY)
        tasks["a"] = graph.add(waits, "b", name="a")
        tasks["b"] = graph.add(waits, "a", name="b")
        with pytest.raises(GraphStalled):
            await execute_graph(graph)
        assert trio.current_time() == 0
        assert ends(*tasks.values()) == ["CANCELLED"] * 2
        graph.check()

    run(main)


def test_a_graph_that_waits_for_its_next_trial_is_no_stall(run: Run) -> None:
    """Bodies wait for a task that is RETRYING, and one waits from outside, in a group of one."""
    flaky: Any = None

    async def fails() -> str:
        if trial() < 3:
            raise ConnectionError
        return "at last"

    async def waits() -> Any:
        return await flaky.result()

    async def main() -> None:
        nonlocal flaky
        graph = TaskGraph(worker_loops={"default": 1})
        flaky = graph.add(TaskType(fails, retry=Retry(3, delay=DAY)))
        waiters = [graph.add(waits) for _ in range(3)]
        async with open_graph(graph):
            assert await flaky.result() == "at last"
        assert {task.result_nowait() for task in waiters} == {"at last"}
        assert trio.current_time() == 2 * DAY
        finished(graph)

    run(main)


# What it costs to wait --------------------------------------------------------------------------------------


class AlarmSteps(trio.abc.Instrument):
    """Counts the steps of a graph's alarm."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count one."""
        self.count += task.name == "alarm of a task graph"


def test_an_idle_open_graph_wakes_up_for_nothing() -> None:
    """Thousands of timeouts that never expired cost one look, when the first would have; then nothing."""
    alarm = AlarmSteps()
    counts: list[int] = []

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(give, timeout=100, budget=200)
        async with open_graph(graph):
            await trio.sleep(DAY)
            counts.append(alarm.count)
            for _ in range(20):
                for _ in range(100):
                    graph.add(kind, 1)
                await trio.sleep(1)
            counts.append(alarm.count)
            assert len(graph.timetable._entries) <= 64 + 100
            await trio.sleep(DAY)
            counts.append(alarm.count)
            await trio.sleep(DAY)
            counts.append(alarm.count)
        finished(graph)

    trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[alarm])
    never, busy, after, at_rest = counts
    assert never == 0
    assert busy == 1
    assert after == at_rest == 2


def test_every_time_in_the_timetable_costs_one_look() -> None:
    """The alarm takes as many steps as there are different times at which something is due, and two more for
    its start and end.
    """
    alarm = AlarmSteps()

    async def main() -> None:
        graph = TaskGraph()
        kind = TaskType(forever)
        for seconds in (3, 1, 2, 2, 1):
            graph.add(kind.but(timeout=seconds))
        await execute_graph(graph, raise_failures=False)
        finished(graph)

    trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[alarm])
    assert alarm.count in (4, 5)


def test_cancelled_timers_are_forgotten_in_the_end(run: Run, size: int) -> None:
    """However many tasks end within their timeouts and budgets, as many entries stay as tasks are open, or a
    few.
    """

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        kind = TaskType(give, timeout=DAY, budget=DAY, retry=Retry())
        long = graph.add(TaskType(give_later, budget=DAY, timeout=DAY), 1, 10)
        async with open_graph(graph):
            for _ in range(20):
                for _ in range(100):
                    graph.add(kind, 1)
                await trio.sleep(0.1)
            if size > 1:
                assert len(graph.timetable._entries) <= 100
        assert long.result_nowait() == 1
        assert len(graph.timetable._entries) <= 100
        finished(graph)

    run(main)


# By hand, without trio --------------------------------------------------------------------------------------


def test_timeouts_by_hand() -> None:
    """`tick` marks a task whose trial has timed out; whoever runs its body reports that it was stopped."""
    graph = TaskGraph(worker_loops={"default": 2})
    task = graph.add(TaskType(nothing, timeout=3, retry=Retry(2, delay=1)))
    graph.now = 10.0
    graph.take("default")
    assert graph.timetable.next == 13
    graph.now = 12.9
    graph.tick()
    assert task.stopping is False
    graph.now = 13.0
    graph.tick()
    assert (task.stopping, str(task.state)) == (True, "RUNNING")
    graph.check()
    graph.now = 13.5
    graph.cancelled(task)
    assert (task.stopping, str(task.state)) == (False, "RETRYING")
    graph.now = 15.0
    graph.tick()
    graph.start(task)
    assert task.stopping is False
    graph.now = 19.0
    graph.tick()
    graph.finish(task, "just in time")  # its body had its value before it was stopped
    assert ends(task) == ["SUCCEEDED"]
    assert spans(task) == [(10, 13.5), (15, 19)]
    assert type(task.trials[0].outcome) is TrialTimeout
    finished(graph)


def test_deadlines_by_hand() -> None:
    """Without a driver nothing but `tick` makes time pass, and one call of it does all that is due."""
    graph = TaskGraph(worker_loops={"default": 1}, deadline=100)
    running, ready = graph.add(nothing), graph.add(nothing)
    waiting = graph.add(nothing, after=ready)
    graph.take("default")
    ready.deadline = 5
    graph.now = 50.0
    assert str(ready.state) == "READY"
    graph.tick()
    assert ends(ready, waiting) == ["BudgetExceeded", "SKIPPED"]
    graph.check()
    graph.now = 100.0
    graph.tick()
    assert running.cancelling
    graph.cancelled(running)
    assert ends(running) == ["BudgetExceeded"]
    finished(graph)
