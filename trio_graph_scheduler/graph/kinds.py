"""The kinds of task that a graph knows: which function a name stands for, and which group it runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from .errors import BadType, DuplicateType, UnknownGroup, UnknownType
from .groups import DEFAULT, WorkerGroup
from .task_type import TaskType


class Kinds:
    """The registry of a graph, and its assignments of types to groups. Raises `UnknownGroup`."""

    def __init__(self, groups: Mapping[str, WorkerGroup], assignments: Mapping[str, str]) -> None:
        self._groups = groups
        self._assignments = dict(assignments)
        unknown = [group for group in self._assignments.values() if group not in groups]
        if unknown:
            raise UnknownGroup(unknown, groups, "worker_assignments name groups of worker_loops")
        # The types that can be named.
        self.registered: dict[str, TaskType[..., Any]] = {}
        # Whatever `add` was given as a kind before (name, function, type or variation) -> its type and group.
        self.known: dict[object, tuple[TaskType[..., Any], WorkerGroup]] = {}

    def find(self, kind: object) -> tuple[TaskType[..., Any], WorkerGroup]:
        """Return the type and group of whatever names a kind of task. Changes nothing.

        Raises `UnknownType`, `DuplicateType`, `UnknownGroup` or `BadType`.
        """
        with suppress(TypeError):  # what cannot be hashed
            if kind in self.known:
                return self.known[kind]
        if isinstance(kind, str):
            if kind not in self.registered:
                fix = "only registered types have names: TaskGraph({'name': function}), or use the function"
                raise UnknownType([kind], self.registered, fix)
            task_type = self.registered[kind]
        elif isinstance(kind, TaskType):
            if self.registered.get(kind.name, kind.origin) is not kind.origin:
                raise DuplicateType(kind.name)
            task_type = kind
        elif callable(kind):
            task_type = TaskType(kind)
        else:
            rule = "it must be a function, a TaskType, or the name of a registered one"
            raise BadType("the kind of a task", kind, rule)
        return task_type, self._group(task_type)

    def remember(self, kind: object, task_type: TaskType[..., Any], group: WorkerGroup) -> None:
        """Know a kind of task the next time, and a type by its name."""
        if isinstance(kind, TaskType):
            self.registered.setdefault(kind.name, kind.origin)
        with suppress(TypeError):  # a callable that cannot be hashed is a kind of its own every time
            self.known[kind] = task_type, group

    def _group(self, task_type: TaskType[..., Any]) -> WorkerGroup:
        name = task_type.group or self._assignments.get(task_type.name, DEFAULT)
        if name not in self._groups:
            raise UnknownGroup([name], self._groups)
        return self._groups[name]


def as_types(
    given: Mapping[str, Callable[..., Any]] | Iterable[object] | None,
) -> Iterator[TaskType[..., Any]]:
    """Yield the types of the forms that `task_functions` may have. Raises `BadType`."""
    if given is None:
        return
    if isinstance(given, Mapping):
        for name, function in given.items():
            if isinstance(function, TaskType):
                yield function if function.name == name else function.but(name=name)
            else:
                yield TaskType(function, name=name)
        return
    for kind in given:
        if not isinstance(kind, TaskType):
            rule = "task_functions is a mapping of names to functions, or an iterable of TaskTypes"
            raise BadType("a task function without a name", kind, rule)
        yield kind


def without_partial(kind: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Return the kind in a partial, and the arguments it is to be called with."""
    keywords: dict[str, Any] = {}
    while isinstance(kind, partial):
        args = (*kind.args, *args)
        keywords = {**kind.keywords, **keywords}
        kind = kind.func
    return kind, args, keywords


def is_kind(task_type: TaskType[..., Any], kind: TaskType[..., Any] | Callable[..., Any] | str) -> bool:
    """Return whether a type is of a kind, which is a name, a TaskType (variations count) or a function."""
    if isinstance(kind, str):
        return task_type.name == kind
    if isinstance(kind, TaskType):
        return task_type.origin is kind.origin
    return bool(task_type.function == kind)
