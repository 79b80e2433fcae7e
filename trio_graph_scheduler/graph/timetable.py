"""What is to happen at which time: the only thing in a graph that has to do with clocks.

A graph has no clock. Its driver says what time it is, sleeps until the earliest of these times, and calls
`graph.tick()` then.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any


class Timer:
    """One thing that is to happen at a time, unless it is cancelled before."""

    __slots__ = ("action", "args", "pending", "when")

    def __init__(self, when: float, action: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        self.action = action
        self.args = args
        self.pending = True

    def go_off(self) -> None:
        """Do it, and keep nothing of it."""
        args, self.args = self.args, ()
        self.action(*args)


class Timetable:
    """Timers by time, and those of one time in the order they were set.

    Setting takes logarithmic time. Cancelling is constant: the entry stays until it comes up, or until most
    entries are like that.
    """

    __slots__ = ("_alarm", "_alarm_at", "_entries", "_pending", "_serial")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Timer]] = []
        self._pending = 0
        self._serial = itertools.count()
        # Whom to tell of the earliest time, and what was told. It may be too early by now, never too late.
        self._alarm: Callable[[float], object] | None = None
        self._alarm_at = math.inf

    def at(self, when: float, action: Callable[..., object], *args: Any) -> Timer:
        """Have an action done at a time; it may be in the past, and then it is done at the next tick."""
        timer = Timer(when, action, args)
        heapq.heappush(self._entries, (when, next(self._serial), timer))
        self._pending += 1
        if when < self._alarm_at and self._alarm is not None:
            self._alarm_at = when
            self._alarm(when)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer; None, or one that is over, is fine."""
        if timer is None or not timer.pending:
            return
        timer.pending = False
        timer.args = ()
        self._pending -= 1
        if len(self._entries) > 2 * self._pending + 64:
            self._entries = [entry for entry in self._entries if entry[2].pending]
            heapq.heapify(self._entries)

    @property
    def next(self) -> float:
        """The time of the earliest timer; infinity if there is none."""
        while self._entries and not self._entries[0][2].pending:
            heapq.heappop(self._entries)
        return self._entries[0][0] if self._entries else math.inf

    def due(self, now: float) -> Iterator[Timer]:
        """Yield the timers of all times up to now, in order; each is over when it is yielded."""
        while self.next <= now:
            timer = heapq.heappop(self._entries)[2]
            timer.pending = False
            self._pending -= 1
            yield timer

    def tell(self, alarm: Callable[[float], object] | None) -> None:
        """Call this with the earliest time from now on, whenever that has come to be earlier."""
        self._alarm = alarm
        self._alarm_at = self.next
        if alarm is not None and self._alarm_at < math.inf:
            alarm(self._alarm_at)
