"""What was measured, in words: the table, and whether the targets hold."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import trio

from .comparing import Compared
from .measuring import CHANNEL, LIBRARY, PLAIN_LOOP, START_SOON, Row, spread
from .observers import WatchedShape

NONE = "–"  # noqa: RUF001 - the dash that tables have

RATIOS = {
    START_SOON: {"wide": 0.15, "chain": 0.30, "layered": 0.35, "tree": 0.20, "map-reduce": 0.15},
    CHANNEL: {"wide": 0.8, "chain": 0.6, "layered": 0.9, "map-reduce": 0.8},
}
"""The library's time over theirs, at most."""
RATIO_SIZE = 10_000
"""The size at which ratios and bytes are judged."""
BYTES = {"wide": 500, "layered": 600}
"""Bytes per task at any moment, at most."""
GROWTH = 2.0
"""The time per task of the largest size over that of the size where ratios are judged, at most."""
GROWTH_SIZE = 1_000_000

OBSERVERS = {"feed": 1.05, "10 clients": 1.15}
"""The time with observers over that with nobody, at most."""
IDLER = 1.02
"""The memory with a client that never reads over that without, at most: it stays flat."""

COLUMNS = (
    ("shape", 10),
    ("N", 9),
    ("tasks", 9),
    ("library", 11),
    (PLAIN_LOOP, 11),
    (START_SOON, 11),
    (CHANNEL, 11),
    ("/plain", 7),
    ("/soon", 7),
    ("/channel", 9),
    ("added", 6),
    ("peak", 6),
)

POLICY_COLUMNS = (
    ("policy", 12),
    ("case", 17),
    ("tasks", 8),
    ("program", 16),
    ("time", 14),
    ("ratio", 7),
    ("peak", 7),
    ("suspended", 10),
    ("rate", 7),
)
LEFT = ("policy", "case", "program")
"""Columns of words; those of numbers are on the right of theirs."""


@dataclass(frozen=True)
class Verdict:
    """A figure to reach, and the figure reached; None if this run did not measure it."""

    what: str
    at_most: float
    reached: float | None

    def __str__(self) -> str:
        if self.reached is None:
            return f"{self.what}: at most {self.at_most:g}; not measured"
        verdict = "holds" if self.reached <= self.at_most else "DOES NOT HOLD"
        return f"{self.what}: {self.reached:.3g}, at most {self.at_most:g}: {verdict}"


def machine() -> str:
    """Return on what it is measured."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{platform.platform()}, {os.cpu_count()} cores; {python}, trio {trio.__version__}"


def head() -> str:
    """Return the legend and the head of the table."""
    return (
        "µs: CPU time per task with a body that does nothing, building included; median, ± half the range\n"
        "/way: the library's time over that way's in the same round; median\n"
        "added, peak: the library's bytes per task, after all were added and at most\n\n"
        + _line([name for name, _ in COLUMNS])
    )


def policy_head() -> str:
    """Return the legend and the head of the table of policies."""
    return (
        "Policies: the first program of each case uses one, the others are what it is compared with\n"
        "without: the same graph without the policy; start_soon: a trio task each and a CapacityLimiter;\n"
        "fail_after: that with trio.fail_after in each; sleep_until: a loop that does it when each is due;\n"
        "heapq: as many entries pushed, then popped, and no tasks\n"
        "time: µs of CPU time per task, building included; median, ± half the range\n"
        "ratio: the first program's time over this one's in the same round; median\n"
        "peak: bytes per task at most; suspended: tasks SUSPENDED at a time, at most\n"
        "rate: starts per second on the real clock, over those asked for; median\n\n"
        + _policy_line([name for name, _ in POLICY_COLUMNS])
    )


def policy_lines(row: Compared) -> str:
    """Return the lines of a comparison in the table of policies, one per program."""
    return "\n".join(
        _policy_line(
            [
                row.policy,
                row.case,
                f"{row.tasks:,}",
                name,
                f"{figures.median * 1e6:.2f} ±{figures.spread:4.0%}",
                _number(row.ratio(name), 2),
                _number(figures.bytes_at_most, 0),
                NONE if figures.suspended_at_most is None else f"{figures.suspended_at_most:,}",
                _number(figures.rate, 3),
            ]
        )
        for name, figures in row.programs.items()
    )


def observer_head() -> str:
    """Return the legend and the head of the table of observers."""
    return (
        "Observers: nobody; a session of the feed that is read in the program; websocket clients in another\n"
        "process, of which one never reads where there are several\n"
        "time: µs of CPU time of the graph's process per N, adding included; median, ± half the range\n"
        "ratio: the time over that with nobody in the same round; median\n"
        "pace: messages per second to each client that reads; median\n\n"
        f"{'shape':10} {'N':>9} {'observers':12} {'time':>12} {'ratio':>7} {'pace':>7}"
    )


def observer_lines(measured: WatchedShape) -> str:
    """Return the lines of a shape in the table of observers."""
    lines = [
        f"{measured.shape:10} {measured.size:>9,} {row.observers:12}"
        f" {statistics.median(row.seconds) / measured.size * 1e6:>7.2f} ±{spread(row.seconds):4.0%}"
        f" {measured.ratio(row):7.3f} {_number(statistics.median(row.pace) if row.pace else None, 1):>7}"
        for row in measured.rows
    ]
    return "\n".join(lines)


def observer_verdicts(shapes: Iterable[WatchedShape]) -> Iterator[Verdict]:
    """Yield the targets of observers, and how they are met."""
    for measured in shapes:
        for row in measured.rows:
            if row.observers in OBSERVERS:
                what = f"{measured.shape}: time with {row.observers} over nobody"
                yield Verdict(what, OBSERVERS[row.observers], measured.ratio(row))
        what = f"{measured.shape}: memory with a client that never reads over one without"
        yield Verdict(what, IDLER, measured.growth)


def line(row: Row) -> str:
    """Return a row of the table."""
    return _line(
        [
            row.shape,
            f"{row.size:,}",
            f"{row.tasks:,}",
            *[_time(row, way) for way in (LIBRARY, PLAIN_LOOP, START_SOON, CHANNEL)],
            _number(row.ratio(PLAIN_LOOP), 1),
            _number(row.ratio(START_SOON), 3),
            _number(row.ratio(CHANNEL), 2),
            _number(row.bytes_added, 0),
            _number(row.bytes_at_most, 0),
        ]
    )


def verdicts(rows: Iterable[Row]) -> Iterator[Verdict]:
    """Yield all targets, and how they are met."""
    measured = {(row.shape, row.size): row for row in rows}
    for way, limits in RATIOS.items():
        for shape, limit in limits.items():
            row = measured.get((shape, RATIO_SIZE))
            yield Verdict(f"{shape}: time over {way}", limit, row.ratio(way) if row else None)
    for shape, limit in BYTES.items():
        row = measured.get((shape, RATIO_SIZE))
        yield Verdict(f"{shape}: peak bytes per task", limit, row.bytes_at_most if row else None)
    for shape in RATIOS[START_SOON]:
        small, large = measured.get((shape, RATIO_SIZE)), measured.get((shape, GROWTH_SIZE))
        growth = large.median(LIBRARY) / small.median(LIBRARY) if small and large else None
        yield Verdict(f"{shape}: time per task, N={GROWTH_SIZE:,} over N={RATIO_SIZE:,}", GROWTH, growth)


def as_json(
    rows: Iterable[Row], policies: Iterable[Compared] = (), watched: Iterable[WatchedShape] = ()
) -> dict[str, object]:
    """Return all figures for a JSON file; times in CPU seconds per task, one per round."""
    rows, watched = list(rows), list(watched)
    return {
        "machine": machine(),
        "rows": [vars(row) for row in rows],
        "targets": [vars(verdict) for verdict in verdicts(rows)],
        "policies": [asdict(row) for row in policies],
        "observers": [asdict(shape) for shape in watched],
        "observer targets": [vars(verdict) for verdict in observer_verdicts(watched)],
    }


def _line(cells: Iterable[str]) -> str:
    first, *others = zip(cells, COLUMNS, strict=True)
    cell, (_, width) = first
    return " ".join([cell.ljust(width), *[cell.rjust(width) for cell, (_, width) in others]])


def _policy_line(cells: Iterable[str]) -> str:
    placed = [
        cell.ljust(width) if name in LEFT else cell.rjust(width)
        for cell, (name, width) in zip(cells, POLICY_COLUMNS, strict=True)
    ]
    return " ".join(placed)


def _time(row: Row, way: str) -> str:
    return f"{row.median(way) * 1e6:.2f} ±{row.spread(way):4.0%}" if way in row.seconds else NONE


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
