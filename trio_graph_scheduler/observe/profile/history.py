"""What happened in a graph: every trial on one time axis, and what made each of them READY.

Traces, profiles and reports are made from this. It is read in one go, so that it is consistent though the
graph may go on running, and nothing in it changes afterwards.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from heapq import heappush, heapreplace
from typing import Any

import attrs

from trio_graph_scheduler.graph import Task, TaskGraph, Trial
from trio_graph_scheduler.graph.errors import BadType
from trio_graph_scheduler.graph.task import FAILED

from .causes import Attempt, Causes, in_causal_order


@attrs.frozen
class Span:
    """One run, in seconds from the beginning of the first one."""

    began: float
    ended: float


class History:
    """All trials of a graph so far, in the order in which they started.

    `runs` says when each run began and ended. Every `trio.run` has a clock of its own; here they are laid one
    after another, without the time between them.
    """

    def __init__(self, graph: TaskGraph) -> None:
        if not isinstance(graph, TaskGraph):
            raise BadType("what a trace, a profile or a report is made of", graph, "it must be a TaskGraph")
        self.graph = graph
        self.tasks = graph.tasks()
        self._clock = _Axis(graph, self.tasks)
        self.runs = self._clock.spans
        self.of: dict[Task[Any], list[Attempt]] = {}
        """Task -> its trials, in order; those that never ran are missing."""
        for task in self.tasks:
            attempts = [self._clock.attempt(task, trial) for trial in task.trials]
            if attempts:
                self.of[task] = attempts
        Causes(self.tasks, self.of).find()
        started = [attempt for attempts in self.of.values() for attempt in attempts]
        started.sort(key=lambda attempt: (attempt.start, attempt.end))
        self.attempts = in_causal_order(started)
        self.of_group: dict[str, list[Attempt]] = {name: [] for name in graph.groups}
        """Name of a group -> its trials, in the order in which they started."""
        for attempt in self.attempts:
            self.of_group[attempt.task.group.name].append(attempt)

    @property
    def duration(self) -> float:
        """How many seconds all runs took together."""
        return self.runs[-1].ended


class _Axis:
    """Lays the clocks of all runs one after another."""

    def __init__(self, graph: TaskGraph, tasks: Iterable[Task[Any]]) -> None:
        runs = graph.runs or _one_run(tasks)
        now = graph.time()
        self.spans: list[Span] = []
        offset = 0.0
        for began, ended in runs:
            length = max(0.0, (now if ended is None else ended) - began)
            self.spans.append(Span(offset, offset + length))
            offset += length
        # In the order of the clock; of several that began at the same time the last one comes last.
        self._order = sorted(range(len(runs)), key=lambda index: (runs[index][0], index))
        self._began = [runs[index][0] for index in self._order]

    def attempt(self, task: Task[Any], trial: Trial) -> Attempt:
        """Return a trial with its times on the axis."""
        place = max(0, bisect_right(self._began, trial.start) - 1)
        run = self._order[place]
        span = self.spans[run]
        shift = span.began - self._began[place]
        ready = min(max(trial.ready + shift, span.began), span.ended)
        start = min(max(trial.start + shift, ready), span.ended)
        end = span.ended if trial.end is None else min(max(trial.end + shift, start), span.ended)
        error = type(trial.outcome).__name__ if trial.state is FAILED else None
        return Attempt(task, trial.number, trial.state, error, trial.worker, run, ready, start, end)


def _one_run(tasks: Iterable[Task[Any]]) -> list[tuple[float, float | None]]:
    """Return the time of all trials, for graphs whose driver did not say when it ran them."""
    trials = [trial for task in tasks for trial in task.trials]
    if not trials:
        return [(0.0, 0.0)]
    ends = [trial.end for trial in trials if trial.end is not None]
    open_ended = len(ends) < len(trials)
    return [(min(trial.ready for trial in trials), None if open_ended else max(ends))]


@attrs.define(eq=False)
class Track:
    """The trials that one worker loop ran, none of which overlap, in order."""

    group: str
    name: str
    attempts: list[Attempt] = attrs.Factory(list)


def tracks(history: History) -> list[Track]:
    """Return what each worker loop ran: by group, and then by the number of the loop.

    What another driver ran at a time in one worker, or without any, gets tracks of the same name.
    """
    found: dict[tuple[str, str], list[tuple[float, int, Track]]] = {}
    for attempt in history.attempts:
        group = attempt.task.group.name
        name = group if attempt.worker is None else attempt.worker
        same = found.setdefault((group, name), [])
        if same and same[0][0] <= attempt.start:
            _, number, track = same[0]
            heapreplace(same, (attempt.end, number, track))
        else:
            number, track = len(same), Track(group, name)
            heappush(same, (attempt.end, number, track))
        track.attempts.append(attempt)
    order = {name: place for place, name in enumerate(history.graph.groups)}
    by_name = sorted(found, key=lambda key: (order[key[0]], len(key[1]), key[1]))
    return [track for key in by_name for _, _, track in sorted(found[key], key=lambda entry: entry[1])]
