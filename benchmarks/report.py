"""What was measured, in words: the table, and whether the targets hold."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import trio

from .measuring import CHANNEL, LIBRARY, PLAIN_LOOP, START_SOON, Row

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


def as_json(rows: Iterable[Row]) -> dict[str, object]:
    """Return all figures for a JSON file; times in CPU seconds per task, one per round."""
    rows = list(rows)
    return {
        "machine": machine(),
        "rows": [vars(row) for row in rows],
        "targets": [vars(verdict) for verdict in verdicts(rows)],
    }


def _line(cells: Iterable[str]) -> str:
    first, *others = zip(cells, COLUMNS, strict=True)
    cell, (_, width) = first
    return " ".join([cell.ljust(width), *[cell.rjust(width) for cell, (_, width) in others]])


def _time(row: Row, way: str) -> str:
    return f"{row.median(way) * 1e6:.2f} ±{row.spread(way):4.0%}" if way in row.seconds else NONE


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
