"""Tasks among the arguments of a task: found when it is added, replaced by their results when it starts.

Tasks are found at the top level, in lists, tuples, sets and mappings, and inside `functools.partial`, at any
depth. A container that holds a Task is copied when the task is added, so changing it afterwards changes
nothing; all other values are shared with the caller and are passed on as they are.
"""

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
GivenByUser = tuple[Iterable[Any], Mapping[str, Any]]
"""The same as users may hand it over, with any iterable and mapping."""

# Most arguments are of these types, and no value of these types holds a Task.
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
        rebuild = _Rebuilding(lambda task: results[task.uid])
        args = tuple([results[arg.uid] if type(arg) is Task else rebuild(arg) for arg in self.args])
        return args, {name: rebuild(value) for name, value in self.kwargs.items()}


@attrs.frozen(eq=False)
class ComputedArguments:
    """Arguments that a function computes from the predecessors, once the task starts.

    The function may be sync or async.
    """

    compute: Callable[[list[Task[Any]]], GivenByUser | Awaitable[GivenByUser]]
    condition: Condition
    """Whose tasks are the predecessors."""
    results_of: tuple[Task[Any], ...] = ()
    """None: the function gets the predecessors themselves."""

    def filled(self, _: ResultStore) -> GivenByUser | Awaitable[GivenByUser]:
        """Return what the function returns: the arguments, or an awaitable of them."""
        return self.compute(list(self.condition.tasks))


def packed(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | Arguments:
    """Return the arguments of a call in the form in which a task keeps them.

    Containers that hold Tasks are copied. Raises `BadValue` if such a container contains itself.
    """
    tasks = tuple(dict.fromkeys(tasks_in((*args, *kwargs.values()))))
    if not tasks:
        return Arguments(args, dict(kwargs), ()) if kwargs else args
    rebuild = _Rebuilding(lambda task: task)
    try:
        args = tuple([rebuild(value) for value in args])
        kwargs = {name: rebuild(value) for name, value in kwargs.items()}
    except RecursionError:
        rule = "a container that holds Tasks must not contain itself, nor be nested hundreds of times"
        raise BadValue("an argument", tasks[0], rule) from None
    return Arguments(args, dict(kwargs), tasks)


def tasks_in(values: Iterable[object]) -> Iterator[Task[Any]]:
    """Yield the Tasks in these values, in order.

    A container that contains itself is looked into once, and nesting may be as deep as it likes.
    """
    stack: list[Iterator[object]] = [iter(values)]
    # By id, and kept alive so that ids stay their own: some mappings make their values on the fly.
    entered: dict[int, object] = {}
    while stack:
        for value in stack[-1]:
            kind = type(value)
            if kind is Task:
                yield value  # type: ignore[misc]  # it is a Task
            elif kind not in ATOMS:
                inside = _contents(value)
                if inside is not None and id(value) not in entered:
                    entered[id(value)] = value
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


class _Rebuilding:
    """Replaces Tasks in values, copying only the containers that hold some, and each of them once."""

    def __init__(self, leaf: Callable[[Task[Any]], object]) -> None:
        self._leaf = leaf
        # By id: the container, kept alive so that the id stays its own, and what takes its place (itself,
        # while it is being looked into).
        self._done: dict[int, tuple[object, object]] = {}
        self._open: set[int] = set()
        self._in_themselves: set[int] = set()

    def __call__(self, value: Any) -> Any:
        """Return the value with Tasks replaced; itself if it holds none."""
        kind = type(value)
        if kind is Task:
            return self._leaf(value)
        if kind in ATOMS:
            return value
        if id(value) in self._done:
            if id(value) in self._open:
                self._in_themselves.add(id(value))
            return self._done[id(value)][1]
        parts = _contents(value)
        if parts is None:
            return value
        self._done[id(value)] = value, value
        self._open.add(id(value))
        rebuilt = self._container(value, list(parts))
        self._open.remove(id(value))
        if rebuilt is not value and id(value) in self._in_themselves:
            raise RecursionError
        self._done[id(value)] = value, rebuilt
        return rebuilt

    def _container(self, value: Any, parts: list[object]) -> object:
        rebuilt = [self(part) for part in parts]
        if not any(type(part) is Task or new is not part for part, new in zip(parts, rebuilt, strict=True)):
            return value
        if isinstance(value, Mapping):
            return dict(zip(rebuilt[::2], rebuilt[1::2], strict=True))
        if isinstance(value, partial):
            function, args, keywords = rebuilt
            return partial(function, *args, **keywords)
        if isinstance(value, tuple):
            return type(value)(*rebuilt) if hasattr(value, "_fields") else tuple(rebuilt)
        if isinstance(value, list):
            return rebuilt
        return frozenset(rebuilt) if isinstance(value, frozenset) else set(rebuilt)
