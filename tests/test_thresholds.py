"""Thresholds: so many of some candidates are to succeed, and no more are started than it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import add_here, examples, fail, fail_later, forever, give, give_later, nothing
from trio_graph_scheduler import (
    BadType,
    BadValue,
    ForeignTask,
    GraphFailed,
    GraphStalled,
    Retry,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    ThresholdMissed,
    UnknownType,
    current_graph,
    current_task,
    execute_graph,
    failed,
    open_graph,
    settled,
)
from trio_graph_scheduler.graph.task import (
    CANCELLED,
    FAILED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    WAITING,
)

Run = Callable[..., Any]


def after(delay: float, value: object) -> partial[Any]:
    """Return a candidate that gives a value after a while."""
    return partial(give_later, value, delay)


def failing(delay: float, message: str = "no") -> partial[Any]:
    """Return a candidate that fails after a while."""
    return partial(fail_later, message, delay)


def starts(tasks: object) -> list[float | None]:
    """Return when the first trials of these tasks began; None for those that never did."""
    listed: list[Task[Any]] = list(tasks)  # type: ignore[call-overload]  # an iterable of Tasks
    return [task.trials[0].start if task.trials else None for task in listed]


def end_of(task: Task[Any], of: list[tuple[Task[Any], float]]) -> float | None:
    """Return when a task ended, by what a listener noted."""
    return next((when for ended, when in of if ended is task), None)


@contextmanager
def noting_ends(graph: TaskGraph) -> Iterator[list[tuple[Task[Any], float]]]:
    """Note the end of every task, and when it came."""
    noted: list[tuple[Task[Any], float]] = []

    def note(change: Any) -> None:
        if change.after is not None and change.after.ended:
            noted.append((change.task, graph.now))

    with graph.subscribe(note):
        yield noted


def by_hand(size: int = 1000) -> TaskGraph:
    """Return a graph that is driven by hand."""
    return TaskGraph({"work": nothing}, worker_loops={"default": size})


def end(task: Task[Any], *, well: bool) -> None:
    """Let a READY task start and end, with its uid as its value."""
    task.graph.start(task)
    if well:
        task.graph.finish(task, task.uid)
    else:
        task.graph.fail(task, ValueError(task.uid))


# When candidates start -------------------------------------------------------------------------------------


def test_spares_start_when_others_fail(run: Run) -> None:
    """The first `target` candidates start at once, and each failure starts the next spare at that moment;
    those not needed never start. The result is in the order in which successes came.
    """

    async def main() -> None:
        graph = TaskGraph()
        kinds = [after(3, "a"), failing(1), after(4, "c"), failing(0.5), after(1, "e"), after(1, "f")]
        threshold = graph.add_threshold(kinds, target=2)
        with noting_ends(graph) as ends:
            await execute_graph(graph)
        graph.check()
        assert starts(threshold.predecessors) == [0, 0, 1, None, None, None]
        assert threshold.result_nowait() == ["a", "c"]
        assert end_of(threshold, ends) == 5
        assert [str(task.state) for task in threshold.predecessors[3:]] == ["CANCELLED"] * 3
        assert threshold.predecessors[3].reason == f"task {threshold.uid} 'threshold' does not need it"

    run(main)


def test_a_minimum_below_the_target(run: Run) -> None:
    """With a minimum, `target` are kept under way and the threshold is reached as soon as the minimum have
    succeeded: those that still run go on, and do not count.
    """

    async def main() -> None:
        graph = TaskGraph()
        kinds = [after(1, "a"), failing(2), after(5, "c"), after(2.5, "d"), after(1, "e")]
        threshold = graph.add_threshold(kinds, target=3, minimum=2)
        with noting_ends(graph) as ends:
            report = await execute_graph(graph)
        graph.check()
        assert starts(threshold.predecessors) == [0, 0, 0, 2, None]
        assert threshold.result_nowait() == ["a", "d"]
        assert end_of(threshold, ends) == 4.5
        assert threshold.predecessors[2].state is SUCCEEDED
        assert report.duration == 5

    run(main)


def test_every_end_without_success_is_replaced(run: Run) -> None:
    """A candidate that is cancelled, or skipped, is replaced at once as one that fails is."""

    async def main() -> None:
        graph = TaskGraph()
        bad = graph.add(fail_later, "bad", 2)
        skipped = graph.add(give, 0, after=bad)
        cancelled = graph.add(forever)
        threshold = graph.add_threshold(
            [cancelled, skipped, after(9, 1), after(9, 2), after(9, 3)], target=2, name="two"
        )
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(1)
            cancelled.cancel()
        graph.check()
        assert skipped.state is SKIPPED
        assert starts(threshold.predecessors) == [0, None, 1, 2, None]
        assert threshold.result_nowait() == [1, 2]
        assert threshold.name == "two"

    run(main)


def test_candidates_of_all_kinds() -> None:
    """Tasks, functions, partials, TaskTypes, variations and names may be mixed; those that are kinds are
    added in order, and a candidate listed twice counts once.
    """
    graph = TaskGraph({"named": give})
    graph.register(TaskType(nothing, name="typed", group="default"))
    kind = TaskType(nothing, name="other", group="default")
    existing = graph.add(nothing)
    candidates: list[Any] = [
        existing,
        nothing,
        partial(give, 1),
        kind,
        kind.but(timeout=3),
        "typed",
        existing,
    ]
    threshold = graph.add_threshold(candidates, target=6)
    graph.check()
    assert [task.type.name for task in threshold.predecessors] == [
        "nothing",
        "nothing",
        "give",
        "other",
        "other",
        "typed",
    ]
    assert threshold.predecessors[0] is existing
    assert [task.uid for task in threshold.predecessors] == [1, 2, 3, 4, 5, 6]
    assert threshold.uid == 7
    assert threshold.predecessors[4].type.timeout == 3
    assert all(task.state is READY for task in threshold.predecessors)
    assert graph.add_threshold((task for task in [existing]), target=1).predecessors == (existing,)


@pytest.mark.parametrize("state", ["READY", "RUNNING", "SUSPENDED", "RETRYING", "SUCCEEDED"])
def test_a_candidate_that_has_begun_counts_towards_the_target(state: str) -> None:
    """A candidate under way, or one that has succeeded, takes one of the first places wherever it is listed;
    a READY one only if it comes early enough, and else it is taken back.
    """
    graph = by_hand()
    other = graph.add(nothing)
    task = graph.add(TaskType(give, name="given", retry=Retry(None, delay=5)), 1)
    if state != "READY":
        graph.start(task)
    if state == "SUSPENDED":
        graph.suspend(task, other)
    if state == "RETRYING":
        graph.fail(task, ValueError())
    if state == "SUCCEEDED":
        graph.finish(task, 1)
    assert str(task.state) == state
    threshold = graph.add_threshold([partial(give, 0), partial(give, 1), task], target=2)
    graph.check()
    first, second, _ = threshold.predecessors
    assert first.state is READY
    assert second.state is (READY if state == "READY" else WAITING)
    assert str(task.state) == ("WAITING" if state == "READY" else state)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "SKIPPED"])
def test_a_candidate_that_has_ended_without_success_counts_as_failed(state: str) -> None:
    """A candidate that failed, was cancelled or skipped before is replaced from the start, and handled."""
    graph = by_hand()
    bad = graph.add(nothing)
    task = graph.add(nothing, after=bad if state == "SKIPPED" else None)
    if state == "FAILED":
        end(task, well=False)
    elif state == "CANCELLED":
        task.cancel()
    else:
        end(bad, well=False)
    assert str(task.state) == state
    threshold = graph.add_threshold([task, partial(give, 1), partial(give, 2)], target=1)
    graph.check()
    assert [candidate.state for candidate in threshold.predecessors[1:]] == [READY, WAITING]
    assert task.handled == (state == "FAILED")


def test_a_threshold_may_be_decided_when_it_is_added() -> None:
    """With enough successes, or too few left, a new threshold has ended when `add_threshold` returns, and
    what it does not need is cancelled; its results are in the order in which they came.
    """
    graph = by_hand()
    tasks = [graph.add(give, number) for number in range(5)]
    for second, number in enumerate((3, 0, 2)):
        graph.now = second
        end(tasks[number], well=number != 2)
    reached = graph.add_threshold([tasks[0], tasks[3], tasks[1]], target=2)
    assert reached.result_nowait() == [tasks[3].uid, tasks[0].uid]
    assert tasks[1].state is CANCELLED
    assert tasks[4].state is READY
    missed = graph.add_threshold([tasks[2], tasks[4]], target=2)
    assert isinstance(missed.error, ThresholdMissed)
    assert tasks[4].state is CANCELLED
    graph.check()


def test_the_order_of_earlier_successes() -> None:
    """Results of candidates that had succeeded before come first, in the order of their ends."""
    graph = by_hand()
    first, second = graph.add(nothing), graph.add(nothing)
    end(second, well=True)
    graph.now += 1
    end(first, well=True)
    assert graph.add_threshold([first, second], target=2).result_nowait() == [second.uid, first.uid]


def test_candidates_that_wait_for_other_tasks(run: Run) -> None:
    """A candidate that waits for other tasks is under way as soon as it might start as far as the threshold
    is concerned; a spare waits for both.
    """

    async def main() -> None:
        graph = TaskGraph()
        slow, slower = graph.add(give_later, "slow", 5), graph.add(give_later, "slower", 7)
        first = graph.add(fail_later, "first", 1, after=slow)
        spare = graph.add(give_later, "spare", 1, after=slower)
        other = graph.add(give_later, "other", 1, after=slow)
        threshold = graph.add_threshold([first, spare, other], target=1)
        async with open_graph(graph):
            await trio.sleep(6.5)
            graph.check()
            assert [task.state for task in (first, spare, other)] == [FAILED, WAITING, WAITING]
            await trio.sleep(0.1)
            assert "task 2 'give_later'" in graph.why(spare)
        graph.check()
        assert starts([first, spare, other]) == [5, 7, None]
        assert threshold.result_nowait() == ["spare"]

    run(main)


def test_it_fails_as_soon_as_it_can_no_longer_be_reached(run: Run) -> None:
    """The threshold fails at the very end that leaves too few, not before; what has not started is cancelled,
    and what runs goes on.
    """

    async def main() -> None:
        graph = TaskGraph()
        blocker = graph.add(give_later, 0, 20)
        waits = graph.add(give, 1, after=blocker)
        kinds: list[Any] = [failing(1), failing(2), after(9, "c"), waits]
        threshold = graph.add_threshold(kinds, target=3)
        with noting_ends(graph) as ends:
            async with open_graph(graph, raise_failures=False):
                await trio.sleep(1.5)
                assert threshold.state is WAITING
        graph.check()
        assert end_of(threshold, ends) == 2
        assert end_of(waits, ends) == 2
        assert waits.state is CANCELLED
        assert threshold.predecessors[2].state is SUCCEEDED

    run(main)


# The end of a threshold -------------------------------------------------------------------------------------


def test_running_candidates_can_be_cancelled_at_the_end(run: Run) -> None:
    """`cancel_running` cancels those that execute when the threshold has been reached, or missed, and what
    they spawned with them; without it they go on.
    """

    async def spawning() -> None:
        add_here(give_later, 0, 8, name="child")
        await trio.sleep(9)

    async def main(last: partial[Any], stop: bool, expected: TaskState) -> None:  # noqa: FBT001 - drawn by position
        graph = TaskGraph()
        kinds: list[Any] = [after(1, "a"), spawning, last]
        threshold = graph.add_threshold(kinds, target=3, minimum=2, cancel_running=stop)
        with noting_ends(graph) as ends:
            await execute_graph(graph, raise_failures=False)
        graph.check()
        _, running, _ = threshold.predecessors
        (child,) = graph.tasks(name="child")
        assert threshold.state is expected
        assert end_of(threshold, ends) == (3 if expected is SUCCEEDED else 9)
        assert (end_of(running, ends), end_of(child, ends)) == ((3, 3) if stop else (9, 8))
        assert running.state is child.state is (CANCELLED if stop else SUCCEEDED)

    async def missed(stop: bool) -> None:  # noqa: FBT001 - drawn by position
        graph = TaskGraph()
        threshold = graph.add_threshold([failing(3), spawning], target=2, cancel_running=stop)
        with noting_ends(graph) as ends:
            await execute_graph(graph, raise_failures=False)
        graph.check()
        assert threshold.state is FAILED
        assert end_of(threshold, ends) == 3
        assert [end_of(task, ends) for task in graph.tasks(type=spawning)] == [3 if stop else 9]
        assert [end_of(task, ends) for task in graph.tasks(name="child")] == [3 if stop else 8]

    for stop in (True, False):
        run(main, after(3, "c"), stop, SUCCEEDED)
        run(missed, stop)


def test_a_suspended_or_retrying_candidate_at_the_end(run: Run) -> None:
    """A candidate between two trials is cancelled at the end; one that waits in its body is only with
    `cancel_running`.
    """
    slow: Any = None

    async def waits() -> str:
        await slow.wait()
        return "waited"

    async def main(stop: bool) -> None:  # noqa: FBT001 - drawn by position
        nonlocal slow
        graph = TaskGraph()
        slow = graph.add(give_later, 0, 5)
        flaky = TaskType(fail, name="flaky", retry=Retry(2, delay=10))
        threshold = graph.add_threshold(
            [after(2, "a"), flaky, waits], target=3, minimum=1, cancel_running=stop
        )
        report = await execute_graph(graph)
        graph.check()
        assert threshold.result_nowait() == ["a"]
        assert report.duration == 5
        assert [str(task.state) for task in threshold.predecessors] == [
            "SUCCEEDED",
            "CANCELLED",
            "CANCELLED" if stop else "SUCCEEDED",
        ]

    run(main, True)
    run(main, False)


def test_a_retry_is_no_failure_of_a_candidate(run: Run) -> None:
    """A spare starts when a candidate has given up, not for a trial that failed."""

    async def main() -> None:
        graph = TaskGraph()
        flaky = TaskType(fail_later, name="flaky", retry=Retry(3, delay=2))
        threshold = graph.add_threshold([partial(flaky, "x", 1), after(1, "b")], target=1)
        await execute_graph(graph)
        graph.check()
        assert [trial.start for trial in threshold.predecessors[0].trials] == [0, 3, 6]
        assert starts(threshold.predecessors) == [0, 7]

    run(main)


def test_it_holds_no_place(run: Run) -> None:
    """In a group of one a threshold takes no turn: it is never READY, has no trials, and nothing waits for it
    but its dependents, which get the list of results.
    """
    seen: list[str] = []

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        threshold = graph.add_threshold([after(1, "a"), after(1, "b"), after(1, "c")], target=2)
        copied = graph.add(give, threshold)
        nested = graph.add(give, {"both": [threshold]})
        graph.subscribe(lambda change: seen.append(str(change.after)) if change.task is threshold else None)
        await execute_graph(graph)
        graph.check()
        assert copied.result_nowait() == ["a", "b"]
        assert nested.result_nowait() == {"both": [["a", "b"]]}
        assert threshold.trials == ()
        assert starts(threshold.predecessors) == [0, 1, None]

    run(main)
    assert seen == ["SUCCEEDED"]


def test_dependents_of_a_threshold_that_was_missed(run: Run) -> None:
    """Those that need its success are skipped; a task that waits for its end, or failure, runs and handles
    it.
    """

    async def main() -> None:
        graph = TaskGraph()
        threshold = graph.add_threshold([fail, fail], target=1)
        skipped = graph.add(give, threshold)
        runs = graph.add(nothing, after=failed(threshold))
        report = await execute_graph(graph)
        graph.check()
        assert skipped.state is SKIPPED
        assert runs.state is SUCCEEDED
        assert report.failures == ()

    run(main)


def test_failures_of_candidates_are_handled_and_the_threshold_s_own_is_not(run: Run) -> None:
    """Failures of candidates are not reported, whether the threshold was reached or not; that it was missed
    is, with those failures listed.
    """

    async def main() -> None:
        graph = TaskGraph()
        graph.add_threshold([fail, after(1, "a")], target=1)
        assert (await execute_graph(graph)).failures == ()
        missed = graph.add_threshold(
            [partial(fail, "first"), after(1, "b"), partial(fail, "second")], target=2, name="two of three"
        )
        with pytest.raises(GraphFailed) as caught:
            await execute_graph(graph)
        graph.check()
        first, other, second = missed.predecessors
        (error,) = caught.value.exceptions
        assert isinstance(error, ThresholdMissed)
        assert error is missed.error
        assert error.task is missed
        assert error.failures == (first, second)
        assert (error.needed, error.reached) == (2, 0)
        assert str(error) == (
            f"task {missed.uid} 'two of three' needs 2 of its candidates to succeed;"
            " 0 did, and too few are left:"
            f"\ntask {first.uid} 'fail': FAILED (ValueError('first'))"
            f"\ntask {second.uid} 'fail': FAILED (ValueError('second'))"
        )
        assert other.state is SUCCEEDED

    run(main)


def test_a_long_list_of_failures_is_cut_short_in_the_message_only() -> None:
    """The message names ten failures and counts the rest; `.failures` has them all, and how each ended."""
    graph = by_hand()
    bad = graph.add(nothing)
    tasks = [graph.add(nothing, after=bad if number == 1 else None) for number in range(14)]
    threshold = graph.add_threshold(tasks, target=14, minimum=1)
    tasks[0].cancel("enough")
    end(bad, well=False)
    for task in tasks[2:]:
        end(task, well=False)
    error = threshold.error
    assert isinstance(error, ThresholdMissed)
    assert error.failures == tuple(tasks)
    lines = str(error).splitlines()
    assert len(lines) == 12
    assert lines[1:3] == [
        "task 2 'nothing': CANCELLED (enough)",
        "task 3 'nothing': SKIPPED (task 1 'nothing' has FAILED)",
    ]
    assert lines[-1] == "... and 4 more"


# Hedging ----------------------------------------------------------------------------------------------------


def test_hedging_starts_spares_at_exact_times(run: Run) -> None:
    """Each time `hedge_after` seconds have passed since a candidate last began, one more is started, until
    the threshold is reached; the end leaves no timer that keeps the run from its end.
    """

    async def main() -> None:
        graph = TaskGraph()
        kinds = [after(10, number) for number in range(3)] + [after(1, 3), after(1, 4), after(1, 5)]
        threshold = graph.add_threshold(kinds, target=1, hedge_after=2, cancel_running=True)
        report = await execute_graph(graph)
        graph.check()
        assert starts(threshold.predecessors) == [0, 2, 4, 6, None, None]
        assert threshold.result_nowait() == [3]
        assert report.duration == 7

    run(main)


def test_a_spare_that_starts_for_a_failure_puts_off_the_next_hedge(run: Run) -> None:
    """A failure starts a spare at once, and the time until the next hedge begins anew with that; a hedge that
    fails is one candidate fewer, but the target was met without it.
    """

    async def main() -> None:
        graph = TaskGraph()
        kinds = [failing(1.5), after(9, "b"), failing(0.5), after(9, "d"), after(2, "e"), after(1, "f")]
        threshold = graph.add_threshold(kinds, target=1, hedge_after=2)
        with noting_ends(graph) as ends:
            await execute_graph(graph)
        graph.check()
        # "b" for the failure at 1.5; hedges at 3.5 (fails at 4: "b" is still under way), 5.5 and 7.5
        assert starts(threshold.predecessors) == [0, 1.5, 3.5, 5.5, 7.5, None]
        assert end_of(threshold, ends) == 9.5
        assert threshold.result_nowait() == ["e"]

    run(main)


def test_each_trial_of_a_candidate_begins_the_time_anew(run: Run) -> None:
    """With retries, the time until the next hedge counts from when a trial last began."""

    async def main() -> None:
        graph = TaskGraph()
        flaky = TaskType(fail_later, name="flaky", retry=Retry(3, delay=1))
        threshold = graph.add_threshold(
            [partial(flaky, "x", 1), after(1, "b"), after(1, "c")], target=1, hedge_after=2.5
        )
        await execute_graph(graph)
        graph.check()
        # trials at 0, 2, 4; the task fails at 5, before the hedge that would come at 6.5
        assert [trial.start for trial in threshold.predecessors[0].trials] == [0, 2, 4]
        assert starts(threshold.predecessors) == [0, 5, None]

    run(main)


def test_waiting_for_a_place_is_not_hedged(run: Run) -> None:
    """The time counts from when a candidate begins to run: while the group is full no spare is added to the
    queue, and a spare that waits for a place puts nothing off.
    """

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(give_later, 0, 10)
        threshold = graph.add_threshold(
            [after(3, "a"), after(1, "b"), after(1, "c")], target=1, hedge_after=1
        )
        first, second, third = threshold.predecessors
        async with open_graph(graph):
            await trio.sleep(9.5)
            assert [task.state for task in (first, second)] == [READY, WAITING]
            await trio.sleep(2)
            assert [task.state for task in (first, second, third)] == [RUNNING, READY, WAITING]
            graph.check()
        graph.check()
        assert starts([first, second, third]) == [10, None, None]
        assert threshold.result_nowait() == ["a"]

    run(main)


def test_a_candidate_that_runs_already_is_hedged_from_when_it_is_made_one(run: Run) -> None:
    """The time of a candidate that executes when the threshold is added counts from then."""

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(give_later, "slow", 10)
        async with open_graph(graph):
            await trio.sleep(4)
            threshold = graph.add_threshold([task, after(1, "b")], target=1, hedge_after=2)
        graph.check()
        assert starts(threshold.predecessors) == [0, 6]
        assert threshold.result_nowait() == ["b"]

    run(main)


def test_a_pending_hedge_keeps_the_run_from_a_standstill(run: Run) -> None:
    """While all bodies wait for what only a hedge can bring, the run waits for its time and is not stuck."""
    release: Any = None

    async def waits() -> str:
        await release.wait()
        return "waited"

    async def main() -> None:
        nonlocal release
        graph = TaskGraph(worker_loops={"default": 1})
        spare = graph.add(give_later, "spare", 1)
        hedged = graph.add_threshold([waits, spare], target=1, hedge_after=3)
        release = spare
        async with open_graph(graph):
            await trio.sleep(2)
            graph.check()
        graph.check()
        assert starts([spare]) == [3]
        assert hedged.result_nowait() == ["spare"]

    run(main)


# Several thresholds, and changes ----------------------------------------------------------------------------


def test_nested_thresholds(run: Run) -> None:
    """A threshold may be a candidate of another one: one that is missed is replaced; what a spare threshold
    has reached counts when its turn comes; one that is not needed is cancelled with its candidates.
    """

    async def main() -> None:
        graph = TaskGraph()
        missed = graph.add_threshold([failing(2), after(3, "b")], target=2, name="missed")
        early = graph.add_threshold([after(1, "c"), after(9, "d")], target=1, name="early")
        late = graph.add_threshold([after(8, "e"), after(9, "f")], target=1, name="late", cancel_running=True)
        top = graph.add_threshold([missed, early, late], target=1, name="top", cancel_running=True)
        async with open_graph(graph):
            await trio.sleep(1.5)
            graph.check()
            assert early.state is WAITING
            assert f"its turn as a spare of task {top.uid} 'top'" in graph.why(early)
        graph.check()
        assert missed.state is FAILED
        assert top.result_nowait() == [["c"]]
        assert late.state is CANCELLED
        assert [task.state for task in late.predecessors] == [CANCELLED, CANCELLED]

    run(main)


@pytest.mark.parametrize("how", ["succeed", "fail", "cancel"])
def test_deep_nesting_does_not_recurse(how: str) -> None:
    """However deep thresholds are nested, an end, or a cancellation from either side, passes through all."""
    graph = by_hand()
    bottom = graph.add(nothing)
    nest = [graph.add_threshold([bottom], target=1)]
    for _ in range(2000):
        nest.append(graph.add_threshold([nest[-1]], target=1))
    if how == "cancel":
        nest[-1].cancel()
    else:
        end(bottom, well=how == "succeed")
    graph.check()
    expected = {"succeed": SUCCEEDED, "fail": FAILED, "cancel": CANCELLED}[how]
    assert {task.state for task in nest} == {expected}
    assert bottom.state is expected


def test_two_thresholds_share_candidates(run: Run) -> None:
    """A candidate of two thresholds starts when both have come to it, and counts for both."""

    async def main() -> None:
        graph = TaskGraph()
        shared = [graph.add(give_later, number, 1) for number in range(3)]
        bad = graph.add(fail_later, "bad", 2)
        one = graph.add_threshold([shared[0], shared[1]], target=2)
        two = graph.add_threshold([bad, shared[1], shared[2]], target=1)
        await execute_graph(graph)
        graph.check()
        assert starts([*shared, bad]) == [0, 2, None, 0]
        assert one.result_nowait() == [0, 1]
        assert two.result_nowait() == [1]

    run(main)


def test_removing_a_candidate() -> None:
    """Without a candidate the next spare takes its place; without too many, the threshold is missed."""
    graph = by_hand()
    tasks = [graph.add(nothing) for _ in range(4)]
    threshold = graph.add_threshold(tasks, target=2)
    graph.remove(tasks[0])
    graph.check()
    assert [task.state for task in tasks[1:]] == [READY, READY, WAITING]
    graph.remove(tasks[3])
    graph.check()
    assert threshold.state is WAITING
    end(tasks[1], well=True)
    assert threshold.predecessors == (tasks[1], tasks[2])
    graph.remove(tasks[2])
    graph.check()
    assert isinstance(threshold.error, ThresholdMissed)
    assert threshold.error.failures == ()


def test_removing_a_threshold_lets_all_spares_run(run: Run) -> None:
    """Without the threshold its candidates are tasks like others; a pending hedge keeps nothing waiting."""

    async def main() -> None:
        graph = TaskGraph()
        threshold = graph.add_threshold([after(2, number) for number in range(4)], target=1, hedge_after=50)
        tasks = threshold.predecessors
        async with open_graph(graph) as run_of_it:
            await trio.sleep(1)
            graph.remove(threshold)
            graph.check()
        graph.check()
        assert starts(tasks) == [0, 1, 1, 1]
        assert run_of_it.report is not None
        assert run_of_it.report.duration == 3

    run(main)


def test_cancelling_a_threshold(run: Run) -> None:
    """Its candidates that have not started are cancelled at once; running ones only with `cancel_running`."""

    async def main() -> None:
        graph = TaskGraph()
        gentle = graph.add_threshold([after(5, "a"), after(1, "b")], target=1, hedge_after=2)
        strict = graph.add_threshold([after(5, "a"), after(1, "b")], target=1, cancel_running=True)
        async with open_graph(graph) as run_of_it:
            await trio.sleep(1)
            gentle.cancel("enough")
            strict.cancel()
            graph.check()
            assert gentle.predecessors[1].state is strict.predecessors[1].state is CANCELLED
        graph.check()
        assert gentle.reason == "enough"
        assert [task.state for task in (gentle.predecessors[0], strict.predecessors[0])] == [
            SUCCEEDED,
            CANCELLED,
        ]
        assert run_of_it.report is not None
        assert run_of_it.report.duration == 5

    run(main)


def test_cancelling_the_graph(run: Run) -> None:
    """A cancelled graph leaves no spare, no timer, and no failure of a threshold."""

    async def main() -> None:
        graph = TaskGraph()
        threshold = graph.add_threshold([after(5, "a"), after(1, "b")], target=1, hedge_after=2)
        async with open_graph(graph) as run_of_it:
            await trio.sleep(1)
            graph.cancel("enough")
        graph.check()
        assert {task.state for task in graph} == {CANCELLED}
        assert threshold.reason == "enough"
        assert run_of_it.report is not None
        assert run_of_it.report.duration == 1

    run(main)


def test_a_threshold_in_a_body(run: Run, size: int) -> None:
    """Added in a body, the threshold and its candidates are children of that task, which may await the result
    and gives its place back meanwhile.
    """

    async def parent() -> list[str]:
        threshold = current_graph().add_threshold([failing(1), after(1, "b"), after(1, "c")], target=1)
        return await threshold.result()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        task = graph.add(parent)
        last = graph.add(nothing, after=settled(task))
        await execute_graph(graph)
        graph.check()
        assert task.result_nowait() == ["b"]
        assert [child.name for child in task.children] == [
            "fail_later",
            "give_later",
            "give_later",
            "threshold",
        ]
        assert starts([last]) == [2]

    run(main)


def test_candidates_add_their_own_children(run: Run) -> None:
    """What a candidate spawns is its child, and goes on when the threshold has been reached without it."""

    async def spawning() -> str:
        add_here(give_later, 0, 3, name="child")
        return current_task().name

    async def main() -> None:
        graph = TaskGraph()
        threshold = graph.add_threshold([spawning], target=1, cancel_running=True)
        report = await execute_graph(graph)
        graph.check()
        assert threshold.result_nowait() == ["spawning"]
        assert graph.tasks(name="child")[0].state is SUCCEEDED
        assert report.duration == 3

    run(main)


# What is said, and what is refused --------------------------------------------------------------------------


def test_why_and_stalls_name_what_is_missing(run: Run) -> None:
    """`why` and GraphStalled say of a spare whose spare it is, and of a threshold which candidates it waits
    for, and how many more it needs.
    """
    graph = by_hand()
    missing = graph.add(nothing)
    other = graph.add(nothing, after=missing)
    graph.connect(other, missing)
    stuck = graph.add(nothing, after=missing)
    threshold = graph.add_threshold([stuck, partial(nothing), partial(nothing)], target=1, name="one")
    spare = threshold.predecessors[1]
    assert graph.why(spare) == f"task {spare.uid} 'nothing' waits for its turn as a spare of task 6 'one'"
    expected = "any_of(task 3 'nothing' (WAITING), task 4 'nothing' (WAITING), task 5 'nothing' (WAITING))"
    assert graph.why(threshold) == f"task 6 'one' waits for {expected}"
    three = graph.add_threshold([stuck, missing, other], target=3)
    assert graph.why(three).endswith(", 3 more needed)")

    async def main() -> None:
        with pytest.raises(GraphStalled) as caught:
            await execute_graph(graph)
        assert caught.value.unmet[spare] == "its turn as a spare of task 6 'one'"
        assert set(caught.value.cycle) == {missing, other}
        assert threshold in caught.value.unmet

    run(main)


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no candidates": ({"candidates": []}, BadValue, "the target"),
    "a string": ({"candidates": "work"}, BadType, "iterable of Tasks and kinds"),
    "no iterable": ({"candidates": nothing}, BadType, "iterable of Tasks and kinds"),
    "not a kind": ({"candidates": [nothing, give, 3]}, BadType, "the kind of a task"),
    "not even hashable": ({"candidates": [nothing, give, ["x"]]}, BadType, "the kind of a task"),
    "an unknown name": ({"candidates": [nothing, give, "wrk"]}, UnknownType, "did you mean 'work'"),
    "a target of 0": ({"target": 0}, BadValue, "from 1 to 2"),
    "a target above all": ({"target": 3}, BadValue, "from 1 to 2"),
    "a target that is no number": ({"target": "2"}, BadValue, "whole number"),
    "a target that is a bool": ({"target": True}, BadValue, "whole number"),
    "a minimum of 0": ({"minimum": 0}, BadValue, "from 1 to the target"),
    "a minimum above the target": ({"minimum": 2}, BadValue, "from 1 to the target"),
    "a minimum that is no number": ({"minimum": 1.0}, BadValue, "from 1 to the target"),
    "hedging at once": ({"hedge_after": 0}, BadValue, "seconds above 0"),
    "hedging never": ({"hedge_after": math.inf}, BadValue, "seconds above 0"),
    "hedging in words": ({"hedge_after": "soon"}, BadValue, "seconds above 0"),
    "an empty name": ({"name": ""}, BadType, "a string that is not empty"),
    "a name that is none": ({"name": 3}, BadType, "a string that is not empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arguments_change_nothing(case: str) -> None:
    """What cannot be a threshold is refused with an error that names the rule, before anything was added."""
    changes, error, words = REFUSED[case]
    graph = by_hand()
    existing = graph.add(nothing)
    arguments: dict[str, Any] = {"candidates": [existing, "work"], "target": 1, **changes}
    with pytest.raises(error, match=words):
        graph.add_threshold(arguments.pop("candidates"), **arguments)
    graph.check()
    assert tuple(graph) == (existing,)
    assert existing.state is READY
    assert graph.root.children == (existing,)
    graph.start(existing)
    assert graph.add_threshold([existing], target=1).state is WAITING


def test_foreign_candidates_are_refused() -> None:
    """Tasks of other graphs, and removed ones, cannot be candidates; nothing was added then."""
    graph = by_hand()
    gone = graph.add(nothing)
    graph.remove(gone)
    for stranger in (by_hand().add(nothing), gone):
        with pytest.raises(ForeignTask):
            graph.add_threshold([nothing, stranger], target=1)
        assert len(graph) == 0
    graph.check()


def test_refused_in_a_graph_that_is_being_cancelled(run: Run) -> None:
    """What is wrong is said, and nothing is added, in a cancelled graph too."""

    async def main() -> None:
        graph = TaskGraph()
        graph.add(forever)
        async with open_graph(graph):
            await trio.sleep(1)
            graph.cancel()
            with pytest.raises(UnknownType):
                graph.add_threshold([nothing, give, "unknown"], target=1)
            assert len(graph) == 1
            threshold = graph.add_threshold([nothing, give], target=1)
            assert threshold.state is CANCELLED
            assert {task.state for task in threshold.predecessors} == {CANCELLED}
            graph.check()
        graph.check()

    run(main)


def test_a_candidate_that_cannot_be_hashed() -> None:
    """A callable that cannot be hashed is a kind like any other, as it is for `add`."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]  # that is how a class says so

        async def __call__(self) -> None:
            """Do nothing."""

        def __eq__(self, other: object) -> bool:
            return self is other

    graph = by_hand()
    assert graph.add(Unhashable()).state is READY
    threshold = graph.add_threshold([Unhashable(), Unhashable()], target=1)
    assert [task.state for task in threshold.predecessors] == [READY, WAITING]


# Against a model --------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Node:
    """What the model knows of a task, or of a threshold."""

    real: Task[Any]
    state: TaskState = READY
    blocked: bool = False
    stopping: bool = False
    ended_at: int = -1
    candidates: list[Node] = attrs.field(factory=list)
    target: int = 0  # 0: it is no threshold
    needed: int = 0
    cancel_running: bool = False
    spares: list[Node] = attrs.field(factory=list)
    came: list[Node] = attrs.field(factory=list)

    @property
    def unstarted(self) -> bool:
        """Whether it is WAITING or READY."""
        return self.state in (WAITING, READY)


class ThresholdsAgainstModel:
    """A graph whose tasks are ended at random, and what thresholds are to make of that, by scanning."""

    def __init__(self, plan: list[bool], *, nesting: bool) -> None:
        # Either thresholds may be candidates, or they may share candidates and these may be skipped together.
        # With all of it, what an end leads to at one stroke may depend on the order in which its consequences
        # are drawn.
        self.nesting = nesting
        self.graph = by_hand()
        self.step = 0
        self.blocker = Node(self.graph.add(nothing))
        self.nodes = [self.blocker]
        self.thresholds: list[Node] = []
        # Thresholds that have ended, and have not stopped their candidates yet.
        self.over: list[Node] = []
        for blocked in plan:
            waits = blocked and not nesting
            real = self.graph.add(nothing, after=self.blocker.real if waits else None)
            self.nodes.append(Node(real, WAITING if waits else READY, waits))

    def some(self, pick: int, *states: TaskState) -> Node | None:
        """Return one of the tasks in these states that have a body."""
        found = [node for node in self.nodes if node.state in states and not node.target]
        return found[pick % len(found)] if found else None

    def add(self, picks: list[int], target: int, minimum: int, *, stop: bool) -> None:
        """Add a threshold over some of the tasks and thresholds that there are."""
        taken = [node for threshold in self.thresholds for node in threshold.candidates]
        free = [n for n in self.nodes[1:] if n not in taken] if self.nesting else self.nodes[1:]
        free = [n for n in free if self.nesting or not n.target]
        those = list(dict.fromkeys(free[pick % len(free)] for pick in picks if free))
        if not those:
            return
        target = 1 + target % len(those)
        needed = 1 + minimum % target
        real = self.graph.add_threshold(
            [node.real for node in those], target=target, minimum=needed, cancel_running=stop
        )
        node = Node(real, WAITING, False, False, -1, those, target, needed, stop)
        node.came = sorted((n for n in those if n.state is SUCCEEDED), key=lambda n: n.ended_at)
        lost = [n for n in those if n.state.ended and n.state is not SUCCEEDED]
        unstarted = [n for n in those if n.unstarted]
        under_way = len(those) - len(lost) - len(unstarted)
        node.spares = unstarted[max(0, target - under_way) :]
        self.nodes.append(node)
        self.thresholds.append(node)

    def end(self, node: Node, state: TaskState) -> None:
        """Let a task end."""
        node.state, node.ended_at = state, self.step
        if state is SUCCEEDED:
            for threshold in self.thresholds:
                if node in threshold.candidates:
                    threshold.came.append(node)
        if node.target:
            self.over.append(node)

    def stop_the_rest(self, node: Node) -> None:
        """Stop the candidates of a threshold that has ended, unless another one counts on them."""
        node.spares = []
        for other in node.candidates:
            if any(
                other in threshold.candidates and not threshold.state.ended for threshold in self.thresholds
            ):
                continue
            if other.unstarted:
                self.end(other, CANCELLED)
            elif other.state is RUNNING and node.cancel_running:
                other.stopping = True

    def follow(self) -> None:
        """Bring about all that follows, until nothing more does.

        All that ends at one stroke has ended before a threshold stops what none of the others needs.
        """
        self.decide()
        while self.over:
            self.stop_the_rest(self.over.pop(0))
            self.decide()

    def decide(self) -> None:
        """Find what has ended, and who may start."""
        before = None
        while before != (before := [(node.state, len(node.spares)) for node in self.nodes]):
            for node in self.nodes:
                held = any(node in threshold.spares for threshold in self.thresholds)
                if node.target and node.state is WAITING:
                    lost = sum(n.state.ended and n.state is not SUCCEEDED for n in node.candidates)
                    node.spares = [n for n in node.spares if n.unstarted]
                    if len(node.candidates) - lost < node.needed:
                        self.end(node, FAILED)
                    elif len(node.came) >= node.needed and not held:
                        self.end(node, SUCCEEDED)
                    elif len(node.came) < node.needed:
                        while node.spares and len(node.candidates) - len(node.spares) - lost < node.target:
                            del node.spares[0]
                elif node.unstarted and not node.target:
                    if node.blocked and self.blocker.state.ended and self.blocker.state is not SUCCEEDED:
                        self.end(node, SKIPPED)
                    else:
                        blocked = node.blocked and not self.blocker.state.ended
                        node.state = WAITING if held or blocked else READY

    def verify(self) -> None:
        """Compare all tasks, and what the thresholds gave."""
        self.follow()
        self.graph.check()
        for node in self.nodes:
            if node.blocked and node.state is SKIPPED and node.real.state is CANCELLED:
                node.state = (
                    CANCELLED  # by a threshold that was missed as others were skipped, at the same stroke
                )
        assert [node.real.state for node in self.nodes] == [node.state for node in self.nodes]
        for node in self.nodes:
            assert node.real.cancelling == node.stopping or node.state.ended
        for node in self.thresholds:
            if node.state is SUCCEEDED:
                times = {n.real.uid: n.ended_at for n in node.came}
                given = [self.value_of(value) for value in node.real.result_nowait()]
                assert len(set(given)) == len(given) == node.needed
                assert [times[uid] for uid in given] == sorted(times.values())[: node.needed]
            elif node.state is FAILED:
                assert isinstance(node.real.error, ThresholdMissed)
                lost = [n for n in node.candidates if n.state.ended and n.state is not SUCCEEDED]
                listed = set(node.real.error.failures)
                assert {n.real for n in lost if n.ended_at < node.ended_at} <= listed
                assert len(node.candidates) - len(listed) < node.needed
                assert all(task.state in (FAILED, CANCELLED, SKIPPED) for task in listed)
        self.step += 1
        self.graph.now = float(self.step)

    def value_of(self, value: object) -> int:
        """Return the uid of the candidate that gave this value; that of a threshold is its list."""
        if isinstance(value, int):
            return value
        return next(
            n.real.uid for n in self.thresholds if n.state is SUCCEEDED and n.real.result_nowait() is value
        )

    def do(self, action: str, pick: int) -> None:  # noqa: C901, PLR0912 - one branch per action
        """Let something happen to one of the tasks, if there is one it can happen to."""
        if action == "start":
            node = self.some(pick, READY)
            if node is not None:
                self.graph.start(node.real)
                node.state = RUNNING
        elif action in ("succeed", "fail", "stop"):
            node = self.some(pick, RUNNING)
            if node is None:
                return
            if action == "succeed":
                self.graph.finish(node.real, node.real.uid)
            elif action == "fail":
                self.graph.fail(node.real, ValueError(pick))
            else:
                self.graph.cancelled(node.real)
            self.end(node, {"succeed": SUCCEEDED, "fail": FAILED, "stop": CANCELLED}[action])
        elif action == "cancel":
            node = self.nodes[pick % len(self.nodes)]
            node.real.cancel()
            if node.unstarted:
                self.end(node, CANCELLED)
            elif node.state is RUNNING:
                node.stopping = True
        elif action == "remove":
            node = self.nodes[pick % len(self.nodes)]
            if node.unstarted and node is not self.blocker:
                self.graph.remove(node.real)
                self.nodes.remove(node)
                if node in self.thresholds:
                    self.thresholds.remove(node)
                for threshold in self.thresholds:
                    threshold.candidates = [n for n in threshold.candidates if n is not node]
                    threshold.spares = [n for n in threshold.spares if n is not node]


picks = st.integers(0, 40)
new_thresholds = st.tuples(
    st.just("threshold"), st.lists(picks, min_size=1, max_size=8), picks, picks, st.booleans()
)
happenings = st.tuples(
    st.sampled_from(
        ["start", "start", "start", "succeed", "succeed", "fail", "fail", "stop", "cancel", "remove"]
    ),
    picks,
)


@settings(max_examples=examples(300), deadline=None)
@given(
    plan=st.lists(st.booleans(), min_size=2, max_size=8),
    nesting=st.booleans(),
    first=st.lists(happenings, max_size=6),
    steps=st.lists(st.one_of(new_thresholds, happenings, happenings, happenings), min_size=8, max_size=40),
)
def test_thresholds_agree_with_a_naive_model(
    plan: list[bool],
    nesting: bool,  # noqa: FBT001 - drawn by name
    first: list[tuple[str, int]],
    steps: list[tuple[Any, ...]],
) -> None:
    """However candidates start, end, are cancelled or removed, thresholds (which may share candidates, or be
    candidates themselves) start exactly the spares they need, and end when, and as, the model says.
    """
    machine = ThresholdsAgainstModel(plan, nesting=nesting)
    for step in [*first, *steps]:
        if step[0] == "threshold":
            _, those, target, minimum, stop = step
            if len(machine.nodes) > 1:
                machine.add(those, target, minimum, stop=stop)
        else:
            machine.do(*step)
        machine.verify()


def test_ten_thousand_candidates_cost_linear_time() -> None:
    """A threshold does work in proportion to its candidates, whether all fail one after another or the last
    ends it: ten times as many cost ten times as many calls.
    """
    calls = {count: _calls_of(count) for count in (1000, 10_000)}
    assert calls[10_000] < 12 * calls[1000]


def _calls_of(count: int) -> int:
    """Return how many functions are called for a threshold of so many candidates."""
    import sys  # noqa: PLC0415 - for this one count

    graph = by_hand()
    tasks = [graph.add(nothing) for _ in range(count)]
    calls = 0

    def counting(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        threshold = graph.add_threshold(tasks, target=2, minimum=2)
        for task in tasks[: count // 2]:
            graph.start(task)
            graph.fail(task, ValueError())
        graph.start(tasks[count // 2])
        graph.finish(tasks[count // 2], 1)
        graph.start(tasks[count // 2 + 1])
        graph.finish(tasks[count // 2 + 1], 2)
    finally:
        sys.setprofile(None)
    assert threshold.result_nowait() == [1, 2]
    assert {task.state for task in tasks[count // 2 + 2 :]} == {CANCELLED}
    graph.check()
    return calls


def test_a_store_that_refuses_the_results() -> None:
    """If the store of results refuses the list of a threshold, the threshold has failed with its error."""

    class Picky(dict[int, Any]):
        def __setitem__(self, uid: int, value: object) -> None:
            if isinstance(value, list):
                raise TypeError("no lists")
            super().__setitem__(uid, value)

    graph = TaskGraph(results=Picky())
    threshold = graph.add_threshold([nothing], target=1)
    task = graph.take("default")
    assert task is not None
    graph.finish(task, 1)
    assert threshold.state is FAILED
    assert isinstance(threshold.error, TypeError)
    graph.check()
