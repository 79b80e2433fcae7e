"""The kinds of task that a graph knows: what a name stands for, which group it runs in, what counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import attrs

from .cohorts import Cohort
from .errors import BadType, BadValue, DuplicateType, UnknownGroup, UnknownLimit, UnknownType, shown
from .groups import DEFAULT, WorkerGroup
from .limits import Limit, Needs
from .task_type import TaskType


@attrs.frozen(eq=False)
class Kind:
    """What a graph knows of a task type."""

    type: TaskType[..., Any]
    cohort: Cohort
    needs: Needs
    """Its named limits, and how much of each a task takes."""
    plain: bool
    """Whether its tasks need no `Course`: no limits, and nothing that has to do with time."""


class Kinds:
    """The registry of a graph: its types, in which group each runs, and what limits it needs.

    Raises `UnknownGroup`.
    """

    def __init__(
        self,
        groups: Mapping[str, WorkerGroup],
        limits: Mapping[str, Limit],
        assignments: Mapping[str, str],
        cohorts: dict[tuple[str, str], Cohort],
    ) -> None:
        self._groups = groups
        self._cohorts = cohorts
        self._limits = limits
        self._assignments = dict(assignments)
        unknown = [group for group in self._assignments.values() if group not in groups]
        if unknown:
            raise UnknownGroup(unknown, groups, "worker_assignments name groups of worker_loops")
        # The types that can be named.
        self.registered: dict[str, TaskType[..., Any]] = {}
        # Whatever `add` was given as a kind before: a name, a function, a type or a variation.
        self.known: dict[object, Kind] = {}

    def find(self, kind: object) -> Kind:
        """Return what is known of whatever names a kind of task. Changes nothing.

        Raises `UnknownType`, `DuplicateType`, `UnknownGroup`, `UnknownLimit`, `BadValue` or `BadType`.
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
        needs = self._needs(task_type)
        plain = not needs and task_type.timeout is None and task_type.budget is None
        return Kind(task_type, self.cohort(task_type.name, self._group(task_type)), needs, plain)

    def remember(self, name: object, kind: Kind) -> None:
        """Know a kind of task the next time by what named it, and a type by its name."""
        if isinstance(name, TaskType):
            self.registered.setdefault(name.name, name.origin)
        with suppress(TypeError):  # a callable that cannot be hashed is a kind of its own every time
            self.known[name] = kind

    def cohort(self, name: str, group: WorkerGroup) -> Cohort:
        """Return what counts the tasks of a type of this name in this group."""
        found = self._cohorts.get((name, group.name))
        if found is None:
            found = self._cohorts[name, group.name] = Cohort(name, group)
        return found

    def _group(self, task_type: TaskType[..., Any]) -> WorkerGroup:
        name = task_type.group or self._assignments.get(task_type.name, DEFAULT)
        if name not in self._groups:
            raise UnknownGroup([name], self._groups)
        return self._groups[name]

    def _needs(self, task_type: TaskType[..., Any]) -> Needs:
        unknown = [name for name in task_type.limits if name not in self._limits]
        if unknown:
            fix = f"{shown(task_type.name)} needs it: TaskGraph(limits={{{shown(unknown[0])}: 3}})"
            raise UnknownLimit(unknown, self._limits, fix)
        for name, amount in task_type.limits.items():
            if amount > self._limits[name].limit:
                rule = f"the graph has {self._limits[name].limit} of it, so the task could never start"
                raise BadValue(f"what {shown(task_type.name)} needs of {shown(name)}", amount, rule)
        return tuple((self._limits[name], amount) for name, amount in sorted(task_type.limits.items()))


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
