"""Worker groups: how many tasks run at a time, and in which order ready ones are taken."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import attrs

from .errors import BadType, BadValue, shown

if TYPE_CHECKING:
    from .task import Task
    from .task_graph import TaskGraph

DEFAULT = "default"
"""The group of types that are assigned to no other."""
DEFAULT_LIMIT = 10
"""The limit of the default group where a graph is given none."""


def _check_limit(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise BadValue(
            "the limit of a worker group",
            limit,
            "it must be a whole number: how many tasks run at a time, 0 to pause",
        )
    return limit


# Assignments are not validated: counts change with every task.
@attrs.define(eq=False, weakref_slot=False, repr=False, on_setattr=attrs.setters.NO_OP)
class WorkerGroup:
    """A bounded group of worker loops: at most `limit` of its tasks execute at a time.

        TaskGraph(worker_loops={"http": WorkerGroup(10, context=open_client), "default": 4})

    - `limit`: a whole number; 0 holds the group's tasks until it is resized.
    - `context`: a callable without arguments that gives an async context manager. It is entered once per
      worker loop, before its first task, and left at the end of the run; `worker_context()` gives its value
      to the tasks of that loop.

    A graph makes its own groups from what it is given, so one description may serve many graphs. The live
    ones are in `graph.groups`. Raises `BadValue` for a wrong limit and `BadType` for a wrong context.
    """

    limit: int = attrs.field(converter=_check_limit)
    context: Callable[[], AbstractAsyncContextManager[Any]] | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default=DEFAULT, init=False)
    graph: TaskGraph | None = attrs.field(default=None, init=False)

    # Tasks that hold a place (RUNNING): never more than `limit`, but after a resize that has yet to drain.
    running: int = attrs.field(default=0, init=False)
    # Tasks that gave their place back to wait for another one (SUSPENDED).
    suspended: int = attrs.field(default=0, init=False)
    # READY tasks in the order in which they are taken. In a deque there may be entries between them of tasks
    # that are no longer READY; those are in `_stale`, each once.
    _queue: deque[Task[Any]] | RankedQueue = attrs.field(factory=deque, init=False)
    _stale: set[Task[Any]] = attrs.field(factory=set, init=False)
    # SUSPENDED tasks that want a place to go on, in order. They come before all READY ones, so there are none
    # while a place is free.
    _returning: OrderedDict[Task[Any], None] = attrs.field(factory=OrderedDict, init=False)
    # The driver's; it is called when there may be something to take. A driver that wants to be called once
    # takes it away then, and sets it again when it has looked.
    bell: Callable[[WorkerGroup], None] | None = attrs.field(default=None, init=False)

    @context.validator
    def _check_context(self, _: object, context: object) -> None:
        if context is not None and not callable(context):
            rule = (
                "it must be a callable that gives an async context manager, once per worker loop:"
                " context=open_client"
            )
            raise BadType("the context of a worker group", context, rule)

    def made_for(self, graph: TaskGraph, name: str) -> WorkerGroup:
        """Return a group of this description that belongs to a graph."""
        group = WorkerGroup(self.limit, context=self.context)
        group.graph, group.name = graph, name
        return group

    @property
    def ready(self) -> int:
        """How many tasks wait for a place to start."""
        return len(self._queue) - len(self._stale)

    @property
    def free(self) -> int:
        """How many more tasks could start now."""
        return max(0, self.limit - self.running)

    def resize(self, limit: int) -> None:
        """Change the limit, at any time.

        With a higher one more tasks start at once; with a lower one those that run may end first. 0 pauses
        the group. Raises `BadValue`, or `WrongThread` while the graph runs in another thread.
        """
        limit = _check_limit(limit)
        if self.graph is None:
            self.limit = limit
        else:
            self.graph.resize(self, limit)

    def rank(self) -> None:
        """Keep the queue by priority and key from now on.

        Until a task has one of them it is first come first served, and a deque does.
        """
        if not isinstance(self._queue, RankedQueue):
            self._queue = RankedQueue([task for task in self._queue if task not in self._stale])
            self._stale.clear()

    def unwithdraw(self, task: Task[Any]) -> None:
        """Take an old entry of a task off the queue, as it is about to become READY once more."""
        if task in self._stale:
            self._queue.remove(task)
            self._stale.remove(task)

    def withdraw(self, task: Task[Any]) -> None:
        """Take a task off the queue that is no longer READY.

        In a deque its entry stays until it comes up, or until most entries are like that.
        """
        if isinstance(self._queue, RankedQueue):
            self._queue.remove(task)
            return
        self._stale.add(task)
        if len(self._stale) > len(self._queue) // 2:
            self._queue = deque([entry for entry in self._queue if entry not in self._stale])
            self._stale.clear()

    def pop(self) -> Task[Any] | None:
        """Take the next READY task off the queue and return it, or None."""
        while self._queue:
            task = self._queue.popleft()
            if not self._stale or task not in self._stale:
                return task
            self._stale.remove(task)
        return None

    def ring(self) -> None:
        """Say that there may be something to take."""
        if self.bell is not None and self._queue:
            self.bell(self)

    def __repr__(self) -> str:
        counts = f"running {self.running}, suspended {self.suspended}, ready {self.ready}"
        return f"<WorkerGroup {shown(self.name)} limit {self.limit}: {counts}>"


class RankedQueue:
    """READY tasks by rank: higher priority first, then round robin over keys, then first come first served.

    It has as much of a deque's interface as a group needs. Every operation takes constant time in the number
    of tasks and of keys, and logarithmic time in that of different priorities (`remove`: linear, for the last
    task of a priority that is not the highest).
    """

    __slots__ = ("_lanes", "_priorities", "_size")

    def __init__(self, tasks: Iterable[Task[Any]]) -> None:
        # Priority -> key -> tasks in order; keys in the order of their next turn. None of these is empty.
        self._lanes: dict[float, OrderedDict[Hashable, OrderedDict[Task[Any], None]]] = {}
        self._priorities: list[float] = []  # a heap of the lanes' priorities, negated
        self._size = 0
        for task in tasks:
            self.append(task)

    def append(self, task: Task[Any]) -> None:
        """Put a task at the end of its rank."""
        lane = self._lanes.get(task.priority)
        if lane is None:
            lane = self._lanes[task.priority] = OrderedDict()
            heapq.heappush(self._priorities, -task.priority)
        lane.setdefault(task.key, OrderedDict())[task] = None
        self._size += 1

    def popleft(self) -> Task[Any]:
        """Take the first task of the key whose turn it is."""
        lane = self._lanes[-self._priorities[0]]
        key, tasks = next(iter(lane.items()))
        task = next(iter(tasks))
        lane.move_to_end(key)
        self.remove(task)
        return task

    def remove(self, task: Task[Any]) -> None:
        """Take a task out, wherever it is."""
        lane = self._lanes[task.priority]
        del lane[task.key][task]
        self._size -= 1
        if lane[task.key]:
            return
        del lane[task.key]
        if not lane:
            del self._lanes[task.priority]
            if self._priorities[0] == -task.priority:
                heapq.heappop(self._priorities)
            else:
                self._priorities.remove(-task.priority)
                heapq.heapify(self._priorities)

    def __iter__(self) -> Iterator[Task[Any]]:
        for negated in sorted(self._priorities):
            for tasks in self._lanes[-negated].values():
                yield from tasks

    def __len__(self) -> int:
        return self._size
