"""Reruns: tasks that have ended are opened again, with all that depends on them, and nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support import Meter, add_here, examples, fail, forever, give, give_later, nothing
from tests.test_graph_model import (
    ENDED,
    EXECUTING,
    STARTED,
    GraphAgainstModel,
    Model,
    Twin,
    Wish,
    picks,
)
from trio_graph_scheduler import (
    BadType,
    CannotRerun,
    Change,
    Condition,
    ForeignTask,
    GraphFailed,
    Retry,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
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
)
from trio_graph_scheduler.graph.task import (
    CANCELLED,
    FAILED,
    READY,
    SKIPPED,
    SUCCEEDED,
    WAITING,
)

Run = Callable[..., Any]


def by_hand() -> TaskGraph:
    """Return a graph that is driven by hand, with more places than there are tasks."""
    return TaskGraph(worker_loops={"default": 10**6})


def end(task: Task[Any], *, well: bool = True, value: object = None) -> None:
    """Let a READY task start and end."""
    task.graph.start(task)
    if well:
        task.graph.finish(task, value)
    else:
        task.graph.fail(task, ValueError(value))


def run_all(graph: TaskGraph) -> None:
    """Let all that can run succeed."""
    while (task := graph.take("default")) is not None:
        graph.finish(task)


def ended_as(graph: TaskGraph, state: TaskState) -> Task[Any]:
    """Return a task that has ended in this state."""
    if state is SKIPPED:
        bad = graph.add(nothing)
        end(bad, well=False)
        return graph.add(nothing, after=bad)
    task = graph.add(nothing)
    if state is CANCELLED:
        graph.start(task)
        task.cancel("enough")
        graph.cancelled(task)
    else:
        end(task, well=state is SUCCEEDED, value="first")
    return task


# One task ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, CANCELLED])
def test_an_ended_task_gets_a_new_trial(state: TaskState) -> None:
    """Whatever its outcome, the task is READY as if it were new; its earlier trial is kept, and trials are
    numbered on. The new result takes the place of the old one.
    """
    graph = by_hand()
    task = ended_as(graph, state)
    assert task.state is state
    assert graph.rerun(task) == (task,)
    graph.check()
    assert task.state is READY
    assert (task.error, task.reason, task.handled, task.cancelling) == (None, None, False, False)
    assert [trial.number for trial in task.trials] == [1]
    assert task.trials[0].state is state
    with pytest.raises(trio.WouldBlock):
        task.result_nowait()
    end(task, value="second")
    graph.check()
    assert task.result_nowait() == "second"
    assert [(trial.number, trial.state) for trial in task.trials] == [(1, state), (2, SUCCEEDED)]
    assert str(task.trials[0].outcome) == ("enough" if state is CANCELLED else "first")


def test_a_skipped_task_is_skipped_again_unless_what_it_needs_is_rerun_too() -> None:
    """Rerun alone it has the same outcome as before, at once; with what failed it waits for that."""
    graph = by_hand()
    bad = graph.add(nothing)
    task = graph.add(nothing, after=bad)
    end(bad, well=False)
    assert graph.rerun(task) == (task,)
    graph.check()
    assert task.state is SKIPPED
    assert task.trials == ()
    assert set(graph.rerun([task, bad])) == {bad, task}
    graph.check()
    assert (bad.state, task.state) == (READY, WAITING)
    run_all(graph)
    assert task.state is SUCCEEDED


def test_everything_that_failed_is_the_default() -> None:
    """Without arguments the FAILED tasks are rerun, and what was skipped because of them; with none, nothing
    is.
    """
    graph = by_hand()
    good, bad, other = graph.add(nothing), graph.add(nothing), graph.add(nothing)
    skipped_task = graph.add(nothing, after=bad)
    also_skipped = graph.add(nothing, after=skipped_task)
    assert graph.rerun() == ()
    end(good)
    end(bad, well=False)
    other.cancel()
    assert graph.rerun() == (bad, skipped_task, also_skipped)
    graph.check()
    assert [task.state for task in (good, bad, other)] == [SUCCEEDED, READY, CANCELLED]
    assert [task.state for task in (skipped_task, also_skipped)] == [WAITING, WAITING]
    run_all(graph)
    assert graph.rerun() == ()
    assert graph.rerun([]) == ()
    graph.check()


def test_downstream_or_not() -> None:
    """With `downstream` ended dependents are opened again, transitively; without it they keep their outcomes.
    What has not started waits again in either case, and READY tasks are taken back.
    """
    for downstream in (True, False):
        graph = by_hand()
        first = graph.add(give, 0)
        second = graph.add(give, first)
        third = graph.add(give, second)
        for task in (first, second, third):
            end(task, value=task.uid)
        ready = graph.add(give, first)
        blocker = graph.add(forever)
        waiting = graph.add(nothing, after=[third, first, blocker])
        unrelated = graph.add(nothing)
        assert ready.state is READY
        opened = graph.rerun(first, downstream=downstream)
        graph.check()
        assert opened == ((first, second, third) if downstream else (first,))
        assert [second.state, third.state] == ([WAITING] * 2 if downstream else [SUCCEEDED] * 2)
        assert (first.state, ready.state, waiting.state, unrelated.state) == (READY, WAITING, WAITING, READY)
        assert "task 1 'give' (READY)" in graph.why(waiting)
        end(blocker)
        assert waiting.state is WAITING
        run_all(graph)
        graph.check()
        assert {task.state for task in graph} == {SUCCEEDED}


CONDITIONS: dict[str, tuple[Callable[[Task[Any], Task[Any]], Condition], tuple[TaskState, ...]]] = {
    # how the waiting task stands after the rerun of a, which had FAILED, while b has SUCCEEDED
    "any_of, decided by the other": (any_of, (READY,)),
    "any_of, decided by its failure": (lambda a, b: any_of(failed(a), failed(b)), (WAITING,)),
    "at_least": (lambda a, b: at_least(2, [done(a), b]), (WAITING,)),
    "done": (lambda a, _: done(a), (WAITING,)),
    "failed": (lambda a, _: failed(a), (WAITING,)),
    "nested": (lambda a, b: any_of(failed(a) & b, skipped(b)) & done(a, b), (WAITING,)),
    "settled": (lambda a, _: settled(a), (WAITING,)),
    "succeeded": (succeeded, (WAITING,)),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_through_conditions(name: str) -> None:
    """Dependents through conditions are opened again, and the conditions count anew, whatever they had
    decided.
    """
    make, (expected,) = CONDITIONS[name]
    graph = by_hand()
    a, b = graph.add(nothing), graph.add(nothing)
    condition = make(a, b)
    ended = graph.add(nothing, after=condition)
    after_it = graph.add(nothing, after=done(ended))
    unstarted = graph.add(nothing, after=[condition, graph.add(forever)])
    end(a, well=False)
    end(b)
    if ended.state is READY:
        end(ended)
    end(after_it)
    was = unstarted.state
    assert graph.rerun(a) == ((a, ended, after_it) if was is WAITING else (a, ended, after_it, unstarted))
    graph.check()
    assert (ended.state, after_it.state, unstarted.state) == (expected, WAITING, WAITING)
    assert condition.holds is (True if expected is READY else None)
    end(a)
    graph.check()
    verdict = make(a, b)
    probe = graph.add(nothing, after=verdict)
    assert condition.holds is verdict.holds
    assert ended.state is probe.state


def test_settled_of_an_ancestor_waits_again() -> None:
    """Who waited for a task and all that it spawned is opened again when one of those is rerun; the ancestor
    itself stays as it is, and has settled again when the rerun has ended.
    """
    graph = by_hand()
    top = graph.add(nothing)
    graph.start(top)
    child = _child_of(top)
    grandchild = _child_of(child)
    last = graph.add(nothing, after=settled(top))
    graph.finish(top)
    end(child)
    end(grandchild, well=False)
    end(last)
    assert top.settled
    assert graph.rerun(grandchild) == (grandchild, last)
    graph.check()
    assert (top.state, child.state, grandchild.state, last.state) == (SUCCEEDED, SUCCEEDED, READY, WAITING)
    assert [top.settled, last.settled] == [False, False]
    end(grandchild)
    graph.check()
    assert top.settled
    assert last.state is READY


def _child_of(parent: Task[Any]) -> Task[Any]:
    """Add a task as from the body of another one."""
    from trio_graph_scheduler.graph.task import CURRENT_TASK  # noqa: PLC0415 - for this alone

    token = CURRENT_TASK.set(parent)
    try:
        return parent.graph.add(nothing)
    finally:
        CURRENT_TASK.reset(token)


def test_a_dependent_that_is_rerun_later_waits_too() -> None:
    """A task left as it was by a rerun of what it needs, and rerun itself after that, waits for it and is
    told of its end; whether it depends on it directly or through a condition.
    """
    graph = by_hand()
    first = graph.add(nothing)
    direct = graph.add(nothing, after=first)
    through = graph.add(nothing, after=done(first))
    run_all(graph)
    graph.rerun(first, downstream=False)
    graph.check()
    assert (direct.state, through.state) == (SUCCEEDED, SUCCEEDED)
    graph.rerun([direct, through])
    graph.check()
    assert (direct.state, through.state) == (WAITING, WAITING)
    end(first)
    graph.check()
    assert (direct.state, through.state) == (READY, READY)


def test_a_condition_that_is_used_again_counts_anew() -> None:
    """A condition that nobody waited for when what it speaks of was rerun is open when it is used again."""
    graph = by_hand()
    first = graph.add(nothing)
    condition = done(first)
    other = graph.add(nothing, after=condition)
    end(first)
    graph.disconnect(condition, other)
    graph.rerun(first)
    late = graph.add(nothing, after=condition)
    graph.check()
    assert late.state is WAITING
    end(first)
    graph.check()
    assert late.state is READY


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["RUNNING", "SUSPENDED", "RETRYING"])
def test_dependents_under_way_refuse_it(state: str) -> None:
    """A dependent that executes, or is between two trials, would have to be stopped: the rerun is refused
    with nothing changed. Without `downstream` it is left alone.
    """
    graph = by_hand()
    first = graph.add(nothing)
    middle = graph.add(nothing, after=first)
    end(first, value=1)
    end(middle)
    busy = graph.add(TaskType(give, name="busy", retry=Retry(None, delay=5)), middle)
    graph.start(busy)
    if state == "SUSPENDED":
        graph.suspend(busy, graph.add(nothing))
    elif state == "RETRYING":
        graph.fail(busy, ValueError())
    with pytest.raises(
        CannotRerun, match=rf"cannot rerun: task 3 'busy' \({state}\) would have to"
    ) as caught:
        graph.rerun(first)
    assert caught.value.tasks == (busy,)
    graph.check()
    assert (first.state, middle.state, str(busy.state)) == (SUCCEEDED, SUCCEEDED, state)
    assert first.result_nowait() == 1
    assert graph.rerun(middle, downstream=False) == (middle,)
    graph.check()
    assert (middle.state, str(busy.state)) == (READY, state)


@pytest.mark.parametrize("state", ["WAITING", "READY", "RUNNING", "SUSPENDED", "RETRYING"])
def test_open_tasks_cannot_be_rerun(state: str) -> None:
    """Of tasks one of which has not ended none is rerun; the error names it."""
    graph = by_hand()
    bad = graph.add(nothing)
    end(bad, well=False)
    other = graph.add(forever)
    task = graph.add(
        TaskType(nothing, name="flaky", retry=Retry(None, delay=5)),
        after=other if state == "WAITING" else None,
    )
    if state not in ("WAITING", "READY"):
        graph.start(task)
    if state == "SUSPENDED":
        graph.suspend(task, other)
    if state == "RETRYING":
        graph.fail(task, ValueError())
    with pytest.raises(CannotRerun, match=rf"'flaky' \({state}\) has not ended") as caught:
        graph.rerun([bad, task])
    assert caught.value.tasks == (task,)
    assert (bad.state, str(task.state)) == (FAILED, state)
    graph.check()


def test_what_is_no_task_of_the_graph_is_refused() -> None:
    """Other values, the graph's root, tasks of other graphs and removed ones cannot be rerun; nothing is
    changed.
    """
    graph = by_hand()
    bad = graph.add(nothing)
    end(bad, well=False)
    gone = graph.add(nothing)
    graph.remove(gone)
    stranger = by_hand().add(nothing)
    for wrong, error in (
        (7, BadType),
        ([bad, "x"], BadType),
        ([bad, stranger], ForeignTask),
        (gone, ForeignTask),
    ):
        with pytest.raises(error):
            graph.rerun(wrong)  # type: ignore[arg-type]  # that is the test
        assert bad.state is FAILED
    with pytest.raises((BadType, CannotRerun, ForeignTask)):
        graph.rerun(graph.root)
    graph.check()


# In runs ----------------------------------------------------------------------------------------------------


def test_a_second_run_does_what_failed_and_no_more(run: Run, size: int) -> None:
    """After a run, `rerun()` and another run: what failed and its dependents run again, on the kept results
    of all other tasks; failures of the second run alone are reported, and success is no failure.
    """
    calls: list[str] = []
    works = False

    async def source() -> int:
        calls.append("source")
        return 20

    async def flaky(value: int) -> int:
        calls.append("flaky")
        if not works:
            raise ConnectionError("down")
        return value + 1

    async def double(value: int) -> int:
        calls.append("double")
        return 2 * value

    async def main() -> None:
        nonlocal works
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(flaky, graph.add(source))
        result = graph.add(double, task)
        first = await execute_graph(graph, raise_failures=False)
        assert first.failures == (task,)
        assert (await execute_graph(graph)).failures == ()
        assert graph.rerun() == (task, result)
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        assert caught.value.report.failures == (task,)
        works = True
        graph.rerun()
        assert (await execute_graph(graph)).failures == ()
        graph.check()
        assert result.result_nowait() == 42
        assert [(trial.number, str(trial.state)) for trial in task.trials] == [
            (1, "FAILED"),
            (2, "FAILED"),
            (3, "SUCCEEDED"),
        ]

    run(main)
    assert calls == ["source", "flaky", "flaky", "flaky", "double"]


def test_a_rerun_during_a_run(run: Run, size: int) -> None:
    """From outside, or in a body, a rerun takes effect at once; who awaits the task gets the new result."""
    meter = Meter()
    task: Any = None

    async def count() -> int:
        with meter:
            await trio.sleep(1)
        if meter.total == 1:
            raise ValueError("the first time")
        return meter.total

    async def repair() -> Any:
        await task.wait()
        assert task.state is FAILED
        assert current_graph().rerun(task) == (task,)
        assert task.state is READY
        return await task.result()

    async def main() -> None:
        nonlocal task
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(count)
        body = graph.add(repair)
        async with open_graph(graph):
            await trio.sleep(2.5)
            assert task.result_nowait() == body.result_nowait() == 2
            graph.rerun(task)
            assert await task.result() == 3
        graph.check()
        assert [trial.start for trial in task.trials] == [0, 1, 2.5]
        assert body.state is SUCCEEDED

    run(main)


def test_a_rerun_keeps_a_run_from_its_end(run: Run) -> None:
    """A task that is rerun as the last one ends runs in the same run, and so do its dependents."""
    dependents: list[Any] = []

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(give_later, 1)
        last = graph.add(nothing, after=task)
        dependents.append(last)

        def again(change: Change) -> None:
            if change.task is last and change.after is SUCCEEDED and len(task.trials) == 1:
                graph.rerun(task)

        graph.subscribe(again)
        report = await execute_graph(graph)
        graph.check()
        assert [trial.start for trial in task.trials] == [0, 1]
        assert [trial.start for trial in last.trials] == [1, 2]
        assert report.duration == 2

    run(main)


def test_failures_are_handled_anew() -> None:
    """A failure that code took note of is one to be reported again after a rerun, unless a condition handles
    it; a task that is open again is in no list of failures.
    """
    graph = by_hand()
    bad, watched = graph.add(nothing), graph.add(nothing)
    watcher = graph.add(nothing, after=done(watched))
    end(bad, well=False)
    end(watched, well=False)
    end(watcher)
    with pytest.raises(ValueError, match="None"):
        bad.result_nowait()
    assert [bad.handled, watched.handled] == [True, True]
    graph.rerun()
    graph.check()
    assert graph.failures == []
    assert [bad.handled, watched.handled] == [False, False]
    end(bad, well=False)
    end(watched, well=False)
    assert graph.failures == [bad, watched]
    assert [bad.handled, watched.handled] == [False, True]
    graph.check()


def test_dedupe_finds_a_task_that_is_rerun() -> None:
    """Adding the same piece of work again gives the task that was rerun, not another one."""
    graph = by_hand()
    task = graph.add(give, 1, dedupe="one")
    end(task, well=False)
    graph.rerun()
    assert graph.add(give, 1, dedupe="one") is task
    assert len(graph) == 1


def test_what_an_earlier_trial_spawned_stays(run: Run, size: int) -> None:
    """Children of the earlier trial remain as they are, and those of the new one come after them."""

    async def parent() -> None:
        add_here(give, len(current_task().trials), name=f"child {len(current_task().trials)}")

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(parent)
        last = graph.add(nothing, after=settled(task))
        await execute_graph(graph)
        graph.rerun(task)
        assert [child.state for child in task.children] == [SUCCEEDED]
        await execute_graph(graph)
        graph.check()
        assert [child.result_nowait() for child in task.children] == [1, 2]
        assert [len(child.trials) for child in task.children] == [1, 1]
        assert [trial.number for trial in last.trials] == [1, 2]

    run(main)


def test_a_budget_counts_anew(run: Run) -> None:
    """A task that spent its budget gets all of it again, from when it is READY in the run of the rerun."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(give_later, budget=3), "late", 5)
        await execute_graph(graph, raise_failures=False)
        assert task.state is FAILED
        await trio.sleep(100)
        graph.rerun()
        await trio.sleep(100)
        report = await execute_graph(graph, raise_failures=False)
        graph.check()
        assert [(trial.start, trial.end) for trial in task.trials] == [(0, 3), (203, 206)]
        assert report.failures == (task,)

    run(main)


def test_the_attempts_of_a_retry_policy_count_anew(run: Run) -> None:
    """A rerun task has all attempts of its policy again, and the time that it may take counts anew."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(TaskType(fail, retry=Retry(2, delay=1, until=5)))
        await execute_graph(graph, raise_failures=False)
        assert [trial.start for trial in task.trials] == [0, 1]
        await trio.sleep(99)
        graph.rerun()
        await execute_graph(graph, raise_failures=False)
        graph.check()
        assert [trial.start for trial in task.trials] == [0, 1, 100, 101]
        assert [trial.number for trial in task.trials] == [1, 2, 3, 4]

    run(main)


def test_what_is_rerun_while_the_graph_is_cancelled_is_cancelled(run: Run) -> None:
    """That goes for every task that one parent spawned, though the parent had settled."""

    async def main() -> None:
        graph = TaskGraph()
        children: list[Task[Any]] = []

        async def spawn_and_cancel() -> None:
            children.extend(add_here(give, cause) for _ in range(3))
            graph.cancel()

        async with open_graph(graph):
            cause = graph.add(forever)
            parent = graph.add(spawn_and_cancel)
            await parent.wait()
            await cause.wait()
            graph.rerun(cause)
            graph.check()
            assert [str(task.state) for task in (parent, cause, *children)] == [
                "SUCCEEDED",
                *["CANCELLED"] * 4,
            ]

    run(main)


def test_what_was_rerun_below_a_running_task_can_be_disconnected() -> None:
    """The task, which is tried again, does not wait for it, and need not."""
    graph = TaskGraph()
    first = graph.add(nothing)
    condition = done(first)
    then = graph.add(nothing, after=condition)
    assert graph.take("default") is first
    graph.finish(first)
    assert graph.take("default") is then
    graph.rerun(first, downstream=False)
    graph.retry(then, ValueError(), 0)
    assert str(then.state) == "READY"
    graph.disconnect(condition, then)
    assert str(then.state) == "READY"
    assert then.predecessors == ()
    graph.check()


def test_notes_on_earlier_trials_tell_of_failures_only() -> None:
    """The error of a rerun that failed does not say of a trial that succeeded that it had failed."""
    graph = by_hand()
    task = graph.add(nothing)
    end(task, value="fine")
    graph.rerun(task)
    end(task, well=False)
    assert task.error is not None
    assert not [note for note in getattr(task.error, "__notes__", ()) if "fine" in note and "failed" in note]


def test_a_rerun_runs_in_the_context_of_the_call(run: Run) -> None:
    """What the task adds is still its child, and its body sees what was set where the rerun was called."""
    from contextvars import ContextVar  # noqa: PLC0415 - for this alone

    where: ContextVar[str] = ContextVar("where", default="nowhere")

    async def look() -> str:
        add_here(nothing)
        return where.get()

    async def main() -> None:
        graph = TaskGraph()
        where.set("first")
        task = graph.add(look)
        await execute_graph(graph)
        assert task.result_nowait() == "first"
        where.set("second")
        graph.rerun(task)
        where.set("third")
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == "second"
        assert len(task.children) == 2

    run(main)


# Reruns of thresholds ---------------------------------------------------------------------------------------


def test_a_missed_threshold_is_rerun_with_its_candidates() -> None:
    """`rerun()` opens the failed candidates and the threshold, which counts anew, and holds back spares
    again.
    """
    graph = by_hand()
    tasks = [graph.add(nothing) for _ in range(4)]
    threshold = graph.add_threshold(tasks, target=2)
    end(tasks[0], value="first")
    for task in tasks[1:]:
        end(task, well=False)
    assert threshold.state is FAILED
    assert graph.rerun() == (*tasks[1:], threshold)
    graph.check()
    assert [task.state for task in tasks] == [SUCCEEDED, READY, WAITING, WAITING]
    end(tasks[1], well=False)
    end(tasks[2], value="third")
    graph.check()
    assert threshold.result_nowait() == ["first", "third"]
    assert tasks[3].state is CANCELLED


def test_a_threshold_that_was_reached_keeps_its_failed_candidates() -> None:
    """`rerun()` leaves alone what failed as a candidate of a threshold that was reached without it; rerun by
    name, it opens the threshold too, which then is reached at once again by the results that it has.
    """
    graph = by_hand()
    bad, good = graph.add(nothing), graph.add(nothing)
    threshold = graph.add_threshold([bad, good], target=1)
    end(bad, well=False)
    end(good, value="good")
    assert graph.rerun() == ()
    graph.rerun(bad)
    graph.check()
    assert threshold.result_nowait() == ["good"]
    assert bad.state is CANCELLED


# Reruns and cancelling --------------------------------------------------------------------------------------


def test_a_cancelled_subtree_can_be_rerun_and_cancelled_again() -> None:
    """What was cancelled with its parent runs again without it; cancelling the parent again stops it again,
    and all that it spawned meanwhile.
    """
    graph = by_hand()
    top = graph.add(nothing)
    graph.start(top)
    child = _child_of(top)
    graph.start(child)
    grandchild = _child_of(child)
    top.cancel("first")
    graph.cancelled(child)
    graph.cancelled(top)
    assert [task.state for task in (top, child, grandchild)] == [CANCELLED] * 3
    assert graph.rerun([child, grandchild]) == (child, grandchild)
    graph.check()
    graph.start(child)
    late = _child_of(child)
    assert not late.state.ended
    top.cancel("second")
    graph.check()
    assert child.cancelling
    assert [grandchild.state, late.state] == [CANCELLED, CANCELLED]
    graph.cancelled(child)
    assert (child.reason, grandchild.reason, top.reason) == ("second", "second", "first")
    graph.check()


def test_a_rerun_in_a_graph_that_is_being_cancelled(run: Run) -> None:
    """While the graph is being cancelled nothing starts any more, so what is rerun is cancelled again at
    once, as what is added is; and the graph is still being cancelled after that.
    """

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(give, 1)
        dependent = graph.add(give, task)
        running = graph.add(forever)
        async with open_graph(graph):
            await trio.sleep(1)
            graph.cancel("enough")
            graph.rerun(task)
            graph.check()
            assert [task.state, dependent.state] == [CANCELLED, CANCELLED]
            assert task.reason == "enough"
            assert graph.add(nothing).state is CANCELLED
        graph.check()
        assert running.reason == "enough"
        graph.rerun(task)
        await execute_graph(graph)
        assert [len(task.trials), len(dependent.trials)] == [2, 2]

    run(main)


def test_a_rerun_below_a_task_that_is_being_cancelled() -> None:
    """A parent whose body is being stopped goes on being stopped, and nothing it spawned starts anew."""
    graph = by_hand()
    top = graph.add(nothing)
    graph.start(top)
    child = _child_of(top)
    end(child)
    top.cancel("enough")
    graph.rerun(child)
    graph.check()
    assert top.cancelling
    assert child.state is CANCELLED
    graph.cancelled(top)
    assert top.reason == "enough"
    graph.check()


# Size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["tasks", "conditions", "families"])
def test_long_chains_do_not_recurse_and_cost_linear_time(shape: str) -> None:
    """A rerun of the first of very many tasks in a row opens them all, with work in proportion to their
    number.
    """
    calls = {count: _calls_of_rerun(shape, count) for count in (1_000, 10_000)}
    assert calls[10_000] < 12 * calls[1_000]
    if shape == "tasks":
        graph, first = _chain(shape, 50_000)
        assert len(graph.rerun(first)) == 50_000


def _chain(shape: str, count: int) -> tuple[TaskGraph, Task[Any]]:
    graph = by_hand()
    first = last = graph.add(nothing)
    if shape == "families":
        for _ in range(count - 1):
            graph.start(last)
            last = _child_of(last)
        graph.start(last)
        graph.add(nothing, after=settled(first))
        node = last
        while node is not graph.root:
            graph.finish(node)
            node = node.parent
        run_all(graph)
        return graph, last
    for _ in range(count - 1):
        last = graph.add(nothing, after=any_of(done(last), failed(last)) if shape == "conditions" else last)
    run_all(graph)
    return graph, first


def _calls_of_rerun(shape: str, count: int) -> int:
    graph, task = _chain(shape, count)
    calls = 0

    def counting(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        opened = graph.rerun(task)
    finally:
        sys.setprofile(None)
    assert len(opened) == (2 if shape == "families" else count)
    run_all(graph)
    assert graph.statistics().states[SUCCEEDED] == len(graph)
    return calls


# Against the model of the graph -----------------------------------------------------------------------------


class RerunsAgainstModel(GraphAgainstModel):
    """Everything that can be done to a graph, and reruns."""

    def __init__(self) -> None:
        super().__init__()
        self.reopened: set[Task[Any]] = set()

    def _hear(self, change: Change) -> None:
        if change.before in ENDED:
            self.been_ready.discard(change.task)
        super()._hear(change)

    def _note_ready(self, change: Change) -> None:
        self.fresh = [task for task in self.fresh if task is not change.task]
        if change.after is READY:
            self.fresh.append(change.task)

    @precondition(lambda self: self._twins(*ENDED))
    @rule(chosen=st.lists(picks, max_size=3), default=st.integers(0, 3), downstream=st.booleans())
    def rerun(self, chosen: list[int], default: int, downstream: bool) -> None:  # noqa: FBT001 - drawn by name
        """Open tasks again; refused, with nothing changed, if that would open one that is under way."""
        if default == 0:
            those, given = self._twins(FAILED), None
        else:
            those = list(dict.fromkeys(self._some(pick, *ENDED) for pick in chosen))
            given = [twin.real for twin in those]
        opened = opened_by(self.model, those) if downstream else those
        if any(twin.state in EXECUTING for twin in opened):
            self._refused_rerun(given)
            return
        # One that was READY may have to wait again, and be READY again at the end of the queue.
        with self.graph.subscribe(self._note_ready):
            self.fresh.clear()
            assert set(self.graph.rerun(given, downstream=downstream)) == {twin.real for twin in opened}
        self.order = [twin for twin in self.order if twin.real not in self.fresh]
        # That a task was cancelled holds for what it adds until all that it spawned has ended.
        over = [above for twin in opened for above in twin.ancestors if self.model.settled(above)]
        for twin in [*over, *opened]:
            twin.cancelling = False
        for twin in opened:
            self.reopened.add(twin.real)
            twin.state = WAITING
        # Conditions that nothing waits for any more are not followed.
        followed: list[Twin | Wish] = [item for twin in self._twins() for item in twin.inputs]
        for item in followed:
            followed += [o for o in item.operands if o not in followed] if isinstance(item, Wish) else []
        self.model.wishes = [wish for wish in self.model.wishes if wish in followed]
        for twin in opened:
            if any(above.cancelling for above in twin.ancestors):
                self.model.end(twin, CANCELLED)
        self._verify()

    @precondition(lambda self: self._twins(WAITING, READY))
    @rule(pick=picks)
    def remove(self, pick: int) -> None:
        """Take a task out that has not been opened again; those that were may have dependents that have
        ended.
        """
        if self._some(pick, WAITING, READY).real not in self.reopened:
            super().remove(pick=pick)

    def _refused_rerun(self, given: list[Task[Any]] | None) -> None:
        self._refused(CannotRerun, partial(self.graph.rerun, given))

    @precondition(lambda self: self._twins(*EXECUTING, WAITING, READY))
    @rule(pick=picks, other=picks)
    def rerun_open(self, pick: int, other: int) -> None:
        """Refuse to rerun what has not ended, also among others that have."""
        open_one = self._some(pick, *EXECUTING, WAITING, READY)
        given = [open_one.real] + ([self._some(other, *STARTED).real] if self._twins(*STARTED) else [])
        self._refused_rerun(given)


def opened_by(model: Model, those: Iterable[Twin]) -> list[Twin]:
    """Return what a rerun of these tasks opens: with them, whatever has started and depends on one of them.

    What has not started waits again, and what depends on that has not started either, or has been decided
    without it.
    """
    opened = list(dict.fromkeys(those))

    def speaks_of(item: Twin | Wish, changed: list[Twin]) -> bool:
        if isinstance(item, Twin):
            return item in changed
        if item.verb == "settled":
            return any(operand in twin.ancestors for operand in item.operands for twin in changed)
        return any(speaks_of(operand, changed) for operand in item.operands)

    for _ in range(len(model.twins)):
        opened += [
            twin
            for twin in model.twins.values()
            if twin not in opened
            and twin.state in STARTED
            and any(speaks_of(item, [t for t in opened if t.ended]) for item in twin.inputs)
        ]
    return opened


RerunsAgainstModel.TestCase.settings = settings(
    max_examples=examples(150), stateful_step_count=50, deadline=None
)
TestRerunsAgainstModel = RerunsAgainstModel.TestCase


def test_deadlines_that_are_over_do_not_concern_a_rerun(run: Run) -> None:
    """Neither a deadline of the task from before, nor the budget of who spawned it and has settled since,
    counts for a rerun.
    """

    async def spawn() -> None:
        add_here(give_later, "child", 2, name="child").deadline = trio.current_time() + 1

    async def main() -> None:
        graph = TaskGraph()
        graph.add(TaskType(spawn, budget=5))
        await execute_graph(graph, raise_failures=False)
        child = graph.tasks(name="child")[0]
        assert (child.state, child.deadline) == (FAILED, 1)
        await trio.sleep(10)
        assert graph.rerun(child) == (child,)
        assert child.deadline == math.inf
        graph.check()
        report = await execute_graph(graph)
        assert (child.result_nowait(), report.duration) == ("child", 2)

    run(main)
