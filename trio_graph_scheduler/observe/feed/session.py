"""Sessions of the feed: what one observer is told, in which order, and when."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from math import inf
from typing import TYPE_CHECKING, Any, Self

import trio

from trio_graph_scheduler.graph import BadValue, Task
from trio_graph_scheduler.graph.values import is_seconds
from trio_graph_scheduler.observe.pace import WINDOW

from .messages import (
    Changes,
    End,
    Message,
    Snapshot,
    TaskView,
    Watch,
)
from .selection import Selection

if TYPE_CHECKING:
    from .feed import Feed

CHUNK = 200
"""As many tasks are in one message at most."""
LOOKED_AT = 5_000
"""As many tasks are looked at for one message at most, where few are watched of many."""


class FeedSession:
    """What one observer is told: first the state of all that it watches, then what changes.

        with feed.session(Watch(groups=("http",)), interval=0.5) as session:
            async for message in session:
                print(message)

    The messages are `Snapshot`s, the last of which completes the state, then `Changes`; or `Types`. When the
    run is over and all has been told there is an `End`, and the iteration ends. Every step checkpoints. What
    is cancelled while it waits can be waited for again. Without `with`, call `close`.
    """

    def __init__(self, feed: Feed, watch: Watch, interval: float) -> None:
        if not is_seconds(interval):
            raise BadValue("interval", interval, "it must be a number of seconds between two messages")
        self._feed = feed
        self._watch = watch
        self._selection = Selection(feed.graph, watch)
        self._interval = interval
        # The number up to which it has told, and the uids of tasks it has told of that are watched still.
        self._number = 0
        self._told: set[int] = set()
        # Whether the feed keeps track for it of which tasks change. That ends in `close`, not when the
        # generator is collected, for that may happen at any time, and in any thread.
        self._tracks = False
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
        self._untrack()
        self._behind = True
        self._feed.rouse()

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
                if self._version == self._feed.version:
                    await self._feed.news(self._patience)
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
        if watch.view == "tasks" and not self._too_many:
            feed.track(self._selection)
            self._tracks = True
            over = yield from self._tell_tasks()
            self._untrack()
        else:
            over = False
        if not over:
            yield from self._tell_types()
        self._behind = True
        yield End(number=self._number, time=feed.graph.time())

    def _tell_types(self) -> Generator[Message | None]:
        """Tell of types until the run is over."""
        told = -1
        while True:
            self._look()
            over = self._feed.phase == "over"
            if told != self._version:
                # What changes while others are told the same may be told the next time.
                told, types = self._feed.types(self._watch, self._selection, told, self._interval / 2)
                self._version, self._number, self._behind = told, types.number, over
                self._patience = WINDOW if any(kind.rate for kind in types.types) else inf
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
        while not self._too_many:
            self._look()
            changed = feed.changed_since(self._number)
            over = feed.phase == "over"
            if changed is None or any(self._selection.leaves(task) for task, _ in changed):
                resumed, version = False, self._version
                yield from self._tell_state()
            elif changed or version != self._version:
                version = self._version
                yield from self._tell_changes(deque(changed), resumed=resumed, over=over)
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
            feed.look()  # what is told of here and removed later is to be told as gone
            views: list[TaskView] = []
            stop = uid + LOOKED_AT
            while not last and len(views) < CHUNK and uid < stop:
                page = feed.graph.page(uid, CHUNK - len(views))
                last = not page
                watched = [task for task in page if task in self._selection]
                views += map(feed.views.task, watched)
                self._told.update(task.uid for task in watched)
                uid = page[-1].uid if page else uid
            if self._too_many:
                return
            time = feed.graph.time()
            graph = feed.graph_view()
            yield Snapshot(
                number=self._number, time=time, graph=graph, first=first, last=last, tasks=tuple(views)
            )
            first = False

    def _tell_changes(
        self, changed: deque[tuple[Task[Any], int]], *, resumed: bool, over: bool
    ) -> Generator[Message]:
        """Tell of the tasks that have changed, in one message at least."""
        told = False
        while not told or (changed and not self._too_many):
            message = self._next_changes(changed, resumed=resumed)
            told, self._behind = True, over or bool(changed) or self._too_many
            yield message

    def _next_changes(self, changed: deque[tuple[Task[Any], int]], *, resumed: bool) -> Changes:
        """Tell of the next tasks that have changed; those that have done so again come later."""
        feed = self._feed
        views: list[TaskView] = []
        gone: list[int] = []
        for _ in range(min(LOOKED_AT, len(changed))):
            if len(views) + len(gone) == CHUNK:
                break
            task, self._number = changed.popleft()
            if not feed.is_latest(task, self._number):
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

    def _untrack(self) -> None:
        if self._tracks:
            self._tracks = False
            self._feed.untrack(self._selection)

    @property
    def _too_many(self) -> bool:
        """Whether there are too many tasks to tell of each."""
        watched = self._told if self._selection.chooses else self._feed.graph
        return len(watched) > self._feed.most

    def _look(self) -> None:
        self._feed.look()
        self._version = self._feed.version
