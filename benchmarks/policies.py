"""What policies cost: programs that use one, beside what they are compared with.

The first program of a comparison uses the policy. The others are the same graph without it, and what one
would write by hand in its place. Each builds what it schedules by, and none has to wait for anything but
turns, places and, with a rate, the clock: no timeout expires, no trial fails. The bodies are passed in, so
that tests see what runs. What can be verified without a body that counts is verified in every run.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Literal

import trio

from trio_graph_scheduler import Rate, Retry, TaskGraph, TaskState, TaskType, WorkerGroup, execute_graph

from .ways import LIMIT, Body, nothing

SIZES = {
    "timeout": 10_000,
    "retry": 10_000,
    "rate": 0,  # as many as are to start in a second
    "priority": 100_000,
    "limits": 10_000,
    "depth-first": 11_111,  # five full levels
}
"""How many tasks a policy is measured with."""

TIMEOUT = 60.0
RETRY = Retry(3, delay=1.0, backoff=2.0, jitter=0.1)
RATES = (Rate(200), Rate(2_000, burst=50))
KEYS = 100
PRIORITIES = 10
CAPACITY = 3
FAN_OUT = 10
TREE_LIMITS = (1, LIMIT)


async def checkpoint() -> None:
    """Be a body that lets others run once, so that it has to be driven, and could be stopped."""
    await trio.lowlevel.checkpoint()


BODIES: Mapping[str, Body] = {"no-op": nothing, "checkpoint": checkpoint}


@dataclass(frozen=True)
class Program:
    """One way to do it. `run` returns the rate that it reached over the one asked for, where there is one."""

    run: Callable[[], Awaitable[float | None]]
    build: Callable[[], TaskGraph] | None = None
    """The graph that it executes, if it is one of the library's."""


@dataclass(frozen=True)
class Comparison:
    """Programs for the same work, by name; the first one uses the policy."""

    policy: str
    case: str
    tasks: int
    programs: Mapping[str, Program]
    in_depth: bool = False
    """Whether memory and SUSPENDED tasks are measured too, in runs of their own."""


def comparisons(
    policy: str, size: int | None = None, bodies: Mapping[str, Body] = BODIES
) -> Iterator[Comparison]:
    """Yield the comparisons for a policy; with a size, for that many tasks instead of the usual number."""
    return POLICIES[policy](SIZES[policy] if size is None else size, bodies)


# Timeouts and retries ---------------------------------------------------------------------------------------


def _timeouts(size: int, bodies: Mapping[str, Body]) -> Iterator[Comparison]:
    for case, body in bodies.items():
        programs = {
            "timeout=": _executing(partial(_wide, TaskType(body, timeout=TIMEOUT), size)),
            "without": _executing(partial(_wide, TaskType(body), size)),
            "fail_after": Program(partial(_start_soon, partial(_fail_after, body), size, LIMIT)),
        }
        yield Comparison("timeout", case, size, programs)


async def _fail_after(body: Body) -> None:
    with trio.fail_after(TIMEOUT):
        await body()


def _retries(size: int, bodies: Mapping[str, Body]) -> Iterator[Comparison]:
    for case, body in bodies.items():
        programs = {
            "retry=": _executing(partial(_wide, TaskType(body, retry=RETRY), size)),
            "without": _executing(partial(_wide, TaskType(body), size)),
        }
        yield Comparison("retry", case, size, programs)


# Rates ------------------------------------------------------------------------------------------------------


def _rates(size: int, bodies: Mapping[str, Body]) -> Iterator[Comparison]:
    """Yield programs that start a burst at once, then as many as the size says, or its rate in a second."""
    body = next(iter(bodies.values()))
    for rate in RATES:
        tasks = rate.burst + (size or round(rate.count))
        programs = {
            "rate=": Program(partial(_rated, rate, body, tasks)),
            "sleep_until": Program(partial(_paced, rate, body, tasks)),
        }
        yield Comparison("rate", f"{rate.count}/s, burst {rate.burst}", tasks, programs)


async def _rated(rate: Rate, body: Body, tasks: int) -> float:
    starts: list[float] = []
    graph = TaskGraph(worker_loops={"default": WorkerGroup(LIMIT, rate=rate)})
    for _ in range(tasks):
        graph.add(_noting, body, starts)
    await execute(graph)
    return _reached(rate, starts)


async def _paced(rate: Rate, body: Body, tasks: int) -> float:
    """Start each task when it is due by a timetable, which catches up when it is late."""
    starts: list[float] = []
    limiter = trio.CapacityLimiter(LIMIT)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(tasks):
            await trio.sleep_until(began + max(0, number - rate.burst + 1) * rate.interval)
            nursery.start_soon(_limited, limiter, partial(_noting, body, starts))
    return _reached(rate, starts)


async def _noting(body: Body, starts: list[float]) -> None:
    starts.append(trio.current_time())
    await body()


def _reached(rate: Rate, starts: Sequence[float]) -> float:
    """Return the rate at which all after the burst have started, over the one asked for."""
    return (len(starts) - rate.burst) * rate.interval / (max(starts) - min(starts))


# Priorities and keys ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """What tasks are added with; of two that are READY the one with the lower rank starts first."""

    label: Literal["priority", "key"]
    values: Sequence[float]
    ranks: Sequence[float]


def _priorities(size: int, bodies: Mapping[str, Body]) -> Iterator[Comparison]:
    body = next(iter(bodies.values()))
    for case, labels in all_labels(size).items():
        programs = {
            f"{labels.label}=": _executing(partial(_labelled, body, labels)),
            "without": _executing(partial(_wide, TaskType(body), size)),
            "heapq": Program(partial(_heapq, labels.ranks)),
        }
        yield Comparison("priority", case, size, programs)


def all_labels(tasks: int) -> dict[str, Labels]:
    """Return the labels of all cases; always the same ones for a number of tasks."""
    rng = random.Random(tasks)  # noqa: S311 - nothing secret about it
    different = [float(number) for number in range(tasks)]
    rng.shuffle(different)
    few = [float(rng.randrange(PRIORITIES)) for _ in range(tasks)]
    keys = [number * KEYS // tasks for number in range(tasks)]  # all of one key, then all of the next
    turns = [float(number - bisect_left(keys, key)) for number, key in enumerate(keys)]
    return {
        "all different": Labels("priority", different, [-priority for priority in different]),
        f"{PRIORITIES} different": Labels("priority", few, [-priority for priority in few]),
        f"{KEYS} keys in turn": Labels("key", keys, turns),
    }


def _labelled(body: Body, labels: Labels) -> TaskGraph:
    graph = _new_graph()
    add = graph.add
    if labels.label == "key":
        for key in labels.values:
            add(body, key=key)
    else:
        for priority in labels.values:
            add(body, priority=priority)
    return graph


async def _heapq(ranks: Sequence[float]) -> None:
    """Push an entry for every task, then pop them all: what order costs at the least."""
    heap: list[tuple[float, int]] = []
    for number, rank in enumerate(ranks):
        heappush(heap, (rank, number))
    while heap:
        heappop(heap)


# Named limits -----------------------------------------------------------------------------------------------


def _limits(size: int, bodies: Mapping[str, Body]) -> Iterator[Comparison]:
    for case, body in bodies.items():
        limited = TaskType(body, limits={"a": 1})
        programs = {
            'limits={"a": 1}': _executing(partial(_wide, limited, size, limits={"a": CAPACITY})),
            "without": _executing(partial(_wide, TaskType(body), size)),
            "start_soon": Program(partial(_start_soon, body, size, CAPACITY)),
        }
        yield Comparison("limits", case, size, programs)


# Depth first ------------------------------------------------------------------------------------------------


def _depth_first(size: int, _: Mapping[str, Body]) -> Iterator[Comparison]:
    """Yield programs in which node i spawns its children, from 10 i + 1 on, awaits and adds their counts."""
    for limit in TREE_LIMITS:
        programs = {
            "depth_first": _executing(partial(_tree, size, limit, "depth_first")),
            "fifo": _executing(partial(_tree, size, limit, "fifo")),
            "start_soon": Program(partial(_tree_of_nurseries, size, limit)),
        }
        yield Comparison("depth-first", f"limit {limit}", size, programs, in_depth=True)


def _tree(size: int, limit: int, order: Literal["depth_first", "fifo"]) -> TaskGraph:
    graph = TaskGraph(worker_loops={"default": WorkerGroup(limit, order=order)})

    async def node(index: int) -> int:
        children = [graph.add(node, child) for child in _children(index, size)]
        return 1 + sum([await child.result() for child in children])

    async def root() -> None:
        _verify(await node(0), size)

    graph.add(root)
    return graph


async def _tree_of_nurseries(size: int, limit: int) -> None:
    """Run the children of each node in a nursery of its own, and hold a place only while there is work."""
    limiter = trio.CapacityLimiter(limit)
    counts = [0] * size

    async def node(index: int) -> None:
        async with limiter:
            children = _children(index, size)
        if children:
            async with trio.open_nursery() as nursery:
                for child in children:
                    nursery.start_soon(node, child)
            async with limiter:
                counts[index] = 1 + sum([counts[child] for child in children])
        else:
            counts[index] = 1

    await node(0)
    _verify(counts[0], size)


def _children(index: int, size: int) -> range:
    first = FAN_OUT * index + 1
    return range(first, min(first + FAN_OUT, size))


# The parts of them ------------------------------------------------------------------------------------------


def _new_graph(limits: Mapping[str, int] | None = None) -> TaskGraph:
    return TaskGraph(worker_loops={"default": LIMIT}, limits=limits)


def _wide(
    kind: TaskType[[], Awaitable[None]], tasks: int, *, limits: Mapping[str, int] | None = None
) -> TaskGraph:
    graph = _new_graph(limits)
    add = graph.add
    for _ in range(tasks):
        add(kind)
    return graph


def _executing(build: Callable[[], TaskGraph]) -> Program:
    async def run() -> None:
        await execute(build())

    return Program(run, build)


async def execute(graph: TaskGraph) -> None:
    """Execute a graph; raise `ArithmeticError` unless all of its tasks succeed."""
    report = await execute_graph(graph, warn_blocking_after=None)  # see tree.library
    _verify(report.statistics.states[TaskState.SUCCEEDED], len(graph))


async def _start_soon(body: Body, tasks: int, limit: int) -> None:
    """Start a trio task for each body, so many at a time."""
    limiter = trio.CapacityLimiter(limit)
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(_limited, limiter, body)


async def _limited(limiter: trio.CapacityLimiter, body: Body) -> None:
    async with limiter:
        await body()


def _verify(count: int, tasks: int) -> None:
    if count != tasks:
        raise ArithmeticError(f"of {tasks} tasks {count} did what they were to do")


POLICIES: Mapping[str, Callable[[int, Mapping[str, Body]], Iterator[Comparison]]] = {
    "timeout": _timeouts,
    "retry": _retries,
    "rate": _rates,
    "priority": _priorities,
    "limits": _limits,
    "depth-first": _depth_first,
}
