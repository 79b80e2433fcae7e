"""Replays of a run: how long it would have taken with other limits.

This is list scheduling, as in R. L. Graham, "Bounds for certain multiprocessing anomalies" (1966): whenever a
group has a free place and a task that is ready, that task starts, and runs for as long as it did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

from trio_graph_scheduler.graph import Task

from .causes import Attempt, Barrier, Cause


class Replay:
    """The trials of one run, with what each of them waited for.

    A trial is released as long after the beginning of the trial in which its task was added as it really was,
    a further one as long after the end of the earlier one, and what was added from outside at the same time
    as it really was. It is ready when it has been released and the predecessors have ended that had ended
    when it really became READY.
    """

    def __init__(self, attempts: Sequence[Attempt], began: float) -> None:
        self._attempts = attempts
        self._index = {attempt: index for index, attempt in enumerate(attempts)}
        self._ranks = [-attempt.task.priority for attempt in attempts]
        self._uids = [attempt.task.uid for attempt in attempts]
        self._groups = [attempt.task.group.name for attempt in attempts]
        self._seconds = [attempt.ran for attempt in attempts]
        # How many things a trial waits for: its release, and the ends of others.
        self._pending = [1] * len(attempts)
        # Trial -> those that wait for its end; those that are released so long after its start, or its end.
        self._dependents: dict[int, list[int]] = defaultdict(list)
        self._after_start: dict[int, list[tuple[float, int]]] = defaultdict(list)
        self._after_end: dict[int, list[tuple[float, int]]] = defaultdict(list)
        # Those that are released at a certain time.
        self._released: list[tuple[float, int]] = []
        # What is waited for together by some: its number is beyond those of the trials.
        self._barriers: dict[Barrier, int] = {}
        # Task that must settle -> those that wait for that; and of how many trials, and of how many children
        # that have any, the end is a part of that.
        self._settling: dict[Task[Any], list[int]] = defaultdict(list)
        self._unsettled: dict[Task[Any], int] = defaultdict(int)
        if any(isinstance(item, Barrier) and item.settled for one in attempts for item in one.needed):
            self._count_unsettled()
        for index, attempt in enumerate(attempts):
            self._release(index, attempt, began)
            for item in attempt.needed:
                self._wait_for(index, item)

    def _count_unsettled(self) -> None:
        for attempt in self._attempts:
            task = attempt.task
            self._unsettled[task] += 1
            while self._unsettled[task] == 1 and task.parent is not None:
                task = task.parent
                self._unsettled[task] += 1

    def _release(self, index: int, attempt: Attempt, began: float) -> None:
        """Say when a trial may come at the earliest."""
        earlier, adder = attempt.due_to, attempt.adder
        if attempt.cause is Cause.RETRY and earlier in self._index:
            self._after_end[self._index[earlier]].append((attempt.ready - earlier.end, index))
        elif adder in self._index:
            self._after_start[self._index[adder]].append((max(0.0, attempt.added - adder.start), index))
        else:
            self._released.append((max(0.0, attempt.added - began), index))

    def _wait_for(self, index: int, item: Attempt | Barrier) -> None:
        if isinstance(item, Barrier):
            if item not in self._barriers:
                self._add_barrier(item)
            self._dependents[self._barriers[item]].append(index)
            self._pending[index] += 1
        elif item in self._index:  # else it ended in an earlier run
            self._dependents[self._index[item]].append(index)
            self._pending[index] += 1

    def _add_barrier(self, barrier: Barrier) -> None:
        number = self._barriers[barrier] = len(self._pending)
        self._pending.append(1)  # which the beginning of the run takes away
        for task in barrier.settled:
            if task in self._unsettled:
                self._settling[task].append(number)
                self._pending[number] += 1
        for trial in () if barrier.settled else barrier.trials:
            self._wait_for(number, trial)

    def seconds(self, limits: Mapping[str, int]) -> float:
        """Return how long the run takes with these limits, for each group; they must be 1 or more.

        Takes time in the number of trials times its logarithm, and in the number of dependencies.
        """
        free = dict(limits)
        pending = self._pending.copy()
        unsettled = dict(self._unsettled)
        # Of each group the trials that are ready: by priority, then the first ready first, then by uid.
        queues: dict[str, list[tuple[float, float, int, int]]] = {name: [] for name in limits}
        # What happens when: a trial ends (its number), or is released (its number, as a complement).
        events = [(when, ~index) for when, index in self._released if when > 0]
        heapify(events)
        # Those one of whose events has come: a trial is counted down once for each thing that it waits for.
        come = [index for when, index in self._released if when <= 0]
        come += self._barriers.values()
        groups, dependents = self._groups, self._dependents
        now = 0.0
        while events or come:
            offered = set()
            if not come:
                now = events[0][0]
            while events and events[0][0] <= now:
                index = heappop(events)[1]
                if index < 0:
                    come.append(~index)
                    continue
                offered.add(groups[index])
                free[groups[index]] += 1
                if index in dependents:
                    come += dependents[index]
                come += self._settled_by(index, unsettled)
                for after, other in self._after_end.get(index, ()):
                    heappush(events, (now + after, ~other))
            for index in self._ready(come, pending):
                offered.add(groups[index])
                entry = self._ranks[index], now, self._uids[index], index
                heappush(queues[groups[index]], entry)
            come = []
            for group in offered:
                while queues[group] and free[group] > 0:
                    free[group] -= 1
                    self._start(heappop(queues[group])[3], now, events)
        return now

    def _start(self, index: int, now: float, events: list[tuple[float, int]]) -> None:
        heappush(events, (now + self._seconds[index], index))
        for after, other in self._after_start.get(index, ()):
            heappush(events, (now + after, ~other))

    def _ready(self, come: list[int], pending: list[int]) -> Iterator[int]:
        """Count down for those one of whose events has come; yield the trials that wait for no more."""
        for index in come:  # grows while it is walked
            pending[index] -= 1
            if pending[index]:
                continue
            if index < len(self._attempts):
                yield index
            else:
                come += self._dependents.get(index, ())

    def _settled_by(self, index: int, unsettled: dict[Task[Any], int]) -> list[int]:
        """Take note that a trial has ended; return those that waited for what has settled by that."""
        if not unsettled:
            return []
        released: list[int] = []
        task: Task[Any] | None = self._attempts[index].task
        while task is not None:
            unsettled[task] -= 1
            if unsettled[task]:
                break
            released += self._settling.get(task, ())
            task = task.parent
        return released
