"""What holds tasks back beside a full group: keys, rates, named limits, pauses; and the order in which they
start.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import Meter, add_here, examples, fail_later, forever, give_later, nothing
from tests.support import run as run_seeded
from trio_graph_scheduler import (
    BadType,
    BadValue,
    Rate,
    Retry,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    UnknownLimit,
    WorkerGroup,
    current_graph,
    current_task,
    execute_graph,
    open_graph,
)

Run = Callable[..., Any]


def starts(tasks: Any) -> list[float]:
    """Return when all trials of these tasks began, task by task."""
    return [trial.start for task in tasks for trial in task.trials]


def nothing_left(graph: TaskGraph) -> None:
    """Check that at the end of a run nothing is in use, and nothing is kept for anybody."""
    graph.check()
    for limit in graph.limits.values():
        assert limit.used == 0
        assert not limit.claims
    for group in graph.groups.values():
        assert (group.running, group.suspended, group.ready, group.returning) == (0, 0, 0, 0)


# Keys -------------------------------------------------------------------------------------------------------


def test_places_per_key_are_kept_and_other_keys_go_on(run: Run, size: int) -> None:
    """No more tasks of a key execute at a time than it has places; tasks of other keys, and those without a
    key, use what is left.
    """
    meters = {key: Meter() for key in ("a", "b", None)}

    async def work(key: str | None) -> None:
        with meters[key]:
            await trio.sleep(1)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(size, per_key=2)})
        keys = ["a"] * 8 + ["b"] * 4 + [None] * 4
        for key in keys:
            graph.add(work, key, key=key)
        report = await execute_graph(graph)
        nothing_left(graph)
        # with 8 places, a and b have two each and those without a key the rest, until only a's are left
        assert report.duration == {1: 16, 2: 8, 8: 4}[size]

    run(main)
    most = [meters[key].most for key in ("a", "b", None)]
    assert max(most[:2]) <= 2
    if size == 8:
        assert most == [2, 2, 4]


def test_a_key_is_given_back_by_a_body_that_waits(run: Run, size: int) -> None:
    """While a body waits for a task of its own key, the key's place is free; it is taken again to go on."""
    meter = Meter()

    async def tower(depth: int) -> int:
        with meter:
            await trio.sleep(1)
        below = 0
        if depth:
            below = await add_here(tower, depth - 1, key="x").result()
        with meter:
            await trio.sleep(1)
        return below + 1

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(size, per_key=1)})
        tasks = [graph.add(tower, 3, key="x") for _ in range(2)]
        report = await execute_graph(graph)
        nothing_left(graph)
        assert [task.result_nowait() for task in tasks] == [4, 4]
        assert report.duration == 16

    run(main)
    assert meter.most == 1


# Rates ------------------------------------------------------------------------------------------------------


def test_starts_are_spread_evenly(run: Run) -> None:
    """With a rate, tasks start at exact distances, in other groups at once; long tasks hold nobody up."""

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={
                "default": WorkerGroup(10, rate=Rate(4)),
                "slow": WorkerGroup(10, rate=Rate(1, 2)),
                "free": 3,
            }
        )
        tasks = [graph.add(give_later, n, 1.5) for n in range(7)]
        slow = [graph.add(TaskType(nothing, name="slow", group="slow")) for _ in range(1)]
        kind = slow[0].type
        slow += [graph.add(kind) for _ in range(2)]
        free = TaskType(nothing, name="free", group="free")
        others = [graph.add(free) for _ in range(5)]
        await execute_graph(graph)
        nothing_left(graph)
        assert starts(tasks) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
        assert starts(slow) == [0, 2, 4]
        assert starts(others) == [0] * 5

    run(main)


def test_a_burst_is_saved_up_while_idle(run: Run) -> None:
    """So many starts at once as the burst says, then one per interval; a pause saves up at most a burst
    again.
    """

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(10, rate=Rate(2, burst=3))})
        first = [graph.add(nothing) for _ in range(5)]
        async with open_graph(graph):
            await trio.sleep(1.25)  # the next token would come at 1.5
            second = [graph.add(nothing) for _ in range(2)]
            await trio.sleep(98.75)
            third = [graph.add(nothing) for _ in range(5)]
        nothing_left(graph)
        assert starts(first) == [0, 0, 0, 0.5, 1]
        assert starts(second) == [1.5, 2]
        assert starts(third) == [100, 100, 100, 100.5, 101]

    run(main)


def test_each_trial_takes_a_token_and_going_on_takes_none(run: Run) -> None:
    """A retry waits for its turn in the rate; a body that goes on after a wait does not."""

    async def waits() -> float:
        await add_here(TaskType(give_later, name="below", group="other"), 0, 0.25).wait()
        return trio.current_time()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(10, rate=Rate(1)), "other": 5})
        flaky = graph.add(TaskType(fail_later, name="flaky", retry=Retry(3)), "x", 0.25)
        waiting = graph.add(waits)
        last = graph.add(nothing)
        await execute_graph(graph, raise_failures=False)
        nothing_left(graph)
        assert starts([flaky]) == [0, 3, 4]
        assert starts([waiting, last]) == [1, 2]
        assert waiting.result_nowait() == 1.25

    run(main)


def test_a_second_run_keeps_the_rate(run: Run) -> None:
    """On the clock of a new run no more is owed than one full wait."""

    async def main(graph: TaskGraph) -> list[Task[Any]]:
        tasks = [graph.add(nothing) for _ in range(3)]
        await execute_graph(graph)
        return tasks

    graph = TaskGraph(worker_loops={"default": WorkerGroup(10, rate=Rate(1, 10))})
    assert starts(run(main, graph)) == [0, 10, 20]
    assert starts(run(main, graph)) == [10, 20, 30]
    nothing_left(graph)


# Named limits -----------------------------------------------------------------------------------------------


def test_named_limits_hold_over_all_groups(run: Run, size: int) -> None:
    """Tasks of several groups never have more of a limit than there is, also when they give it back in a
    wait; all that a task needs is taken together.
    """
    used: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def take(needs: dict[str, int], sign: int) -> None:
        for name, amount in needs.items():
            used[name] += sign * amount
            most[name] = max(most[name], used[name])

    async def work(depth: int) -> int:
        needs = dict(current_task().type.limits)
        take(needs, 1)
        await trio.sleep(1)
        take(needs, -1)
        below = await add_here(current_task().type, depth - 1).result() if depth else 0
        take(needs, 1)
        await trio.sleep(1)
        take(needs, -1)
        return 1 + int(below)

    async def main() -> None:
        used.clear()
        graph = TaskGraph(worker_loops={"a": size, "b": size}, limits={"x": 3, "y": 2})
        kinds = [
            TaskType(work, name="ax", group="a", limits={"x": 1}),
            TaskType(work, name="bx", group="b", limits={"x": 2}),
            TaskType(work, name="both", group="b", limits={"x": 3, "y": 2}),
            TaskType(work, name="ay", group="a", limits={"y": 1}),
        ]
        tasks = [graph.add(kind, 2) for _ in range(3) for kind in kinds]
        await execute_graph(graph)
        nothing_left(graph)
        assert [task.result_nowait() for task in tasks] == [3] * 12

    run(main)
    assert most == {"x": 3, "y": 2}


def test_nested_waits_on_a_limit_of_one_do_not_deadlock(run: Run, size: int) -> None:
    """A tower of tasks that all need the one thing there is ends, in a group of any size."""
    meter = Meter()

    async def tower(depth: int) -> int:
        with meter:
            await trio.sleep(0.5)
        below = [add_here(current_task().type, depth - 1) for _ in range(2 if depth else 0)]
        found = 1
        for task in below:
            found += await task.result()
            with meter:
                await trio.sleep(0.5)
        return found

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size}, limits={"one": 1})
        task = graph.add(TaskType(tower, limits={"one": 1}), 4)
        await execute_graph(graph)
        nothing_left(graph)
        assert task.result_nowait() == 31

    run(main)
    assert meter.most == 1


@pytest.mark.parametrize("group", ["default", "other"])
def test_a_task_that_needs_much_is_not_starved(run: Run, group: str) -> None:
    """A stream of tasks that need one never ends, and still the one that needs all gets its turn, from
    whatever group: what comes free is kept for it.
    """

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 10, "other": 1}, limits={"x": 3})
        small = TaskType(give_later, name="small", limits={"x": 1})
        big = TaskType(nothing, name="big", group=group, limits={"x": 3})
        async with open_graph(graph):
            for number in range(6):
                graph.add(small, number, 2 + number % 3 / 2)
                await trio.sleep(0.5)
            task = graph.add(big)
            for number in range(24):
                graph.add(small, number, 2 + number % 3 / 2)
                await trio.sleep(0.5)
            assert task.state is TaskState.SUCCEEDED
        nothing_left(graph)
        before = [
            small for small in graph.tasks(type="small") if small.trials[0].start < task.trials[0].start
        ]
        assert len(before) <= 6

    run(main)


def test_a_limit_can_be_resized(run: Run) -> None:
    """With more of it, those that wait start at that moment; with less, those that have it end first."""

    async def main() -> None:
        graph = TaskGraph(limits={"x": 1})
        kind = TaskType(give_later, limits={"x": 1})
        tasks = [graph.add(kind, number, 2) for number in range(6)]
        async with open_graph(graph):
            await trio.sleep(1)
            graph.limits["x"].resize(3)
            await trio.sleep(0.5)
            graph.check()
            assert graph.limits["x"].used == 3
            graph.limits["x"].resize(1)
        nothing_left(graph)
        assert starts(tasks) == [0, 1, 1, 3, 5, 7]
        with pytest.raises(BadValue):
            graph.limits["x"].resize(-1)

    run(main)


def test_a_need_that_cannot_be_met_any_more_waits_and_keeps_nothing(run: Run) -> None:
    """A task that needs more than there is after a resize waits until there is; others go on meanwhile."""

    async def main() -> None:
        graph = TaskGraph(limits={"x": 2})
        graph.limits["x"].resize(2)
        big = graph.add(TaskType(nothing, name="big", limits={"x": 2}))
        graph.limits["x"].resize(1)
        small = TaskType(give_later, name="small", limits={"x": 1})
        others = [graph.add(small, number, 1) for number in range(3)]
        async with open_graph(graph):
            await trio.sleep(10)
            graph.check()
            assert big.state is TaskState.READY
            graph.limits["x"].resize(2)
        nothing_left(graph)
        assert starts(others) == [0, 1, 2]
        assert starts([big]) == [10]

    run(main)


def test_needs_that_cannot_be_are_refused() -> None:
    """An unknown limit, and a need of more than there is, are refused by `add` and `register`; nothing is
    changed.
    """
    graph = TaskGraph(limits={"database": 3})
    for kind, error, words in (
        (TaskType(nothing, name="a", limits={"databse": 1}), UnknownLimit, "did you mean 'database'"),
        (TaskType(nothing, name="b", limits={"database": 4}), BadValue, "has 3 of it"),
    ):
        for attempt in (partial(graph.add, kind), partial(graph.register, kind)):
            with pytest.raises(error, match=words):
                attempt()
            assert len(graph) == 0
        with pytest.raises(error, match=words):
            TaskGraph([kind], limits={"database": 3})
    with pytest.raises(BadValue):
        TaskGraph(limits={"database": -1})
    graph.check()


# Every way a trial can end ----------------------------------------------------------------------------------


async def _succeed() -> None:
    await trio.sleep(1)


async def _fail() -> None:
    await trio.sleep(1)
    raise ValueError("no")


async def _suspended() -> None:
    await add_here(forever, name="below").wait()


async def _returning() -> None:
    await add_here(TaskType(give_later, name="short", limits={"x": 2}), 0, 1).wait()


WAYS: dict[str, tuple[TaskType[[], Any], Callable[[Task[Any]], object] | None]] = {
    "success": (TaskType(_succeed), None),
    "failure": (TaskType(_fail), None),
    "retry": (TaskType(_fail, retry=Retry(3, delay=1)), None),
    "timeout": (TaskType(forever, timeout=1), None),
    "timeout while suspended": (TaskType(_suspended, timeout=1), None),
    "budget": (TaskType(forever, budget=1), None),
    "cancelled while running": (TaskType(forever), Task.cancel),
    "cancelled while suspended": (TaskType(_suspended), Task.cancel),
    "cancelled while it wants to go on": (TaskType(_returning), Task.cancel),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_task_held_is_given_back(run: Run, way: str) -> None:
    """However a trial ends, its key's place and its limits are free for the next task, which needs all of
    them.
    """
    kind, intervene = WAYS[way]

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(8, per_key=1)}, limits={"x": 2})
        task = graph.add(kind.but(name="first", limits={"x": 2}), key="k")
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(0.75)
            group = graph.groups["default"]
            if way == "cancelled while it wants to go on":
                group.resize(0)
                await trio.sleep(1)
                assert (task.state, group.returning) == (TaskState.SUSPENDED, 1)
            last = graph.add(TaskType(nothing, name="last", limits={"x": 2}), key="k")
            graph.check()
            if intervene is not None:
                intervene(task)
            for other in graph.tasks(name="below"):
                other.cancel()
            await trio.sleep(0.5)
            group.resize(8)
        nothing_left(graph)
        assert last.state is TaskState.SUCCEEDED
        assert task.state.ended

    run(main)


# Groups while they run --------------------------------------------------------------------------------------


def test_pause_holds_starts_only(run: Run) -> None:
    """A paused group starts nothing, in whatever way it is governed; what runs ends, and what waits in its
    body goes on. `resume` starts at that moment what waited.
    """

    async def parent() -> float:
        await add_here(TaskType(give_later, name="below", group="other"), 0, 2).wait()
        return trio.current_time()

    async def main(group: WorkerGroup) -> None:
        graph = TaskGraph(worker_loops={"default": group, "other": 1})
        body = graph.add(parent)
        running = graph.add(give_later, 0, 3)
        async with open_graph(graph):
            await trio.sleep(1)
            live = graph.groups["default"]
            live.pause()
            live.pause()
            assert live.paused
            assert graph.statistics().groups["default"].paused
            held = graph.add(nothing)
            await trio.sleep(4)
            graph.check()
            assert held.state is TaskState.READY
            assert "'default' is paused" in graph.why(held)
            assert (body.result_nowait(), running.state) == (2, TaskState.SUCCEEDED)
            live.resume()
        nothing_left(graph)
        assert starts([held]) == [5]

    for group in (
        WorkerGroup(2),
        WorkerGroup(2, per_key=1),
        WorkerGroup(2, rate=Rate(8)),
        WorkerGroup(2, ageing=1),
    ):
        run(main, group)


def test_a_group_can_be_resized_while_it_runs(run: Run) -> None:
    """More places are used at once; with fewer, those that run end first."""

    async def main(group: WorkerGroup) -> None:
        graph = TaskGraph(worker_loops={"default": group})
        tasks = [graph.add(give_later, number, 2, key=number) for number in range(6)]
        async with open_graph(graph):
            await trio.sleep(1)
            graph.groups["default"].resize(3)
            await trio.sleep(0.5)
            graph.groups["default"].resize(1)
        nothing_left(graph)
        assert starts(tasks) == [0, 1, 1, 3, 5, 7]

    run(main, WorkerGroup(1))
    run(main, WorkerGroup(1, per_key=1))


# Order ------------------------------------------------------------------------------------------------------


def test_an_old_task_goes_ahead_of_priorities(run: Run) -> None:
    """With ageing, a task that has been READY for longer goes before a stream of more urgent ones."""

    async def main(ageing: float | None) -> float:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(1, ageing=ageing)})
        graph.add(give_later, 0, 1)
        old = graph.add(nothing, priority=-5)
        async with open_graph(graph):
            for number in range(10):
                graph.add(give_later, number, 1, priority=number)
                await trio.sleep(1)
        nothing_left(graph)
        (trial,) = old.trials
        return trial.start

    assert run(main, 3.5) == 4
    assert run(main, None) > 9


def test_depth_first_keeps_a_search_narrow(run: Run, size: int) -> None:
    """A wide tree whose tasks wait for their children has far fewer suspended bodies at a time depth first
    than first in, first out; the results are the same.
    """
    peak = 0

    async def count(depth: int) -> int:
        nonlocal peak
        children = [add_here(count, depth - 1) for _ in range(4 if depth else 0)]
        found = 1
        for child in children:
            found += await child.result()
            peak = max(peak, current_graph().statistics().groups["default"].suspended)
        peak = max(peak, current_graph().statistics().groups["default"].suspended)
        return found

    async def main(order: Any) -> int:
        nonlocal peak
        peak = 0
        graph = TaskGraph(worker_loops={"default": WorkerGroup(size, order=order)})
        tops = [graph.add(count, 4) for _ in range(3)]
        await execute_graph(graph)
        nothing_left(graph)
        assert [top.result_nowait() for top in tops] == [341] * 3
        return peak

    fifo, depth_first = run(main, "fifo"), run(main, "depth_first")
    assert depth_first * 4 < fifo
    assert depth_first <= 5 * (size + 2)


# What is said -----------------------------------------------------------------------------------------------


def test_statistics_tell_who_holds_places_and_since_when(run: Run) -> None:
    """Each group lists its RUNNING tasks with the times their trials began, and counts the others."""

    async def parent() -> None:
        await add_here(TaskType(give_later, name="below", group="other"), 0, 9).wait()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2, "other": 3})
        tasks = [graph.add(give_later, number, 2) for number in range(4)]
        async with open_graph(graph):
            await trio.sleep(1)
            waiting = graph.add(parent)
            await trio.sleep(2)
            figures = graph.statistics().groups["default"]
            assert {(holder.task, holder.since) for holder in figures.holders} == {
                (tasks[2], 2),
                (tasks[3], 2),
            }
            assert (figures.limit, figures.running, figures.suspended, figures.waiting) == (2, 2, 0, 1)
            await trio.sleep(2)
            figures = graph.statistics().groups["default"]
            assert (figures.running, figures.suspended, figures.holders) == (0, 1, ())
            (holder,) = graph.statistics().groups["other"].holders
            assert (holder.task.name, holder.since) == ("below", 4)
            assert waiting.state is TaskState.SUSPENDED
        assert graph.statistics().groups["default"].holders == ()

    run(main)


def test_why_names_what_holds_a_task_back(run: Run) -> None:
    """`why` says of a READY task whether it is its key, a named limit (and who has it), or the rate that it
    waits for, with figures.
    """

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={
                "keys": WorkerGroup(5, per_key=1),
                "rated": WorkerGroup(5, rate=Rate(1, 10)),
                "default": 5,
            },
            limits={"x": 3},
        )
        keyed = TaskType(give_later, name="keyed", group="keys")
        _, second = (graph.add(keyed, 0, 50, key="k") for _ in range(2))
        rated = TaskType(nothing, name="rated", group="rated")
        _, later = (graph.add(rated) for _ in range(2))
        user = graph.add(TaskType(give_later, name="user", limits={"x": 2}), 0, 50)
        async with open_graph(graph):
            await trio.sleep(1)
            big = graph.add(TaskType(nothing, name="big", limits={"x": 2}))
            await trio.sleep(3)
            small = graph.add(TaskType(nothing, name="small", limits={"x": 1}))
            await trio.sleep(0.5)
            assert graph.why(second).endswith("is ready, but its key 'k' has 1 of 1 places")
            assert graph.why(later).endswith(
                "is ready, but the next token of its group's rate comes at 10, in 5.5 s"
            )
            used_by = f"used by task {user.uid} 'user'"
            assert graph.why(big).endswith(
                f"is ready, but it needs 2 of 'x', of which 1 of 3 is free; {used_by}"
            )
            assert graph.why(small).endswith(
                f"it needs 1 of 'x', of which 1 of 3 is kept for a task that came before it; {used_by}"
            )
        nothing_left(graph)

    run(main)


# Everything together ----------------------------------------------------------------------------------------

plans = st.lists(
    st.tuples(
        st.sampled_from(["default", "a", "b"]),
        st.sampled_from(["", "x", "xx", "y", "xy", "xxyy"]),  # what it needs, and how much
        st.sampled_from([None, "k", "l"]),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
        st.lists(
            st.integers(0, 40), max_size=2
        ),  # which plans its children follow; it waits for them in turn
        st.sampled_from(["", "", "", "fail", "retry", "timeout", "cancel"]),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=examples(100), deadline=None)
@given(plan=plans, seed=st.integers(0, 5), sizes=st.tuples(*[st.integers(1, 3)] * 3), order=st.booleans())
def test_nothing_is_ever_exceeded_and_everything_ends(  # noqa: C901, PLR0915 - the bodies count themselves
    plan: list[tuple[str, str, str | None, float, list[int], str]],
    seed: int,
    sizes: tuple[int, int, int],
    order: bool,  # noqa: FBT001 - drawn by name
) -> None:
    """Whatever tasks need and however they wait and end: no limit, key or group is exceeded at any moment,
    every task ends, and nothing is left in use.
    """
    limits = {"x": 2, "y": 2}
    executing: Counter[tuple[str, object]] = Counter()
    kinds: dict[tuple[str, str, str], TaskType[..., Any]] = {}

    def count(task: Task[Any], sign: int) -> None:
        held: list[tuple[tuple[str, object], int, int]] = [
            (("group", task.group.name), 1, task.group.limit),
            *((("limit", name), amount, limits[name]) for name, amount in task.type.limits.items()),
        ]
        if task.key is not None and task.group.per_key is not None:
            held.append((("key", (task.group.name, task.key)), 1, task.group.per_key))
        for what, amount, most in held:
            executing[what] += sign * amount
            assert 0 <= executing[what] <= most

    def add(number: int, depth: int) -> Task[Any]:
        group, needs, key, _, _, how = plan[number % len(plan)]
        kind = kinds.get((group, needs, how))
        if kind is None:
            kind = kinds[group, needs, how] = TaskType(
                body,
                name=f"{group} {needs} {how}",
                group=group,
                limits=Counter(needs),
                retry=Retry(2, delay=0.5) if how == "retry" else None,
                timeout=1.5 if how == "timeout" else None,
            )
        return graph.add(kind, number, depth, key=key)

    async def body(number: int, depth: int) -> None:
        task = current_task()
        _, _, _, seconds, below, how = plan[number % len(plan)]
        count(task, 1)
        try:
            await trio.sleep(seconds)
        finally:
            count(task, -1)
        for child in below if depth else []:
            waited = add(child, depth - 1)
            if how == "cancel" and len(below) > 1:
                waited.cancel()
            await waited.wait()
            count(task, 1)
            try:
                await trio.sleep(seconds / 2)
            finally:
                count(task, -1)
        if how in ("fail", "retry") and len(task.trials) == 1:
            raise ValueError(number)

    graph = TaskGraph(
        worker_loops={
            "default": WorkerGroup(sizes[0], order="depth_first" if order else "fifo"),
            "a": WorkerGroup(sizes[1], per_key=1, ageing=2 if order else None),
            "b": WorkerGroup(sizes[2], per_key=2, rate=Rate(4, burst=2)),
        },
        limits=limits,
    )

    async def main() -> None:
        tasks = [add(number, 2) for number in range(len(plan))]
        rng = random.Random(seed)  # noqa: S311 - nothing secret about it
        async with open_graph(graph, raise_failures=False):
            for _ in range(10):
                await trio.sleep(0.25)
                graph.check()
                for name, limit in graph.limits.items():
                    assert 0 <= limit.used <= limits[name]
                with suppress(IndexError):
                    victim = rng.choice(graph.tasks(state=rng.choice(["ready", "running", "suspended"])))
                    if plan[victim.uid % len(plan)][5] == "cancel":
                        victim.cancel()
        assert all(task.state.ended for task in tasks)
        assert all(task.error is None or isinstance(task.error, ValueError | TimeoutError) for task in graph)

    run_seeded(main, seed=seed)
    nothing_left(graph)
    assert not +executing


def test_a_late_alarm_does_not_slow_a_rate_down() -> None:
    """A start that had waited for its token, and came a little late, counts from when the token came; after a
    longer delay the rate does not catch up.
    """
    graph = TaskGraph(worker_loops={"default": WorkerGroup(10, rate=Rate(10))})
    for _ in range(5):
        graph.add(nothing)
    assert graph.take("default")
    starts = []
    for when in (0.105, 0.2, 0.35, 0.4, 0.45):
        graph.now = when
        graph.tick()
        if graph.take("default") is not None:
            starts.append(when)
    assert starts == [0.105, 0.2, 0.35, 0.45]


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (3, BadType),
        (["database"], BadType),
        ({"database": 0}, BadValue),
        ({"database": True}, BadValue),
        ({"database": 1.5}, BadValue),
    ],
    ids=repr,
)
def test_needs_of_a_type_that_cannot_be_are_refused(limits: Any, error: type[Exception]) -> None:
    """What a type needs is a mapping of names to whole numbers from 1 on."""
    with pytest.raises(error, match=r"database|limits"):
        TaskType(nothing, limits=limits)


def test_descriptions_can_be_changed_before_they_are_used() -> None:
    """A group that no graph has yet can be resized, paused and resumed; a graph takes it as it is then."""
    group = WorkerGroup(1)
    group.resize(3)
    group.pause()
    graph = TaskGraph(worker_loops={"default": group})
    assert (graph.groups["default"].limit, graph.groups["default"].paused) == (3, True)
    group.resume()
    assert graph.groups["default"].paused
    assert "'database': 0 of 2 used" in repr(TaskGraph(limits={"database": 2}).limits["database"])
    with pytest.raises(BadValue, match="a named limit is -1"):
        TaskGraph(limits={"database": -1})
