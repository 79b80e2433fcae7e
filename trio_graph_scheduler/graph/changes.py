"""The record of one change of state, and who listens."""

from __future__ import annotations

import sys
from collections.abc import Callable
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
class Subscription:
    """A listener to a graph's changes; `close()` ends it, and so does leaving its `with` block.

    `error` is what the listener raised, if it did: that closes it and harms nothing else.
    """

    listener: Listener
    _others: list[Subscription] = attrs.field(repr=False)
    # The number of the first change that it is told; earlier ones were made before it subscribed.
    first: int = attrs.field(repr=False)
    error: Exception | None = None

    def close(self) -> None:
        """Stop listening; doing so twice is fine."""
        if self in self._others:
            self._others.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tell(self, change: Change) -> None:
        """Call the listener, and close it if it raises.

        Its error is kept in `error` and shown through `sys.unraisablehook`; it does not propagate.
        """
        try:
            self.listener(change)
        except Exception as error:  # noqa: BLE001 - an observer must not be able to harm the graph
            self.error = error
            self.close()
            sys.unraisablehook(
                SimpleNamespace(  # the hook's own argument type cannot be made in Python
                    exc_type=type(error),
                    exc_value=error,
                    exc_traceback=error.__traceback__,
                    err_msg="This listener to a task graph is closed, for it raised",
                    object=self.listener,
                )
            )


class Announcer:
    """Hands changes to subscriptions, once the operation that made them is complete.

    A listener therefore sees a whole graph, never one in the middle of a change, and may change it again:
    what follows from that is announced after what it was told.
    """

    __slots__ = ("_announcing", "_made", "_pending", "subscriptions")

    def __init__(self) -> None:
        self.subscriptions: list[Subscription] = []
        self._pending: list[Change] = []
        self._announcing = False
        self._made = 0

    def subscribe(self, listener: Listener) -> Subscription:
        """Tell a listener of all changes that are made from now on."""
        subscription = Subscription(listener, self.subscriptions, self._made)
        self.subscriptions.append(subscription)
        return subscription

    def note(self, task: Task[Any], before: TaskState | None, after: TaskState | None) -> None:
        """Keep a change until `announce`."""
        self._pending.append(Change(task, before, after))
        self._made += 1

    def announce(self) -> None:
        """Tell every listener what is pending, in order."""
        if self._announcing:
            return  # the call that is announcing comes to what was added meanwhile
        self._announcing = True
        number = self._made - len(self._pending)
        try:
            for change in self._pending:  # grows while listeners change the graph
                for subscription in tuple(self.subscriptions):
                    if subscription.first <= number:
                        subscription.tell(change)
                number += 1
        finally:
            self._pending.clear()
            self._announcing = False
