"""The feed against a naive model: whoever has heard all that there is to say knows the graph as it is."""

from __future__ import annotations

import contextvars
import copy
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from trio_graph_scheduler.graph import (
    Condition,
    GraphError,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    any_of,
    at_least,
    done,
    failed,
    settled,
)
from trio_graph_scheduler.graph.driver import NoDriver
from trio_graph_scheduler.graph.task import CURRENT_TASK
from trio_graph_scheduler.observe.feed import Feed, FeedSession
from trio_graph_scheduler.observe.feed import session as sessions
from trio_graph_scheduler.observe.feed.messages import Changes, End, Message, Snapshot, TaskView, Types, Watch
from trio_graph_scheduler.observe.feed.mirror import Mirror

EXECUTING = ("RUNNING", "SUSPENDED")
ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED")


async def work(*_: object) -> None:
    """Be a body that nobody runs."""


KINDS = {
    "fetch": TaskType(work, name="fetch", executor="async"),
    "parse": TaskType(work, name="parse", executor="async"),
}


class Clock(NoDriver):
    """A driver that does nothing but say what time it is."""

    time = 0.0

    def now(self) -> float:
        """Return the time that the test has set."""
        return self.time


# What observers know ----------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Client:
    """An observer: what it watches and knows, and what must be true of what it hears."""

    feed: Feed
    watch: Watch
    mirror: Mirror = attrs.field(factory=Mirror)
    # What it knew at earlier times.
    earlier: list[Mirror] = attrs.field(factory=list)
    # None while it is not connected.
    session: FeedSession | None = None
    resumed: bool = False
    number: int = 0
    # What it may have been told of since it last knew all, and whether that was ever too much.
    known: set[int] = attrs.field(factory=set)
    too_many: bool = False

    def connect(self, watch: Watch) -> None:
        """Begin to hear."""
        self.session = self.feed.session(watch)
        self.resumed = watch.number is not None
        self.number = 0
        self.known = set()
        self.too_many = False
        self.count()

    def count(self) -> None:
        """Take note of whether there are too many tasks now; to be called after every change."""
        self.known.update(task.uid for task in self.matching())
        watched = self.known if self.chooses else self.feed.graph
        self.too_many = self.too_many or len(watched) > self.feed.most

    def hear(self) -> Message | None:
        """Take in the next message; None if there is none now."""
        assert self.session is not None
        message = self.session.poll()
        if message is None:
            assert self.feed.phase != "over"
            self.check()
            return None
        if isinstance(message, Snapshot | Changes):
            assert len(message.tasks) <= sessions.CHUNK
        if isinstance(message, Changes):
            assert len(message.gone) + len(message.tasks) <= sessions.CHUNK
            assert self.resumed or all(uid in self.mirror.tasks for uid in message.gone)
        if isinstance(message, Snapshot | Changes | Types | End):
            assert message.number >= self.number
            self.number = message.number
        if not (isinstance(message, Snapshot) and not message.first):
            self.earlier.append(copy.deepcopy(self.mirror))
        self.mirror.apply(message)
        if isinstance(message, End):
            with pytest.raises(StopIteration):
                self.session.poll()
            self.session = None
            assert self.feed.phase == "over"
            self.check()
        return message

    def hear_all(self) -> None:
        """Take in all that there is to say."""
        for _ in range(500):
            if self.session is None or self.hear() is None:
                return
        raise AssertionError("it does not come to an end")

    # What it should know --------------------------------------------------------------------------------

    @property
    def chooses(self) -> bool:
        """Whether it does not watch everything."""
        watch = self.watch
        return bool(watch.types or watch.states or watch.groups or watch.section is not None)

    def matching(self) -> list[Task[Any]]:
        """Return the tasks that it watches."""
        watch = self.watch
        return [
            task
            for task in self.feed.graph
            if (not watch.types or task.type.name in watch.types)
            and (not watch.states or str(task.state) in watch.states)
            and (not watch.groups or task.group.name in watch.groups)
            and (
                watch.section is None or watch.section in [one.uid for one in task.path] or not watch.section
            )
        ]

    def check(self) -> None:
        """Compare what it knows with the graph."""
        feed, mirror = self.feed, self.mirror
        assert mirror.complete
        assert mirror.graph == feed.graph_view()
        if mirror.types is not None:
            assert self.too_many or self.watch.view == "types"
            assert not mirror.tasks
            self.check_types()
            return
        assert self.watch.view == "tasks"
        if not self.chooses:
            assert len(feed.graph) <= feed.most
        self.known = set(mirror.tasks)
        known = {uid: self.plain(view) for uid, view in mirror.tasks.items()}
        assert known == {task.uid: self.plain(feed.views.task(task)) for task in self.matching()}

    def plain(self, view: TaskView) -> TaskView:
        """Leave out what is said about other tasks: those that were removed, and what became of causes."""
        graph = self.feed.graph
        there = tuple(uid for uid in view.predecessors if uid in {task.uid for task in graph})
        reason = None if view.state == "SKIPPED" else view.reason
        return attrs.evolve(view, predecessors=there, reason=reason)

    def check_types(self) -> None:
        """Compare the figures with a count of all tasks."""
        watch = self.watch
        tasks: dict[tuple[str | None, str | None], list[Task[Any]]] = {}
        for task in self.feed.graph:
            name, group = task.type.name, task.group.name
            if (not watch.types or name in watch.types) and (not watch.groups or group in watch.groups):
                tasks.setdefault((name, group), []).append(task)
        types = self.mirror.types or ()
        assert {(kind.name, kind.group): kind.states for kind in types} == {
            key: Counter(str(task.state) for task in those) for key, those in tasks.items()
        }
        for kind in types:
            times = [
                task.ended_at - task.began_at if task.began_at is not None and task.ended_at else 0
                for task in tasks[kind.name, kind.group]
                if task.state is TaskState.SUCCEEDED
            ]
            assert kind.mean == (pytest.approx(sum(times) / len(times)) if times else None)
            assert 0 <= kind.rate < 1e6


watches = st.builds(
    Watch,
    view=st.sampled_from(["tasks", "tasks", "tasks", "tasks", "types"]),
    types=st.sampled_from([(), (), (), ("fetch",), ("fetch", "threshold"), ("nothing",)]),
    states=st.sampled_from([(), (), ("READY",), ("RUNNING", "FAILED"), ("SUCCEEDED", "SKIPPED", "WAITING")]),
    groups=st.sampled_from([(), (), (), ("other",), ("default", "other")]),
    section=st.sampled_from([None, None, None, 0, 1, 2, 3]),
)


# What happens -----------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Play:
    """A graph, two feeds, and observers; each method is a step, which two numbers choose the details of."""

    graph: TaskGraph
    feeds: list[Feed]
    clients: list[Client]
    clock: Clock = attrs.field(factory=Clock)

    def _tasks(self, *wanted: str) -> list[Task[Any]]:
        return [task for task in self.graph if not wanted or str(task.state) in wanted]

    def _some(self, pick: int, *wanted: str) -> Task[Any] | None:
        tasks = self._tasks(*wanted)
        return tasks[pick % len(tasks)] if tasks else None

    def _edit(self, change: Callable[[], object]) -> None:
        """Change the graph; what it refuses has changed nothing."""
        with suppress(GraphError, StopIteration):
            change()
        for client in self.clients:
            client.count()

    # Observers ------------------------------------------------------------------------------------------

    def _client(self, pick: int, *, connected: bool) -> Client | None:
        clients = [client for client in self.clients if (client.session is not None) is connected]
        return clients[pick % len(clients)] if clients else None

    def hear(self, one: int, two: int) -> None:
        """Let one hear a few messages."""
        for _ in range(two % 3 + 1):
            client = self._client(one, connected=True)
            if client is not None:
                client.hear()

    def hear_all(self, one: int, _: int) -> None:
        """Let one hear all there is."""
        client = self._client(one, connected=True)
        if client is not None:
            client.hear_all()

    def drop(self, one: int, two: int) -> None:
        """Let one leave, or be lost."""
        client = self._client(one, connected=True)
        if client is None:
            return
        if client.session is not None and two % 2:
            client.session.close()
            client.session.close()
            with pytest.raises(StopIteration):
                client.session.poll()
        client.session = None

    def come_back(self, one: int, two: int) -> None:
        """Let one come back that knows all, less, or nothing, or has got it wrong."""
        client = self._client(one, connected=False)
        if client is None:
            return
        how = two % 8
        if how == 0 and client.earlier:
            client.mirror = client.earlier[one % len(client.earlier)]
        client.earlier = []
        watch = client.mirror.resumed(client.watch)
        if how == 1:
            watch = client.watch
        elif how == 2:
            watch = attrs.evolve(watch, feed=client.feed.id, number=client.feed.number + 1000)
        elif how == 3:
            watch = attrs.evolve(watch, feed=client.feed.id, number=-one)
        elif how == 4:
            client.feed = self.feeds[1 - self.feeds.index(client.feed)]
        client.connect(watch)

    def look(self, one: int, _: int) -> None:
        """Check what is kept, which looks."""
        feed = self.feeds[one % 2]
        feed.look()
        assert len(feed._numbers) <= 2 * len(self.graph) + feed.most
        assert list(feed._numbers.values()) == sorted(set(feed._numbers.values()))

    # The graph ------------------------------------------------------------------------------------------

    def add(self, one: int, two: int) -> None:
        """Add a task that waits for something, or has a result as an argument, perhaps as a child."""
        first, second, third = self._some(one), self._some(two), self._some(one + two)
        wish: Task[Any] | Condition | None = None
        if first is not None and second is not None and third is not None:
            wishes: list[Callable[[], Task[Any] | Condition | None]] = [
                lambda: None,
                lambda: None,
                lambda: first,
                lambda: done(first, second),
                lambda: failed(first),
                lambda: settled(first, second),
                lambda: any_of(first, second, third),
                lambda: at_least(1, [first, failed(second)]),
            ]
            wish = wishes[one % len(wishes)]()

        def call() -> None:
            CURRENT_TASK.set(None if two % 2 else first)
            self.graph.add(KINDS["fetch" if two % 3 else "parse"], None if two % 5 else second, after=wish)

        self._edit(partial(contextvars.copy_context().run, call))

    def create_task(self, one: int, _: int) -> None:
        """Add a task that one is recorded to have scheduled which may not have started."""
        parent = self._some(one) or self.graph.root
        steps = self.graph.create_task("parse", None, parent.uid)
        self._edit(lambda: steps.send(None))

    def create_wait_task(self, one: int, two: int) -> None:
        """Add a wait task, which may get more links."""
        those = [task.uid for pick in (one, two) if (task := self._some(pick)) is not None]
        steps = self.graph.create_wait_task("fetch", None, those, "SUCCESS__1" if two % 2 else True)
        self._edit(lambda: steps.send(None))

    def create_wait_link(self, one: int, two: int) -> None:
        """Let a task that waits, perhaps with a mode of its own, wait for one more."""
        first, then = self._some(one), self._some(two, "WAITING", "READY")
        if first is not None and then is not None:
            self._edit(lambda: self.graph.create_wait_link(first.uid, then.uid))

    def add_threshold(self, one: int, two: int) -> None:
        """Add a threshold over tasks that there are and new ones."""
        those: list[Any] = [task for pick in (one, two) if (task := self._some(pick)) is not None]
        self._edit(lambda: self.graph.add_threshold([*those, *[KINDS["parse"]] * (two % 3)], target=1))

    def connect(self, one: int, two: int) -> None:
        """Let a task wait for more."""
        then, first = self._some(one, "WAITING", "READY"), self._some(two)
        if then is not None and first is not None:
            self._edit(lambda: self.graph.connect(first if two % 3 else done(first), then))

    def disconnect(self, one: int, two: int) -> None:
        """Let a task wait for less."""
        then = self._some(one, "WAITING", "READY")
        if then is not None and then._inputs:
            first = then._inputs[two % len(then._inputs)]
            self._edit(lambda: self.graph.disconnect(first, then))

    def remove(self, one: int, _: int) -> None:
        """Take a task out."""
        gone = self._some(one, "WAITING", "READY")
        if gone is not None:
            self._edit(lambda: self.graph.remove(gone))

    def take(self, one: int, _: int) -> None:
        """Start a task."""
        self._edit(lambda: self.graph.take("default" if one % 3 else "other"))

    def end(self, one: int, two: int) -> None:
        """Let a body end, in whatever way, or say how it means to."""
        task = self._some(one, *EXECUTING)
        if task is None:
            return
        graph, error = self.graph, ValueError("no")
        steps: list[Callable[[], object]] = [
            lambda: graph.finish(task, 1),
            lambda: graph.finish(task, 1),
            lambda: graph.fail(task, error),
            lambda: task.fail("no"),
            lambda: task.skip("not needed"),
            lambda: graph.cancelled(task),
            lambda: graph.retry(task, error, 1),
            lambda: graph.retry(task, error, 0),
        ]
        self._edit(steps[two % len(steps)])

    def wait(self, one: int, two: int) -> None:
        """Let a body wait for another task, or no longer."""
        task, awaited = self._some(one, *EXECUTING), self._some(two)
        if task is None or awaited is None:
            return
        waits = self.graph._awaited.get(task)
        if waits and two % 2:
            self._edit(lambda: self.graph.resume(task, waits[0]))
        elif awaited is not task:
            self._edit(lambda: self.graph.suspend(task, awaited))

    def say(self, one: int, two: int) -> None:
        """Let a body say something."""
        task = self._some(one, *EXECUTING)
        if task is not None:
            self._edit(lambda: task.progress(two % 5, 5) if two % 2 else task.note(str(two)))

    def cancel(self, one: int, two: int) -> None:
        """Cancel a task, and rarely all."""
        task = self._some(one)
        if task is not None:
            self._edit(lambda: task.cancel("enough") if two % 9 else self.graph.cancel())

    def rerun(self, one: int, two: int) -> None:
        """Open tasks again."""
        task = self._some(one, *ENDED)
        if task is not None:
            self._edit(lambda: self.graph.rerun(task if one % 3 else None, downstream=bool(two % 3)))

    def change_group(self, one: int, two: int) -> None:
        """Change what a group may do."""
        group = self.graph.groups["default" if one % 2 else "other"]
        steps: list[Callable[[], object]] = [partial(group.resize, one % 4), group.pause, group.resume]
        self._edit(steps[two % 3])

    def tick(self, one: int, _: int) -> None:
        """Let time pass."""
        self.clock.time += (0.1, 1.0, 7.0)[one % 3]
        if not self.graph.running:
            self.graph.now = self.clock.time
        self._edit(self.graph.tick)

    def begin_or_end_run(self, _: int, __: int) -> None:
        """Let a run begin, or end."""
        self._edit(self.graph.detach if self.graph.running else partial(self.graph.attach, self.clock))


# How often each is among the steps, in proportion.
STEPS = {
    Play.hear: 14,
    Play.hear_all: 5,
    Play.drop: 4,
    Play.come_back: 5,
    Play.look: 1,
    Play.add: 9,
    Play.create_task: 2,
    Play.create_wait_task: 2,
    Play.create_wait_link: 2,
    Play.add_threshold: 1,
    Play.connect: 3,
    Play.disconnect: 2,
    Play.remove: 7,
    Play.take: 8,
    Play.end: 8,
    Play.wait: 3,
    Play.say: 3,
    Play.cancel: 2,
    Play.rerun: 2,
    Play.change_group: 2,
    Play.tick: 2,
    Play.begin_or_end_run: 1,
}
steps = st.tuples(
    st.sampled_from([step for step, weight in STEPS.items() for _ in range(weight)]),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@settings(max_examples=examples(250), deadline=None)
@given(
    sizes=st.tuples(st.sampled_from([0, 1, 2, 5, 12, 1000]), st.integers(1, 4), st.integers(1, 5)),
    tasks=st.integers(0, 10),
    watched=st.lists(watches, min_size=2, max_size=4),
    story=st.lists(steps, min_size=40, max_size=120),
)
def test_whoever_has_heard_all_knows_the_graph_as_it_is(
    sizes: tuple[int, int, int],
    tasks: int,
    watched: list[Watch],
    story: list[tuple[Callable[[Play, int, int], None], int, int]],
) -> None:
    """However a graph changes, and however observers come and go, read and stop in the middle, what each
    knows when there is nothing more to say is what it watches: nothing is missing, old, or too much.
    """
    most, chunk, looked_at = sizes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "CHUNK", chunk)
        patch.setattr(sessions, "LOOKED_AT", looked_at)
        graph = TaskGraph(KINDS.values(), worker_loops={"other": 2}, worker_assignments={"parse": "other"})
        feed, other = Feed(graph, most=most), Feed(graph, most=most)
        play = Play(graph, [feed, other], [])
        for number in range(tasks):
            play.add(number, number)
        for number, watch in enumerate(watched):
            client = Client(other if number == 3 else feed, watch)
            client.connect(watch)
            play.clients.append(client)
        for step, one, two in story:
            step(play, one, two)
        for client in play.clients:
            client.hear_all()
        play.look(0, 0)
        play.look(1, 0)
