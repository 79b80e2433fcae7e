"""Bars: progress drawn in a terminal, with rich."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from heapq import nlargest
from typing import IO, Any

import attrs
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.text import Text

from trio_graph_scheduler.graph import BadType
from trio_graph_scheduler.observe.pace import Row, Survey, Tally, duration, per_time
from trio_graph_scheduler.observe.safe_text import printable

from .progress import is_terminal

MOST_ROWS = 12
"""Types that have a row of their own."""
SHORTEST_BAR, LONGEST_BAR = 6, 40
"""Cells."""
NARROW = 60
"""Cells of a terminal in which columns stand closer together."""
UNKNOWN = "\N{EN DASH}"
LONGEST_LABEL = 100
"""Characters that are looked at, of a type's name and of its group's."""


def checked(console: Any) -> Console:
    """Return the console of a user. Raises `BadType` if it is none."""
    if not isinstance(console, Console):
        raise BadType("the console of progress()", console, "it must be a rich.console.Console")
    return console


def console_on(file: IO[str]) -> Console:
    """Return a console on a terminal. What is printed through it is taken as it is."""
    return Console(file=file, markup=False, highlight=False, emoji=False)


def can_draw_on(console: Console) -> bool:
    """Return whether this is a terminal that can move its cursor and has characters for bars."""
    return console.is_interactive and not console.options.ascii_only


class Bars:
    """A table with bars at the bottom of a terminal."""

    interval = 0.2

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(
            console=console,
            auto_refresh=False,
            vertical_overflow="crop",
            # What goes to a file or a pipe is to stay there:
            redirect_stdout=is_terminal(sys.stdout),
            redirect_stderr=is_terminal(sys.stderr),
        )

    def show(self, survey: Survey) -> None:
        """Draw the table anew."""
        width, height = self.console.size
        self._live.start()
        self._live.update(table(survey, width, height - 1), refresh=True)

    def close(self) -> None:
        """Leave the table where it is, and show the cursor below it."""
        try:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, FileProxy):
                    stream.flush()  # a line that has only begun, which rich forgets
        finally:
            self._live.stop()


# The table --------------------------------------------------------------------------------------------------


@attrs.frozen
class Column:
    """A column of figures: its heading, the text of a row, and how important it is where room is scarce."""

    heading: str
    importance: int
    text: Callable[[Row], str]
    style: str = ""


def _counting(name: str, importance: int, style: str = "") -> Column:
    def text(row: Row) -> str:
        count = getattr(row.tally, name)
        return f"{count:,}" if count else ""

    return Column(name, importance, text, style)


def _estimating(name: str, importance: int, shown: Callable[[float], str]) -> Column:
    def text(row: Row) -> str:
        known = getattr(row, name)
        return shown(known) if known is not None else UNKNOWN if row.tally.open else ""

    return Column(name, importance, text)


FIGURES = (
    Column("done", 9, lambda row: f"{row.tally.done:,}"),
    Column("of", 8, lambda row: f"{row.tally.total:,}"),
    _counting("failed", 7, "red"),
    _counting("running", 5, "cyan"),
    _counting("waiting", 3),
    _counting("skipped", 2, "yellow"),
    _counting("cancelled", 1, "yellow"),
    _estimating("rate", 4, per_time),
    _estimating("left", 6, lambda left: duration(math.ceil(left))),
)
"""All columns, from left to right. Those that are empty are left out."""


def table(survey: Survey, width: int, height: int) -> Text:
    """Return a survey as text of at most so many cells and lines, or three lines."""
    gap = 1 if width < NARROW else 2
    whole = survey.whole
    rows = [*condensed(survey.rows, min(MOST_ROWS, height - 3)), whole]
    columns = list(FIGURES)
    if survey.took is not None:
        took = duration(survey.took)
        columns[-1] = Column("took", columns[-1].importance, lambda row: took if row is whole else "")
    labels = [_label(row) for row in rows]
    room = min(max(map(cell_len, labels)), width // 4)
    texts = _fitting(columns, rows, width - room - gap - SHORTEST_BAR, gap)
    sizes = {column: max(map(len, (column.heading, *cells))) for column, cells in texts.items()}
    bar = min(LONGEST_BAR, width - room - gap - sum(gap + size for size in sizes.values()))
    lines = [Text(" " * (room + gap + bar), "dim")]
    for column, size in sizes.items():
        lines[0].append(" " * gap + column.heading.rjust(size))
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        line = Text(_cut(label, room) + " " * gap, "bold" if row is whole else "")
        line.append_text(_bar(row.tally, bar))
        for column, size in sizes.items():
            line.append(" " * gap + texts[column][number].rjust(size), column.style)
        lines.append(line)
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def condensed(rows: Sequence[Row], most: int) -> list[Row]:
    """Return the rows of so many of the largest types, in order, and one more for all others."""
    if len(rows) <= most + 1:
        return list(rows)
    largest = set(nlargest(most, range(len(rows)), key=lambda index: rows[index].tally.total))
    others = [row for index, row in enumerate(rows) if index not in largest]
    rate = sum(row.rate or 0.0 for row in others) or None
    rest = Row(f"{len(others):,} more types", None, Tally.sum(row.tally for row in others), rate, None)
    return [*(row for index, row in enumerate(rows) if index in largest), rest]


def _fitting(columns: Iterable[Column], rows: Iterable[Row], width: int, gap: int) -> dict[Column, list[str]]:
    """Return the cells of those columns that are not empty and for which there is room, in order."""
    cells = {column: [column.text(row) for row in rows] for column in columns}
    chosen = set()
    for column in sorted(cells, key=lambda column: -column.importance):
        width -= gap + max(map(len, (column.heading, *cells[column]))) if any(cells[column]) else 0
        if width < 0:
            break
        chosen.add(column)
    return {column: cells[column] for column in cells if column in chosen and any(cells[column])}


def _label(row: Row) -> str:
    names = (row.name,) if row.group is None else (row.name, row.group)
    # A tab is printable, but fills as many cells as it likes.
    return " · ".join(printable(name[:LONGEST_LABEL]).replace("\t", r"\t") for name in names)


def _cut(text: str, cells: int) -> str:
    """Return a text that fills this many cells; characters may be two wide, or none."""
    return set_cell_size(text, cells) if cell_len(text) <= cells else set_cell_size(text, cells - 1) + "…"


def _bar(tally: Tally, cells: int) -> Text:
    """Return a bar: what went well, what did not, what runs, and what waits."""
    bar = Text()
    filled = counted = 0
    for count, char, style in (
        (tally.succeeded, "━", "green"),
        (tally.failed, "━", "red"),
        (tally.skipped + tally.cancelled, "━", "yellow"),
        (tally.running, "╍", "cyan"),
        (tally.waiting, "─", "dim"),
    ):
        counted += count
        # Rounded down, so that it is full only when all is done.
        upto = cells * counted // tally.total if tally.total else 0
        bar.append(char * (upto - filled), style)
        filled = upto
    bar.append("─" * (cells - filled), "dim")
    return bar
