"""Worker groups: how many tasks run at a time, and in which order ready ones are taken."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal

import attrs

from .errors import BadType, BadValue, shown
from .limits import Limit, claimants
from .policies import Rate
from .queues import Lane, ReadyQueue, Stack
from .values import is_seconds, is_whole

if TYPE_CHECKING:
    from .task import Task
    from .task_graph import TaskGraph

DEFAULT = "default"
"""The group of types that are assigned to no other."""
DEFAULT_LIMIT = 10
"""The limit of the default group where a graph is given none."""
LATE = 0.01
"""A start that comes so many seconds after its token, and was waited for, counts as in time."""


def _check_limit(limit: object) -> int:
    if not is_whole(limit):
        rule = "it must be a whole number: how many tasks run at a time, 0 to pause"
        raise BadValue("the limit of a worker group", limit, rule)
    return limit


# Assignments are not validated: counts change with every task.
@attrs.define(eq=False, weakref_slot=False, repr=False, on_setattr=attrs.setters.NO_OP)
class WorkerGroup:
    """A bounded group of worker loops: at most `limit` of its tasks execute at a time.

        TaskGraph(worker_loops={"http": WorkerGroup(10, context=open_client, per_key=2), "default": 4})

    - `limit`: a whole number; 0 holds the group's tasks until it is resized.
    - `context`: a callable without arguments that gives an async context manager. It is entered once per
      worker loop, before its first task, and left at the end of the run; `worker_context()` gives its value
      to the tasks of that loop.
    - `rate`: a `Rate`, how often tasks start; each trial is a start, going on after a wait is none.
    - `per_key`: at most so many tasks with the same key execute at a time; those without a key are not
      limited by it.
    - `order`: "fifo", or "depth_first": of tasks of the same priority and key the last one that became READY
      starts first, which keeps a search that adds tasks narrow.
    - `ageing`: seconds. A task that has been READY for longer goes ahead of all priorities and keys, the
      oldest first.

    A graph makes its own groups from what it is given, so one description may serve many graphs. The live
    ones are in `graph.groups`. Raises `BadValue` or `BadType` for what makes no sense.
    """

    limit: int = attrs.field(converter=_check_limit)
    context: Callable[[], AbstractAsyncContextManager[Any]] | None = attrs.field(default=None, kw_only=True)
    rate: Rate | None = attrs.field(default=None, kw_only=True)
    per_key: int | None = attrs.field(default=None, kw_only=True)
    order: Literal["fifo", "depth_first"] = attrs.field(default="fifo", kw_only=True)
    ageing: float | None = attrs.field(default=None, kw_only=True)
    name: str = attrs.field(default=DEFAULT, init=False)
    graph: TaskGraph | None = attrs.field(default=None, init=False)

    # Tasks that hold a place (RUNNING): never more than `limit`, but after a resize that has yet to drain.
    running: int = attrs.field(default=0, init=False)
    # Tasks that gave their place back to wait for another one (SUSPENDED).
    suspended: int = attrs.field(default=0, init=False)
    # How many SUSPENDED tasks want a place to go on. They come before all READY ones.
    returning: int = attrs.field(default=0, init=False)
    paused: bool = attrs.field(default=False, init=False)
    """Whether its READY tasks are held; what executes goes on."""
    # Whether it starts tasks as they come: not paused, and `_queue` is a deque.
    _simple: bool = attrs.field(default=True, init=False)
    # READY tasks in the order in which they are taken. In a deque there may be entries between them of tasks
    # that are no longer READY; those are in `_stale`, each once.
    _queue: deque[Task[Any]] | ReadyQueue = attrs.field(init=False)
    _stale: set[Task[Any]] = attrs.field(factory=set, init=False)
    # SUSPENDED tasks that want a place to go on, in order, while `_queue` is a deque; else it has them too.
    _returning: OrderedDict[Task[Any], None] = attrs.field(factory=OrderedDict, init=False)
    # The state of the rate, and the time of the timer that is pending for its next token.
    _tat: float = attrs.field(default=-math.inf, init=False)
    _token_timer: float | None = attrs.field(default=None, init=False)
    # When the token came that the next start takes, if it was waited for.
    _token_came_at: float = attrs.field(default=-math.inf, init=False)
    # The driver's; it is called when there may be something to take. A driver that wants to be called once
    # takes it away then, and sets it again when it has looked.
    bell: Callable[[WorkerGroup], None] | None = attrs.field(default=None, init=False)

    @context.validator
    def _check_context(self, _: object, context: object) -> None:
        if context is not None and not callable(context):
            rule = "it must be a callable that gives an async context manager: context=open_client"
            raise BadType("the context of a worker group", context, rule)

    @rate.validator
    def _check_rate(self, _: object, rate: object) -> None:
        if rate is not None and not isinstance(rate, Rate):
            rule = "it must be a Rate: rate=Rate(5) starts 5 tasks a second"
            raise BadType("the rate of a worker group", rate, rule)

    @per_key.validator
    def _check_per_key(self, _: object, per_key: object) -> None:
        if per_key is not None and not is_whole(per_key, 1):
            rule = "it must be a whole number, 1 or more: how many tasks of one key run at a time"
            raise BadValue("per_key of a worker group", per_key, rule)

    @order.validator
    def _check_order(self, _: object, order: object) -> None:
        if order not in ("fifo", "depth_first"):
            rule = "it must be 'fifo' (first ready, first started) or 'depth_first' (last ready first)"
            raise BadValue("the order of a worker group", order, rule)

    @ageing.validator
    def _check_ageing(self, _: object, ageing: object) -> None:
        if ageing is not None and not is_seconds(ageing):
            rule = "it must be the seconds after which a READY task goes ahead of others: ageing=60"
            raise BadValue("the ageing of a worker group", ageing, rule)

    def __attrs_post_init__(self) -> None:
        self._queue = Stack() if self.order == "depth_first" else deque()
        if self.rate is not None or self.per_key is not None or self.ageing is not None:
            self.rank()

    def made_for(self, graph: TaskGraph, name: str) -> WorkerGroup:
        """Return a group of this description that belongs to a graph."""
        group = attrs.evolve(self)
        group.graph, group.name = graph, name
        group.set_paused(self.paused)
        return group

    # How it stands ------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """How many READY tasks it has."""
        return len(self._queue) - len(self._stale)

    @property
    def free(self) -> int:
        """How many more tasks could start now."""
        return max(0, self.limit - self.running)

    @property
    def governed(self) -> bool:
        """Whether more than places decides what may start: a rate, places per key, or named limits."""
        return isinstance(self._queue, ReadyQueue) and self._queue.governors > 0

    @property
    def startable(self) -> int:
        """How many worker loops it is worth to wake.

        In a governed group that is one at most; when it has got its task, the group rings again if another
        one may start. A claim on named limits is worth one too: whoever frees them rings only for claimants.
        """
        return self._startable(self.running)

    def _startable(self, running: int) -> int:
        if self.paused or running >= self.limit:
            return 0
        if not self.governed:
            return min(self.ready, self.limit - running)
        assert isinstance(self._queue, ReadyQueue)  # noqa: S101 - only that can be governed
        return int(self._has_token() and self._queue.startable)

    def obstacle(self, task: Task[Any]) -> str | None:
        """Return in words why a task could not start now, places of its group apart; None if it could."""
        if self.paused:
            return f"its group {shown(self.name)} is paused"
        queue = self._queue
        if self.per_key is not None and isinstance(queue, ReadyQueue) and task.key is not None:
            used = queue.used(task.key)
            if used >= self.per_key:
                return f"its key {shown(task.key)} has {used} of {self.per_key} places"
        if task.needs and isinstance(queue, ReadyQueue):
            lane = queue.lane(task.needs)
            for limit, amount in task.needs:
                if not limit.admits(lane, amount):
                    return _shortage(limit, amount)
        if self.rate is not None and not self._has_token():
            when = self.rate.next(self._tat)
            return f"the next token of its group's rate comes at {when:g}, in {when - self._time():.3g} s"
        return None

    # What users change --------------------------------------------------------------------------------------

    def resize(self, limit: int) -> None:
        """Change the limit, at any time.

        With a higher one more tasks start at once; with a lower one those that run may end first. 0 holds
        the group's tasks, and bodies that want to go on after a wait. Raises `BadValue`, or `WrongThread`
        while the graph runs in another thread.
        """
        limit = _check_limit(limit)
        if self.graph is None:
            self.limit = limit
        else:
            self.graph.resize(self, limit)

    def pause(self) -> None:
        """Let no task of the group start until `resume`; what runs, or waits in its body, goes on.

        Doing so twice is fine. Raises `WrongThread` while the graph runs in another thread.
        """
        self._pause(paused=True)

    def resume(self) -> None:
        """Let tasks start again after `pause`.

        Raises `WrongThread` while the graph runs in another thread.
        """
        self._pause(paused=False)

    def _pause(self, *, paused: bool) -> None:
        if self.graph is None:
            self.set_paused(paused)
        else:
            self.graph.pause(self, paused)

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001 - the new state itself
        """Take note that it is paused or not; for the graph, which then offers it what has come free."""
        self.paused = paused
        self._simple = not paused and not isinstance(self._queue, ReadyQueue)
        if paused:
            self.drop_claims()

    # For the graph: the queue -------------------------------------------------------------------------------

    def rank(self) -> None:
        """Keep the queue by all that counts from now on, as a task has a priority, a key or named limits."""
        if not isinstance(self._queue, ReadyQueue):
            self._simple = False
            self._queue = ReadyQueue(self, [task for task in self._queue if task not in self._stale])
            self._stale.clear()
            for task in self._returning:
                self._queue.add_returning(task)
            self._returning.clear()

    def unwithdraw(self, task: Task[Any]) -> None:
        """Take an old entry of a task off the queue, as it is about to become READY once more."""
        if task in self._stale and not isinstance(self._queue, ReadyQueue):
            self._queue.remove(task)
            self._stale.remove(task)

    def withdraw(self, task: Task[Any]) -> None:
        """Take a task off the queue that is no longer READY.

        In a deque its entry stays until it comes up, or until most entries are like that. If the task is
        being started, `acquire` must come first: this may end a claim, and others take what that had kept.
        """
        queue = self._queue
        if isinstance(queue, ReadyQueue):
            governed = self.governed
            queue.remove(task)
            self._drop_claims([queue.lane(task.needs)] if task.needs else [])
            if governed and not self.governed:
                self.ring()  # it rang for one task at a time
            return
        self._stale.add(task)
        if len(self._stale) > len(queue) // 2:
            kept = [entry for entry in queue if entry not in self._stale]
            queue.clear()
            queue.extend(kept)
            self._stale.clear()

    def pop(self) -> Task[Any] | None:
        """Take the next READY task that may start off the queue and return it, or None.

        It has its key's place, its named limits and a token of the rate then, but no place of the group:
        whoever calls this has seen to it that there is one, and counts it.
        """
        if self.paused:
            return None
        queue = self._queue
        if isinstance(queue, ReadyQueue):
            return self._pop_governed(queue) if queue.governors else queue.pop()
        while queue:
            task = queue.popleft()
            if not self._stale or task not in self._stale:
                return task
            self._stale.remove(task)
        return None

    def _pop_governed(self, queue: ReadyQueue) -> Task[Any] | None:
        if not self._has_token():
            self.await_token()
            return None
        task = queue.pop()
        if task is not None:
            self._take_token()
            if self._startable(self.running + 1):
                self.ring()
            else:
                self.await_token()
        return task

    def ring(self) -> None:
        """Say that there may be something to take."""
        if self._queue:
            self.await_token()
            if self.bell is not None:
                self.bell(self)

    # For the graph: bodies that want to go on ---------------------------------------------------------------

    def add_returning(self, task: Task[Any]) -> None:
        """Let a SUSPENDED task wait for a place, and for all else that it needs, to go on."""
        self.returning += 1
        if isinstance(self._queue, ReadyQueue):
            self._queue.add_returning(task)
        else:
            self._returning[task] = None

    def pop_returning(self) -> Task[Any] | None:
        """Return the next SUSPENDED task that may go on, or None.

        It has its key's place and its named limits then; whoever calls this counts its place of the group.
        """
        if not self.returning or self.running >= self.limit:
            return None
        if isinstance(self._queue, ReadyQueue):
            task = self._queue.pop_returning()
        else:
            task = self._returning.popitem(last=False)[0]
        self.returning -= task is not None
        return task

    def drop_returning(self, task: Task[Any]) -> bool:
        """Let a SUSPENDED task no longer wait to go on; return whether it did."""
        if not self.returning:
            return False
        if isinstance(self._queue, ReadyQueue):
            if not self._queue.remove_returning(task):
                return False
            self.returning -= 1
            self._drop_claims([self._queue.lane(task.needs)] if task.needs else [])
            return True
        if task not in self._returning:
            return False
        del self._returning[task]
        self.returning -= 1
        return True

    # For the graph: what executing tasks hold ---------------------------------------------------------------

    def acquire(self, task: Task[Any]) -> None:
        """Take what a task needs that is started out of turn: its key's place, named limits, and a token."""
        if isinstance(self._queue, ReadyQueue):
            self._queue.acquire(task)
        self._take_token()
        self.await_token()

    def release(self, task: Task[Any]) -> None:
        """Give back the key's place and the named limits of a task that executes no longer.

        Other groups with claims on these are offered them; this one the graph offers, with the place.
        """
        needs = task.needs
        if (self.per_key is not None or needs) and isinstance(self._queue, ReadyQueue):
            self._queue.release(task)
            if needs:
                self._offer(needs, but=self)

    def drop_claims(self) -> None:
        """Keep nothing from others; for the graph, when it has paused the group or set its limit to 0."""
        if isinstance(self._queue, ReadyQueue):
            self._drop_claims(self._queue.claims(), closed=True)

    def _drop_claims(self, lanes: Iterable[Lane], *, closed: bool = False) -> None:
        idle = [lane for lane in lanes if lane.claimed and (closed or not lane.has_starters)]
        freed = [need for lane in idle for need in lane.needs]
        for lane in idle:
            lane.drop_claim()
        self._offer(freed)

    def _offer(self, needs: Iterable[tuple[Limit, int]], but: WorkerGroup | None = None) -> None:
        for group in claimants([limit for limit, _ in needs]):
            if group is not but:
                group.graph.offer(group)  # type: ignore[union-attr]  # only groups of a graph have claims

    # For the graph: time ------------------------------------------------------------------------------------

    def began(self, now: float) -> None:
        """Take note that a run begins, whose clock need not be that of the one before."""
        self._token_timer = None
        self._token_came_at = -math.inf
        if self.rate is not None:
            self._tat = self.rate.clamped(self._tat, now)
        if isinstance(self._queue, ReadyQueue):
            self._queue.began(now)
            self.await_token()

    def await_token(self) -> None:
        """See to it that the group rings when the next token comes, if a task waits for it."""
        if self.rate is None or self._token_timer is not None or not self._queue or self._has_token():
            return
        self._token_timer = when = self.rate.next(self._tat)
        timetable = self.graph.timetable  # type: ignore[union-attr]  # only groups of a graph have tasks
        timetable.at(when, self._token_came, when)

    def _token_came(self, when: float) -> None:
        if when == self._token_timer:  # not one that was set in an earlier run
            self._token_timer = None
            self._token_came_at = when
            self.ring()

    def _take_token(self) -> None:
        if self.rate is None:
            return
        now = self._time()
        # Real alarms ring late. If the next token were counted from then, the rate would fall short by that.
        if now - self._token_came_at < LATE:
            now = self._token_came_at
        self._token_came_at = -math.inf
        self._tat = self.rate.taken(self._tat, now)

    def _has_token(self) -> bool:
        return self.rate is None or self._time() >= self.rate.next(self._tat)

    def _time(self) -> float:
        return self.graph.time()  # type: ignore[union-attr]  # only groups of a graph have tasks

    def __repr__(self) -> str:
        counts = f"running {self.running}, suspended {self.suspended}, ready {self.ready}"
        return f"<WorkerGroup {shown(self.name)} limit {self.limit}: {counts}>"


def _shortage(limit: Limit, amount: int) -> str:
    needed = f"it needs {amount} of {shown(limit.name)}, of which"
    of_all = f"{limit.free} of {limit.limit} {'is' if limit.free == 1 else 'are'}"
    if amount > limit.free:
        return f"{needed} {of_all} free"
    return f"{needed} {of_all} kept for a task that came before it"
