"""Named limits: what tasks of any group need some of while they execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .errors import BadValue
from .values import is_whole

if TYPE_CHECKING:
    from .groups import WorkerGroup
    from .queues import Lane
    from .task_graph import TaskGraph


Needs = tuple[tuple["Limit", int], ...]
"""How much of which limits a task takes."""


def _check_limit(limit: object) -> int:
    if not is_whole(limit):
        rule = "it must be a whole number: how much of it there is, 0 to hold the tasks that need it"
        raise BadValue("a named limit", limit, rule)
    return limit


@attrs.define(eq=False, repr=False, weakref_slot=False, on_setattr=attrs.setters.NO_OP)
class Limit:
    """So much of something that tasks share over all groups, such as connections to a database.

        graph = TaskGraph(limits={"database": 3})
        query = TaskType(run_query, limits={"database": 1})
        graph.limits["database"].resize(5)

    A task takes all that it needs when it starts, or does not start. It gives it back at the end of each
    trial and while its body waits for another task. Belongs to one graph.

    A task that is passed over because there is not enough makes a claim: that much is kept from those who
    come later, so that a task which needs much does not starve behind many that need little.
    """

    name: str
    """The name that types give in `limits=`."""
    limit: int = attrs.field(converter=_check_limit)
    """How much of it there is."""
    graph: TaskGraph | None = attrs.field(default=None, kw_only=True)
    used: int = attrs.field(default=0, init=False)
    """How much of it executing tasks have: more than `limit` only after a resize that has yet to drain."""
    # Who waits for how much of it, in the order in which they were first passed over. A lane makes and drops
    # its claims on all limits at a stroke, so any two lanes are in the same order wherever both have claims.
    claims: dict[Lane, int] = attrs.field(factory=dict, init=False)

    @property
    def free(self) -> int:
        """How much of it no executing task has."""
        return max(0, self.limit - self.used)

    def resize(self, limit: int) -> None:
        """Change how much of it there is, at any time.

        With more, tasks that wait for it start at once; with less, those that have it may end first. A task
        that needs more than there is at all waits until there is, and keeps nothing from others meanwhile.
        Raises `BadValue`, or `WrongThread` while the graph runs in another thread.
        """
        limit = _check_limit(limit)
        if self.graph is None:
            self.limit = limit
        else:
            self.graph.resize_limit(self, limit)

    def admits(self, lane: Lane, amount: int) -> bool:
        """Whether a task of a lane may take so much: that is free, and not kept for those before it."""
        room = self.limit - self.used
        if amount > room:
            return False
        for other, kept in self.claims.items():
            if other is lane:
                break
            if other.possible:
                room -= kept
                if amount > room:
                    return False
        return True

    def __repr__(self) -> str:
        return f"<Limit {self.name!r}: {self.used} of {self.limit} used, {len(self.claims)} claims>"


def claimants(limits: list[Limit]) -> list[WorkerGroup]:
    """Return the groups that have claims on some limits, in the order of the claims, limit by limit."""
    return list({lane.group: None for limit in limits for lane in limit.claims})
