"""Where the time of a run went, and what a larger limit would bring: `print(profile(graph))`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import nlargest
from typing import Any

import attrs

from trio_graph_scheduler.graph import Task, TaskGraph
from trio_graph_scheduler.graph.errors import shown, title

from .analysis import critical_path, idle_places
from .causes import SAME, Attempt, Cause
from .history import History
from .replay import Replay

MOST_WAITS = 10
"""As many of the longest waits are told."""
MOST_REPLAYED = 3
"""For as many groups it is told what a larger limit would bring."""
TRUSTED = 0.1
"""A replay that is off by a larger share than this tells nothing."""
LONGEST_PATH = 20
"""As many steps of the critical path are shown in full."""
MOST_SHOWN = 4
"""As many reasons are shown for each group, and as many of the longest waits."""


@attrs.frozen
class Step:
    """One trial of the critical path; times are in seconds.

    - `task`, `trial`: which one.
    - `cause`: what made it READY: Cause.PREDECESSOR, SPAWNED, RETRY or OUTSIDE.
    - `delay`: from that event until it was READY: of a retry the delay, of "outside" since the beginning.
    - `waited`: from then until it had a place.
    - `ran`: from then until the next step's event: its end, or the moment at which it added that task.
    - `share`: of the duration that is all of these together.
    """

    task: Task[Any]
    trial: int
    cause: Cause
    delay: float
    waited: float
    ran: float
    share: float

    def __str__(self) -> str:
        trial = f", trial {self.trial}" if self.trial > 1 else ""
        parts = [
            f"{seconds(time)} {what}"
            for time, what in (
                (
                    self.delay,
                    "until tried again" if self.cause is Cause.RETRY else "until it was there",
                ),
                (self.waited, "until it had a place"),
            )
            if time > SAME
        ]
        return f"{self.share:4.0%} {title(self.task)}{trial}: " + ", ".join(
            [*parts, f"ran {seconds(self.ran)}"]
        )


@attrs.frozen
class Wait:
    """How long a task was READY before its trial started."""

    task: Task[Any]
    trial: int
    seconds: float


@attrs.frozen
class GroupProfile:
    """How the places of a group were used; times are in seconds.

    - `limit`: how many places there are now.
    - `trials`: how many ran in it.
    - `ran`: how long they took, all together.
    - `idle`: for how long places were free, all together: a limit of 2 with one task for 3 s makes 3 s.
    - `share`: of all place-seconds that is.
    - `reasons`: (why they were free, for how long), the longest first. While no task of the group is READY,
      places are free until the next one is, and so because of what that waits for.
    - `waited`: how long its tasks were READY and had not started, all together; `longest`: any of them.
    """

    name: str
    limit: int
    trials: int
    ran: float
    idle: float
    share: float
    reasons: tuple[tuple[str, float], ...]
    waited: float
    longest: float


@attrs.frozen
class LargerLimit:
    """What a larger limit of a group would bring: how long the replay takes, and how much less that is."""

    group: str
    limit: int
    duration: float
    gain: float


@attrs.frozen
class Profile:
    """Where the time of a graph's runs went. `str(profile)` is for people. Times are in seconds.

    - `duration`: of all runs.
    - `tasks`, `trials`: how many there were.
    - `critical_path`: the chain of trials that determined when the last run ended, in order. It goes back
      from the trial that ended last to what made that READY, and so on. Only what shortens one of its steps
      can make the run shorter.
    - `groups`: how the places of each group were used, and why they were free.
    - `longest_waits`: the tasks that waited longest for a place, at most 10.
    - `replayed`: how long the replay takes with the limits as they are now.
    - `larger_limits`: what the replay says of one more place, and of twice as many, for the groups whose
      tasks waited longest, at most 3, one group at a time.

    *The replay* is list scheduling, as in R. L. Graham, "Bounds for certain multiprocessing anomalies"
    (1966): whenever a group has a place, the READY task of the highest priority starts that was READY first,
    and takes as long as it took. It is READY when what it waited for has ended, and what a body added comes
    as long after the beginning of that as it did. So the replay knows nothing of rates, keys, named limits,
    pauses and earlier limits; nor of an order "depth_first"; that tasks may take longer when more of them
    run; that a graph may take another course when times are different. It takes a body that waits for tasks
    for one that works, and holds its place. How far off that is can be seen: if `replayed` is not within a
    tenth of `duration`, `reliable` is False.
    """

    duration: float
    tasks: int
    trials: int
    critical_path: tuple[Step, ...]
    groups: tuple[GroupProfile, ...]
    longest_waits: tuple[Wait, ...]
    replayed: float
    larger_limits: tuple[LargerLimit, ...]

    @property
    def reliable(self) -> bool:
        """Whether the replay with the limits as they are takes about as long as the runs did."""
        return abs(self.replayed - self.duration) <= TRUSTED * self.duration

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        path = self.critical_path
        yield f"{_so_many(self.tasks, 'task')}, {_so_many(self.trials, 'trial')} in {seconds(self.duration)}"
        yield f"critical path: {_so_many(len(path), 'trial')}"
        shown_first = path if len(path) <= LONGEST_PATH else path[: LONGEST_PATH // 2]
        yield from (f"  {step}" for step in shown_first)
        if shown_first is not path:
            yield f"  ... {len(path) - 2 * len(shown_first):,} more"
            yield from (f"  {step}" for step in path[-len(shown_first) :])
        for group in self.groups:
            yield (
                f"group {shown(group.name)}, limit {group.limit}: {group.share:.0%} idle,"
                f" {seconds(group.idle)} of all its places"
            )
            yield from (f"  {seconds(time)} {reason}" for reason, time in group.reasons[:MOST_SHOWN])
        if self.longest_waits:
            yield "longest waits for a place"
            for wait in self.longest_waits[:MOST_SHOWN]:
                yield f"  {seconds(wait.seconds)} {title(wait.task)} in {shown(wait.task.group.name)}"
        if self.larger_limits and not self.reliable:
            yield (
                f"a replay takes {seconds(self.replayed)}: too far off to tell what larger limits would bring"
            )
        elif self.larger_limits:
            yield f"replayed with larger limits; with these it takes {seconds(self.replayed)}"
            for larger in self.larger_limits:
                yield (
                    f"  {shown(larger.group)} {larger.limit}: {seconds(larger.duration)},"
                    f" {seconds(larger.gain)} less"
                )


def profile(graph: TaskGraph) -> Profile:
    """Return where the time of a graph's runs went, and what larger limits would bring.

        await execute_graph(graph)
        print(profile(graph))

    In the middle of a run it tells of what there is so far: trials that go on end now, and tasks that have
    not started are left out. Reads trials and dependencies, never arguments. Takes time in the number of
    trials times its logarithm and in that of dependencies, about 2 seconds for 100,000 of them: for so many
    rather call it when the run is over. `Profile` says how it is calculated and what it cannot know. Raises
    `BadType`.
    """
    return profile_of(History(graph))


def profile_of(history: History) -> Profile:
    """Return the profile of what has been read of a graph already."""
    limits = {name: group.limit for name, group in history.graph.groups.items()}
    groups = tuple(_group_profiles(history, limits))
    waits = nlargest(MOST_WAITS, history.attempts, key=lambda attempt: attempt.waited)
    replayed, larger = _larger_limits(history, limits, groups)
    return Profile(
        history.duration,
        len(history.tasks),
        len(history.attempts),
        tuple(_steps(history)),
        groups,
        tuple(Wait(wait.task, wait.number, wait.waited) for wait in waits if wait.waited > SAME),
        replayed,
        larger,
    )


def _steps(history: History) -> Iterator[Step]:
    for link in critical_path(history):
        attempt = link.attempt
        ran = max(0.0, link.until - attempt.start)
        share = (link.delay + attempt.waited + ran) / (history.duration or 1.0)
        yield Step(attempt.task, attempt.number, attempt.cause, link.delay, attempt.waited, ran, share)


def _group_profiles(history: History, limits: Mapping[str, int]) -> Iterator[GroupProfile]:
    for name, attempts in history.of_group.items():
        if not attempts:
            continue
        reasons = idle_places(history, attempts, limits[name])
        idle = sum(reasons.values())
        yield GroupProfile(
            name,
            limits[name],
            len(attempts),
            sum(attempt.ran for attempt in attempts),
            idle,
            idle / (limits[name] * history.duration or 1.0),
            tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            sum(attempt.waited for attempt in attempts),
            max(attempt.waited for attempt in attempts),
        )


def _larger_limits(
    history: History, limits: Mapping[str, int], groups: tuple[GroupProfile, ...]
) -> tuple[float, tuple[LargerLimit, ...]]:
    """Return how long the replay takes, and what larger limits bring in it."""
    of_run: list[list[Attempt]] = [[] for _ in history.runs]
    for attempt in history.attempts:
        of_run[attempt.run].append(attempt)
    replays = [
        Replay(attempts, span.began) for attempts, span in zip(of_run, history.runs, strict=True) if attempts
    ]
    # A limit of 0 is a pause, which came later.
    now = {name: max(1, limit) for name, limit in limits.items()}
    replayed = sum(replay.seconds(now) for replay in replays)
    found = []
    for group in nlargest(MOST_REPLAYED, groups, key=lambda group: group.waited):
        limit = now[group.name]
        for larger in sorted({limit + 1, 2 * limit}) if group.waited > SAME else ():
            duration = sum(replay.seconds({**now, group.name: larger}) for replay in replays)
            found.append(LargerLimit(group.name, larger, duration, replayed - duration))
    return replayed, tuple(found)


def _so_many(count: int, things: str) -> str:
    return f"{count:,} {things}" + ("" if count == 1 else "s")


def seconds(time: float) -> str:
    """Return a time for people: three figures, in the unit that fits, from microseconds to days."""
    rounded = float(f"{time:.3g}")
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(rounded) >= size:
            return f"{float(f'{rounded / size:.3g}'):,.6g} {unit}"
    return "0 s"
