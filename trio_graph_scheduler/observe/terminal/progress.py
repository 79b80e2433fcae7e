"""Progress: how a graph gets on, shown while it runs: bars in a terminal, lines elsewhere.

    async with progress(graph):
        await execute_graph(graph)

Bars need the package `rich` (the extra `progress`); lines do not.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING, Protocol, TextIO

import trio

from trio_graph_scheduler.graph import BadType, BadValue, GraphError, TaskGraph
from trio_graph_scheduler.graph.errors import shown
from trio_graph_scheduler.graph.values import is_seconds
from trio_graph_scheduler.observe.pace import Survey, Surveyor, Tally, duration, per_time
from trio_graph_scheduler.observe.safe_text import encodable, printable

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_NAME = 60
"""Characters of the graph's name in a line."""


class RichNeeded(GraphError, ImportError):
    """Progress is to be shown in a terminal, and the package that draws there is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "progress() draws bars in a terminal with the package 'rich', which is not installed:"
            " pip install 'trio_graph_scheduler[progress]'. Without it, progress(graph, file=...) writes"
            " lines to a file that is not a terminal"
        )


@asynccontextmanager
async def progress(
    graph: TaskGraph,
    *,
    file: TextIO | None = None,
    console: Console | None = None,
    interval: float | None = None,
) -> AsyncIterator[None]:
    """Show how a graph gets on while the body of an `async with` runs.

        async with progress(graph), open_graph(graph):
            graph.add(crawl, url)

    - `file`: where to; by default `sys.stderr`.
    - `console`: a `rich.console.Console` instead, for programs that print through one themselves.
    - `interval`: seconds on trio's clock from a change until it is shown with all that came after it; by
      default 0.2 in a terminal, and 10 for lines.

    In a terminal (that takes UTF-8, and is not `TERM=dumb`) there is a bar for each type in each group, for
    the dozen of them that have most tasks, and below them a line for the whole graph: how many tasks are done
    (have ended, in whatever way) of how many there are; how many run (or are suspended), wait (for others,
    for a place, or to be tried again), have failed, were cancelled or skipped; how many end per second; and
    how long the rest will take. What the terminal has no room for is left out. The last picture stays. What
    is printed meanwhile appears above it; a program whose logging was set up before, or that writes to the
    terminal in other ways, passes the `console` that it writes to.

    Elsewhere a line about the whole graph is written at most every `interval` seconds, if a task has ended or
    begun or was added since the last one, and one at the end.

    A rate is that of the last 5 seconds, or of the last 20 tasks where these took longer; it counts tasks
    that succeeded or failed, and is not known until one has, nor when none has for longer than that. The
    time left is what is open at that rate (of the whole graph: at least the longest of its types), and is not
    known while tasks are still added: if one was within the time that the rate is taken over.

    The graph may run before, within and after, or not at all. An output that fails ends the display, not the
    run: it is logged once. What the body raises comes out as it is. Checkpoints at the begin only.

    Raises `BadType` and `BadValue`, and `RichNeeded` for a terminal if `rich` is not installed.
    """
    if not isinstance(graph, TaskGraph):
        raise BadType("the graph of progress()", graph, "it must be a TaskGraph")
    if interval is not None and not (is_seconds(interval) and interval > 0):
        raise BadValue("the interval of progress()", interval, "it must be a number of seconds above 0")
    display = _display(file, console)
    await trio.lowlevel.checkpoint()
    reporter = Reporter(graph, display, display.interval if interval is None else interval)
    # No nursery: what the body raises would come out of it in an ExceptionGroup, and the clean-up of a body
    # that is cancelled is still to be watched.
    trio.lowlevel.spawn_system_task(reporter.run, name="progress of a task graph")
    try:
        yield
    finally:
        reporter.close()


class Display(Protocol):
    """What shows surveys. Its methods may raise whatever writing raises."""

    interval: float
    """Seconds from a change until it is shown, unless the user says otherwise."""

    def show(self, survey: Survey) -> None:
        """Show how things stand."""

    def close(self) -> None:
        """Give back what was taken, and leave what was shown last. Doing so twice is fine."""


def _display(file: TextIO | None, console: Console | None) -> Display:
    if console is None:
        file = sys.stderr if file is None else file
        if not callable(getattr(file, "write", None)):
            raise BadType("the file of progress()", file, "it must be a text file, such as sys.stdout")
        if not is_terminal(file):
            return Lines(file)
    elif file is not None:
        raise BadValue("the file of progress()", file, "give a file or a console, not both")
    try:
        from . import bars  # noqa: PLC0415 - only where it is needed, for it needs rich
    except ImportError as error:
        raise RichNeeded from error
    console = bars.checked(console) if file is None else bars.console_on(file)
    return bars.Bars(console) if bars.can_draw_on(console) else Lines(console.file)


def is_terminal(file: IO[str]) -> bool:
    """Return whether what is written there appears on a terminal; False where that cannot be told."""
    try:
        return file.isatty()
    except (AttributeError, OSError, ValueError):  # it is no whole file, or closed
        return False


class Lines:
    """Lines of text about the whole graph."""

    interval = 10.0

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        # What the last line was about.
        self._said: tuple[Tally, float | None] | None = None

    def show(self, survey: Survey) -> None:
        """Write a line, unless the last one said the same."""
        said = (survey.whole.tally, survey.took)
        if said != self._said:
            self._said = said
            encoding = getattr(self.file, "encoding", None) or "utf-8"
            line = sentence(survey).encode(encoding, "backslashreplace").decode(encoding)
            self.file.write(line + "\n")
            self.file.flush()

    def close(self) -> None:
        """Do nothing, as nothing was taken."""


def sentence(survey: Survey) -> str:
    """Return how the whole graph stands, in a line."""
    whole, tally = survey.whole, survey.whole.tally
    parts = [f"{tally.done} of {tally.total} done"]
    named = ("running", "waiting", "failed", "cancelled", "skipped")
    parts += [f"{getattr(tally, name)} {name}" for name in named if getattr(tally, name)]
    if whole.rate is not None:
        parts.append(per_time(whole.rate))
    if whole.left is not None:
        parts.append(f"{duration(math.ceil(whole.left))} left")
    if survey.took is not None:
        parts.append(f"took {duration(survey.took)}")
    return f"{printable(encodable(whole.name, LONGEST_NAME))}: {', '.join(parts)}"


class Reporter:
    """Has a display show a graph whenever that has changed, and no more often than it should.

    It follows the graph only from a survey to the next change, so that in between the graph is not observed.
    """

    def __init__(self, graph: TaskGraph, display: Display, interval: float) -> None:
        self.graph = graph
        self.display = display
        self.interval = interval
        # Cancelled when nothing is to be shown any more.
        self._scope = trio.CancelScope()
        self._surveyor = Surveyor(graph)
        self._token = trio.lowlevel.current_trio_token()
        self._follow()

    def _follow(self) -> None:
        self._changed = trio.Event()
        self._follower = self.graph.follow(self._wake)

    def _wake(self) -> None:
        self._follower.close()
        self._token.run_sync_soon(self._changed.set)  # a graph may be built in a thread

    async def run(self) -> None:
        """Show changes until it is closed. Never raises.

        When all is quiet rates still fall: they are shown again after pauses each twice as long as the one
        before, until there are none.
        """
        with self._scope:
            pause = math.inf
            while True:
                with trio.move_on_after(pause):
                    await self._changed.wait()
                if self._changed.is_set():
                    self._attempt(self._look)  # rates begin with the run, and not with the first picture
                    await trio.sleep(self.interval)
                    self._follow()
                    pause = self.interval
                self._attempt(self._show)
                pause = 2 * pause if self._moving else math.inf

    def _look(self) -> Survey:
        return self._surveyor.look(trio.current_time())

    def _show(self) -> None:
        survey = self._look()
        self._moving = survey.moving
        self.display.show(survey)

    def _attempt(self, *steps: Callable[[], object]) -> None:
        """Take steps; if one fails, log that and show nothing any more."""
        if self._scope.cancel_called:
            return
        try:
            for step in steps:
                step()
        except (Exception, SystemExit):  # which rich raises where a pipe is broken
            self._scope.cancel()
            with suppress(Exception, SystemExit):
                self.display.close()
            with suppress(Exception):  # logging raises where sys.stderr is closed
                name = shown(self.graph.name)
                logging.getLogger(__name__).exception("the progress of graph %s can no longer be shown", name)

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Show how things stand at the end, and give the terminal back."""
        self._attempt(self._show, self.display.close)
        self._scope.cancel()
        self._follower.close()
