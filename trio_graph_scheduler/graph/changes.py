"""The record of one change of state, and who listens."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import attrs

if TYPE_CHECKING:
    from .task import Task, TaskState

Listener = Callable[["Change"], object]


@attrs.frozen
class Change:
    """One change of a task's state.

    `before` is None when the task was added, and `after` is None when it was removed. When they are the same
    the task has said something: its `progress_made` or its `notes` have changed.
    """

    task: Task[Any]
    before: TaskState | None
    after: TaskState | None


@attrs.define(eq=False)
class Observer:
    """Who is told of a graph's changes; `close()` ends that, and so does leaving its `with` block.

    `error` is what its function raised, if it did: that closes it and harms nothing else.
    """

    function: Callable[..., object]
    _announcer: Announcer = attrs.field(repr=False)
    error: Exception | None = attrs.field(default=None, init=False)

    def close(self) -> None:
        """Stop listening; doing so twice is fine."""
        self._announcer.leave(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, *args: object) -> None:
        """Call its function, and close it if that raises.

        Its error is kept in `error` and shown through `sys.unraisablehook`; it does not propagate.
        """
        try:
            self.function(*args)
        except Exception as error:  # noqa: BLE001 - an observer must not be able to harm the graph
            self.error = error
            self.close()
            sys.unraisablehook(
                SimpleNamespace(  # the hook's own argument type cannot be made in Python
                    exc_type=type(error),
                    exc_value=error,
                    exc_traceback=error.__traceback__,
                    err_msg="This listener to a task graph is closed, for it raised",
                    object=self.function,
                )
            )


@attrs.define(eq=False)
class Subscription(Observer):
    """A listener that is told of every change."""

    # The number of the first change that it is told; earlier ones were made before it subscribed.
    first: int = attrs.field(repr=False)


@attrs.define(eq=False)
class Follower(Observer):
    """The set of the tasks that have changed, for whoever looks at it from time to time."""

    most: float = math.inf
    """When more tasks than this have changed since `take`, it is closed, and keeps none of them."""
    overflowed: bool = attrs.field(default=False, init=False)
    """Whether that has happened."""
    # In the order in which they first changed, with the state before that; None: it was added.
    changed: dict[Task[Any], TaskState | None] = attrs.field(factory=dict, init=False, repr=False)
    # Whether its function is to be called for the next change.
    armed: bool = attrs.field(default=True, init=False, repr=False)

    def take(self) -> Collection[Task[Any]]:
        """Return the tasks that were added, changed or removed since the last `take`, each once, in order.

        Those that were both added and removed are left out.
        """
        changed, self.changed = self.changed, {}
        self.armed = True
        return changed.keys()

    def look(self) -> None:
        """Call its function if there is something to take, or too much."""
        if len(self.changed) > self.most:
            self.changed = {}
            self.overflowed = self.armed = True
            self.close()
            self.ring()
        elif self.armed and self.changed:
            self.ring()

    def ring(self) -> None:
        """Call its function, unless that has been done since `take`."""
        if self.armed:
            self.armed = False
            self.call()


class Announcer:
    """Hands changes to observers, once the operation that made them is complete.

    A listener therefore sees a whole graph, never one in the middle of a change, and may change it again:
    what follows from that is announced after what it was told.
    """

    __slots__ = ("_announcing", "_followers", "_made", "_pending", "_subscriptions", "observers")

    def __init__(self) -> None:
        # All of them: it is here that a graph looks whether there are any.
        self.observers: list[Observer] = []
        # Replaced, never changed, so that they can be walked while observers come and go.
        self._subscriptions: tuple[Subscription, ...] = ()
        self._followers: tuple[Follower, ...] = ()
        self._pending: list[Change] = []
        self._announcing = False
        self._made = 0

    def subscribe(self, listener: Listener) -> Subscription:
        """Tell a listener of all changes that are made from now on."""
        subscription = Subscription(listener, self, self._made)
        self.observers.append(subscription)
        self._subscriptions += (subscription,)
        return subscription

    def follow(self, wake: Callable[[], object], most: float) -> Follower:
        """Keep the set of the tasks that change from now on."""
        follower = Follower(wake, self, most)
        self.observers.append(follower)
        self._followers += (follower,)
        return follower

    def leave(self, observer: Observer) -> None:
        """Forget an observer."""
        if observer in self.observers:
            self.observers.remove(observer)
            self._subscriptions = tuple(one for one in self._subscriptions if one is not observer)
            self._followers = tuple(one for one in self._followers if one is not observer)

    def note(self, task: Task[Any], before: TaskState | None, after: TaskState | None) -> None:
        """Keep a change until `announce`."""
        for follower in self._followers:
            if task not in follower.changed:
                follower.changed[task] = before
            if after is None and follower.changed[task] is None:
                del follower.changed[task]  # it came and went
        if self._subscriptions:  # no object is made for a listener that does not exist
            self._pending.append(Change(task, before, after))
            self._made += 1

    def touch(self, task: Task[Any]) -> None:
        """Let followers look at a task again."""
        for follower in self._followers:
            follower.changed.setdefault(task, task.state)

    def announce(self) -> None:
        """Tell every listener what is pending, in order, and wake followers."""
        if self._pending:
            self._tell_listeners()
        for follower in self._followers:
            if follower.armed or len(follower.changed) > follower.most:
                follower.look()

    def _tell_listeners(self) -> None:
        if self._announcing:
            return  # the call that is announcing comes to what was added meanwhile
        self._announcing = True
        number = self._made - len(self._pending)
        try:
            for change in self._pending:  # grows while listeners change the graph
                for subscription in self._subscriptions:
                    if subscription.first <= number and subscription in self._subscriptions:
                        subscription.call(change)
                number += 1
        finally:
            self._pending.clear()
            self._announcing = False

    def wake(self) -> None:
        """Wake followers, as something has changed that is not about tasks."""
        for follower in self._followers:
            follower.ring()
