"""The driver's side of a graph is enough for `graphlib.TopologicalSorter`.

The standard library's own tests pass on it.
"""

from __future__ import annotations

import graphlib
import importlib
import sys
import unittest
from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from trio_graph_scheduler.graph import Task, TaskGraph, done

# From Python 3.14 on a sorter may be prepared again, as long as no node has been given out.
PREPARES_ONCE = sys.version_info < (3, 14)


class Sorter:
    """`graphlib.TopologicalSorter` over a TaskGraph: each node is a task, each predecessor a `connect`."""

    def __init__(self, graph: Mapping[Any, Iterable[Any]] | None = None) -> None:
        self._graph = TaskGraph()
        self._tasks: dict[Hashable, Task[Any]] = {}
        self._nodes: dict[Task[Any], Any] = {}
        self._passed_out: set[Hashable] = set()
        self._prepared = False
        for node, predecessors in (graph or {}).items():
            self.add(node, *predecessors)

    def _task(self, node: Any) -> Task[Any]:
        if node not in self._tasks:
            task = self._tasks[node] = self._graph.add(print)
            self._nodes[task] = node
        return self._tasks[node]

    def add(self, node: Any, *predecessors: Any) -> None:
        """Let a node come after others."""
        if self._prepared:
            raise ValueError("Nodes cannot be added after a call to prepare()")
        task = self._task(node)
        for predecessor in predecessors:
            self._graph.connect(self._task(predecessor), task)

    def prepare(self) -> None:
        """End adding, and refuse cycles."""
        if self._prepared and (self._passed_out or PREPARES_ONCE):
            raise ValueError("cannot prepare() more than once")
        self._prepared = True
        cycle = list(self._graph.find_cycle())
        if cycle:
            first = cycle.index(min(cycle, key=lambda task: task.uid))
            nodes = [self._nodes[task] for task in (*cycle[first:], *cycle[: first + 1])]
            raise graphlib.CycleError("nodes are in a cycle", nodes)

    def get_ready(self) -> tuple[Any, ...]:
        """Return the nodes all of whose predecessors are done, each once."""
        self._check_prepared()
        ready = self._graph.ready
        for task in ready:
            self._graph.groups["default"].resize(self._graph.groups["default"].limit + 1)
            self._graph.start(task)
        nodes = tuple(self._nodes[task] for task in ready)
        self._passed_out.update(nodes)
        return nodes

    def is_active(self) -> bool:
        """Return whether there is more to come."""
        self._check_prepared()
        return self._graph.active > 0

    def __bool__(self) -> bool:
        return self.is_active()

    def done(self, *nodes: Any) -> None:
        """Say that nodes given by `get_ready` are done."""
        self._check_prepared()
        for node in nodes:
            if node not in self._tasks:
                raise ValueError(f"node {node!r} was not added using add()")
            task = self._tasks[node]
            if node not in self._passed_out:
                raise ValueError(f"node {node!r} was not passed out (still not ready)")
            if task.state.ended:
                raise ValueError(f"node {node!r} was already marked done")
            self._graph.finish(task)

    def static_order(self) -> Iterator[Any]:
        """Yield all nodes in order."""
        self.prepare()
        while self.is_active():
            nodes = self.get_ready()
            yield from nodes
            self.done(*nodes)

    def _check_prepared(self) -> None:
        if not self._prepared:
            raise ValueError("prepare() must be called first")


def _standard_tests() -> tuple[Any, list[str]]:
    """Return the standard library's test case and its tests' names; none where they are not shipped."""
    try:
        case = importlib.import_module("test.test_graphlib").TestTopologicalSort
    except ImportError:
        return None, []
    return case, list(unittest.TestLoader().getTestCaseNames(case))


CASE, NAMES = _standard_tests()


@pytest.mark.parametrize("name", NAMES)
def test_the_standard_library_s_own_tests(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What graphlib's tests ask of a TopologicalSorter, a graph does."""
    monkeypatch.setattr(graphlib, "TopologicalSorter", Sorter)
    CASE(name).debug()


nodes = st.integers(0, 12)
edges = st.lists(st.tuples(nodes, nodes), max_size=30)


def _levels(sorter: Any) -> list[set[int]]:
    """Return which nodes become ready together when all that are ready are done at once."""
    sorter.prepare()
    levels = []
    while sorter.is_active():
        ready = sorter.get_ready()
        levels.append(set(ready))
        assert len(ready) == len(levels[-1])
        sorter.done(*ready)
    return levels


def _both(pairs: Iterable[tuple[int, int]]) -> tuple[Sorter, Any]:
    ours, theirs = Sorter(), graphlib.TopologicalSorter[int]()
    for node, predecessor in pairs:
        ours.add(node, predecessor)
        theirs.add(node, predecessor)
    return ours, theirs


@settings(max_examples=examples(100), deadline=None)
@given(edges)
def test_acyclic_graphs_come_in_the_same_levels(pairs: list[tuple[int, int]]) -> None:
    """On any acyclic graph the same nodes become ready at the same time as in graphlib."""
    ours, theirs = _both((max(pair), min(pair)) for pair in pairs if len(set(pair)) > 1)
    assert _levels(ours) == _levels(theirs)
    ours._graph.check()


@settings(max_examples=examples(100), deadline=None)
@given(edges, st.randoms(use_true_random=False))
def test_nodes_done_one_by_one_make_the_same_ones_ready(pairs: list[tuple[int, int]], random: Any) -> None:
    """In whatever order nodes are done, after each the same ones become ready as in graphlib."""
    ours, theirs = _both((max(pair), min(pair)) for pair in pairs if len(set(pair)) > 1)
    ours.prepare()
    theirs.prepare()
    out: list[int] = []
    while theirs.is_active():
        assert ours.is_active()
        ready = sorted(ours.get_ready())
        assert ready == sorted(theirs.get_ready())
        out += ready
        if out:
            node = out.pop(random.randrange(len(out)))
            ours.done(node)
            theirs.done(node)
        ours._graph.check()
    assert not ours.is_active()


@settings(max_examples=examples(150), deadline=None)
@given(edges)
def test_cycles_are_found_where_graphlib_finds_them(pairs: list[tuple[int, int]]) -> None:
    """A cycle is reported exactly where there is one: each node is a predecessor of the next."""
    ours, theirs = _both(pairs)
    try:
        theirs.prepare()
    except graphlib.CycleError:
        with pytest.raises(graphlib.CycleError) as caught:
            ours.prepare()
        cycle = caught.value.args[1]
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        for predecessor, node in pairwise(cycle):
            assert (node, predecessor) in pairs
    else:
        ours.prepare()


def test_a_cycle_through_conditions_and_bodies_is_found() -> None:
    """A cycle of waits is found when it leads through a condition and a body that waits."""
    graph = TaskGraph()
    body = graph.add(print)
    waiting = graph.add(print, after=done(body))
    graph.start(body)
    assert graph.find_cycle() == ()
    graph.suspend(body, waiting)
    cycle = graph.find_cycle()
    assert set(cycle) == {body, waiting}
