"""Lines of tasks, and which of them is next: what a ready queue consists of.

The tasks of a group that have the same needs and the same key are a *line*, in which they are ordered. A
*line-up* orders lines by their first tasks. Whether a key has a place is the same for all of a line, so that
a line whose key is full is parked with the key when it comes up, and put back when a place comes free; nobody
looks past its first task.

What is no longer valid is left where it is until it comes up: tasks that were taken out, and ranks of lines
that have become worse. A rank gets better only when a task is put in, and then the line is listed anew. What
is left in the middle is cleared away when it is most of what there is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .task import Task

SPARE = 64
"""So many entries that mean nothing are not worth clearing away."""

Turn = list[int]
"""The turn of a key among those of a priority, lowest first, and how many READY tasks it holds for."""
Entry = tuple[float, float, "Task[Any]", Turn]
"""A task in its line: by what it is ordered, what else its queue knows of it, the task, its turn."""
Listed = tuple[float, int, "Line", Turn]
"""A line in a line-up: by what its first task is ordered, when its turn was, the line, that turn."""


class Key:
    """What a queue knows of the tasks that have one key."""

    __slots__ = ("lines", "name", "parked", "places", "returning", "turns", "used")

    def __init__(self, name: Hashable, places: float) -> None:
        self.name = name
        self.places = places
        self.used = 0  # executing tasks; not counted where places are unlimited
        self.returning = 0  # SUSPENDED tasks in the queue
        self.turns: dict[float, Turn] = {}  # by negated priority, as long as it has READY tasks there
        self.lines: dict[LineUp, Line] = {}
        self.parked: list[tuple[LineUp, Line]] = []

    def free(self) -> None:
        """Give back a place."""
        self.used -= 1
        if self.parked and self.used < self.places:
            parked, self.parked = self.parked, []
            for line_up, line in parked:
                line.parked = False
                head = line_up.head(line)
                if head is not None:
                    line_up.enlist(line, head)


class Line:
    """Tasks of one key with the same needs, in order."""

    __slots__ = ("buckets", "dead", "heap", "key", "listed", "most", "parked")

    def __init__(self, key: Key) -> None:
        self.key = key
        # The first parts of entries, each once, and the entries with each. A heap of all entries would be
        # several times slower, and so would be a deque for every single one.
        self.heap: list[float] = []
        self.buckets: dict[float, Entry | deque[Entry]] = {}
        self.dead = 0  # how many were taken out of the middle
        self.most = SPARE
        self.listed: Listed | None = None  # its one valid entry in the line-up
        self.parked = False


class LineUp:
    """Lines by the rank of their first tasks."""

    __slots__ = ("alive", "heap", "last_first", "most")

    def __init__(self, alive: dict[Task[Any], Entry], *, last_first: bool = False) -> None:
        # Other entries mean nothing. The line-ups of all lanes of a queue share it.
        self.alive = alive
        self.last_first = last_first
        self.heap: list[Listed] = []
        self.most = SPARE

    def put(self, key: Key, entry: Entry) -> None:
        """Put a task into the line of its key, behind (or before) those that are ordered by the same."""
        line = key.lines.get(self)
        if line is None:
            line = key.lines[self] = Line(key)
        self.alive[entry[2]] = entry
        first = entry[0]
        buckets = line.buckets
        bucket = buckets.get(first)
        if bucket is None:
            buckets[first] = entry
            heappush(line.heap, first)
            if line.heap[0] == first and not line.parked:
                self.enlist(line, entry)
        elif isinstance(bucket, tuple):
            buckets[first] = deque((entry, bucket) if self.last_first else (bucket, entry))
        elif self.last_first:
            bucket.appendleft(entry)
        else:
            bucket.append(entry)

    def enlist(self, line: Line, head: Entry) -> None:
        """List a line by its first task, unless it is listed so well already."""
        turn = head[3]
        listed = (head[0], turn[0], line, turn)
        if line.listed is None or listed < line.listed:
            line.listed = listed
            heappush(self.heap, listed)
            if len(self.heap) > self.most:
                self.heap = [item for item in self.heap if item[2].listed is item]
                heapify(self.heap)
                self.most = 2 * len(self.heap) + SPARE

    def head(self, line: Line) -> Entry | None:
        """Return the entry of the first task of a line."""
        heap, buckets, alive = line.heap, line.buckets, self.alive
        while heap:
            bucket = buckets[heap[0]]
            if isinstance(bucket, tuple):
                if alive.get(bucket[2]) is bucket:
                    return bucket
            else:
                while bucket:
                    entry = bucket[0]
                    if alive.get(entry[2]) is entry:
                        return entry
                    bucket.popleft()
            del buckets[heappop(heap)]
        return None

    def first(self) -> Entry | None:
        """Return the entry of the first task whose key has a place."""
        heap = self.heap
        while heap:
            listed = heap[0]
            _, number, line, turn = listed
            if line.listed is listed:
                head = self.head(line)
                if head is not None:
                    if head[3] is not turn or turn[0] != number:
                        turn = head[3]
                        line.listed = listed = (head[0], turn[0], line, turn)
                        heapreplace(heap, listed)
                        continue
                    key = line.key
                    if key.used < key.places:
                        return head
                    line.parked = True
                    key.parked.append((self, line))
                line.listed = None
            heappop(heap)
        return None

    def remove(self, key: Key, task: Task[Any]) -> Entry:
        """Take out a task, wherever it is, and return what was its entry."""
        entry = self.alive.pop(task)
        line = key.lines[self]
        line.dead += 1
        if line.dead > line.most:
            self._clear_away(line)
        return entry

    def _clear_away(self, line: Line) -> None:
        alive, buckets, size = self.alive, line.buckets, 0
        for first, bucket in list(buckets.items()):
            entries = (bucket,) if isinstance(bucket, tuple) else bucket
            kept = [entry for entry in entries if alive.get(entry[2]) is entry]
            size += len(kept)
            if kept:
                buckets[first] = kept[0] if len(kept) == 1 else deque(kept)
            else:
                del buckets[first]
        line.heap = list(buckets)
        heapify(line.heap)
        line.dead, line.most = 0, size + SPARE
