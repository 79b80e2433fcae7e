"""A graph by type: so many tasks of each type in each state, and which types wait for which.

It looks at each task, and at each edge, once; what comes of it does not grow with the graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from trio_graph_scheduler.graph import Condition, Task, TaskState

MOST_TYPES = 100
"""With more types than this the rare ones are counted together."""

Input = Task[Any] | Condition


@attrs.frozen
class Kind:
    """The tasks of one type in one group; or those of so many `types`, without a name and a group."""

    name: str | None
    group: str | None
    types: int
    states: Counter[TaskState]


@attrs.frozen
class Link:
    """That `tasks` of one kind wait for tasks of another one, or were added by them.

    - `first`, `then`: the kinds, as indices.
    - `verb`: what is asked of the first ones: `""` is that all succeed; `"done"` and so on that all have come
      to that; `"some"`, `"some done"` that a certain number has.
    - `spawned`: whether it tells who added whom.
    """

    first: int
    then: int
    verb: str
    spawned: bool
    tasks: int


@attrs.frozen
class Summary:
    """A graph by type: the kinds of task in the order of their first tasks, and the links between them."""

    kinds: tuple[Kind, ...]
    links: tuple[Link, ...]


def verb_of(condition: Condition) -> str:
    """Return what a condition asks of the tasks among its operands; `""` is success."""
    return "" if condition.verb.name == "succeeded" else condition.verb.name


def summary(tasks: Sequence[Task[Any]]) -> Summary:
    """Return these tasks by type and group."""
    sizes = Counter((task.type.name, task.group.name) for task in tasks)
    kept = list(sizes)
    if len(kept) > MOST_TYPES:
        common = {pair for pair, _ in sizes.most_common(MOST_TYPES - 1)}
        kept = [pair for pair in kept if pair in common]
    number = {pair: index for index, pair in enumerate(kept)}
    rest = len(kept)
    kind_of = {task: number.get((task.type.name, task.group.name), rest) for task in tasks}
    counts = Counter((index, task.state) for task, index in kind_of.items())
    states = [Counter({state: counts[index, state] for state in TaskState}) for index in range(rest + 1)]
    kinds = [Kind(*pair, types=1, states=states[index]) for pair, index in number.items()]
    if len(sizes) > rest:
        kinds.append(Kind(None, None, len(sizes) - rest, states[rest]))
    spawned = Counter(
        (kind_of[task.parent], index) for task, index in kind_of.items() if task.parent in kind_of
    )
    links = _Links(kind_of).waits()
    links += [Link(first, then, "", spawned=True, tasks=count) for (first, then), count in spawned.items()]
    return Summary(tuple(kinds), tuple(links))


class _Links:
    """Counts which kinds wait for which.

    What a task or a condition asks for is a set of (kind, verb), and kept as the bits of one integer: a
    condition of a million operands is one number then, however many tasks share it.
    """

    def __init__(self, kind_of: dict[Task[Any], int]) -> None:
        self._kind_of = kind_of
        self._bits: dict[tuple[int, str], int] = {}
        self._asked: dict[Condition, int] = {}

    def waits(self) -> list[Link]:
        tally: Counter[tuple[int, int]] = Counter()
        for task, kind in self._kind_of.items():
            inputs = task.inputs
            if inputs:
                tally[kind, self._union(inputs, "")] += 1
        counts: Counter[tuple[int, int, str]] = Counter()
        for (then, asked), count in tally.items():
            for (first, verb), bit in self._bits.items():
                if asked & bit:
                    counts[first, then, verb] += count
        return [Link(*ends, spawned=False, tasks=count) for ends, count in counts.items()]

    def _union(self, items: Iterable[Input], verb: str) -> int:
        asked = 0
        for item in items:
            if isinstance(item, Condition):
                asked |= self._ask(item)
            elif item in self._kind_of:
                what = (self._kind_of[item], verb)
                asked |= self._bits.setdefault(what, 1 << len(self._bits))
        return asked

    def _ask(self, condition: Condition) -> int:
        """Return what a condition asks for, after those that it is built of."""
        stack = [condition]
        while stack:
            node = stack.pop()
            if node in self._asked:
                continue
            inner = [item for item in node.operands if isinstance(item, Condition)]
            missing = [item for item in inner if item not in self._asked]
            if missing:
                stack += [node, *missing]
            else:
                some = "" if node.needed == len(node.operands) else "some"
                self._asked[node] = self._union(node.operands, f"{some} {verb_of(node)}".strip())
        return self._asked[condition]
