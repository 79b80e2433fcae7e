"""How a graph gets on: its tasks counted by type, how fast they end, and how long the rest will take.

A rate counts the tasks that ended by themselves, SUCCEEDED or FAILED. It is taken over the last `WINDOW`
seconds, or over the last `ENDS` ends where those took longer; it is unknown until one has ended, and again
when none has for longer than that. The time left is what is open, at that rate. It is unknown while the
rate is, and while tasks are still added: if any was since the time began that the rate is taken over.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from operator import attrgetter

import attrs

from trio_graph_scheduler.graph import TaskGraph, TaskState, TypeStatistics

WINDOW = 5.0
"""Seconds that a rate is taken over, at least, once there have been so many."""
ENDS = 20
"""Ends that a rate is taken over, at least, once there have been so many."""
STEP = 1.0
"""Seconds between the tallies that are kept, at least: there is one to begin with in every such step."""


@attrs.frozen
class Tally:
    """So many tasks were there at a time: those that had ended in each way, that ran, and that waited.

    `running` counts those whose bodies have begun and not ended (RUNNING and SUSPENDED), `waiting` all others
    that have not ended (WAITING, READY and RETRYING).
    """

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    running: int = 0
    waiting: int = 0

    @classmethod
    def of(cls, kind: TypeStatistics) -> Tally:
        """Count the tasks of a type."""
        states = kind.states
        return cls(
            states[TaskState.SUCCEEDED],
            states[TaskState.FAILED],
            states[TaskState.CANCELLED],
            states[TaskState.SKIPPED],
            states[TaskState.RUNNING] + states[TaskState.SUSPENDED],
            states[TaskState.WAITING] + states[TaskState.READY] + states[TaskState.RETRYING],
        )

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """Add up tallies of different tasks."""
        figures = attrgetter("succeeded", "failed", "cancelled", "skipped", "running", "waiting")
        columns = zip(*map(figures, tallies), strict=True)
        return cls(*map(sum, columns))

    @property
    def worked(self) -> int:
        """How many bodies have ended by themselves."""
        return self.succeeded + self.failed

    @property
    def done(self) -> int:
        """How many tasks have ended, in whatever way."""
        return self.worked + self.cancelled + self.skipped

    @property
    def open(self) -> int:
        """How many have not."""
        return self.running + self.waiting

    @property
    def total(self) -> int:
        """How many there are."""
        return self.done + self.open


class Pace:
    """How fast the tasks of some kind end, from tallies taken now and then."""

    def __init__(self, when: float, tally: Tally) -> None:
        # The tally that the rate is taken from, and later ones, which will take its place.
        self._kept: deque[tuple[float, Tally]] = deque()
        self._begin_anew(when, tally)

    def _begin_anew(self, when: float, tally: Tally) -> None:
        self._kept.clear()
        self._kept.append((when, tally))
        self._now = when
        self._last = tally
        # When a task was last seen to have ended.
        self._ended = when

    def look(self, when: float, tally: Tally) -> None:
        """Take the tally of now."""
        kept = self._kept
        if tally.worked > self._last.worked:
            self._ended = when
            if when - kept[-1][0] >= STEP:
                kept.append((when, tally))
        rerun = tally.worked < self._last.worked
        if rerun or not (tally.running or tally.worked > kept[0][1].worked):
            self._begin_anew(when, tally)  # nothing is under way: what they wait for is not their own doing
        self._now, self._last = when, tally
        while len(kept) > 1 and when - kept[1][0] >= WINDOW and tally.worked - kept[1][1].worked >= ENDS:
            kept.popleft()

    @property
    def rate(self) -> float | None:
        """Tasks per second, or None."""
        began, first = self._kept[0]
        ends = self._last.worked - first.worked
        silent = self._now - self._ended > max(WINDOW, self._ended - began)
        return None if silent or not ends or self._now <= began else ends / (self._now - began)

    @property
    def left(self) -> float | None:
        """Seconds until all have ended, or None."""
        rate = self.rate
        grown = self._last.total > self._kept[0][1].total
        return None if rate is None or grown else self._last.open / rate


class Paces:
    """The paces of all that is counted in a graph, in its present run."""

    def __init__(self, graph: TaskGraph) -> None:
        self._graph = graph
        # How many runs there had been at the last look: each has a pace of its own.
        self._runs = 0
        self._paces: dict[object, Pace] = {}

    def look(self, key: object, now: float, tally: Tally) -> Pace | None:
        """Return the pace of what has this key, of which this is the tally; None if it has none now."""
        runs = len(self._graph.runs)
        if runs != self._runs:
            self._runs = runs
            self._paces.clear()
        if not self._graph.running or not tally.open:
            return None
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = Pace(now, tally)
        pace.look(now, tally)
        return pace


@attrs.frozen
class Row:
    """How tasks stand: those of one type in one group, of several types, or all.

    - `group`: None if there is no other row for the same type.
    - `rate`: how many end per second, or None.
    - `left`: seconds until all have ended, or None.
    """

    name: str
    group: str | None
    tally: Tally
    rate: float | None
    left: float | None


@attrs.frozen
class Survey:
    """How a graph stands at a time.

    - `rows`: one for each type and group, in the order they came to the graph.
    - `whole`: all of them together.
    - `took`: how many seconds the last run took; None while one goes on, and before the first.
    """

    rows: tuple[Row, ...]
    whole: Row
    took: float | None

    @property
    def moving(self) -> bool:
        """Whether its rates would change if nothing else did."""
        return any(row.rate is not None for row in (*self.rows, self.whole))


class Surveyor:
    """Looks at a graph from time to time."""

    def __init__(self, graph: TaskGraph) -> None:
        self.graph = graph
        self._paces = Paces(graph)

    def look(self, now: float) -> Survey:
        """Survey the graph now: a time on trio's clock. Takes time in the number of types."""
        graph = self.graph
        runs = graph.runs
        tallies = {(kind.name, kind.group): Tally.of(kind) for kind in graph.type_statistics()}
        groups = Counter(name for name, _ in tallies)
        rows = tuple(
            Row(name, group if groups[name] > 1 else None, tally, *self._outlook((name, group), now, tally))
            for (name, group), tally in tallies.items()
        )
        tally = Tally.sum(tallies.values())
        rate, left = self._outlook(None, now, tally)
        if left is not None:  # the slowest type may take longer than all together would
            left = max(left, *(row.left or 0.0 for row in rows))
        took = None if graph.running or not runs else runs[-1][1] - runs[-1][0]  # type: ignore[operator]  # it has ended
        return Survey(rows, Row(graph.name, None, tally, rate, left), took)

    def _outlook(
        self, key: tuple[str, str] | None, now: float, tally: Tally
    ) -> tuple[float | None, float | None]:
        """Return the rate and the time left of what has this key (None: of all)."""
        pace = self._paces.look(key, now, tally)
        return (None, None) if pace is None else (pace.rate, pace.left)


def duration(seconds: float) -> str:
    """Return a time for people: `0.35 s`, `42 s`, `1:45`, `2:03:10`, `5 d 4 h`."""
    if seconds < 60:  # noqa: PLR2004 - seconds in a minute
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def per_time(rate: float) -> str:
    """Return a rate for people, in the unit in which it is 1 or more: `12.3/s`, `4/min`, `0.5/h`."""
    unit, each = next(
        ((unit, each) for unit, each in (("s", 1), ("min", 60)) if rate * each >= 1), ("h", 3600)
    )
    shown = rate * each
    return (f"{shown:,.0f}" if shown >= 100 else f"{shown:.3g}") + f"/{unit}"  # noqa: PLR2004 - three figures
