"""Every exception of the package.

An error takes the facts and writes its own message: what is wrong, the rule, and the call that would be
right. All of them are `GraphError`, and each is also the built-in error that a reader would expect
(`ValueError`, `LookupError`, `TypeError`, `RuntimeError`), so that code which knows nothing of this package
still catches them sensibly.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .values import is_seconds

if TYPE_CHECKING:
    from .task import Task

LONGEST_NAME_SHOWN = 60


def shown(name: object) -> str:
    """Return a name as people may see it: quoted, unprintable characters escaped, long ones cut.

    Any string may be a name. This is the one rule for showing it in an error, a log or a terminal.
    """
    text = str(name)
    if len(text) > LONGEST_NAME_SHOWN:
        text = text[: LONGEST_NAME_SHOWN - 1] + "…"
    return repr(text)


def shown_value(value: object) -> str:
    """Return a repr that is never long and never raises, as the value is not ours."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a stranger's repr raises, the message must come out
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 2 * LONGEST_NAME_SHOWN else text[: 2 * LONGEST_NAME_SHOWN] + "…"


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, once, if it takes any: it may be of any kind."""
    with suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def title(task: Task[Any]) -> str:
    """Return how messages name a task: its uid and its name."""
    return f"task {task.uid} {shown(task.name)}"


def titles(tasks: Iterable[Task[Any]], most: int = 10) -> str:
    """Return the titles of the first `most` tasks, and how many more there are."""
    named = list(tasks)
    more = f" and {len(named) - most} more" if len(named) > most else ""
    return ", ".join(title(task) for task in named[:most]) + more


class GraphError(Exception):
    """The base of every exception of this package (but `GraphFailed`, which is an `ExceptionGroup`)."""


# What is given to a graph -----------------------------------------------------------------------------------


class UnknownName(GraphError, LookupError):
    """Names that nothing has been registered under."""

    thing = "name"

    def __init__(self, unknown: Iterable[object], known: Iterable[str], fix: str = "") -> None:
        self.unknown = tuple(unknown)
        self.known = tuple(known)
        lines = []
        for name in self.unknown:
            near = difflib.get_close_matches(str(name)[:200], self.known, n=3, cutoff=0.5)
            meant = f"; did you mean {' or '.join(shown(candidate) for candidate in near)}?" if near else ""
            lines.append(f"no {self.thing} {shown(name)}{meant}")
        listed = ", ".join(shown(name) for name in sorted(self.known)[:10]) or "none"
        super().__init__("\n".join(lines) + f"\nknown: {listed}" + (f"\n{fix}" if fix else ""))


class UnknownType(UnknownName):
    """A task type is looked up by a name that is not registered."""

    thing = "task type"


class UnknownGroup(UnknownName):
    """A worker group is named that the graph does not have."""

    thing = "worker group"


class UnknownLimit(UnknownName):
    """A task type needs a named limit that the graph does not have."""

    thing = "limit"


class UnknownTask(GraphError, LookupError):
    """The graph has no task of this uid."""

    def __init__(self, uid: object) -> None:
        self.uid = uid
        super().__init__(
            f"the graph has no task {shown_value(uid)}: a uid is the integer"
            " that create_task() gave, or task.uid"
        )


class DuplicateType(GraphError, ValueError):
    """Two different task types claim one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"the name {shown(name)} is registered for another task type: registered names are unique. Give"
            " one of them another name: TaskType(function, name=...), or make it a variation: kind.but(...)"
        )


class BadValue(GraphError, ValueError):
    """A value is outside of what its place allows."""

    def __init__(self, thing: str, value: object, rule: str) -> None:
        self.thing, self.value = thing, value
        super().__init__(f"{thing} is {shown_value(value)}; {rule}")


class BadType(GraphError, TypeError):
    """A value of the wrong type."""

    def __init__(self, thing: str, value: object, rule: str) -> None:
        self.thing, self.value = thing, value
        super().__init__(f"{thing} is {shown_value(value)}; {rule}")


class ForeignTask(GraphError, ValueError):
    """A Task is used in a graph that it is not (or no longer) a part of."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(
            f"{title(task)} is not in this graph: it was added to another one, or removed."
            " A task can wait only for tasks of its own graph; pass values between graphs with task.result()"
        )


class ConditionAsBoolean(GraphError, TypeError):
    """A condition is used as a truth value."""

    def __init__(self, condition: object) -> None:
        super().__init__(
            f"{condition} is a condition, which is neither true nor false when the graph is built. Combine"
            " conditions with & and | (not 'and', 'or', 'not'), pass them as after=..., and read .holds"
        )


# Changing a graph -------------------------------------------------------------------------------------------


class AlreadyStarted(GraphError, RuntimeError):
    """A task that has started (or ended) can no longer be rewired or removed."""

    def __init__(self, task: Task[Any], attempt: str) -> None:
        self.task = task
        tried = ", has been tried before" if task.state.name in ("WAITING", "READY") else ""
        super().__init__(
            f"cannot {attempt}: {title(task)} is {task.state}{tried}, and only tasks that have not started"
            " (WAITING, READY) can be changed. Add a new task for what is to happen afterwards:"
            " graph.add(..., after=task)"
        )


class NotConnected(GraphError, LookupError):
    """There is no such dependency to take away."""

    def __init__(self, first: object, then: Task[Any]) -> None:
        self.first, self.then = first, then
        super().__init__(
            f"{title(then)} does not wait directly for {first}: disconnect() takes away what connect() or"
            " after= gave, a Task or the very Condition object"
        )


class ResultNeeded(GraphError, RuntimeError):
    """A task is an argument of another one, which cannot run without its result."""

    def __init__(self, first: Task[Any], then: Sequence[Task[Any]], attempt: str) -> None:
        self.first, self.then = first, tuple(then)
        super().__init__(
            f"cannot {attempt}: {titles(then)} takes the result of {title(first)} as an argument."
            " Remove the tasks that use the result first, or cancel this one: task.cancel()"
        )


class WouldCloseCycle(GraphError, ValueError):
    """A dependency would make tasks of a running graph wait for each other."""

    def __init__(self, first: object, then: Task[Any]) -> None:
        self.first, self.then = first, then
        super().__init__(
            f"connecting {first} -> {title(then)} would close a cycle of waits: {first} could not end before"
            f" {title(then)} has. On a running graph this is refused; nothing was changed"
        )


class CannotRerun(GraphError, RuntimeError):
    """A task that has not ended is to be rerun, or opened again for a rerun."""

    def __init__(self, tasks: Sequence[Task[Any]], why: str) -> None:
        self.tasks = tuple(tasks)
        listed = ", ".join(f"{title(task)} ({task.state})" for task in self.tasks[:10])
        more = f" and {len(self.tasks) - 10} more" if len(self.tasks) > 10 else ""  # noqa: PLR2004 - what a reader takes in
        super().__init__(f"cannot rerun: {listed}{more} {why}. Nothing was changed")


class IllegalTransition(GraphError, RuntimeError):
    """A driver asked for a change of state that does not exist."""

    def __init__(self, task: Task[Any], event: str, rule: str) -> None:
        self.task, self.event = task, event
        super().__init__(f"cannot {event} {title(task)}, which is {task.state}: {rule}")


# Running a graph --------------------------------------------------------------------------------------------


class AlreadyRunning(GraphError, RuntimeError):
    """A graph is run by one driver at a time."""

    def __init__(self) -> None:
        super().__init__(
            "this graph is already running, and one run drives it at a time. To do more in it, add tasks:"
            " graph.add(...) works from inside tasks and from outside while it runs"
        )


class NotRunning(GraphError, RuntimeError):
    """An open task is waited for in a graph that nothing drives."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(
            f"{title(task)} is {task.state} and nothing drives its graph, so waiting for it would never end."
            " Run the graph: 'async with open_graph(graph): ...' or 'await execute_graph(graph)'"
        )


class NotInTrio(GraphError, RuntimeError):
    """A graph is run outside of trio."""

    def __init__(self) -> None:
        super().__init__("a graph runs on trio: call trio.run(main), and run the graph inside of main")


class WrongThread(GraphError, RuntimeError):
    """A running graph is changed from a thread that is not trio's."""

    def __init__(self, attempt: str) -> None:
        super().__init__(
            f"{attempt}() was called from another thread than the one that runs the graph."
            f" From a thread of trio's, write trio.from_thread.run_sync(graph.{attempt}, ...)"
        )


class NoCurrentTask(GraphError, RuntimeError):
    """What is known only inside of a task is asked for outside of one."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}() was called outside of a task: it works in the body of a task that a graph runs"
        )


class WaitsForItself(GraphError, RuntimeError):
    """A task waits in its body for its own end."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(f"{title(task)} waits for its own end, which could never come")


class GraphStalled(GraphError, RuntimeError):
    """A run has come to a standstill: tasks are left that can never start or end.

    `cycle` lists tasks each of which waits for the one before it, and the first for the last; it is empty if
    there is no cycle. `unmet` maps every stuck task to what it still waits for.
    """

    def __init__(self, cycle: Sequence[Task[Any]], unmet: dict[Task[Any], str]) -> None:
        self.cycle, self.unmet = tuple(cycle), unmet
        lines = [f"the graph is stuck: {len(unmet)} {'task' if len(unmet) == 1 else 'tasks'} can never end"]
        if cycle:
            lines.append(
                "these wait for each other: " + " -> ".join(title(task) for task in [*cycle, cycle[0]])
            )
        lines += [f"{title(task)} waits for {what}" for task, what in list(unmet.items())[:20]]
        if len(unmet) > 20:  # noqa: PLR2004 - as many as a reader takes in; all of them are in `unmet`
            lines.append(f"... and {len(unmet) - 20} more")
        super().__init__("\n".join(lines))


class GraphFailed(ExceptionGroup[Exception]):
    """The failures of a run that nobody handled, raised together at its end.

    Its members are the tasks' own exceptions, each with a note that names its task. `report` is the `Report`
    of the run.
    """

    report: Any = None

    # Its members are Exceptions only, where those of other groups may be BaseExceptions:
    def derive(self, excs: Sequence[Exception], /) -> GraphFailed:  # type: ignore[override]  # see above
        """Return a group of other failures with the same message and report, as `split` needs it."""
        group = GraphFailed(self.message, excs)
        group.report = self.report
        return group


# The outcome of a task --------------------------------------------------------------------------------------


class TaskFailed(GraphError):
    """A task declared itself failed: `current_task().fail(reason)`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TryAgain(GraphError):
    """A body asks to be tried again.

        if response.status == 503:
            raise TryAgain(after=float(response.headers["retry-after"]), reason="busy")

    `after` is in seconds; None leaves the delay to the retry policy of its type, or to none. Without a policy
    it is tried again as often as it asks; with one that decides, and `after` takes the place of its delay,
    even where that is longer than its `max_delay`. `reason` is for people. Raises `BadValue` if `after` is
    not a number of seconds.
    """

    def __init__(self, after: float | None = None, reason: str | None = None) -> None:
        if after is not None and not is_seconds(after):
            raise BadValue("the after of TryAgain", after, "it must be a number of seconds, 0 or more")
        self.after, self.reason = after, reason
        asked = "asked for another trial" + ("" if after is None else f" after {after:g} s")
        super().__init__(asked if reason is None else f"{reason} ({asked})")


class TrialTimeout(GraphError, TimeoutError):
    """A trial took longer than the `timeout` of its type."""

    def __init__(self, task: Task[Any], timeout: float) -> None:
        self.task, self.timeout = task, timeout
        super().__init__(f"a trial of {title(task)} did not end within its timeout of {timeout:g} s")


class BudgetExceeded(GraphError, TimeoutError):
    """A deadline passed before the task had ended: of its own budget, of who spawned it, or of the graph."""

    def __init__(self, task: Task[Any], expiry: object) -> None:
        self.task = task
        super().__init__(f"{title(task)} had not ended in time: {expiry}")


class ThresholdMissed(GraphError):
    """Too few candidates are left for a threshold to be reached.

    `failures` are those that ended without success.
    """

    def __init__(self, task: Task[Any], needed: int, reached: int, failures: Sequence[Task[Any]]) -> None:
        self.task, self.needed, self.reached, self.failures = task, needed, reached, tuple(failures)
        causes = "".join(
            f"\n{title(failure)}: {failure.state}"
            + (f" ({_because_of(failure)})" if _because_of(failure) else "")
            for failure in self.failures[:10]
        )
        more = f"\n... and {len(self.failures) - 10} more" if len(self.failures) > 10 else ""  # noqa: PLR2004 - what a reader takes in
        super().__init__(
            f"{title(task)} needs {needed} of its candidates to succeed; {reached} did, and too few are left:"
            f"{causes}{more}"
        )


class TaskCancelled(GraphError):
    """The result of a task is asked for that was cancelled."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(f"{title(task)} has no result: it was cancelled{_because(task)}")


class TaskSkipped(GraphError):
    """The result of a task is asked for that was skipped."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(f"{title(task)} has no result: it was skipped{_because(task)}")


class CancelledSwallowed(GraphError, RuntimeError):
    """A body was cancelled and went on as if it had not been."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(
            f"{title(task)} was cancelled and returned a value: its body caught trio.Cancelled and did not"
            " raise it again. Clean up in 'finally', or end 'except' blocks that catch everything with"
            " 'raise'"
        )


class StrayCancelled(GraphError, RuntimeError):
    """A body raised a Cancelled that belongs to no cancellation in force."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(
            f"{title(task)} raised trio.Cancelled although nothing had cancelled it: a Cancelled is not to be"
            " kept and raised later. To cancel a task call task.cancel(); to give up inside of one raise an"
            " exception of your own"
        )


class ReturnedCoroutine(GraphError, TypeError):
    """A body returned a coroutine instead of a value."""

    def __init__(self, task: Task[Any]) -> None:
        self.task = task
        super().__init__(
            f"{title(task)} returned a coroutine, which nobody would ever run: write 'return await ...' in"
            " its body, or 'async def'"
        )


class WouldBlock(GraphError):
    """The twin of `trio.WouldBlock` for programs without trio."""


def still_open(task: Task[Any]) -> Exception:
    """Return the error of asking for a result too early: `trio.WouldBlock`, or its twin without trio.

    Whoever can write `except trio.WouldBlock` has imported trio, so a look at the imported modules is enough,
    and nothing is imported here.
    """
    trio = sys.modules.get("trio")
    error: type[Exception] = WouldBlock if trio is None else trio.WouldBlock
    return error(f"{title(task)} is {task.state}: wait for it with 'await task.result()'")


def _because(task: Task[Any]) -> str:
    return f" ({task.reason})" if task.reason else ""


def _because_of(task: Task[Any]) -> str:
    return shown_value(task.error) if task.error is not None else task.reason or ""
