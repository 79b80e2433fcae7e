"""Rates: how many tasks of each type ended per second, lately."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from trio_graph_scheduler.graph import TypeStatistics

SPAN = 5.0
"""Seconds that a rate is taken over, once that much is known."""
FORGET = 60.0
"""Seconds without a look after which all begins anew."""
STEP = 0.25
"""Seconds between the counts that are kept, at least."""

Counts = Mapping[tuple[str, str], int]


class Rates:
    """The rates at which tasks end, from counts that are taken whenever someone looks."""

    def __init__(self) -> None:
        # When counts were taken, and how many had ended by then: the last before the span, and those in it.
        self._taken: deque[tuple[float, Counts]] = deque()
        self._now = 0.0

    def look(self, kinds: Iterable[TypeStatistics], now: float) -> None:
        """Take the counts as they are now."""
        self._now = now
        taken = self._taken
        if taken and not 0 <= now - taken[-1][0] < FORGET:
            taken.clear()  # another run, on another clock, or so long ago that it says nothing
        if not taken or now - taken[-1][0] >= STEP:
            taken.append((now, {(kind.name, kind.group): _ended(kind) for kind in kinds}))
        while len(taken) > 1 and taken[1][0] <= now - SPAN:
            taken.popleft()

    def of(self, kind: TypeStatistics) -> float:
        """Return how many tasks of a type ended per second, between the oldest counts and the last look."""
        when, counts = self._taken[0]
        ended = _ended(kind) - counts.get((kind.name, kind.group), 0)
        return max(0, ended) / (self._now - when) if self._now > when else 0.0


def _ended(kind: TypeStatistics) -> int:
    return sum(count for state, count in kind.states.items() if state.ended)
