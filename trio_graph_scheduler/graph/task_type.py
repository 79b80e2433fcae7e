"""Kinds of task: a named function with its policies."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

import attrs

from .errors import BadType, BadValue, shown
from .policies import RetryPolicy
from .values import is_seconds, is_whole

P = ParamSpec("P")
R = TypeVar("R")

EXECUTORS = ("async", "thread")
OPTIONS = frozenset({"name", "group", "executor", "abandon_after", "retry", "timeout", "budget", "limits"})
"""What a variation of a type may change."""


def _as_limits(limits: object) -> Mapping[str, int]:
    if not isinstance(limits, Mapping):
        raise BadType("the limits of a task type", limits, 'they must be a mapping: limits={"database": 1}')
    for name, amount in limits.items():
        if not is_whole(amount, 1):
            rule = "it must be a whole number from 1 on: how much of it a task takes"
            raise BadValue(f"the limit {shown(name)} of a task type", amount, rule)
    return dict(limits)


@attrs.frozen(eq=False)
class TaskType(Generic[P, R]):
    """A registered kind of task: what holds for all work of the kind.

        fetch = TaskType(get_page, name="fetch", group="http")
        graph.add(fetch, url)
        graph.add(fetch.but(group="slow"), other_url)

    - `function`: what a task of this kind calls; the TaskType itself can be called like it.
    - `name`: its stable identifier, by default the function's name. Registered names are unique within a
      graph.
    - `group`: the worker group it runs in. Where it is None, the graph's `worker_assignments` decide, and
      else it is `"default"`.
    - `executor`: `"async"` calls the function on trio's thread, awaiting it if it is async; `"thread"` calls
      it in a worker thread. By default async functions get `"async"`, plain ones `"thread"`.
    - `abandon_after`: for threads, how many seconds after a cancellation the run waits for the thread before
      it goes on without it (the thread itself cannot be stopped); None, the default, waits as long as it
      takes.
    - `retry`: whether a trial that has failed is followed by another one: a `Retry`, or any function
      `(error, trial number, elapsed seconds) -> seconds to wait, or None to give up`. None: never, unless the
      body raises `TryAgain`.
    - `timeout`: how many seconds a trial may take, waits for other tasks included. Then its body is
      cancelled, and the trial has failed with `TrialTimeout`, which `retry` may find worth another one.
    - `budget`: how many seconds the task may take in all, from when it is READY for the first time: waits for
      a place, all trials and the delays between them, and everything that it spawns. Then all that is left of
      that is stopped: what had its turn fails with `BudgetExceeded`, what was WAITING is CANCELLED.
    - `limits`: name -> how much of that limit of the graph a task takes while it executes; see
      `TaskGraph(limits=...)`.

    Raises `BadType` or `BadValue` where one of these cannot be, such as an async function for a thread.
    """

    function: Callable[P, R]
    name: str = attrs.field(kw_only=True)
    group: str | None = attrs.field(kw_only=True, default=None)
    executor: str = attrs.field(kw_only=True)
    abandon_after: float | None = attrs.field(kw_only=True, default=None)
    retry: RetryPolicy | None = attrs.field(kw_only=True, default=None)
    timeout: float | None = attrs.field(kw_only=True, default=None)
    budget: float | None = attrs.field(kw_only=True, default=None)
    limits: Mapping[str, int] = attrs.field(kw_only=True, factory=dict, converter=_as_limits)
    _origin: TaskType[P, R] | None = attrs.field(kw_only=True, repr=False, default=None)

    @name.default
    def _name_of_function(self) -> str:
        return name_of(self.function)

    @executor.default
    def _executor_for_function(self) -> str:
        return "async" if _is_async(self.function) else "thread"

    def __attrs_post_init__(self) -> None:
        if not callable(self.function):
            raise BadType(
                "the function of a task type",
                self.function,
                "it must be callable: TaskType(function, name=...)",
            )
        if not isinstance(self.name, str) or not self.name:
            raise BadType("the name of a task type", self.name, "it must be a string that is not empty")
        if self.group is not None and not isinstance(self.group, str):
            raise BadType("the group of a task type", self.group, "it must be the name of a worker group")
        if self.executor not in EXECUTORS:
            raise BadValue(
                "the executor of a task type", self.executor, f"it must be one of {', '.join(EXECUTORS)}"
            )
        if self.executor == "thread" and _is_async(self.function):
            rule = 'threads run plain functions; leave executor= out, or write executor="async"'
            raise BadType(f"the function of {shown(self.name)}", self.function, rule)
        self._check_abandon_after()
        policy: object = self.retry
        if policy is not None and not callable(policy):
            rule = "it must be a Retry(...), or a function of (error, trial number, elapsed seconds)"
            raise BadType(f"the retry policy of {shown(self.name)}", policy, rule)
        for option in ("timeout", "budget"):
            seconds = getattr(self, option)
            if seconds is not None and not (is_seconds(seconds) and seconds):
                rule = "it must be a number of seconds above 0, or None"
                raise BadValue(f"the {option} of {shown(self.name)}", seconds, rule)

    def _check_abandon_after(self) -> None:
        if self.abandon_after is not None:
            if self.executor != "thread":
                raise BadValue(
                    "abandon_after", self.abandon_after, 'it is for threads only: executor="thread"'
                )
            if not isinstance(self.abandon_after, int | float) or not 0 <= self.abandon_after < math.inf:
                raise BadValue(
                    "abandon_after", self.abandon_after, "it must be a number of seconds, 0 or more, or None"
                )

    @property
    def origin(self) -> TaskType[P, R]:
        """The type that this one is a variation of, or itself."""
        return self._origin or self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as if there were no graph."""
        return self.function(*args, **kwargs)

    def but(self, **changes: Any) -> TaskType[P, R]:
        """Return a variation: this type with some policies changed, for a call or a few.

        It keeps its name, and counts as the same kind for `dedupe=`; a variation with a name of its own is a
        type of its own. Raises `BadType` for another change, and as a new type does.
        """
        unknown = changes.keys() - OPTIONS
        if unknown:
            rule = f"a variation may change {', '.join(sorted(OPTIONS))}"
            raise BadType("the change", ", ".join(sorted(unknown)), rule)
        return attrs.evolve(self, origin=None if "name" in changes else self.origin, **changes)


def task_type(
    *,
    name: str | None = None,
    group: str | None = None,
    executor: str | None = None,
    abandon_after: float | None = None,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    budget: float | None = None,
    limits: Mapping[str, int] | None = None,
) -> Callable[[Callable[P, R]], TaskType[P, R]]:
    """Return a decorator that makes a function a `TaskType`.

        @task_type(group="http")
        async def fetch(url: str) -> str: ...

    The options are those of `TaskType`, and so are the errors.
    """
    given = {
        "name": name,
        "group": group,
        "executor": executor,
        "abandon_after": abandon_after,
        "retry": retry,
        "timeout": timeout,
        "budget": budget,
        "limits": limits,
    }
    options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}

    def decorate(function: Callable[P, R]) -> TaskType[P, R]:
        return TaskType(function, **options)

    return decorate


def name_of(function: object) -> str:
    """Return what a function is called: its `__name__`, or the name of its class for other callables."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) and name else type(function).__name__


def _is_async(function: object) -> bool:
    method = getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(method)
