"""What a graph offers to those who look from time to time: followers, figures by type, times of runs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.support import nothing
from trio_graph_scheduler import (
    BadType,
    Change,
    Retry,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    WorkerGroup,
    execute_graph,
    open_graph,
)

Run = Callable[..., Any]


async def sleep_for(seconds: float) -> None:
    """Be a body that takes so long."""
    await trio.sleep(seconds)


# Followers --------------------------------------------------------------------------------------------------


def test_a_task_is_there_once_however_often_it_changed() -> None:
    """`take` gives what changed since the last time, in order, each task once, and then nothing."""
    graph = TaskGraph()
    before = graph.add(nothing)
    with graph.follow(list) as follower:
        first, second = graph.add(nothing), graph.add(nothing)
        assert graph.take("default") is before
        graph.finish(before)
        assert list(follower.take()) == [first, second, before]
        assert list(follower.take()) == []
        graph.remove(second)
        first.cancel()
        assert list(follower.take()) == [second, first]
        assert second not in graph
    graph.add(nothing)
    assert list(follower.take()) == []


def test_what_came_and_went_takes_no_memory() -> None:
    """A task that was added and removed since `take` is not there; one that was told of before is."""
    graph = TaskGraph()
    with graph.follow(list) as follower:
        old = graph.add(nothing)
        follower.take()
        for _ in range(100):
            graph.remove(graph.add(nothing, after=old))
        assert list(follower.take()) == []
        graph.remove(old)
        assert list(follower.take()) == [old]


def test_it_wakes_once_until_one_looks() -> None:
    """`wake` is called for the first change, when the operation is complete, and again after `take` only."""
    graph = TaskGraph()
    seen: list[int] = []
    with graph.follow(lambda: seen.append(len(graph))) as follower:
        first = graph.add(nothing)
        graph.add(nothing, after=first)
        assert seen == [1]
        follower.take()
        assert seen == [1]
        first.cancel()
        assert seen == [1, 2]
        assert [str(task.state) for task in follower.take()] == ["CANCELLED", "SKIPPED"]
    graph.add(nothing)
    assert seen == [1, 2]


def test_it_sees_new_edges_and_parents() -> None:
    """What a task waits for, and whose child it is, are changes of that task."""
    graph = TaskGraph()
    first, second, then = graph.add(nothing), graph.add(nothing), graph.add(nothing)
    with graph.follow(list) as follower:
        graph.connect(first, then)
        assert list(follower.take()) == [then]
        graph.connect(second, then)
        assert list(follower.take()) == [then]
        graph.disconnect(second, then)
        assert list(follower.take()) == [then]
        graph.remove(first)
        assert set(follower.take()) == {first, then}


def test_it_wakes_when_a_run_begins_or_ends_and_when_a_group_changes(run: Run) -> None:
    """These are no changes of tasks, and still something to look at."""

    async def main() -> None:
        graph = TaskGraph()
        woken: list[bool] = []
        with graph.follow(lambda: woken.append(graph.running)) as follower:
            async with open_graph(graph):
                assert woken == [True]
                follower.take()
                graph.groups["default"].resize(3)
                follower.take()
                graph.groups["default"].pause()
                follower.take()
                graph.groups["default"].resume()
                follower.take()
            assert woken == [True] * 4 + [False]

    run(main)


def test_one_that_raises_is_closed_and_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph and other observers go on; the error is shown once and kept."""
    graph = TaskGraph()
    shown: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", shown.append)
    changes: list[Change] = []

    def fail() -> None:
        raise ValueError("no")

    with graph.subscribe(changes.append), graph.follow(fail) as bad, graph.follow(list) as good:
        first = graph.add(nothing)
        second = graph.add(nothing)
        assert isinstance(bad.error, ValueError)
        assert len(shown) == 1
        assert list(good.take()) == [first, second]
        assert [change.task for change in changes if change.before is None] == [first, second]


def test_listeners_that_change_the_graph_are_followed() -> None:
    """What a listener does while it is told of a change wakes followers too."""
    graph = TaskGraph()
    woken: list[int] = []

    def add_one(_: Change) -> None:
        if len(graph) == 1:
            graph.add(nothing)

    with graph.subscribe(add_one), graph.follow(lambda: woken.append(len(graph))) as follower:
        graph.add(nothing)
        assert woken == [2]
        assert len(follower.take()) == 2


def test_a_closed_follower_keeps_nothing_alive() -> None:
    """The graph does not know it any more."""
    graph = TaskGraph()
    follower = graph.follow(list)
    follower.close()
    follower.close()
    gone = weakref.ref(follower)
    del follower
    gc.collect()
    assert gone() is None


def test_one_that_overflows_is_closed_and_wakes() -> None:
    """When more tasks have changed than it is to keep, it keeps none, and says so."""
    graph = TaskGraph()
    woken: list[bool] = []
    with graph.follow(lambda: woken.append(follower.overflowed), most=2) as follower:
        first, second = graph.add(nothing), graph.add(nothing)
        assert list(follower.take()) == [first, second]
        graph.add(nothing)
        first.cancel()
        assert woken == [False, False]
        second.cancel()
        assert woken == [False, False, True]
        assert not graph._announcer.observers
        assert not follower.changed


# Figures by type --------------------------------------------------------------------------------------------


def test_types_are_counted_by_name_and_group() -> None:
    """Types of one name are counted together in each group; those without tasks are left out."""
    graph = TaskGraph({"unused": nothing}, worker_loops={"http": 1})
    kind = TaskType(nothing, name="kind")
    first = graph.add(kind)
    graph.add(TaskType(sleep_for, name="other"), 1, after=first)
    graph.add(kind.but(group="http"))
    graph.add(kind.but(timeout=5), after=first)
    assert graph.take("default") is first
    kinds = graph.statistics().types
    assert [(one.name, one.group, one.total) for one in kinds] == [
        ("kind", "default", 2),
        ("other", "default", 1),
        ("kind", "http", 1),
    ]
    shown = [{str(state): n for state, n in one.states.items() if n} for one in kinds]
    assert shown == [{"RUNNING": 1, "WAITING": 1}, {"WAITING": 1}, {"READY": 1}]
    graph.check()


def test_how_long_successes_took(run: Run) -> None:
    """Durations of last trials that SUCCEEDED are summed up; those of failures and earlier trials are not."""

    async def fail_after(seconds: float) -> None:
        await trio.sleep(seconds)
        raise ValueError

    tries = 0

    async def fail_once() -> None:
        nonlocal tries
        tries += 1
        await trio.sleep(tries * 10)
        if tries == 1:
            raise ValueError

    async def main() -> None:
        graph = TaskGraph()
        done = graph.add(sleep_for, 2)
        graph.add(sleep_for, 3)
        graph.add(fail_after, 100)
        graph.add(TaskType(fail_once, retry=Retry(2)))
        await execute_graph(graph, raise_failures=False)
        seconds = {kind.name: kind.seconds for kind in graph.statistics().types}
        assert seconds == {"sleep_for": 5, "fail_after": 0, "fail_once": 20}
        graph.check()
        graph.rerun(done)
        graph.check()
        assert graph.statistics().types[0].seconds == 3
        await execute_graph(graph)
        assert graph.statistics().types[0].seconds == 5
        graph.check()

    run(main)


# Times ------------------------------------------------------------------------------------------------------


def test_when_a_trial_could_have_started(run: Run) -> None:
    """`ready` is when its task became READY: at the begin of the run, or when what it waits for came true."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        await trio.sleep(1)
        first, second = graph.add(sleep_for, 2), graph.add(sleep_for, 3)
        last = graph.add(sleep_for, 4, after=first)
        await trio.sleep(5)
        began = trio.current_time()
        await execute_graph(graph)
        times = [
            (task.trials[0].ready - began, task.trials[0].start - began) for task in (first, second, last)
        ]
        assert times == [(0, 0), (0, 2), (2, 5)]
        ended = trio.current_time()
        await trio.sleep(1)
        graph.rerun(last, downstream=False)
        again = trio.current_time()
        await execute_graph(graph)
        assert graph.runs == ((began, ended), (again, again + 4))
        assert [trial.ready for trial in last.trials] == [began + 2, again]

    run(main)


def test_what_is_added_late_is_ready_late(run: Run) -> None:
    """A task that a body, or code beside the graph, adds after a while has not waited since before that."""

    async def main() -> None:
        graph = TaskGraph()
        late: list[Task[None]] = []

        async def add_late() -> None:
            await trio.sleep(3)
            late.append(graph.add(sleep_for, 1))

        async with open_graph(graph), trio.open_nursery() as nursery:
            began = trio.current_time()
            graph.add(add_late)
            nursery.start_soon(add_late)
            await trio.sleep(5)
            late.append(graph.add(sleep_for, 1))
        assert [task.trials[0].ready - began for task in late] == [3, 3, 5]

    run(main)


def test_trials_are_numbered(run: Run) -> None:
    """`trial_number` is 0 before the first one, and that of the last one between two and at the end."""

    async def main() -> None:
        graph = TaskGraph()

        async def fail() -> None:
            numbers.append(task.trial_number)
            raise ValueError

        numbers: list[int] = []
        task = graph.add(TaskType(fail, retry=Retry(3, delay=1)))
        assert task.trial_number == 0
        async with open_graph(graph, raise_failures=False):
            await trio.sleep(0.5)
            assert task.state is TaskState.RETRYING
            assert task.trial_number == 1
        assert numbers == [1, 2, 3]
        assert task.trial_number == 3

    run(main)


def test_runs_are_known_while_they_go_on(run: Run) -> None:
    """The end of a run that goes on is None, and no run is none."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": WorkerGroup(1)})
        assert not graph.runs
        began = trio.current_time()
        async with open_graph(graph):
            await trio.sleep(1)
            assert str(graph.runs) == str(((began, None),))
            assert graph.run_at(began + 0.5) == began
            assert graph.run_at(began - 1) is None
        await trio.sleep(1)
        assert str(graph.runs) == str(((began, began + 1),))
        assert graph.run_at(began + 1.5) is None

    run(main)


@pytest.mark.parametrize("name", ["", 3])
def test_the_name_of_a_graph_is_a_string(name: Any) -> None:
    """It is `"graph"` unless one gives another."""
    assert TaskGraph().name == "graph"
    assert TaskGraph(name="crawl").name == "crawl"
    with pytest.raises(BadType, match="name"):
        TaskGraph(name=name)


def test_trials_do_not_ask_the_store_for_results() -> None:
    """Only `outcome` does; that of a trial before a rerun is kept."""

    class Store(dict[int, Any]):
        asked = 0

        def __getitem__(self, uid: int) -> object:
            self.asked += 1
            return super().__getitem__(uid)

    store = Store()
    graph = TaskGraph(results=store)
    task = graph.add(nothing)
    for value in ("first", "second"):
        assert graph.take("default") is task
        graph.finish(task, value)
        store.asked = 0
        assert task.trials[-1].start == 0
        assert store.asked == 0
        assert task.trials[-1].outcome == value
        assert store.asked == 1
        if value == "first":
            graph.rerun(task)
    assert [trial.outcome for trial in task.trials] == ["first", "second"]
