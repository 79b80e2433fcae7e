"""What happens at a certain time: retries, timeouts, budgets, rates, hedges.

The graph keeps the timetable. Here is the one trio task that sleeps until the earliest time in it.
"""

from __future__ import annotations

import math

import trio

from trio_graph_scheduler.graph import TaskGraph


class Alarm:
    """Calls `graph.tick()` at the time it is set to."""

    def __init__(self, graph: TaskGraph) -> None:
        self._graph = graph
        self._when = math.inf
        self._nursery: trio.Nursery | None = None
        # Of the sleep that goes on; None while there is none.
        self._sleep: trio.CancelScope | None = None
        self._started = self._stopped = False

    def begin(self, nursery: trio.Nursery) -> None:
        """Let it sleep in this nursery, once there is something to wake up for."""
        self._nursery = nursery
        self.set(self._when)

    def set(self, when: float) -> None:
        """Set it to a time, in place of the one it was set to."""
        self._when = when
        if self._sleep is not None:
            self._sleep.deadline = when
        elif self._nursery is not None and not self._started and when < math.inf:
            self._started = True
            self._nursery.start_soon(self._run, name="alarm of a task graph")

    def stop(self) -> None:
        """End the trio task, as the run is over."""
        self._stopped = True
        if self._sleep is not None:
            self._sleep.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:  # noqa: ASYNC910 - the whole of a trio task, which owes no checkpoint
        while not self._stopped:
            with trio.CancelScope(deadline=self._when) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None
            if not self._stopped:
                self._when = math.inf
                self._graph.tick()
