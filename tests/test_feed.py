"""What observers of a graph are told, and when; that it is the truth, `test_feed_model` shows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints

from tests.support import nothing
from trio_graph_scheduler import BadType, BadValue, TaskGraph, UnknownGroup, execute_graph, open_graph
from trio_graph_scheduler.observe.feed import Feed, FeedSession
from trio_graph_scheduler.observe.feed import session as sessions_of_feeds
from trio_graph_scheduler.observe.feed.messages import (
    Changes,
    Detail,
    End,
    Message,
    Problem,
    Snapshot,
    Types,
    Watch,
)
from trio_graph_scheduler.observe.feed.mirror import Mirror

Run = Callable[..., Any]


async def sleep_for(seconds: float) -> None:
    """Be a body that takes so long."""
    await trio.sleep(seconds)


@attrs.define(eq=False)
class Observer:
    """Hears all that a session says, and when, in seconds since it began."""

    session: FeedSession
    mirror: Mirror = attrs.field(factory=Mirror)
    heard: list[tuple[float, Message]] = attrs.field(factory=list)

    async def listen(self, *, pause: float = 0) -> None:
        """Hear until the end; after each message do something else for a while."""
        began = trio.current_time()
        with self.session:
            async for message in self.session:
                self.heard.append((round(trio.current_time() - began, 6), message))
                self.mirror.apply(message)
                await trio.sleep(pause)

    @property
    def messages(self) -> list[Message]:
        """What was said."""
        return [message for _, message in self.heard]

    @property
    def times(self) -> list[float]:
        """When it was said."""
        return [time for time, _ in self.heard]

    def states_of(self, uid: int) -> list[str]:
        """Return the states of one task that were told, in order."""
        parts = [message for message in self.messages if isinstance(message, Snapshot | Changes)]
        return [view.state for part in parts for view in part.tasks if view.uid == uid]


def observe(nursery: trio.Nursery, feed: Feed, watch: Watch | None = None, **options: float) -> Observer:
    """Let someone listen."""
    pause = options.pop("pause", 0)
    observer = Observer(feed.session(watch, **options))
    nursery.start_soon(lambda: observer.listen(pause=pause))
    return observer


# When -------------------------------------------------------------------------------------------------------


def test_there_is_the_state_at_once_and_then_a_message_per_interval(run: Run) -> None:
    """What happens in between is told together; nothing is told while nothing happens, nor after the end."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        feed = Feed(graph)
        for _ in range(100):
            graph.add(sleep_for, 0.1)
        async with trio.open_nursery() as nursery:
            often = observe(nursery, feed, interval=1)
            seldom = observe(nursery, feed, interval=4)
            await trio.sleep(2.5)
            await execute_graph(graph)
        assert often.times[:3] == [0, 2.5, 3.5]
        assert seldom.times[:3] == [0, 4, 8]
        for observer, interval in ((often, 1), (seldom, 4)):
            assert min(b - a for a, b in pairwise(observer.times[:-1])) >= interval
            assert [type(message) for message in observer.messages].count(End) == 1
            assert isinstance(observer.messages[-1], End)
            assert {view.state for view in observer.mirror.tasks.values()} == {"SUCCEEDED"}
            assert len(observer.mirror.tasks) == 100
        assert len(often.heard) <= 14
        assert len(seldom.heard) <= 6

    run(main)


def test_many_changes_come_in_chunks_without_a_pause(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval is between what is new; what one message has no room for follows at once."""
    monkeypatch.setattr(sessions_of_feeds, "CHUNK", 10)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 100})
        for _ in range(35):
            graph.add(sleep_for, 50)
        async with trio.open_nursery() as nursery:
            observer = observe(nursery, Feed(graph), interval=5)
            await trio.sleep(20)
            await execute_graph(graph)
        told = [(time, m.tasks) for time, m in observer.heard if isinstance(m, Snapshot | Changes)]
        assert [(time, len(views)) for time, views in told[:4]] == [(0, 10), (0, 10), (0, 10), (0, 5)]
        firsts = [
            (message.first, message.last) for message in observer.messages if isinstance(message, Snapshot)
        ]
        assert firsts == [(True, False), (False, False), (False, False), (False, True)]
        assert max(len(views) for _, views in told) == 10
        for state, times in (("RUNNING", (20, 25)), ("SUCCEEDED", (70, 75))):
            shown = {view.uid: time for time, views in told for view in views if view.state == state}
            assert len(shown) == 35
            assert set(shown.values()) <= set(times)

    run(main)


def test_who_reads_slowly_misses_states_in_between_and_nothing_else(run: Run) -> None:
    """The others are not held up, and the last state is the same for all."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        feed = Feed(graph)
        tasks = [graph.add(sleep_for, 1) for _ in range(20)]
        async with trio.open_nursery() as nursery:
            quick = [observe(nursery, feed) for _ in range(20)]
            slow = observe(nursery, feed, pause=7.5)
            await trio.sleep(0.05)
            await execute_graph(graph)
            assert round(graph.runs[-1][1] - graph.runs[-1][0], 3) == 20  # type: ignore[operator]  # it is over
        for observer in quick:
            assert observer.states_of(tasks[5].uid) == ["READY", "RUNNING", "SUCCEEDED"]
            assert observer.mirror.tasks == slow.mirror.tasks == quick[0].mirror.tasks
        assert len(slow.heard) <= 6
        assert len(slow.states_of(tasks[5].uid)) == 2

    run(main)


def test_the_phases_of_a_run_are_told(run: Run) -> None:
    """Before, running, over: also where nothing else happens."""

    async def main() -> None:
        graph = TaskGraph(name="g" * 1000)
        feed = Feed(graph)
        async with trio.open_nursery() as nursery:
            observers = [observe(nursery, feed), observe(nursery, feed, Watch(view="types"))]
            await trio.sleep(1)
            async with open_graph(graph):
                await trio.sleep(1)
        for observer in observers:
            views = [
                message.graph
                for message in observer.messages
                if isinstance(message, Snapshot | Changes | Types)
            ]
            assert [view.phase for view in views] == ["before", "running", "over"]
            assert {(view.feed, len(view.name)) for view in views} == {(feed.id, 200)}
            assert observer.times == [0, 1, 2, 2]

    run(main)


def test_groups_that_change_are_told(run: Run) -> None:
    """That a group was resized or paused is told, though no task has changed."""

    async def main() -> None:
        graph = TaskGraph()
        async with trio.open_nursery() as nursery, open_graph(graph):
            observer = observe(nursery, Feed(graph))
            await trio.sleep(1)
            graph.groups["default"].resize(3)
            await trio.sleep(1)
            graph.groups["default"].pause()
            await trio.sleep(1)
            assert observer.mirror.graph is not None
            assert (observer.mirror.graph.groups[0].limit, observer.mirror.graph.groups[0].paused) == (
                3,
                True,
            )
            graph.groups["default"].resume()

    run(main)


# The end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["tasks", "types"])
def test_after_the_end_the_iteration_ends_and_a_new_session_tells_of_the_next_run(
    run: Run, view: Any
) -> None:
    """A graph that has run tells its state and the end; the next run is another session's."""

    async def main() -> None:
        graph = TaskGraph()
        feed = Feed(graph)
        task = graph.add(nothing)
        await execute_graph(graph)
        for _ in range(2):
            session = feed.session(Watch(view=view))
            kinds = [type(message) async for message in session]
            assert kinds == [Snapshot if view == "tasks" else Types, End]
            assert [message async for message in session] == []
            with pytest.raises(StopIteration):
                session.poll()
        graph.rerun(task)
        mirror = Mirror(over=True)
        async with trio.open_nursery() as nursery, open_graph(graph):
            observer = observe(nursery, feed, Watch(view=view))
            observer.mirror = mirror
            await trio.sleep(5)
            assert not mirror.over
        assert mirror.over

    run(main)


def test_sessions_with_different_figures_all_come_to_the_end(run: Run) -> None:
    """Figures that one has asked for are not news for another."""

    async def main() -> None:
        graph = TaskGraph()
        feed = Feed(graph)
        graph.add(nothing)
        await execute_graph(graph)
        sessions = [
            feed.session(Watch(view="types", types=types)) for types in ((), ("nothing",), ("other",))
        ]
        for session in sessions:
            assert isinstance(session.poll(), Types)
        for session in sessions:
            assert isinstance(session.poll(), End)

    run(main)


def test_figures_that_are_asked_for_in_turn_are_told_once() -> None:
    """Without a change there is nothing more to say, whoever else asks for what."""
    feed = Feed(TaskGraph())
    sessions = [feed.session(Watch(view="types", types=types)) for types in ((), ("a",), ("b",))]
    assert [type(session.poll()) for session in sessions] == [Types] * 3
    assert [session.poll() for session in sessions * 3] == [None] * 9


@pytest.mark.parametrize("view", ["tasks", "types"])
def test_closing_ends_the_iteration_in_another_task(run: Run, view: Any) -> None:
    """Whoever waits for the next message of a session that is closed is let go; others hear nothing of it."""

    async def main() -> None:
        graph = TaskGraph()
        feed = Feed(graph)
        async with open_graph(graph), trio.open_nursery() as nursery:
            observer = observe(nursery, feed, Watch(view=view), interval=1)
            other = observe(nursery, feed, Watch(view=view))
            await trio.sleep(10)
            observer.session.close()
            observer.session.close()
            await trio.sleep(2)
            with pytest.raises(StopIteration):
                observer.session.poll()
            with pytest.raises(StopAsyncIteration):
                await observer.session.__anext__()
            assert len(observer.heard) == len(other.heard) == 1
            other.session.close()

    run(main)


def test_figures_go_on_when_the_last_who_watches_tasks_leaves(run: Run) -> None:
    """That tasks are not tracked any more does not stop what else is told."""

    async def main() -> None:
        graph = TaskGraph()
        feed = Feed(graph, most=1)
        async with trio.open_nursery() as nursery, open_graph(graph):
            figures = observe(nursery, feed, Watch(view="types"))
            with feed.session(Watch(states=("FAILED",))) as session:
                await anext(session)
                for _ in range(5):
                    graph.add(sleep_for, 1)
                await trio.sleep(0.5)
            await trio.sleep(5)
            assert figures.mirror.types is not None
            assert figures.mirror.types[0].states == {"SUCCEEDED": 5}

    run(main)


def test_a_cancelled_wait_loses_nothing(run: Run) -> None:
    """Whoever stops waiting may ask again, before and after something has happened."""

    async def main() -> None:
        graph = TaskGraph()
        async with open_graph(graph):
            with Feed(graph).session(interval=2) as session:
                assert isinstance(await anext(session), Snapshot)
                for _ in range(2):
                    with trio.move_on_after(1) as scope:
                        await anext(session)
                    assert scope.cancelled_caught
                task = graph.add(sleep_for, 1)
                message = await anext(session)
                assert isinstance(message, Changes)
                graph.add(sleep_for, 1)
                with trio.move_on_after(1) as scope:  # while it keeps the interval
                    await anext(session)
                assert scope.cancelled_caught
                message = await anext(session)
                assert isinstance(message, Changes)
                assert {view.uid for view in message.tasks} == {task.uid, 2}

    run(main)


def test_every_step_checkpoints(run: Run) -> None:
    """So a loop over messages lets others run, whatever there is to say, and at the end too."""

    async def main() -> None:
        graph = TaskGraph()
        feed = Feed(graph)
        for _ in range(500):
            graph.add(nothing)
        await execute_graph(graph)
        for watch in (Watch(), Watch(view="types")):
            session = feed.session(watch)
            message: Message | None = None
            while not isinstance(message, End):
                with assert_checkpoints():
                    message = await anext(session)
            with assert_checkpoints(), pytest.raises(StopAsyncIteration):
                await anext(session)

    run(main)


# Figures ----------------------------------------------------------------------------------------------------


def test_rates_rise_and_fall_and_then_nothing_wakes_anyone(run: Run) -> None:
    """When tasks have stopped ending the rate is told to be 0, and then no timer is left."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2})
        feed = Feed(graph)
        async with trio.open_nursery() as nursery, open_graph(graph):
            observer = observe(nursery, feed, Watch(view="types"), interval=1)
            watching = observe(nursery, feed)
            await trio.sleep(1)
            for _ in range(40):
                graph.add(sleep_for, 0.5)
            await trio.sleep(1000)
            types = [(time, m.types[0]) for time, m in observer.heard if isinstance(m, Types) and m.types]
            assert types[0][1].rate == 0
            rates = [view.rate for time, view in types if 6 < time < 11]
            assert len(rates) >= 4
            assert rates == pytest.approx([4] * len(rates), rel=0.15)
            assert types[-1][1].rate == 0
            assert types[-1][1].mean == pytest.approx(0.5)
            assert types[-1][0] < 25
            assert watching.times[-1] < 25
            assert len(watching.mirror.tasks) == 40
            before = trio.lowlevel.current_statistics().seconds_to_next_deadline
            assert before > 1e6

    run(main)


@pytest.mark.parametrize("watch", [Watch(), Watch(groups=("default",))])
def test_where_there_are_too_many_tasks_there_are_figures(run: Run, watch: Watch) -> None:
    """At the beginning, or when they have become too many; few of many are still told one by one."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"other": 1})
        feed = Feed(graph, most=5)
        async with trio.open_nursery() as nursery, open_graph(graph):
            observer = observe(nursery, feed, watch)
            for _ in range(5):
                graph.add(sleep_for, 100)
            await trio.sleep(1)
            assert len(observer.mirror.tasks) == 5
            graph.add(sleep_for, 100)
            late = observe(nursery, feed, watch)
            few = observe(nursery, feed, Watch(types=("nothing",)))
            await trio.sleep(1)
            for this in (observer, late):
                assert this.mirror.tasks == {}
                assert this.mirror.types is not None
                assert this.mirror.types[0].states == {"RUNNING": 6}
                assert this.mirror.resumed(watch) == watch
            graph.add(nothing)
            await trio.sleep(1)
            assert [view.name for view in few.mirror.tasks.values()] == ["nothing"]
            graph.cancel()

    run(main)


# What it costs ----------------------------------------------------------------------------------------------


def observed(graph: TaskGraph) -> bool:
    """Return whether the graph has to tell anyone anything."""
    return bool(graph._announcer.observers)


def test_without_sessions_nothing_is_followed() -> None:
    """A feed costs nothing by itself, nor does a session that nobody has read from."""
    graph = TaskGraph()
    feed = Feed(graph)
    session = feed.session()
    graph.add(nothing)
    assert not observed(graph)
    session.close()
    assert not observed(graph)


def test_figures_are_worked_out_when_someone_looks() -> None:
    """After the first change, until someone looks again, the graph takes note of nothing."""
    graph = TaskGraph()
    session = Feed(graph).session(Watch(view="types"))
    for _ in range(3):
        assert isinstance(session.poll(), Types)
        assert session.poll() is None
        assert observed(graph)
        graph.add(nothing)
        assert not observed(graph)
        graph.add(nothing)


@pytest.mark.parametrize("count", [3, 4])
def test_small_graphs_are_tracked_for_who_comes_back(count: int) -> None:
    """After the last session of a small graph one can go on where it was; in a large one it begins anew."""
    graph = TaskGraph()
    feed = Feed(graph, most=3)
    for _ in range(3):
        graph.add(nothing)
    mirror, watch = Mirror(), Watch(states=("READY",))
    with feed.session(watch) as session:
        mirror.apply(session.poll())  # type: ignore[arg-type]  # there is one
    if count > 3:
        graph.add(nothing)
    graph.take("default")
    session = feed.session(mirror.resumed(watch))
    message = session.poll()
    if count > 3:
        assert not feed._tracking or isinstance(message, Snapshot)
        assert isinstance(message, Snapshot)
    else:
        assert isinstance(message, Changes)
        assert message.gone == (1,)
    mirror.apply(message)
    assert set(mirror.tasks) == set(range(2, count + 1))


def test_a_graph_that_grows_large_unwatched_is_tracked_no_more() -> None:
    """What is kept for those who come back stays small."""
    graph = TaskGraph()
    feed = Feed(graph, most=3)
    with feed.session() as session:
        session.poll()
    for kept in (1, 2, 3, 0, 0):
        graph.add(nothing)
        assert len(feed._numbers) == kept
    assert not observed(graph)


def test_removed_tasks_are_forgotten_in_time() -> None:
    """However many come and go, few are kept, and who was away too long begins anew."""
    graph = TaskGraph()
    feed = Feed(graph, most=3)
    watch = Watch(states=("READY",))
    first = graph.add(nothing)
    away, mirror = Mirror(), Mirror()
    session = feed.session(watch)
    for each in (away, mirror):
        each.apply(feed.session(watch).poll())  # type: ignore[arg-type]  # there is one
    mirror.apply(session.poll())  # type: ignore[arg-type]  # there is one
    graph.remove(first)
    soon = feed.session(away.resumed(watch)).poll()
    assert isinstance(soon, Changes)
    assert soon.gone == (first.uid,)
    for _ in range(100):
        graph.remove(graph.add(nothing))
        last = graph.add(nothing)
        while (message := session.poll()) is not None:
            mirror.apply(message)
        assert set(mirror.tasks) == {last.uid}
        assert len(feed._numbers) <= 2 * len(graph) + feed.most
        graph.remove(last)
    late = feed.session(away.resumed(watch)).poll()
    assert isinstance(late, Snapshot)
    away.apply(late)
    assert away.tasks == {}


def test_a_client_of_an_earlier_feed_begins_anew() -> None:
    """Numbers mean something only with the feed that they are of."""
    graph = TaskGraph()
    graph.add(nothing)
    mirror = Mirror()
    assert mirror.resumed(Watch()) == Watch()
    mirror.apply(Feed(graph).session().poll())  # type: ignore[arg-type]  # there is one
    assert isinstance(Feed(graph).session(mirror.resumed(Watch())).poll(), Snapshot)


def test_two_feeds_of_one_graph_know_nothing_of_each_other(run: Run) -> None:
    """Each has its own numbers, options and observers."""

    async def main() -> None:
        graph = TaskGraph()
        first, second = Feed(graph), Feed(graph, most=0)
        graph.add(sleep_for, 1)
        async with trio.open_nursery() as nursery:
            one, two = observe(nursery, first), observe(nursery, second)
            await trio.sleep(1)
            await execute_graph(graph)
        assert one.mirror.tasks[1].state == "SUCCEEDED"
        assert two.mirror.types is not None
        assert two.mirror.types[0].states == {"SUCCEEDED": 1}
        assert first.id != second.id

    run(main)


# Requests ---------------------------------------------------------------------------------------------------


def test_details_are_there_for_tasks_only() -> None:
    """For the root, and for what is no uid, there is a `Problem`; a mirror takes both in unharmed."""
    graph = TaskGraph()
    feed = Feed(graph)
    task = graph.add(nothing)
    detail = feed.detail(task.uid)
    assert isinstance(detail, Detail)
    assert detail.task == feed.views.task(task)
    mirror = Mirror()
    mirror.apply(detail)
    graph.remove(task)
    bad: list[Any] = [0, -1, 10**100, task.uid, "1", None, []]
    for uid in bad:
        problem = feed.detail(uid)
        assert isinstance(problem, Problem)
        mirror.apply(problem)
        assert len(problem.text) < 500
    assert mirror.graph is None


@pytest.mark.parametrize(
    ("watch", "error"),
    [
        ({"view": "all"}, BadValue),
        ({"types": "fetch"}, BadType),
        ({"types": (1,)}, BadType),
        ({"states": "FAILED"}, BadType),
        ({"states": ("failed",)}, BadValue),
        ({"states": ("\x1b[31m" * 1000,)}, BadValue),
        ({"groups": ("http",)}, UnknownGroup),
        ({"section": "1"}, BadType),
        ({"section": True}, BadType),
        ({"section": 1.0}, BadType),
        ({"section": -1}, BadType),
    ],
)
def test_requests_that_cannot_be_are_refused(watch: dict[str, Any], error: type[Exception]) -> None:
    """With what is wrong, in few words, when the session is made."""
    with pytest.raises(error) as caught:
        Feed(TaskGraph()).session(Watch(**watch))
    assert len(str(caught.value)) < 500


def test_options_that_cannot_be_are_refused() -> None:
    """An interval is a number of seconds, and `most` a number of tasks."""
    graph = TaskGraph()
    for interval in (-1, float("nan"), float("inf"), "1", None, True):
        with pytest.raises(BadValue, match="interval"):
            Feed(graph).session(interval=interval)  # type: ignore[arg-type]  # which is to be refused
    for most in (-1, 1.5, "1", None, True):
        with pytest.raises(BadValue, match="most"):
            Feed(graph, most=most)  # type: ignore[arg-type]  # which is to be refused


def test_a_section_that_is_removed_has_nobody_in_it() -> None:
    """Those that its tasks spawned belong to the tasks above then."""
    graph = TaskGraph({"nothing": nothing})
    top = graph.add(nothing)

    def spawn(parent: int) -> int:
        steps = graph.create_task("nothing", None, parent)
        try:
            steps.send(None)
        except StopIteration as stop:
            return int(stop.value)
        raise AssertionError

    spawn(spawn(spawn(top.uid)))
    mirror = Mirror()
    session = Feed(graph).session(Watch(section=top.uid))
    mirror.apply(session.poll())  # type: ignore[arg-type]  # there is one
    assert set(mirror.tasks) == {1, 2, 3, 4}
    graph.remove(top)
    while (message := session.poll()) is not None:
        mirror.apply(message)
    assert mirror.tasks == {}
