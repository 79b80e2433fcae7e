"""Which tasks an observer watches."""

from __future__ import annotations

from typing import Any

from trio_graph_scheduler.graph import BadType, BadValue, Task, TaskGraph, TaskState
from trio_graph_scheduler.graph.values import is_whole
from trio_graph_scheduler.observe.sections import Section

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
        self._uid = watch.section
        self._section = self._new_section()
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
        left = task.uid == self._uid and task not in self._graph
        if left:
            self._section = self._new_section()
        return left

    def _new_section(self) -> Section | None:
        return None if self._uid is None else Section(self._uid)

    def _is_inside(self, task: Task[Any], section: Section) -> bool:
        inside = task in section
        if len(section) > 2 * len(self._graph) + MOST_UNKNOWN:
            self._section = self._new_section()  # most of what is known is of tasks that have been removed
        return inside
