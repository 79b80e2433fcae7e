"""The state of a graph as an observer knows it, from what the feed says."""

from __future__ import annotations

import attrs

from .messages import (
    Detail,
    End,
    GraphView,
    Message,
    Problem,
    Snapshot,
    TaskView,
    Types,
    TypeView,
    Watch,
)


@attrs.define(eq=False)
class Mirror:
    """What is known of a graph, from the messages that `apply` was given.

    - `graph`: the graph as a whole; None until the first message.
    - `tasks`: uid -> how the task stands, of those that are watched.
    - `types`: the figures of each type, where it is those that are watched; else None.
    - `time`: when the last message was written, on the clock of the graph.
    - `number`: the number of the last change that is in it.
    - `complete`: whether this is the whole state, or parts of a snapshot are still to come.
    - `over`: whether the run is over, and all has been told.
    """

    graph: GraphView | None = None
    tasks: dict[int, TaskView] = attrs.field(factory=dict)
    types: tuple[TypeView, ...] | None = None
    time: float = 0.0
    number: int = 0
    complete: bool = False
    over: bool = False

    def apply(self, message: Message) -> None:
        """Take in the next message; those that answer requests change nothing."""
        if isinstance(message, Detail | Problem):
            return
        self.over = isinstance(message, End)
        if isinstance(message, End):
            return
        if isinstance(message, Types):
            self.tasks = {}
            self.types = message.types
            self.complete = True
        elif isinstance(message, Snapshot):
            if message.first:
                self.tasks = {}
                self.types = None
            self.complete = message.last
            self.tasks.update((task.uid, task) for task in message.tasks)
        else:
            self.tasks.update((task.uid, task) for task in message.tasks)
            for uid in message.gone:
                self.tasks.pop(uid, None)
        self.graph, self.time, self.number = message.graph, message.time, message.number

    def resumed(self, watch: Watch) -> Watch:
        """Return a request to go on from here, or to begin anew where that cannot be."""
        if self.graph is None or not self.complete or self.types is not None:
            return attrs.evolve(watch, feed=None, number=None)
        return attrs.evolve(watch, feed=self.graph.feed, number=self.number)
