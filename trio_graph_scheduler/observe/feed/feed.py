"""The feed: what a graph tells observers, from however many of them and however slowly they read.

    feed = Feed(graph)
    with feed.session() as session:
        async for message in session:
            ...

There is one feed, which numbers the changes of tasks, and a session for each observer, which says what has
changed since the number up to which it has told. So what is kept is for each task the number of its last
change, whoever reads. Nobody who reads slowly, or not at all, keeps anything else, or holds anyone up.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import takewhile
from math import inf
from secrets import token_hex
from typing import Any, Literal, Self

import trio

from trio_graph_scheduler.graph import BadValue, Follower, Task, TaskGraph, UnknownTask

from .messages import Changes, Detail, End, GraphView, Message, Problem, Snapshot, TaskView, Types, Watch
from .rates import SPAN
from .selection import Selection
from .views import Log, Redact, Views

CHUNK = 200
"""As many tasks are in one message at most."""
LOOKED_AT = 5_000
"""As many tasks are looked at for one message at most, where few are watched of many."""


class Feed:
    """What observers of a graph are told.

    - `most`: as many tasks are watched one by one at most; a session whose `Watch` matches more gives the
      figures of each type instead.
    - `show_values`: whether details of tasks have their arguments and results.
    - `redact`: `(task, field, text) -> text`, asked for what may be shown of every text that programs make:
      `field` is `"name"`, `"note"`, `"reason"`, `"why"`, `"error"`, `"arguments"`, `"result"` or `"log"`.
      Must be quick.
    - `log`: what keeps the last lines of each task, such as a `TaskLog`.

    It costs nothing while there is no session. Sessions with figures of types cost next to nothing. While
    there are sessions with tasks, the graph takes note of which ones change, which takes about a
    microsecond per change. So it does after the last of them is closed, for one that comes back, but only as
    long as there are no more than `most` tasks.

    Raises `BadValue`.
    """

    def __init__(
        self,
        graph: TaskGraph,
        *,
        most: int = 5_000,
        show_values: bool = False,
        redact: Redact | None = None,
        log: Log | None = None,
    ) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 0:
            raise BadValue("most", most, "it must be a whole number: how many tasks are watched one by one")
        self.graph = graph
        self.most = most
        self.views = Views(graph, show_values=show_values, redact=redact, log=log)
        self.id = token_hex(8)
        self.number = 0
        """The number of the last change that has been looked at."""
        self.version = 0
        """Grows whenever there may be something to tell, to whoever looked before."""
        # Tasks -> the numbers of their last changes, in that order; removed ones too. Empty if nobody tracks.
        self._numbers: dict[Task[Any], int] = {}
        # How many of them have been removed, and the number up to which such are forgotten.
        self._removed = 0
        self._forgotten = 0
        # How many sessions want to know which tasks change, and whether that is kept.
        self._trackers = 0
        self._tracking = False
        # None from when it has woken us until someone looks, unless we track.
        self._follower: Follower | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        # The last figures that were told, and of what.
        self._types: tuple[object, Types] | None = None

    def session(self, watch: Watch | None = None, *, interval: float = 0.1) -> FeedSession:
        """Return a session for one more observer; it begins with the state, or where `watch` says.

        It says something every `interval` seconds at most. Raises `BadValue`.
        """
        return FeedSession(self, watch or Watch(), interval)

    def detail(self, uid: int) -> Detail | Problem:
        """Return all that may be shown of one task."""
        try:
            return self.views.detail(self.graph[uid], self.graph.time())
        except UnknownTask as error:
            return Problem(text=str(error))

    # For sessions -------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Literal["before", "running", "over"]:
        """Whether the run is still to come, goes on, or is over."""
        if self.graph.running:
            return "running"
        return "over" if self.graph.runs else "before"

    def graph_view(self) -> GraphView:
        """Return how the graph stands as a whole."""
        return GraphView(self.id, self.graph.name, len(self.graph), self.phase, self.views.groups())

    def look(self) -> None:
        """Give numbers to what has changed since someone last looked, and watch out for the next change."""
        if self._follower is None:
            self._follower = self.graph.follow(self._wake)
        if not self._tracking:
            return
        numbers = self._numbers
        for task in self._follower.take():
            numbers.pop(task, None)
            self.number += 1
            numbers[task] = self.number
            self._removed += task not in self.graph
        if self._removed > len(self.graph) + self.most:
            self._forget_removed()

    def changed_since(self, number: int) -> list[tuple[Task[Any], int]] | None:
        """Return the tasks that changed after this number, in order; None if that is not known any more."""
        if not self._tracking or not self._forgotten <= number <= self.number:
            return None
        later = list(takewhile(lambda item: item[1] > number, reversed(self._numbers.items())))
        later.reverse()
        return later

    def is_latest(self, task: Task[Any], number: int) -> bool:
        """Return whether this is the number of the last change of a task."""
        return self._numbers.get(task) == number

    def types(self, watch: Watch, selection: Selection) -> Types:
        """Return the figures of all types that are watched; the same object while they are the same."""
        of = (self.version, tuple(watch.types), tuple(watch.groups))
        if self._types is None or self._types[0] != of:
            types = self.views.types(selection.has_type)
            time = self.graph.time()
            self._types = of, Types(number=self.number, time=time, graph=self.graph_view(), types=types)
        return self._types[1]

    async def news(self, version: int, patience: float) -> None:
        """Wait until there may be something to tell to whoever looked at this version; always checkpoint.

        When there has been nothing for so many seconds, `patience`, there is.
        """
        with trio.move_on_after(patience) as scope:
            if self.version == version:
                await self._waiting.park()
            else:
                await trio.lowlevel.checkpoint()
        if scope.cancelled_caught:
            self.stir()

    def stir(self) -> None:
        """Let all sessions look again."""
        self.version += 1
        self._waiting.unpark_all()

    def track(self) -> None:
        """Keep track of which tasks change, for one more session."""
        self._trackers += 1
        if not self._tracking:
            self._tracking = True
            self.number += 1
            self._forgotten = self.number
            self._restart()

    def untrack(self) -> None:
        """Do without it for one of them."""
        self._trackers -= 1
        self._stop_tracking_if_large()

    def _stop_tracking_if_large(self) -> None:
        if self._tracking and not self._trackers and len(self.graph) > self.most:
            self._tracking = False
            self._numbers.clear()
            self._removed = 0
            self._restart()

    def _restart(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._follower = self.graph.follow(self._wake)

    def _forget_removed(self) -> None:
        kept = {}
        for task, number in self._numbers.items():
            if task in self.graph:
                kept[task] = number
            else:
                self._forgotten = number
        self._numbers = kept
        self._removed = 0

    def _wake(self) -> None:
        if not self._tracking and self._follower is not None:
            self._follower.close()  # until someone looks, further changes need not be noted
            self._follower = None
        elif not self._trackers:
            self._stop_tracking_if_large()
            self.look()
        self.stir()


class FeedSession:
    """What one observer is told: first the state of all that it watches, then what changes.

        with feed.session(Watch(groups=("http",)), interval=0.5) as session:
            async for message in session:
                print(message)

    The messages are `Snapshot`s, the last of which completes the state, then `Changes`; or `Types`. When the
    run is over and all has been told there is an `End`, and the iteration ends. Every step checkpoints.
    """

    def __init__(self, feed: Feed, watch: Watch, interval: float) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 <= interval < inf:
            raise BadValue("interval", interval, "it must be a number of seconds between two messages")
        self._feed = feed
        self._watch = watch
        self._selection = Selection(feed.graph, watch)
        self._interval = interval
        # The number up to which it has told, and the uids of tasks it has told of that are watched still.
        self._number = 0
        self._told: set[int] = set()
        # The version of the feed that it has looked at, whether there is more to tell, and when it last did.
        self._version = -1
        self._behind = True
        self._last = -inf
        # How long to wait for news before the figures are told again, as rates fall when nothing happens.
        self._patience = inf
        self._messages = self._tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Say no more; doing so twice is fine."""
        self._messages.close()
        self._behind = True
        self._feed.stir()

    def poll(self) -> Message | None:
        """Return the next message if there is something to tell now, else None, without waiting.

        Raises `StopIteration` after an `End`, or when it is closed.
        """
        return next(self._messages)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while True:
            if self._behind:
                await trio.lowlevel.checkpoint()
            else:
                await self._feed.news(self._version, self._patience)
                await trio.sleep_until(self._last + self._interval)
            try:
                message = self.poll()
            except StopIteration:
                raise StopAsyncIteration from None
            if message is not None:
                self._last = trio.current_time()
                return message

    # What it says, in order; None where there is nothing to say now -----------------------------------------

    def _tell(self) -> Generator[Message | None]:
        feed, watch = self._feed, self._watch
        if watch.view == "tasks" and (self._selection.chooses or len(feed.graph) <= feed.most):
            feed.track()
            try:
                over = yield from self._tell_tasks()
            finally:
                feed.untrack()
        else:
            over = False
        if not over:
            yield from self._tell_types()
        self._behind = False
        yield End(number=self._number, time=feed.graph.time())

    def _tell_types(self) -> Generator[Message | None]:
        """Tell of types until the run is over."""
        told = None
        while True:
            self._look()
            over = self._feed.phase == "over"
            types = self._feed.types(self._watch, self._selection)
            if types is not told:
                told = types
                self._number, self._behind = types.number, over
                self._patience = SPAN if any(kind.rate for kind in types.types) else inf
                yield types
            elif over:
                return
            else:
                self._behind = False
                yield None

    def _tell_tasks(self) -> Generator[Message | None, None, bool]:
        """Tell of tasks until the run is over (True), or there are too many of them (False)."""
        feed = self._feed
        # A client that comes back knows the state up to a number. It may know tasks that are not watched any
        # more, which this session has never told of.
        resumed = self._watch.feed == feed.id and self._watch.number is not None
        self._number = -1 if self._watch.number is None or not resumed else self._watch.number
        version: int | None = None
        while len(self._told) <= feed.most:
            self._look()
            changed = feed.changed_since(self._number)
            over = feed.phase == "over"
            if changed is None:
                resumed, version = False, self._version
                yield from self._tell_state()
            elif changed or version != self._version:
                version = self._version
                for start in range(0, len(changed) or 1, CHUNK):
                    self._behind = over or start + CHUNK < len(changed)
                    yield self._changes(changed[start : start + CHUNK], resumed=resumed)
            elif over:
                return True
            else:
                self._behind = False
                yield None
        return False

    def _tell_state(self) -> Generator[Message]:
        """Tell of all tasks that are watched, unless there are too many; of later changes one tells next."""
        feed = self._feed
        self._number = feed.number
        self._told = set()
        self._behind = first = True
        last, uid = False, 0
        while not last:
            views: list[TaskView] = []
            stop = uid + LOOKED_AT
            while not last and len(views) < CHUNK and uid < stop:
                page = feed.graph.page(uid, CHUNK - len(views))
                last = not page
                watched = [task for task in page if task in self._selection]
                views += map(feed.views.task, watched)
                self._told.update(task.uid for task in watched)
                uid = page[-1].uid if page else uid
            if len(self._told) > feed.most:
                return
            time = feed.graph.time()
            graph = feed.graph_view()
            yield Snapshot(
                number=self._number, time=time, graph=graph, first=first, last=last, tasks=tuple(views)
            )
            first = False

    def _changes(self, changed: Sequence[tuple[Task[Any], int]], *, resumed: bool) -> Changes:
        """Tell of the next tasks that have changed; those that have done so again come later."""
        feed = self._feed
        views: list[TaskView] = []
        gone: list[int] = []
        for task, number in changed:
            self._number = number
            if not feed.is_latest(task, number):
                continue
            if task in self._selection:
                views.append(feed.views.task(task))
                self._told.add(task.uid)
            elif resumed or task.uid in self._told:
                gone.append(task.uid)
                self._told.discard(task.uid)
        time = feed.graph.time()
        graph = feed.graph_view()
        return Changes(number=self._number, time=time, graph=graph, tasks=tuple(views), gone=tuple(gone))

    def _look(self) -> None:
        self._feed.look()
        self._version = self._feed.version
