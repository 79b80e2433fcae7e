"""How the body of a task is called: one module for each executor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from trio_graph_scheduler.graph.arguments import ComputedArguments
from trio_graph_scheduler.graph.task import Task

from .thread import run_in_thread

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def call_of(task: Task[Any]) -> Call:
    """Return the function and positional arguments that run the body of a task, its arguments filled in.

    What the function returns is awaited if it can be.
    """
    if isinstance(task.arguments, ComputedArguments):
        return _compute_first, (task, task.arguments)
    if isinstance(task.arguments, tuple):
        return _on_executor(task, task.arguments, {})
    return _on_executor(task, *task.arguments.filled(task.graph.results))


def _on_executor(task: Task[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    function = partial(task.type.function, **kwargs) if kwargs else task.type.function
    if task.type.executor == "thread":
        return run_in_thread, (task, function, args)
    return function, args


async def _compute_first(task: Task[Any], arguments: ComputedArguments) -> Any:
    computed = arguments.filled(task.graph.results)
    args, kwargs = await computed if isinstance(computed, Awaitable) else computed
    function, args = _on_executor(task, tuple(args), dict(kwargs))
    value = function(*args)
    # A task owes no checkpoint, but its loop does.
    return await value if isinstance(value, Awaitable) else value  # noqa: ASYNC910 - see above
