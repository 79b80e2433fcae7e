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

from itertools import takewhile
from math import inf
from secrets import token_hex
from typing import Any, Literal

import attrs
import trio

from trio_graph_scheduler.graph import BadValue, Follower, Task, TaskGraph, UnknownTask
from trio_graph_scheduler.graph.values import is_whole

from .messages import (
    Detail,
    GraphView,
    Problem,
    Types,
    Watch,
)
from .selection import Selection
from .session import FeedSession
from .views import Log, Redact, Views, short

MOST_KEPT = 16
"""Figures of types that are kept at most, for others who watch the same."""


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
    there are sessions with tasks, the graph takes note of which ones change, which takes some microseconds
    for each. So it does after the last of them is closed, for one that comes back, but only as long as there
    are no more than `most` tasks.

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
        if not is_whole(most):
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
        # What the sessions watch that want to know which tasks change, and whether that is kept.
        self._tracked: list[Selection] = []
        self._tracking = False
        # None from when it has woken us until someone looks, unless we track.
        self._follower: Follower | None = None
        self._waiting = trio.lowlevel.ParkingLot()
        # The last figures of types, and of which version they are, by what they are of.
        self._types: dict[object, tuple[int, Types]] = {}

    def session(self, watch: Watch | None = None, *, interval: float = 0.1) -> FeedSession:
        """Return a session for one more observer; it begins with the state, or where `watch` says.

        It says something every `interval` seconds at most. Raises `BadValue`.
        """
        return FeedSession(self, watch or Watch(), interval)

    def detail(self, uid: int) -> Detail | Problem:
        """Return all that may be shown of one task."""
        try:
            task = self.graph[uid]
        except UnknownTask as error:
            return Problem(text=str(error))
        if task is self.graph.root:
            return Problem(text=str(UnknownTask(uid)))
        return self.views.detail(task, self.graph.time())

    # For sessions -------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Literal["before", "running", "over"]:
        """Whether the run is still to come, goes on, or is over."""
        if self.graph.running:
            return "running"
        return "over" if self.graph.runs else "before"

    def graph_view(self) -> GraphView:
        """Return how the graph stands as a whole."""
        name = short(self.graph.name)
        return GraphView(self.id, name, len(self.graph), self.phase, self.views.groups())

    def look(self) -> None:
        """Give numbers to what has changed since someone last looked, and watch out for the next change."""
        if self._follower is None:
            self._follower = self.graph.follow(self._wake, most=self._most_changes)
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

    def types(self, watch: Watch, selection: Selection, told: int, age: float) -> tuple[int, Types]:
        """Return the figures of all types that are watched, and of which version they are.

        Those that others were told will do if they are no older than so many seconds, `age`, and of a later
        version than the one that was `told`.
        """
        of = (tuple(watch.types), tuple(watch.groups))
        version, types = self._types.get(of, (-1, None))
        old = types is None or self.graph.time() - types.time > age or self.phase == "over" or version <= told
        if types is None or (old and version != self.version):
            if len(self._types) >= MOST_KEPT:
                self._types.clear()
            time = self.graph.time()
            views = self.views.types(selection.has_type)
            types = Types(number=self.number, time=time, graph=self.graph_view(), types=views)
            version = self.version
        elif types.number != self.number:
            types = attrs.evolve(types, number=self.number)
        self._types[of] = version, types
        return version, types

    async def news(self, patience: float) -> None:
        """Wait until something happens, or for so many seconds, `patience`; always checkpoint."""
        with trio.move_on_after(patience) as scope:
            await self._waiting.park()
        if scope.cancelled_caught:
            self.stir()

    def stir(self) -> None:
        """Let all sessions look again."""
        self.version += 1
        self.rouse()

    def rouse(self) -> None:
        """Let all sessions that wait find out whether there is anything for them."""
        self._waiting.unpark_all()

    def track(self, selection: Selection) -> None:
        """Keep track of which tasks change, for one more session."""
        self._tracked.append(selection)
        if self._tracking and self._follower is not None:
            self._follower.most = self._most_changes
        else:
            self._tracking = True
            self._begin_anew()

    def untrack(self, selection: Selection) -> None:
        """Do without it for one of them."""
        self._tracked.remove(selection)
        self._stop_tracking_if_large()

    @property
    def _most_changes(self) -> float:
        """How many tasks may change at once before one looks at all: where all are shown, as many as that."""
        return inf if any(selection.chooses for selection in self._tracked) else self.most

    def _stop_tracking_if_large(self) -> None:
        if self._tracking and not self._tracked and len(self.graph) > self.most:
            self._tracking = False
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget which tasks have changed: numbers up to now are of no use any more."""
        self._numbers.clear()
        self._removed = 0
        self.number += 1
        self._forgotten = self.number
        if self._follower is not None and self._follower.overflowed:
            self._follower = None
        elif self._follower is not None:
            # It goes on, as what changes from now on must not be missed by who has looked.
            self._follower.most = self._most_changes
            self._follower.take()

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
        follower = self._follower
        if follower is not None and follower.overflowed:
            self._begin_anew()
        elif follower is not None and not self._tracking:
            follower.close()  # until someone looks, further changes need not be noted
            self._follower = None
        elif not self._tracked:
            self._stop_tracking_if_large()
            self.look()
        self.stir()
