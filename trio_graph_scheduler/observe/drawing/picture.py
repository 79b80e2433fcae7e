"""What is drawn of a graph: nodes, edges and sections, whatever the format.

A small graph is drawn task by task, a large one by type. Nothing here knows DOT or Mermaid; labels are short,
printable text, which the formats only have to quote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from trio_graph_scheduler.graph import BadType, BadValue, Condition, ForeignTask, Task, TaskGraph, TaskState
from trio_graph_scheduler.graph.errors import shown
from trio_graph_scheduler.observe.palette import COLOURS

from .summary import Input, Kind, summary, verb_of

MOST_TASKS = 100
"""As many tasks as a picture can show one by one and still be read."""
EDGES_PER_TASK = 5
"""With more edges than this per task allowed, a picture is a tangle, and Mermaid draws no more than 500."""
LONGEST_LABEL = 40


@attrs.frozen
class Node:
    """A box: a task, the tasks of a type or, without a state, what joins the edges of a condition."""

    key: str
    lines: tuple[str, ...]
    state: TaskState | None


@attrs.frozen
class Edge:
    """An arrow between the nodes of two keys: `then` waits for `first`, or was `spawned` by it."""

    first: str
    then: str
    lines: tuple[str, ...] = ()
    spawned: bool = False


@attrs.frozen
class Section:
    """A task that was added from outside and has spawned others, and all of these; or what is in none."""

    key: str
    title: str
    nodes: list[Node] = attrs.Factory(list)


@attrs.frozen
class Picture:
    """All that is to be drawn; the nodes in `loose` are in none of the sections."""

    title: str
    loose: Sequence[Node]
    sections: Sequence[Section]
    edges: Sequence[Edge]


def picture(graph: TaskGraph, section: Task[Any] | None, most: float) -> Picture:
    """Return what is to be drawn of a graph, or of a task and all that it spawned.

    It is drawn by type if there are more than `most` tasks, or `EDGES_PER_TASK` times as many edges.

    Raises `BadType`, `BadValue` or `ForeignTask` for options that cannot be.
    """
    tasks = members(graph, section)
    if not few(tasks, most):
        return _by_type(graph, section, tasks)
    by_task = _ByTask(graph, section, tasks).picture()
    return by_task if len(by_task.edges) <= EDGES_PER_TASK * most else _by_type(graph, section, tasks)


def members(graph: TaskGraph, section: Task[Any] | None) -> list[Task[Any]]:
    """Return the tasks that are drawn, in the order they were added. Raises `BadType` or `ForeignTask`."""
    if section is None or section is graph.root:
        return list(graph)
    if not isinstance(section, Task):
        raise BadType("the section to be drawn", section, "it must be a Task, or None for the whole graph")
    if section not in graph:
        raise ForeignTask(section)
    tasks = [section]
    for task in tasks:  # grows while it is walked
        tasks += task.children
    return sorted(tasks, key=lambda task: task.uid)


def few(tasks: Sequence[Task[Any]], most: float) -> bool:
    """Return whether these are few enough to be shown one by one. Raises `BadValue`."""
    if not isinstance(most, int | float) or not most >= 0:
        rule = "it must be a number: how many tasks are shown one by one (0: always by type; math.inf: never)"
        raise BadValue("most", most, rule)
    return len(tasks) <= most


def uses_of(tasks: Iterable[Task[Any]]) -> Counter[Condition]:
    """Return the conditions that tasks wait for, and how many tasks and conditions use each of them."""
    uses: Counter[Condition] = Counter()
    found: list[Condition] = []

    def count(items: Iterable[Input]) -> None:
        for item in items:
            if isinstance(item, Condition):
                if item not in uses:
                    found.append(item)
                uses[item] += 1

    for task in tasks:
        count(task.inputs)
    for condition in found:  # grows while it is walked
        count(condition.operands)
    return uses


def brief(name: str) -> str:
    """Return a name in few printable characters; of a long one the beginning and the end."""
    return _cut(shown(_cut(name))[1:-1])


def _cut(text: str) -> str:
    half = LONGEST_LABEL // 2
    return text if len(text) <= LONGEST_LABEL else f"{text[:half]}…{text[1 - half :]}"


class _ByTask:
    """Makes the picture of a graph with a node for each task."""

    def __init__(self, graph: TaskGraph, section: Task[Any] | None, tasks: Sequence[Task[Any]]) -> None:
        self._graph = graph
        self._section = section
        self._tasks = tasks
        self._keys = {task: f"t{task.uid}" for task in tasks}
        self._names = Counter(brief(task.name) for task in tasks)
        self._loose: list[Node] = []
        self._sections: list[Section] = []
        self._home: dict[Task[Any], list[Node]] = {}
        # Each edge once, in the order found.
        self._edges: dict[Edge, None] = {}
        self._joints = {condition: f"c{number}" for number, condition in enumerate(_joints(uses_of(tasks)))}
        self._drawn_joints: set[Condition] = set()

    def picture(self) -> Picture:
        for task in self._tasks:
            self._place(task).append(Node(self._keys[task], self._lines(task), task.state))
            if task.parent in self._keys:
                self._edges[Edge(self._keys[task.parent], self._keys[task], spawned=True)] = None
        for task in self._tasks:
            self._link(task)
        title = _title(self._graph, self._section, f"{_so_many(len(self._tasks))}{_counts(self._tasks)}")
        return Picture(title, self._loose, self._sections, list(self._edges))

    def _label(self, task: Task[Any]) -> str:
        name = brief(task.name)
        return name if self._names[name] == 1 else f"{name} #{task.uid}"

    def _lines(self, task: Task[Any]) -> tuple[str, ...]:
        trial = f", trial {task.trial_number}" if task.trial_number > 1 else ""
        return self._label(task), f"{COLOURS[task.state].symbol} {task.state}{trial}"

    def _place(self, task: Task[Any]) -> list[Node]:
        """Return the nodes among which a task is drawn; its parent, if that is drawn, has been placed."""
        home = self._home.get(task.parent, self._loose)
        if task.parent is (self._section or self._graph.root) and task.children:
            section = Section(f"s{task.uid}", self._label(task))
            self._sections.append(section)
            home = section.nodes
        self._home[task] = home
        return home

    def _link(self, task: Task[Any]) -> None:
        """Draw the edges to a task, and the joints that they come through."""
        ends: list[tuple[str, Iterable[Input], str]] = [(self._keys[task], task.inputs, "")]
        for then, items, verb in ends:  # grows while it is walked
            for item in items:
                if isinstance(item, Task):
                    if item in self._keys:
                        self._edges[Edge(self._keys[item], then, (verb,) if verb else ())] = None
                elif item in self._joints:
                    self._edges[Edge(self._joints[item], then)] = None
                    if item not in self._drawn_joints:
                        self._drawn_joints.add(item)
                        self._home[task].append(Node(self._joints[item], (_words(item),), None))
                        ends.append((self._joints[item], item.operands, verb_of(item)))
                else:
                    ends.append((then, item.operands, verb_of(item)))


def _joints(uses: Counter[Condition]) -> list[Condition]:
    """Return the conditions that are drawn as nodes; all others are drawn as arrows from their operands.

    Several arrows tell that all is needed. So it takes a node for a condition that does not need all of its
    operands, and for several operands that count as one there. It takes one too for a condition that is
    shared: n operands and m users take n + m arrows then, and not n times m.
    """
    choices = [condition for condition in uses if condition.needed != len(condition.operands)]
    parts = {item for condition in choices for item in condition.operands}
    several = [condition for condition in uses if not _is_one_task(condition)]
    shared = {condition for condition in several if uses[condition] > 1 or condition in parts}
    drawn = shared.union(choices)
    return [condition for condition in uses if condition in drawn]


def _is_one_task(condition: Condition) -> bool:
    return len(condition.operands) == 1 and isinstance(next(iter(condition.operands)), Task)


def _words(condition: Condition) -> str:
    needed, total = condition.needed, len(condition.operands)
    words = "all" if needed == total else "any" if needed == 1 else f"{needed:,} of {total:,}"
    verdict = {True: " ✓", False: " ✗", None: ""}[condition.holds]
    return words + verdict


def _by_type(graph: TaskGraph, section: Task[Any] | None, tasks: Sequence[Task[Any]]) -> Picture:
    """Return the picture of a graph with a node for each type in each group."""
    total = summary(tasks)
    nodes = [
        Node(f"k{number}", _kind_lines(kind), next(state for state in COLOURS if kind.states[state]))
        for number, kind in enumerate(total.kinds)
    ]
    labels: dict[tuple[int, int, bool], list[str]] = {}
    for link in total.links:
        between = labels.setdefault((link.first, link.then, link.spawned), [])
        between.append(f"{link.tasks:,} {link.verb}".strip())
    edges = [
        Edge(f"k{first}", f"k{then}", tuple(lines), spawned)
        for (first, then, spawned), lines in labels.items()
    ]
    return Picture(_title(graph, section, f"{_so_many(len(tasks))} by type"), nodes, (), edges)


def _kind_lines(kind: Kind) -> tuple[str, ...]:
    if kind.name is None or kind.group is None:
        heading = [f"{kind.types:,} other types"]
    else:
        heading = [brief(kind.name)] + ([f"in {brief(kind.group)}"] if kind.group != "default" else [])
    counts = [
        f"{colours.symbol} {kind.states[state]:,} {state}"
        for state, colours in COLOURS.items()
        if kind.states[state]
    ]
    return (*heading, *counts)


def _title(graph: TaskGraph, section: Task[Any] | None, what: str) -> str:
    names = brief(graph.name) + ("" if section is None else f", {brief(section.name)} #{section.uid}")
    return f"{names}: {what}"


def _so_many(tasks: int) -> str:
    return f"{tasks:,} {'task' if tasks == 1 else 'tasks'}"


def _counts(tasks: Iterable[Task[Any]]) -> str:
    states = Counter(task.state for task in tasks)
    listed = ", ".join(f"{states[state]:,} {state}" for state in COLOURS if states[state])
    return f", {listed}" if listed else ""
