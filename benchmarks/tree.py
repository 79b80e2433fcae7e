"""The tree: a task that spawns two children down to n nodes, and a task that sums when the two are done.

Nobody knows it beforehand, so that graphlib, which cannot grow, is of no use. A child is done when its
own sum is known: at once for a leaf, for others when the task has run that sums. So the root has the sum
of all nodes at the end, which is verified in every run.

Without the library, `start_soon` does what a Trio program does: a node runs its children in a nursery of
its own, and sums when that is closed. (Keeping count by hand in one nursery for all is a third cheaper, and
is the bookkeeping that this library is there for.) The plain loop walks down, then up again. Worker loops on
a channel have no counterpart, for it is graphlib that feeds them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from trio_graph_scheduler import TaskGraph, execute_graph, settled

from .ways import LIMIT


class Tree:
    """What the tasks of a tree do, whoever schedules them; node i counts i, its first child is 2 i + 1."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.sums = [0] * n

    @property
    def tasks(self) -> int:
        """How many tasks it takes: one per node, and one that sums per node that has children."""
        return self.n + self.n // 2

    def children(self, index: int) -> range:
        """Return the children of a node."""
        first = 2 * index + 1
        return range(first, min(first + 2, self.n))

    def visit(self, index: int) -> range:
        """Do what a node's task does: take note of it, and return the children that are to be spawned."""
        self.sums[index] = index
        return self.children(index)

    async def add_up(self, index: int) -> None:
        """Be the task that sums: add the children's sums to the node's own count."""
        self.sums[index] += sum([self.sums[child] for child in self.children(index)])

    def verify(self) -> None:
        """Raise `ArithmeticError` unless the root has the sum of all nodes."""
        if self.sums[0] != self.n * (self.n - 1) // 2:
            raise ArithmeticError(f"the nodes of a tree of {self.n} do not add up to {self.sums[0]}")


Way = Callable[[Tree], Awaitable[None]]


def graph_of(tree: Tree) -> TaskGraph:
    """Return a graph of the root's task. What sums waits for the children and all they spawned, sums too."""
    graph = TaskGraph(worker_loops={"default": LIMIT})
    add, add_up = graph.add, tree.add_up

    async def node(index: int) -> None:
        children = [add(node, child) for child in tree.visit(index)]
        if children:
            add(add_up, index, after=settled(*children))

    add(node, 0)
    return graph


async def library(tree: Tree) -> None:
    """Execute a graph that grows."""
    await execute_graph(
        graph_of(tree), warn_blocking_after=None
    )  # a million tasks mean long garbage collections


async def plain_loop(tree: Tree) -> None:
    """Visit the nodes from the root down, then sum from the leaves up."""
    nodes = [0]
    for index in nodes:  # grows while it is walked
        nodes += tree.visit(index)
    for index in reversed(nodes[: tree.n // 2]):
        await tree.add_up(index)


async def start_soon(tree: Tree) -> None:
    """Start a trio task for every node, in a nursery of its parent's, limited with a CapacityLimiter."""
    limiter = trio.CapacityLimiter(LIMIT)

    async def node(index: int) -> None:
        async with limiter:
            children = tree.visit(index)
        if children:
            async with trio.open_nursery() as nursery:
                for child in children:
                    nursery.start_soon(node, child)
            async with limiter:
                await tree.add_up(index)

    await node(0)


WAYS: dict[str, Way] = {"library": library, "plain loop": plain_loop, "start_soon": start_soon}
