"""Traces: a run as a file that Perfetto (https://ui.perfetto.dev) and chrome://tracing show.

    await trace.write(graph, "run.json")

The format is Chrome's "Trace Event Format", which both read: a JSON object with a list of events.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import trio

from trio_graph_scheduler.graph import TaskGraph

from .profile.analysis import stretches
from .profile.causes import Attempt, Cause
from .profile.history import History, tracks
from .safe_text import plain

MOST_ARROWS_IN_ALL = 100_000
"""As many arrows are drawn, the first ones: viewers get slow with more."""
LONGEST_NAME = 200
BATCH = 1000
"""So many events are written at a time."""

Event = dict[str, Any]


def events(graph: TaskGraph) -> dict[str, Any]:
    """Return the trace of a graph, as `json.dump` takes it.

        json.dump(events(graph), file)

    - Each worker group is a process and each worker loop a thread of it, on which every trial that it ran is
      a slice: the name of the task, and in `args` its uid, its type, the number of the trial, its state, the
      class of its exception, and how many seconds it was READY before. Arguments, results and messages are
      not in it. A body that was SUSPENDED in between is one slice.
    - Arrows lead to a trial from what it waited for: from the ends of predecessors (of many those 8 that
      ended last), from the body that added the task, and from the trial before. There are at most 100,000.
    - Counters tell for each group how many tasks executed, and how many were READY and waited for a place.

    Times are in microseconds from the beginning of the first run; several runs are laid one after another.
    Trials that go on end now. Viewers need slices that do not touch, so one may be moved by some nanoseconds.

    Takes time and memory in the number of trials and of dependencies; `write` takes less memory. Raises
    `BadType`.
    """
    history = History(graph)
    return {"traceEvents": list(_events(history)), "displayTimeUnit": "ms"}


async def write(graph: TaskGraph, path: str | os.PathLike[str]) -> None:
    """Write the trace of a graph, as `events` tells it, to a file, which is overwritten.

        await trace.write(graph, "run.json")
        trio.run(trace.write, graph, "run.json")        # when the run is over, outside of trio

    The graph is read at once, so that a trace taken in the middle of a run is consistent, and then written
    by a thread. Of 100,000 trials reading takes about a second, and the file has some 30 MB. Always
    checkpoints. A cancellation comes before the file is touched, or when it is complete.
    Raises `BadType` for what is no graph, and `OSError`.
    """
    history = History(graph)
    await trio.to_thread.run_sync(_write, history, path)


def _write(history: History, path: str | os.PathLike[str]) -> None:
    encode = json.JSONEncoder().encode
    remaining = _events(history)
    with Path(path).open("w", encoding="ascii") as file:
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        between = ""
        while batch := [encode(event) for event in islice(remaining, BATCH)]:
            file.write(between + ",\n".join(batch))
            between = ",\n"
        file.write("\n]}\n")


def _events(history: History) -> Iterator[Event]:
    groups = {name: number for number, name in enumerate(history.graph.groups, 1)}
    # Threads go on counting where processes end: one with the number of its process were its main thread.
    lanes = [
        (track, groups[track.group], number) for number, track in enumerate(tracks(history), len(groups) + 1)
    ]
    for name, pid in groups.items():
        yield _metadata("process_name", pid, name=plain(name, LONGEST_NAME))
        yield _metadata("process_sort_index", pid, sort_index=pid)
    for track, pid, tid in lanes:
        yield _metadata("thread_name", pid, tid, name=plain(track.name, LONGEST_NAME))
        yield _metadata("thread_sort_index", pid, tid, sort_index=tid)
    for number, run in enumerate(history.runs, 1):
        yield _run_mark(f"run {number} begins", run.began)
        yield _run_mark(f"run {number} ends", run.ended)
    threads = {attempt: (pid, tid) for track, pid, tid in lanes for attempt in track.attempts}
    yield from _slices_and_arrows(history, threads)
    for name, pid in groups.items():
        if history.of_group[name]:
            yield from _counters(history, history.of_group[name], pid)


def _metadata(kind: str, pid: int, tid: int | None = None, **args: object) -> Event:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid or pid, "args": args}


def _run_mark(name: str, when: float) -> Event:
    return {"ph": "i", "s": "g", "cat": "run", "name": name, "pid": 1, "tid": 1, "ts": _micro(_nano(when))}


def _slices_and_arrows(history: History, threads: Mapping[Attempt, tuple[int, int]]) -> Iterator[Event]:
    """Yield a slice for each trial, and the arrows that lead to it.

    Times are whole nanoseconds here. Slices last one at least, and on a track none begins before another one
    ends, so that it is clear which slice an arrow begins or ends in.
    """
    placed: dict[Attempt, tuple[int, int]] = {}
    free_at: dict[int, int] = {}
    arrows = 0
    for attempt in history.attempts:
        pid, tid = threads[attempt]
        sources = [source for source in attempt.sources if source in placed]
        # What it waited for has ended in the picture too, though that may have been moved.
        after = [placed[source][attempt.cause is not Cause.SPAWNED] for source in sources]
        begin = max(_nano(attempt.start), free_at.get(tid, 0), *after, 0)
        end = max(_nano(attempt.end), begin + 1)
        placed[attempt] = begin, end
        free_at[tid] = end
        yield {
            "ph": "X",
            "cat": plain(attempt.task.type.name, LONGEST_NAME),
            "name": plain(attempt.task.name, LONGEST_NAME),
            "pid": pid,
            "tid": tid,
            "ts": _micro(begin),
            "dur": _micro(end - begin),
            "args": _args(attempt),
        }
        for source in sources[: max(0, MOST_ARROWS_IN_ALL - arrows)]:
            arrows += 1
            out = placed[source][1] - 1
            if attempt.cause is Cause.SPAWNED:
                out = min(out, max(placed[source][0], _nano(attempt.ready)), begin)
            arrow = {"cat": attempt.cause.value, "name": attempt.cause.value, "id": arrows}
            source_pid, source_tid = threads[source]
            yield {"ph": "s", **arrow, "pid": source_pid, "tid": source_tid, "ts": _micro(out)}
            yield {"ph": "f", "bp": "e", **arrow, "pid": pid, "tid": tid, "ts": _micro(begin)}


def _args(attempt: Attempt) -> dict[str, object]:
    args: dict[str, object] = {
        "uid": attempt.task.uid,
        "type": plain(attempt.task.type.name, LONGEST_NAME),
        "trial": attempt.number,
        "state": str(attempt.state),
        "waited": round(attempt.waited, 6),
    }
    if attempt.error is not None:
        args["error"] = plain(attempt.error, LONGEST_NAME)
    return args


def _counters(history: History, attempts: list[Attempt], pid: int) -> Iterator[Event]:
    before: tuple[int, int] | None = None
    for stretch in stretches(history, attempts):
        counts = stretch.executing, stretch.ready
        if counts != before:
            yield _count(pid, stretch.begin, *counts)
        before = counts
    yield _count(pid, history.duration, 0, 0)


def _count(pid: int, when: float, running: int, waiting: int) -> Event:
    args = {"running": running, "waiting": waiting}
    return {"ph": "C", "name": "tasks", "pid": pid, "tid": pid, "ts": _micro(_nano(when)), "args": args}


def _nano(seconds: float) -> int:
    return round(seconds * 1e9)


def _micro(nanoseconds: int) -> float:
    return nanoseconds / 1000
