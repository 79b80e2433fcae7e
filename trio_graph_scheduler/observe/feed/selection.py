"""Which tasks an observer watches."""

from __future__ import annotations

from typing import Any

from trio_graph_scheduler.graph import BadType, BadValue, Task, TaskGraph, TaskState

from .messages import Watch


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
            and (self._section is None or self._is_in_section(task, self._section))
        )

    @staticmethod
    def _is_in_section(task: Task[Any], section: int) -> bool:
        node: Task[Any] | None = task
        while node is not None and node.uid > section:  # parents were there before their children
            node = node.parent
        return node is not None and node.uid == section
