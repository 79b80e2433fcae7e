"""The order in which the tasks of a group start, where it takes more than a deque.

A task may start when its key has a place left (`per_key`) and its named limits admit it. Of those that may,
one that has been READY for too long (`ageing`) goes first, then higher priority, then keys in turn, then the
first (or last) that became READY.

Tasks of a group with the same needs are a *lane*. Whether limits admit a task is the same for all of a lane,
so that it is enough to look at the first one of each, which its line-ups tell.

Everything costs logarithmic time in tasks and keys, times the number of lanes that have tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from heapq import heappop, heapreplace
from math import inf
from typing import TYPE_CHECKING, Any

from .limits import Needs
from .lineups import Entry, Key, LineUp

if TYPE_CHECKING:
    from .groups import WorkerGroup
    from .task import Task


class Stack(deque["Task[Any]"]):
    """A deque that gives its last entry first. Only the order of taking is turned round."""

    __slots__ = ()

    popleft = deque.pop


class Lane:
    """The tasks of a group with the same needs."""

    __slots__ = ("claimed", "group", "needs", "oldest", "ranked", "ready", "returning", "returning_count")

    def __init__(
        self, group: WorkerGroup, needs: Needs, ranked: LineUp, oldest: LineUp, returning: LineUp
    ) -> None:
        self.group = group
        self.needs = needs
        self.ready = 0
        self.returning_count = 0
        self.claimed = False
        # READY tasks
        self.ranked = ranked
        self.oldest = oldest  # the same, where the group has ageing
        self.returning = returning  # SUSPENDED ones that want to go on

    @property
    def possible(self) -> bool:
        """Whether there is as much of everything as it needs, be it free or not."""
        return all(amount <= limit.limit for limit, amount in self.needs)

    @property
    def has_starters(self) -> bool:
        """Whether it has tasks that may start, or go on, as far as its group is concerned."""
        return self.returning_count > 0 or (self.ready > 0 and not self.group.paused)

    def admitted(self) -> bool:
        """Whether all limits admit a task of it."""
        for limit, amount in self.needs:  # noqa: SIM110 - a generator costs more than the admission
            if not limit.admits(self, amount):
                return False
        return True

    def claim(self) -> None:
        """Have what it needs kept from those who come later."""
        if not self.claimed:
            self.claimed = True
            for limit, amount in self.needs:
                limit.claims[self] = amount

    def drop_claim(self) -> None:
        """Keep nothing from others any more."""
        if self.claimed:
            self.claimed = False
            for limit, _ in self.needs:
                del limit.claims[self]


def _first_part(candidate: tuple[Entry, Lane]) -> float:
    return candidate[0][0]


def _rank(candidate: tuple[Entry, Lane]) -> tuple[float, int, float]:
    negated, place, _, turn = candidate[0]
    return negated, turn[0], place


class ReadyQueue:
    """The READY tasks of a group, and its SUSPENDED ones that want to go on, by rank."""

    __slots__ = (
        "_active",
        "_aged",
        "_ageing",
        "_group",
        "_keys",
        "_lanes",
        "_plain",
        "_ready",
        "_restamped",
        "_returning",
        "_serial",
        "_sign",
        "_turn",
        "governors",
    )

    def __init__(self, group: WorkerGroup, tasks: Iterable[Task[Any]] = ()) -> None:
        self._group = group
        self._ageing = group.ageing
        # Lanes that were ever used; their number is that of the different needs of the group's types.
        self._lanes: dict[Needs, Lane] = {}
        self._active: dict[Lane, None] = {}  # those that have tasks
        self._keys: dict[Hashable, Key] = {}  # those with tasks that are queued or counted, and None
        # READY tasks by rank, the same by age where the group has ageing, and SUSPENDED ones.
        self._ready: dict[Task[Any], Entry] = {}
        self._aged: dict[Task[Any], Entry] = {}
        self._returning: dict[Task[Any], Entry] = {}
        self._sign = -1 if group.order == "depth_first" else 1
        self._serial = self._turn = 0
        self.governors = (group.rate is not None) + (group.per_key is not None)
        """How many reasons there are for which a task may not start though there is a place for it: a rate,
        places per key, READY tasks that have named limits."""
        # READY tasks up to this serial have waited since that time, whatever their entries say.
        self._restamped: tuple[float, float] = (0, 0.0)
        self._plain = self.lane(())
        for task in tasks:
            self.append(task)

    # READY tasks --------------------------------------------------------------------------------------------

    def append(self, task: Task[Any]) -> None:
        """Put a READY task at the end of its rank."""
        label, course = task.label, task._course
        if course is None or not course.needs:
            lane = self._plain
        else:
            lane = self.lane(course.needs)
            self.governors += 1
        key = self._keys.get(label.key) or self._new_key(label.key)
        negated = -label.priority
        turn = key.turns.get(negated)
        if turn is None:
            self._turn += 1
            turn = key.turns[negated] = [self._turn, 1]
        else:
            turn[1] += 1
        self._serial = serial = self._serial + 1
        lane.ranked.put(key, (negated, self._sign * serial, task, turn))
        if self._ageing is not None:
            lane.oldest.put(key, (serial, self._now, task, [0, 1]))
        if not lane.ready:
            self._active[lane] = None
        lane.ready += 1
        if self.governors:
            self._group.await_token()

    def remove(self, task: Task[Any]) -> None:
        """Take out a READY task, wherever it is; it must be in here."""
        self._remove(self._lanes[task.needs], task)

    def _remove(self, lane: Lane, task: Task[Any]) -> None:
        key = self._keys[task.label.key]
        entry = lane.ranked.remove(key, task)
        if self._ageing is not None:
            lane.oldest.remove(key, task)
        self._removed(lane, key, entry)

    def _removed(self, lane: Lane, key: Key, entry: Entry) -> None:
        turn = entry[3]
        turn[1] -= 1
        if not turn[1]:
            del key.turns[entry[0]]
            if not key.turns:
                self._forget(key)
        lane.ready -= 1
        if lane.needs:
            self.governors -= 1
        if not lane.ready:
            self._tidy(lane)

    def pop(self) -> Task[Any] | None:
        """Take out the next READY task that may start, with its key's place and its limits."""
        if self.governors or self._ageing is not None:
            return self._pop_in_full()
        # What follows is what that does where only rank counts, at half its cost. No task has needs, so there
        # is one lane, and its first line is on top of its line-up.
        lane = self._plain
        ranked = lane.ranked
        entry = ranked.first()
        if entry is None:
            return None
        negated, _, task, turn = entry
        del self._ready[task]
        lane.ready -= 1
        line = ranked.heap[0][2]
        bucket = line.buckets[negated]
        if isinstance(bucket, tuple):
            del line.buckets[heappop(line.heap)]
        else:
            bucket.popleft()
        if turn[1] == 1:
            key = line.key
            del key.turns[negated]
            if not key.turns:
                self._forget(key)
        else:
            turn[1] -= 1
            if len(self._keys) > 1:
                self._turn = turn[0] = self._turn + 1
                line.listed = listed = (negated, turn[0], line, turn)
                heapreplace(ranked.heap, listed)
        if not lane.ready:
            self._tidy(lane)
        return task

    def _pop_in_full(self) -> Task[Any] | None:
        found = self._choose()
        if found is None:
            return None
        entry, lane = found
        task = entry[2]
        self.acquire(task)
        self._turn += 1
        self._ready[task][3][0] = self._turn
        self._remove(lane, task)
        return task

    @property
    def startable(self) -> bool:
        """Whether `pop` would start a task, or would make a claim, without which nobody calls it again."""
        for lane in self._active:
            if lane.ready and (not lane.claimed or lane.admitted()) and lane.ranked.first() is not None:
                return True
        return False

    def _choose(self) -> tuple[Entry, Lane] | None:
        if self._ageing is None:
            return self._admit(self._by_rank(self._active))
        overdue = []
        for lane in self._active:
            entry = lane.oldest.first()
            if entry is not None and self._waited(entry) > self._ageing:
                overdue.append((entry, lane))
        overdue.sort(key=_first_part)
        refused = [lane for _, lane in overdue]
        return self._admit(overdue) or self._admit(
            self._by_rank(lane for lane in self._active if lane not in refused)
        )

    @staticmethod
    def _by_rank(lanes: Iterable[Lane]) -> list[tuple[Entry, Lane]]:
        """Return the first task of each lane, best first."""
        ranked = [(entry, lane) for lane in lanes if (entry := lane.ranked.first()) is not None]
        if len(ranked) > 1:
            ranked.sort(key=_rank)
        return ranked

    @staticmethod
    def _admit(candidates: Iterable[tuple[Entry, Lane]]) -> tuple[Entry, Lane] | None:
        """Return the first candidate that its limits admit; those before it make their claims."""
        for entry, lane in candidates:
            if lane.admitted():
                return entry, lane
            lane.claim()
        return None

    # Time ---------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return self._group.graph.now  # type: ignore[union-attr]  # only groups of a graph have tasks

    def _waited(self, entry: Entry) -> float:
        serial, since = self._restamped
        return self._now - (since if entry[0] <= serial else entry[1])

    def began(self, now: float) -> None:
        """Count the ages of all READY tasks from now."""
        self._restamped = (self._serial, now)

    # SUSPENDED tasks that want to go on ---------------------------------------------------------------------

    def add_returning(self, task: Task[Any]) -> None:
        """Put a SUSPENDED task at the end of those that want to go on."""
        lane = self.lane(task.needs)
        key = self._keys.get(task.key) or self._new_key(task.key)
        self._serial += 1
        lane.returning.put(key, (self._serial, 0.0, task, [0, 1]))
        self._active[lane] = None
        lane.returning_count += 1
        key.returning += 1

    def remove_returning(self, task: Task[Any]) -> bool:
        """Take out a SUSPENDED task; return whether it was in here."""
        if task not in self._returning:
            return False
        lane, key = self._lanes[task.needs], self._keys[task.key]
        lane.returning.remove(key, task)
        lane.returning_count -= 1
        key.returning -= 1
        self._tidy(lane)
        self._forget(key)
        return True

    def pop_returning(self) -> Task[Any] | None:
        """Take out the next SUSPENDED task that may go on, with its key's place and its limits."""
        waiting = [lane for lane in self._active if lane.returning_count]
        candidates = [(first, lane) for lane in waiting if (first := lane.returning.first()) is not None]
        candidates.sort(key=_first_part)
        found = self._admit(candidates)
        if found is None:
            return None
        task = found[0][2]
        self.acquire(task)
        self.remove_returning(task)
        return task

    # What executing tasks hold ------------------------------------------------------------------------------

    def acquire(self, task: Task[Any]) -> None:
        """Take a place of a task's key and its limits. That serves the claim of its lane."""
        if self._group.per_key is not None:
            name = task.label.key
            if name is not None:
                key = self._keys.get(name) or self._new_key(name)
                key.used += 1
        course = task._course
        if course is not None and course.needs:
            self.lane(course.needs).drop_claim()
            for limit, amount in course.needs:
                limit.used += amount

    def release(self, task: Task[Any]) -> None:
        """Give back what `acquire` took."""
        if self._group.per_key is not None:
            name = task.label.key
            if name is not None:
                key = self._keys[name]
                key.free()
                self._forget(key)
        if task._course is not None:
            for limit, amount in task._course.needs:
                limit.used -= amount

    def used(self, key: Hashable) -> int:
        """Return how many executing tasks have a key, in a group that limits them."""
        known = self._keys.get(key)
        return 0 if known is None else known.used

    # Lanes and keys -----------------------------------------------------------------------------------------

    def lane(self, needs: Needs) -> Lane:
        """Return the lane of tasks with some needs."""
        lane = self._lanes.get(needs)
        if lane is None:
            last_first = self._group.order == "depth_first"
            lane = self._lanes[needs] = Lane(
                self._group,
                needs,
                LineUp(self._ready, last_first=last_first),
                LineUp(self._aged),
                LineUp(self._returning),
            )
        return lane

    def _new_key(self, name: Hashable) -> Key:
        places = inf if self._group.per_key is None or name is None else self._group.per_key
        key = self._keys[name] = Key(name, places)
        return key

    def _tidy(self, lane: Lane) -> None:
        if not lane.ready and not lane.returning_count:
            del self._active[lane]

    def _forget(self, key: Key) -> None:
        if not key.turns and not key.returning and not key.used and key.name is not None:
            del self._keys[key.name]
            for line in key.lines.values():
                line.listed = None  # or it would stay in its line-up until it comes up, which may be never

    def claims(self) -> list[Lane]:
        """Return the lanes that have claims."""
        return [lane for lane in self._active if lane.claimed]

    def __iter__(self) -> Iterator[Task[Any]]:
        """Iterate over the READY tasks, in no particular order."""
        return iter(self._ready)

    def __len__(self) -> int:
        return len(self._ready)
