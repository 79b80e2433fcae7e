"""Which tasks an observer watches."""

from __future__ import annotations

from typing import Any

from trio_graph_scheduler.graph import BadType, BadValue, Task, TaskGraph, TaskState
from trio_graph_scheduler.graph.values import is_whole

from .messages import Watch

MOST_UNKNOWN = 1_000
"""Tasks that are not in the graph any more, and may be remembered."""


class Selection:
    """The tasks that a `Watch` asks for: `task in selection`.

    Raises `BadValue` or `BadType` for a request that cannot be, and `UnknownGroup`.
    """

    def __init__(self, graph: TaskGraph, watch: Watch) -> None:
        if watch.view not in ("tasks", "types"):
            raise BadValue("view", watch.view, "it must be 'tasks' or 'types'")
        for field in ("types", "states", "groups"):
            names = getattr(watch, field)
            if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
                raise BadType(field, names, f'it must be a tuple of names: Watch({field}=("this",))')
        if watch.section is not None and not is_whole(watch.section):
            raise BadType("section", watch.section, "it must be the uid of a task, or None")
        states = [state.value for state in TaskState]
        for state in watch.states:
            if state not in states:
                raise BadValue("a state", state, f"it must be one of {', '.join(states)}")
        for group in watch.groups:
            graph.group(group)
        self._graph = graph
        self._types = frozenset(watch.types)
        self._groups = frozenset(watch.groups)
        self._states = frozenset(TaskState(state) for state in watch.states)
        self._section = watch.section
        # uid -> whether the task is in the section, as far as that is known.
        self._inside: dict[int, bool] = {}
        self.chooses = bool(watch.types or watch.groups or watch.states or watch.section is not None)
        """Whether it may be less than all tasks."""

    def has_type(self, name: str, group: str) -> bool:
        """Return whether tasks of this type in this group are watched."""
        return (not self._types or name in self._types) and (not self._groups or group in self._groups)

    def __contains__(self, task: Task[Any]) -> bool:
        return (
            task in self._graph
            and (not self._states or task.state in self._states)
            and self.has_type(task.type.name, task.group.name)
            and (self._section is None or self._is_inside(task, self._section))
        )

    def leaves(self, task: Task[Any]) -> bool:
        """Return whether, as this task has changed, others have left that have not: it was its section."""
        left = task.uid == self._section and task not in self._graph
        if left:
            self._inside.clear()
        return left

    def _is_inside(self, task: Task[Any], section: int) -> bool:
        """Return whether a task is in the section; each of those that spawned it is looked at once."""
        known = self._inside
        if len(known) > 2 * len(self._graph) + MOST_UNKNOWN:
            known.clear()  # most of them have been removed
        if not known:
            known |= {self._graph.root.uid: False, section: True}
        climbed = []
        node = task
        while node.uid not in known:
            climbed.append(node.uid)
            node = node.parent
        known.update(dict.fromkeys(climbed, known[node.uid]))
        return known[task.uid]
