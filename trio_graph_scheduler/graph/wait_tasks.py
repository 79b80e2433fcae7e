"""The explicit form: types by name, tasks and waits by uid.

    uid = await graph.create_task("get_html", ((url,), {}), graph.root.uid)
    wait_uid = await graph.create_wait_task("process_html", None, [uid], True)
    graph.create_wait_link(other_uid, wait_uid)

The methods of `TaskGraph` say what they do; here is how.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .arguments import Arguments, ComputedArguments, Given, GivenByUser, packed
from .conditions import DONE, SUCCEED, Condition
from .errors import BadType, BadValue

if TYPE_CHECKING:
    from .task import Task
    from .task_graph import TaskGraph

WaitArguments = GivenByUser | None | Callable[[list["Task[Any]"]], GivenByUser | Awaitable[GivenByUser]]
MODES = re.compile(r"(SUCCESS|COMPLETE)__(ALL|\d{1,9})")


async def create_task(
    graph: TaskGraph, name: str, arguments: GivenByUser | None, predecessor_uid: int
) -> int:
    """Add a task that is ready at once; `TaskGraph.create_task` is the public form."""
    args, kwargs = given(arguments)
    scheduler = graph[predecessor_uid]
    task = graph.admit(graph.describe_packed(name, packed(args, kwargs)), parent=scheduler)
    await graph.driver.checkpoint()
    return task.uid


async def create_wait_task(
    graph: TaskGraph,
    name: str,
    arguments: WaitArguments,
    predecessor_uids: Iterable[int],
    mode: bool | str,  # noqa: FBT001 - as TaskGraph.create_wait_task takes it
) -> int:
    """Add a task that waits for others; `TaskGraph.create_wait_task` is the public form."""
    predecessors = list(dict.fromkeys(graph[uid] for uid in predecessor_uids))
    condition = condition_of(mode, predecessors)
    call: tuple[Any, ...] | Arguments | ComputedArguments
    if arguments is None:
        call = ComputedArguments(_the_list, condition)
    elif callable(arguments):
        call = ComputedArguments(arguments, condition)
    else:
        call = packed(*given(arguments))
    task = graph.admit(graph.describe_packed(name, call, after=condition))
    await graph.driver.checkpoint()
    return task.uid


def create_wait_link(graph: TaskGraph, predecessor_uid: int, uid: int) -> None:
    """Let a task wait for one more; `TaskGraph.create_wait_link` is the public form."""
    first, then = graph[predecessor_uid], graph[uid]
    mode = next((item for item in then._inputs if isinstance(item, WaitMode)), None)
    if mode is None:
        graph.connect(first, then)
    else:
        graph.extend(mode, first, then)


class WaitMode(Condition):
    """The condition of one wait task, which can get more operands until the task starts."""

    __slots__ = ()


def condition_of(mode: bool | str, predecessors: list[Task[Any]]) -> WaitMode:  # noqa: FBT001 - True is a mode
    """Return the condition that a mode names. Raises `BadValue`."""
    if isinstance(mode, bool):
        return WaitMode(DONE if mode else SUCCEED, predecessors)
    match = MODES.fullmatch(mode) if isinstance(mode, str) else None
    if match is None:
        rule = (
            "it must be True (all done), False (all succeeded), 'SUCCESS__ALL', 'COMPLETE__ALL', 'SUCCESS__n'"
            " or 'COMPLETE__n'"
        )
        raise BadValue("the mode of a wait task", mode, rule)
    verb = SUCCEED if match[1] == "SUCCESS" else DONE
    if match[2] == "ALL":
        return WaitMode(verb, predecessors)
    if int(match[2]) > len(predecessors):
        raise BadValue(
            "the mode of a wait task",
            mode,
            f"there are only {len(predecessors)} predecessors, so it could never hold",
        )
    return WaitMode(verb, predecessors, int(match[2]))


def given(arguments: object) -> Given:
    """Return arguments of the form `(args, kwargs)` or None. Raises `BadType`."""
    if arguments is None:
        return (), {}
    if isinstance(arguments, tuple) and len(arguments) == 2:  # noqa: PLR2004 - args and kwargs
        args, kwargs = arguments
        if isinstance(args, list | tuple) and isinstance(kwargs, Mapping):
            return tuple(args), dict(kwargs)
    raise BadType("arguments", arguments, "they must be (args, kwargs), such as ((url,), {}), or None")


def _the_list(predecessors: list[Task[Any]]) -> Given:
    return (predecessors,), {}
