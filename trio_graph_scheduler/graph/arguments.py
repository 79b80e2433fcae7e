"""Tasks among the arguments of a task: found when it is added, replaced by their results when it starts.

Tasks are found at the top level, in lists, tuples, sets and mappings, and inside `functools.partial`, at any
depth. A container that holds a Task is copied when the task is added, so changing it afterwards changes
nothing; all other values are shared with the caller and are passed on as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from .errors import BadValue
from .task import Task

if TYPE_CHECKING:
    from .conditions import Condition
    from .results import ResultStore

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a call: `(args, kwargs)`."""

# Most arguments are of these types, and none of these holds a Task.
ATOMS = frozenset({int, str, float, bool, bytes, complex, type(None)})


@attrs.frozen(eq=False)
class Arguments:
    """What a function is called with, where that is more than a tuple of plain values."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results_of: tuple[Task[Any], ...]
    """The tasks whose results take their place."""

    def filled(self, results: ResultStore) -> Given:
        """Return the call's arguments with the results of tasks in their places."""
        if not self.results_of:
            return self.args, self.kwargs

        def result_of(task: Task[Any]) -> object:
            return results[task.uid]

        args = tuple([_rebuilt(value, result_of) for value in self.args])
        return args, {name: _rebuilt(value, result_of) for name, value in self.kwargs.items()}


@attrs.frozen(eq=False)
class ComputedArguments:
    """Arguments that a function of the predecessors gives, sync or async, when they are ready."""

    compute: Callable[[list[Task[Any]]], Given | Awaitable[Given]]
    condition: Condition
    """Whose tasks are the predecessors."""
    results_of: tuple[Task[Any], ...] = ()

    def filled(self, _: ResultStore) -> Given | Awaitable[Given]:
        """Return what the function gives."""
        return self.compute(list(self.condition.tasks))


def packed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | Arguments:
    """Return the arguments of a call in the form a task keeps them in, detached from containers that hold
    Tasks.
    """
    tasks = tuple(dict.fromkeys(tasks_in((args, kwargs))))
    if not tasks:
        return Arguments(args, dict(kwargs), ()) if kwargs else args
    try:
        args = tuple([_rebuilt(value, lambda task: task) for value in args])
        kwargs = {name: _rebuilt(value, lambda task: task) for name, value in kwargs.items()}
    except RecursionError:
        rule = "a container that holds Tasks must not contain itself, nor be nested hundreds of times"
        raise BadValue("an argument", tasks[0], rule) from None
    return Arguments(args, dict(kwargs), tasks)


def tasks_in(values: Iterable[object]) -> Iterator[Task[Any]]:
    """Yield the Tasks in these values, in order. A container inside of itself is looked into once; depth does
    not matter.
    """
    stack: list[Iterator[object]] = [iter(values)]
    entered: set[int] = set()
    while stack:
        for value in stack[-1]:
            kind = type(value)
            if kind is Task:
                yield value  # type: ignore[misc]  # it is a Task
            elif kind not in ATOMS:
                inside = _contents(value)
                if inside is not None and id(value) not in entered:
                    entered.add(id(value))
                    stack.append(inside)
                    break
        else:
            stack.pop()


def _contents(value: object) -> Iterator[object] | None:
    """Return what is in a container that we look into, or None for all other values."""
    if isinstance(value, list | tuple | set | frozenset):
        return iter(value)
    if isinstance(value, Mapping):
        return iter([part for item in value.items() for part in item])
    if isinstance(value, partial):
        return iter((value.func, value.args, value.keywords))
    return None


def _rebuilt(value: Any, leaf: Callable[[Task[Any]], object]) -> Any:
    """Return a value in which Tasks are replaced, copying only the containers that hold some."""
    kind = type(value)
    if kind is Task:
        return leaf(value)
    if kind in ATOMS or next(tasks_in((value,)), None) is None:
        return value
    if isinstance(value, Mapping):
        return {_rebuilt(key, leaf): _rebuilt(item, leaf) for key, item in value.items()}
    if isinstance(value, partial):
        function = _rebuilt(value.func, leaf)
        return partial(function, *(_rebuilt(value.args, leaf)), **_rebuilt(value.keywords, leaf))
    items = [_rebuilt(item, leaf) for item in value]
    if isinstance(value, tuple):
        return kind(*items) if hasattr(kind, "_fields") else tuple(items)
    if isinstance(value, list):
        return items
    return frozenset(items) if isinstance(value, frozenset) else set(items)
