"""Cohorts: the tasks of one type and group, counted by state.

Every task belongs to one, so that at any time the figures of each type are known without looking at tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .task import READY, RUNNING, SUCCEEDED, WAITING, TaskState

if TYPE_CHECKING:
    from .groups import WorkerGroup


@attrs.define(eq=False)
class Cohort:
    """How many tasks of one type name and group there are, and how many of them are in each state."""

    name: str
    group: WorkerGroup
    total: int = 0
    # What happens to nearly every task is counted apart, in one step each where it happens: that it has to
    # wait or no longer has to, that it starts, and that its body returns. All else goes through `move`.
    waiting: int = 0
    started: int = 0
    finished: int = 0
    # How long the last trials of those that SUCCEEDED took, in seconds.
    seconds: float = 0.0
    # How many more are in each state by other ways; fewer than 0 if that is where most left it.
    _moved: dict[TaskState, int] = attrs.field(factory=lambda: dict.fromkeys(TaskState, 0))

    def move(self, before: TaskState, after: TaskState | None) -> None:
        """Count a task in another state; None: it is no longer there."""
        self._moved[before] -= 1
        if after is None:
            self.total -= 1
        else:
            self._moved[after] += 1

    @property
    def states(self) -> dict[TaskState, int]:
        """How many tasks are in each state."""
        states = dict(self._moved)
        states[WAITING] += self.waiting
        states[RUNNING] += self.started - self.finished
        states[SUCCEEDED] += self.finished
        states[READY] = 0
        states[READY] = self.total - sum(states.values())
        return states
