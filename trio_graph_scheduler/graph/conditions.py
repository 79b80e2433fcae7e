"""Conditions: when a task may start.

    succeeded(a, b) & done(c)
    at_least(2, [a, b, failed(c)]) | settled(d)

A condition *holds*, *can no longer hold*, or is *open*, and is decided as early as can be. Each is one node
that counts how many of its operands have come true and how many no longer can: an event costs as much as the
edges it touches, however large the condition. One condition may serve many tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Union

import attrs

from .errors import BadType, BadValue, ConditionAsBoolean, title
from .task import CANCELLED, END_STATES, FAILED, SKIPPED, SUCCEEDED, Task
from .values import is_whole

if TYPE_CHECKING:
    from .task import TaskState
    from .task_graph import TaskGraph

Operand = Union[Task[Any], "Condition"]


@attrs.frozen(eq=False)
class Verb:
    """What a condition asks of its tasks.

    That is to end in one of these states or, without states, to have settled.
    """

    name: str
    states: frozenset[TaskState]
    handles_failure: bool = False

    def judge(self, task: Task[Any]) -> bool | None:
        """Return whether this is true of a task, or None while that is open."""
        if self is SETTLED:
            return True if task.settled else None
        return task.state in self.states if task.state.ended else None


SUCCEED = Verb("succeeded", frozenset({SUCCEEDED}))
FAIL = Verb("failed", frozenset({FAILED}), handles_failure=True)
DONE = Verb("done", frozenset({SUCCEEDED, FAILED, CANCELLED, SKIPPED}), handles_failure=True)
SKIP = Verb("skipped", frozenset({SKIPPED}))
SETTLED = Verb("settled", frozenset())


class Condition:
    """A condition over tasks and other conditions.

        graph.add(report, after=done(a) & at_least(2, [b, c, d]))

    The functions of this module make conditions, and `&` and `|` combine them. `holds` is True, False (it can
    no longer hold), or None while it is open. It is followed from its first use in a graph on, and None
    before that. Using a condition as a boolean raises `ConditionAsBoolean`.
    """

    __slots__ = (
        "_dependents",
        "_flat",
        "_needed",
        "fulfilled",
        "graph",
        "holds",
        "impossible",
        "operands",
        "users",
        "verb",
    )

    def __init__(self, verb: Verb, operands: Iterable[Operand], needed: int | None = None) -> None:
        self.verb = verb
        # Each once. A Task among them is judged by the verb, a Condition by whether it holds.
        self.operands: dict[Operand, None] = dict.fromkeys(operands)
        # Whether all operands are tasks, as they are for most verbs: that needs no walk through conditions.
        self._flat = verb is not SUCCEED or all(type(operand) is Task for operand in self.operands)
        # How many operands are to come true; None is all of them, however many that are.
        self._needed = needed
        self.fulfilled = 0
        self.impossible = 0
        self.holds: bool | None = None
        # The graph that it is used in; None before its first use, and nothing is counted until then.
        self.graph: TaskGraph | None = None
        # The tasks and conditions that are told when it is decided.
        self._dependents: list[Operand] = []
        # How many tasks and conditions wait for it. While there are none it handles no failures.
        self.users = 0

    @property
    def needed(self) -> int:
        """How many of the operands must come true."""
        return len(self.operands) if self._needed is None else self._needed

    @property
    def tasks(self) -> tuple[Task[Any], ...]:
        """The tasks it speaks of, each once, in the order declared."""
        return tuple(self.iter_tasks())

    def iter_tasks(self) -> Iterator[Task[Any]]:
        """Yield the tasks it speaks of, as `tasks` lists them, for who needs only the first few."""
        if self._flat:
            yield from self.operands  # type: ignore[misc]  # flat: all of them are Tasks
            return
        found: set[Task[Any]] = set()
        entered = {self}
        stack = [iter(self.operands)]
        while stack:
            for operand in stack[-1]:
                if not isinstance(operand, Task):
                    if operand not in entered:
                        entered.add(operand)
                        stack.append(iter(operand.operands))
                        break
                elif operand not in found:
                    found.add(operand)
                    yield operand
            else:
                stack.pop()

    def nodes(self) -> list[Condition]:
        """Return this condition and all that it is built of, each once.

        Each comes after those that it is built of itself, so this one is the last.
        """
        if self._flat:
            return [self]
        ordered: list[Condition] = []
        entered = {self}
        stack = [(self, iter(self.operands))]
        while stack:
            node, operands = stack[-1]
            for operand in operands:
                if isinstance(operand, Condition) and operand not in entered:
                    entered.add(operand)
                    stack.append((operand, iter(operand.operands)))
                    break
            else:
                ordered.append(node)
                stack.pop()
        return ordered

    def hear(self, source: Operand) -> bool:
        """Take note that an operand has ended or been decided; return whether that decides the condition."""
        if self.verb.handles_failure:
            self.note_failure(source)
        return self.count(self.verdict_on(source))  # type: ignore[arg-type]  # it is not open any more

    def drop(self, operand: Task[Any]) -> bool:
        """Do without an operand; return whether that decides the condition."""
        del self.operands[operand]
        return self.decide()

    def count(self, verdict: bool) -> bool:  # noqa: FBT001 - it is the news itself
        """Take note of the verdict on one more operand; return whether that decides the condition.

        True: the operand has come true. False: it no longer can.
        """
        if verdict:
            self.fulfilled += 1
        else:
            self.impossible += 1
        return self.decide()

    def reopen(self) -> None:
        """Forget all that it has counted and whom to tell, as what it is built of is open again."""
        self.fulfilled = self.impossible = 0
        self.holds = None
        self._dependents = []

    def decide(self) -> bool:
        """Set `holds` if that has become known; return whether it has."""
        if self.holds is not None:
            return False
        needed = len(self.operands) if self._needed is None else self._needed
        if self.fulfilled >= needed:
            self.holds = True
        elif len(self.operands) - self.impossible < needed:
            self.holds = False
        return self.holds is not None

    def verdict_on(self, operand: Operand) -> bool | None:
        """Return whether this operand has come true (None: open)."""
        return self.verb.judge(operand) if isinstance(operand, Task) else operand.holds

    def use(self) -> None:
        """Take note that one more task waits for it, and so for what it is built of."""
        pending = [self]
        for node in pending:
            node.users += 1
            if node.users == 1:
                for operand in node.operands:
                    if isinstance(operand, Task):
                        node.note_failure(operand)
                    else:
                        pending.append(operand)

    def release(self) -> None:
        """Take note that a task no longer waits for it."""
        pending = [self]
        for node in pending:
            node.users -= 1
            if not node.users:
                pending += [operand for operand in node.operands if isinstance(operand, Condition)]

    def note_failure(self, operand: Operand) -> None:
        """Mark a failure as handled if this condition is about it, and someone waits for that."""
        if (
            self.users
            and self.verb.handles_failure
            and isinstance(operand, Task)
            and operand.error is not None
        ):
            operand.handled = True

    def __and__(self, other: object) -> Condition:
        return all_of(self, other) if isinstance(other, Task | Condition) else NotImplemented

    def __or__(self, other: object) -> Condition:
        return any_of(self, other) if isinstance(other, Task | Condition) else NotImplemented

    __rand__ = __and__
    __ror__ = __or__

    def __bool__(self) -> bool:
        raise ConditionAsBoolean(self)

    def __str__(self) -> str:
        return self.describe()

    def __repr__(self) -> str:
        return f"<Condition {self.describe()}>"

    def describe(self, *, only_open: bool = False, depth: int = 3) -> str:
        """Return the condition in words; with `only_open` just what it still waits for.

        Long and deep ones are cut short.
        """
        parts = []
        listed = [operand for operand in self.operands if not only_open or self.verdict_on(operand) is None]
        for operand in listed[:6]:
            if isinstance(operand, Task):
                parts.append(title(operand) + (f" ({operand.state})" if only_open else ""))
            else:
                parts.append(operand.describe(only_open=only_open, depth=depth - 1) if depth else "…")
        more = f", … {len(listed) - 6} more" if len(listed) > 6 else ""  # noqa: PLR2004 - as many as a line takes
        inner = ", ".join(parts) + more
        if self._needed is None:
            return f"{self.verb.name if self._flat or self.verb is not SUCCEED else 'all_of'}({inner})"
        missing = f", {self.needed - self.fulfilled} more needed" if only_open else ""
        return (
            f"any_of({inner})"
            if self._needed == 1
            else f"at_least({self._needed} of {len(self.operands)}: {inner}{missing})"
        )


def succeeded(*tasks: Task[Any]) -> Condition:
    """Hold when all of these tasks have SUCCEEDED; without tasks, at once."""
    return Condition(SUCCEED, _tasks(tasks, "succeeded"))


def failed(*tasks: Task[Any]) -> Condition:
    """Hold when all of these tasks have FAILED. Whoever waits for that handles their failures."""
    return Condition(FAIL, _tasks(tasks, "failed"))


def done(*tasks: Task[Any]) -> Condition:
    """Hold when all of these tasks have ended, in whatever way.

    Whoever waits for that handles their failures.
    """
    return Condition(DONE, _tasks(tasks, "done"))


def skipped(*tasks: Task[Any]) -> Condition:
    """Hold when all of these tasks were SKIPPED."""
    return Condition(SKIP, _tasks(tasks, "skipped"))


def settled(*tasks: Task[Any]) -> Condition:
    """Hold when all of these tasks and everything that they spawned have ended, in whatever way.

    That includes what is spawned later, and what the spawned tasks spawn.
    """
    return Condition(SETTLED, _tasks(tasks, "settled"))


def at_least(n: int, items: Iterable[Operand]) -> Condition:
    """Hold when `n` of the items have come true.

        at_least(2, [a, b, failed(c)])

    A bare Task among them means `succeeded(task)`. An item counts once, however often it is listed. Raises
    `BadType` for an item that is neither a Task nor a condition, and `BadValue` if there are fewer than `n`
    different items or `n` is not a whole number.
    """
    condition = Condition(SUCCEED, _operands(items, "at_least"), n)
    if not is_whole(n):
        raise BadValue("n of at_least(n, items)", n, "it must be a whole number, 0 or more")
    if n > len(condition.operands):
        rule = f"there are only {len(condition.operands)} different items, so it could never hold"
        raise BadValue("n of at_least(n, items)", n, rule)
    return condition


def any_of(*items: Operand) -> Condition:
    """Hold when one of the items has come true.

    A bare Task among them means `succeeded(task)`. Raises `BadValue` without items, and `BadType` for an item
    that is neither a Task nor a condition.
    """
    return at_least(1, items)


def all_of(*items: Operand) -> Condition:
    """Hold when all of the items have come true; without items, at once.

    A bare Task among them means `succeeded(task)`. Raises `BadType` for an item that is neither a Task nor a
    condition.
    """
    return Condition(SUCCEED, _operands(items, "all_of"))


def holds(item: Operand) -> bool | None:
    """Return whether what a task waits for has come true, or None while that is open.

    A Task comes true by its success, a Condition when it holds.
    """
    if isinstance(item, Condition):
        return item.holds
    return item.state is SUCCEEDED if item.state in END_STATES else None


def _tasks(items: tuple[Task[Any], ...], caller: str) -> tuple[Task[Any], ...]:
    for item in items:
        if type(item) is not Task:
            raise BadType(
                f"an argument of {caller}()",
                item,
                f"it takes Tasks: {caller}(task, other_task), or {caller}(*tasks)",
            )
    return items


def _operands(items: object, caller: str) -> Iterable[Operand]:
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise BadType(
            f"what {caller}() counts",
            items,
            f"it takes an iterable of Tasks and conditions: {caller}(2, [a, b, c])",
        )
    for item in items:
        if not isinstance(item, Task | Condition):
            raise BadType(f"an item of {caller}()", item, "it takes Tasks and conditions")
        yield item
