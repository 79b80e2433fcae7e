"""Profiles: what determined when a run ended, why places were idle, and what a larger limit would bring."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import add_here, examples, fail_later, give, give_later, nothing
from tests.support import run as run_seeded
from trio_graph_scheduler import (
    BadType,
    Rate,
    Retry,
    Task,
    TaskGraph,
    TaskType,
    WorkerGroup,
    any_of,
    done,
    execute_graph,
    open_graph,
    settled,
    succeeded,
)
from trio_graph_scheduler.observe.profile.causes import Barrier, Cause
from trio_graph_scheduler.observe.profile.history import History
from trio_graph_scheduler.observe.profile.profiling import Profile, profile, seconds

Run = Callable[..., Any]
WORK = TaskType(give_later, name="work")


def profile_of(build: Callable[[TaskGraph], object], **options: Any) -> Profile:
    """Return the profile of a graph that was built by a function and run, on the mock clock."""

    async def main() -> Profile:
        graph = TaskGraph(**options)
        build(graph)
        await execute_graph(graph, raise_failures=False)
        return profile(graph)

    found: Profile = run_seeded(main)
    return found


def path_of(found: Profile) -> list[tuple[str, Cause, float, float, float]]:
    """Return the critical path as (name, cause, delay, waited, ran)."""
    return [
        (step.task.name, step.cause, round(step.delay, 6), round(step.waited, 6), round(step.ran, 6))
        for step in found.critical_path
    ]


# The critical path ------------------------------------------------------------------------------------------


def test_the_critical_path_is_the_chain_that_ended_last(run: Run, size: int) -> None:
    """Of two branches the longer one is on it, each task with its share of the duration."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size, "long": 1})
        kind = TaskType(give_later, group="long")
        first = graph.add(kind, 0, 3, name="a")
        graph.add(give_later, 0, 1, name="short")
        second = graph.add(kind, 0, 4, after=first, name="b")
        graph.add(give_later, 0, 1, after=[second], name="c")
        await execute_graph(graph)
        found = profile(graph)
        assert path_of(found) == [
            ("a", Cause.OUTSIDE, 0, 0, 3),
            ("b", Cause.PREDECESSOR, 0, 0, 4),
            ("c", Cause.PREDECESSOR, 0, 0, 1),
        ]
        assert [step.share for step in found.critical_path] == pytest.approx([3 / 8, 4 / 8, 1 / 8])
        assert found.duration == pytest.approx(8)
        assert (found.tasks, found.trials) == (4, 4)

    run(main)


def test_waiting_for_a_place_is_a_part_of_the_path() -> None:
    """A task that had to wait for others of its group shows for how long."""

    def build(graph: TaskGraph) -> None:
        for name in "abc":
            graph.add(give_later, 0, 2, name=name)

    found = profile_of(build, worker_loops={"default": 1})
    assert path_of(found) == [("c", Cause.OUTSIDE, 0, 4, 2)]
    assert [(wait.task.name, wait.seconds) for wait in found.longest_waits] == [("c", 4), ("b", 2)]


def test_the_body_that_added_a_task_is_on_the_path_until_then() -> None:
    """Of a parent only the time matters that went by until it added the child."""

    async def parent() -> None:
        await trio.sleep(2)
        add_here(give_later, 0, 10)
        await trio.sleep(3)

    found = profile_of(lambda graph: graph.add(parent))
    assert path_of(found) == [
        ("parent", Cause.OUTSIDE, 0, 0, 2),
        ("give_later", Cause.SPAWNED, 0, 0, 10),
    ]


def test_the_delay_of_a_retry_is_on_the_path() -> None:
    """Each trial is a step, and the time between two of them is told."""
    kind = TaskType(fail_later, retry=Retry(3, delay=4))
    found = profile_of(lambda graph: graph.add(kind))
    assert path_of(found) == [
        ("fail_later", Cause.OUTSIDE, 0, 0, 1),
        ("fail_later", Cause.RETRY, 4, 0, 1),
        ("fail_later", Cause.RETRY, 4, 0, 1),
    ]
    assert [step.trial for step in found.critical_path] == [1, 2, 3]
    assert "trial 2: 4 s until tried again, ran 1 s" in str(found)


def test_settling_leads_to_the_descendant_that_ended_last() -> None:
    """Who waits for a whole subtree waited for the last of it."""

    async def parent(depth: int) -> None:
        await trio.sleep(1)
        if depth:
            add_here(parent, depth - 1)

    def build(graph: TaskGraph) -> None:
        graph.add(give_later, 0, 2, after=settled(graph.add(parent, 3), graph.add(parent, 0)), name="index")

    found = profile_of(build)
    assert [step.task.name for step in found.critical_path] == ["parent"] * 4 + ["index"]
    assert found.critical_path[-1].cause is Cause.PREDECESSOR


def test_conditions_lead_to_what_decided_them() -> None:
    """The first of several of which one is enough, and the last that a threshold needed, are the cause."""

    async def main() -> None:
        graph = TaskGraph()
        tasks = [graph.add(give_later, 0, time) for time in (3, 1, 2)]
        first = graph.add(give_later, 0, 9, after=any_of(*tasks))
        enough = graph.add_threshold(tasks[1:], target=2)
        then = graph.add(give_later, 0, 9, after=enough)
        await execute_graph(graph)
        history = History(graph)
        for task, cause in ((first, tasks[1]), (then, tasks[2])):
            (attempt,) = history.of[task]
            assert attempt.cause is Cause.PREDECESSOR
            assert attempt.due_to is history.of[cause][0]

    run_seeded(main)


def test_what_follows_on_a_skipped_task_leads_to_the_failure() -> None:
    """A task that never ran stands for what decided that it does not."""

    def build(graph: TaskGraph) -> None:
        bad = graph.add(fail_later, "no", 3, name="bad")
        never = graph.add(nothing, after=[graph.add(nothing, after=bad), graph.add(give_later, 0, 7)])
        graph.add(give_later, 0, 9, after=done(never), name="sweep up")

    found = profile_of(build)
    assert [step.task.name for step in found.critical_path] == ["bad", "sweep up"]


def test_a_task_that_was_added_late_begins_the_path() -> None:
    """What comes from outside in the middle of a run is not due to any task."""

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            early = graph.add(give_later, 0, 1)
            await trio.sleep(5)
            graph.add(give_later, 0, 2, after=early, name="late")
        assert path_of(profile(graph)) == [("late", Cause.OUTSIDE, 5, 0, 2)]
        assert "5 s until it was there" in str(profile(graph))

    run_seeded(main)


def test_the_path_goes_through_all_runs() -> None:
    """Before the first trial of a run comes the last one of the run before; the time between is left out."""

    async def main() -> None:
        graph = TaskGraph()
        bad = graph.add(fail_later, "no", 2, name="bad")
        graph.add(give_later, 0, 3, after=settled(bad), name="then")
        for _ in range(2):
            await execute_graph(graph, raise_failures=False)
            graph.rerun()
            await trio.sleep(100)
        found = profile(graph)
        steps = [(step.task.name, step.trial, step.cause) for step in found.critical_path]
        assert steps == [
            ("bad", 1, Cause.OUTSIDE),
            ("then", 1, Cause.PREDECESSOR),
            ("bad", 2, Cause.OUTSIDE),
            ("then", 2, Cause.PREDECESSOR),
        ]
        assert found.duration == pytest.approx(10)

    run_seeded(main)


# Idle places ------------------------------------------------------------------------------------------------


def test_idle_places_are_due_to_what_the_next_task_waits_for() -> None:
    """While no task of a group is READY its places wait for a predecessor, a parent, a retry, or nothing."""

    async def parent() -> None:
        await trio.sleep(3)
        add_here(WORK.but(group="other"), 0, 1)

    def build(graph: TaskGraph) -> None:
        other = WORK.but(group="other")
        graph.add(TaskType(fail_later, group="other", retry=Retry(2, delay=0.5)))
        graph.add(parent)
        slow = graph.add(give_later, 0, 8, name="slow")
        graph.add(other, 0, 1, after=slow)

    found = profile_of(build, worker_loops={"other": 2, "default": 4})
    (group,) = [group for group in found.groups if group.name == "other"]
    assert group.trials == 4
    assert group.ran == pytest.approx(4)
    assert dict(group.reasons) == pytest.approx(
        {
            "until it was time for another trial": 1 * 1 + 0.5 * 2,
            "until one of 'parent' added tasks": 1 * 1 + 0.5 * 2,
            "until one of 'give_later' had ended": 1 * 1 + 4 * 2,
            "no more tasks came": 1,
        }
    )
    assert group.idle == pytest.approx(2 * 9 - 4) == pytest.approx(sum(time for _, time in group.reasons))
    assert group.share == pytest.approx(14 / 18)


def test_places_that_a_rate_holds_back_are_told_apart() -> None:
    """Places that are free though tasks are READY are due to what holds these back."""

    def build(graph: TaskGraph) -> None:
        for _ in range(4):
            graph.add(give_later, 0, 1)

    found = profile_of(build, worker_loops={"default": WorkerGroup(4, rate=Rate(0.5))})
    (group,) = found.groups
    (reason, time), (last, _) = group.reasons
    assert reason.startswith("though tasks were READY")
    assert time == pytest.approx(6 * 4 - 3)
    assert last == "no more tasks came"
    assert not found.reliable
    assert "too far off" in str(found)


def test_suspended_bodies_make_no_place_idle_below_zero() -> None:
    """More bodies than places, as some wait for others, take all of them and not more."""

    async def body(depth: int) -> None:
        if depth:
            await add_here(body, depth - 1).wait()
        await trio.sleep(1)

    found = profile_of(lambda graph: graph.add(body, 4), worker_loops={"default": 1})
    assert found.duration == pytest.approx(5)
    (group,) = found.groups
    assert (group.idle, group.reasons) == (0, ())


# Larger limits ----------------------------------------------------------------------------------------------


def test_a_larger_limit_is_replayed() -> None:
    """Six tasks of two seconds take 12 with one place, 6 with two."""

    def build(graph: TaskGraph) -> None:
        for _ in range(6):
            graph.add(give_later, 0, 2)

    found = profile_of(build, worker_loops={"default": 1})
    assert found.replayed == pytest.approx(found.duration) == pytest.approx(12)
    (larger,) = found.larger_limits
    assert (larger.group, larger.limit) == ("default", 2)
    assert [larger.duration, larger.gain] == pytest.approx([6, 6])
    assert "'default' 2: 6 s, 6 s less" in str(found)
    found = profile_of(build, worker_loops={"default": 3})
    assert [(larger.limit, larger.duration) for larger in found.larger_limits] == [(4, 4), (6, 2)]


def test_groups_in_which_nobody_waited_are_not_replayed() -> None:
    """Where no task waited for a place a larger limit cannot bring anything."""
    found = profile_of(lambda graph: graph.add(give_later, 0, 2))
    assert found.larger_limits == ()
    assert found.longest_waits == ()
    assert "larger limits" not in str(found)


def test_the_replay_takes_what_is_not_there_yet_into_account() -> None:
    """Children come as long after their parents begin as they did, and retries after their delay."""

    async def parent() -> None:
        await trio.sleep(1)
        kind = TaskType(fail_later, group="b", retry=Retry(2, delay=5))
        child = add_here(kind, "no", 1)
        add_here(give_later, 0, 2, after=done(child))
        await trio.sleep(1)

    def build(graph: TaskGraph) -> None:
        parents = [graph.add(parent) for _ in range(4)]
        graph.add(give_later, 0, 1, after=settled(*parents))

    found = profile_of(build, worker_loops={"default": 1, "b": 4})
    assert found.replayed == pytest.approx(found.duration)
    two = profile_of(build, worker_loops={"default": 2, "b": 4})
    assert found.larger_limits[0].duration == pytest.approx(two.duration)


def test_a_paused_group_can_be_replayed() -> None:
    """A limit of 0, set after the run, counts as one place."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        for _ in range(2):
            graph.add(give_later, 0, 2)
        await execute_graph(graph)
        graph.groups["default"].resize(0)
        found = profile(graph)
        assert found.replayed == pytest.approx(4)
        assert [larger.limit for larger in found.larger_limits] == [2]
        assert found.groups[0].share == 0

    run_seeded(main)


# Any graph --------------------------------------------------------------------------------------------------

# No sum of these is a sum of others, so that no two things happen in one moment by chance.
TIMES = [math.sqrt(number) for number in (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19)]


Drawn = tuple[float, str, float, tuple[int, ...], str]
"""A task: seconds, group, priority, predecessors, and what is asked of these."""


@st.composite
def dags(draw: st.DrawFn) -> list[Drawn]:
    """Draw a graph of up to twelve tasks."""
    tasks: list[Drawn] = []
    verb = draw(st.sampled_from(["succeeded", "done", "settled"]))
    for number, time in enumerate(draw(st.permutations(TIMES))[: draw(st.integers(1, len(TIMES)))]):
        before = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        priority = draw(st.sampled_from([0, 0, 0, 1]))
        tasks.append((time, draw(st.sampled_from("ab")), priority, tuple(before), verb))
    return tasks


def build_dag(graph: TaskGraph, drawn: list[Drawn]) -> None:
    """Add drawn tasks to a graph."""
    verbs = {"succeeded": succeeded, "done": done, "settled": settled}
    tasks: list[Task[Any]] = []
    for time, group, priority, before, verb in drawn:
        after = verbs[verb](*(tasks[number] for number in before))
        tasks.append(graph.add(WORK.but(group=group), 0, time, after=after, priority=priority))


@settings(max_examples=examples(150), deadline=None)
@given(dags(), st.integers(1, 3), st.integers(1, 3))
def test_replays_are_what_happens(drawn: Any, a: int, b: int) -> None:
    """With its own limits the replay takes as long as the run; with larger ones, as long as a run with these.

    That is so for graphs in which nothing happens that the replay does not know of.
    """
    found = profile_of(lambda graph: build_dag(graph, drawn), worker_loops={"a": a, "b": b})
    assert found.replayed == pytest.approx(found.duration)
    for larger in found.larger_limits:
        limits = {"a": a, "b": b, larger.group: larger.limit}
        really = profile_of(lambda graph: build_dag(graph, drawn), worker_loops=limits)
        assert larger.duration == pytest.approx(really.duration)


@settings(max_examples=examples(80), deadline=None)
@given(dags(), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))
def test_the_steps_of_the_path_follow_each_other(drawn: Any, limit: int, spawns: int, tries: int) -> None:
    """Whatever is spawned and tried again, the parts of all steps together are the time of the last end.

    No place is idle for less than no time, and idle and used places make all of them.
    """

    async def body(delay: float) -> None:
        await trio.sleep(delay)
        for n in range(spawns):
            add_here(WORK.but(group="b"), 0, delay + n)
        if tries > 1:
            raise ValueError

    def build(graph: TaskGraph) -> None:
        build_dag(graph, drawn)
        kind = TaskType(body, group="a", retry=Retry(tries, delay=0.25))
        for task in graph.tasks():
            graph.add(kind, 0.5, after=done(task))

    found = profile_of(build, worker_loops={"a": limit, "b": 2})
    parts = [time for step in found.critical_path for time in (step.delay, step.waited, step.ran)]
    assert min(parts) >= 0
    assert sum(parts) == pytest.approx(found.duration)
    assert sum(step.share for step in found.critical_path) == pytest.approx(1)
    for group in found.groups:
        assert group.idle + group.ran == pytest.approx(group.limit * found.duration)
        assert group.idle == pytest.approx(sum(time for _, time in group.reasons))
        assert all(time > 0 for _, time in group.reasons)


# Large and strange graphs -----------------------------------------------------------------------------------


def test_a_condition_that_many_wait_for_is_looked_at_once() -> None:
    """What a shared condition came true with is shared too, so that n tasks and m users cost n + m."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1000})
        barrier = done(*(graph.add(nothing) for _ in range(300)))
        users = [graph.add(nothing, after=barrier) for _ in range(300)]
        await execute_graph(graph)
        history = History(graph)
        parts = {id(part) for task in users for attempt in history.of[task] for part in attempt.needed}
        assert len(parts) == 1
        (part,) = history.of[users[0]][0].needed
        assert isinstance(part, Barrier)
        assert len(part.trials) == 300
        assert profile(graph).trials == 600

    run_seeded(main)


def test_a_long_chain_does_not_recurse() -> None:
    """Chains of tasks, of children and of skipped tasks are far longer than Python's stack."""

    async def spawn(left: int) -> None:
        if left:
            add_here(spawn, left - 1)

    def build(graph: TaskGraph) -> None:
        task: Task[Any] = graph.add(give, 0)
        for _ in range(5000):
            task = graph.add(nothing, after=task)
        skipped: Task[Any] = graph.add(fail_later)
        for _ in range(5000):
            skipped = graph.add(nothing, after=skipped)
        graph.add(give_later, 0, 1, after=done(skipped), name="last")
        graph.add(nothing, after=settled(graph.add(spawn, 5000)))

    found = profile_of(build)
    assert [step.task.name for step in found.critical_path] == ["fail_later", "last"]
    assert found.trials == 1 + 5000 + 1 + 1 + 5001 + 1


def test_in_the_middle_of_a_run() -> None:
    """What runs counts up to now; what waits or is READY is left out."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        first = graph.add(give_later, 0, 4, name="first")
        graph.add(give_later, 0, 4, after=first)
        graph.add(give_later, 0, 4)
        async with open_graph(graph):
            await trio.sleep(3)
            found = profile(graph)
            assert path_of(found) == [("first", Cause.OUTSIDE, 0, 0, 3)]
            assert (found.duration, found.tasks, found.trials) == (3, 3, 1)

    run_seeded(main)


def test_a_graph_that_never_ran() -> None:
    """There is nothing to tell, and that is told."""
    graph = TaskGraph()
    graph.add(nothing)
    found = profile(graph)
    assert (found.duration, found.critical_path, found.groups, found.larger_limits) == (0, (), (), ())
    assert str(found) == "1 task, 0 trials in 0 s\ncritical path: 0 trials"


def test_long_paths_are_cut_for_people() -> None:
    """Of a path of many steps the first and the last are shown."""

    def build(graph: TaskGraph) -> None:
        task = graph.add(give_later, 0, 1)
        for _ in range(99):
            task = graph.add(give_later, 0, 1, after=task)

    text = str(profile_of(build))
    assert "critical path: 100 trials" in text
    assert "... 80 more" in text
    assert text.count("ran 1 s") == 20


def test_any_string_may_be_a_name() -> None:
    """Names cannot make lines, nor do anything to a terminal."""

    def build(graph: TaskGraph) -> None:
        for name in ("a\nb", "\x1b[31m", "\ud800", "x" * 10_000):
            graph.add(TaskType(give_later, name=name, group="g\n\x1b"), 0, 1, name=name)

    text = str(profile_of(build, worker_loops={"g\n\x1b": 1}))
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text) < 3000


def test_only_graphs_have_profiles() -> None:
    """Anything else is refused by name."""
    with pytest.raises(BadType, match="must be a TaskGraph"):
        profile([])  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (0, "0 s"),
        (2.5e-6, "2.5 µs"),
        (0.0123, "12.3 ms"),
        (0.9996, "1 s"),
        (59.96, "1 min"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (86400 * 1500, "1,500 d"),
        (-3, "-3 s"),
        (math.inf, "inf d"),
    ],
)
def test_times_for_people(time: float, shown: str) -> None:
    """Three figures and the unit that fits, also where rounding makes it the next one."""
    assert seconds(time) == shown
