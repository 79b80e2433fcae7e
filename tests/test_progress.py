"""Progress: what is shown of a graph while it runs, in a terminal and elsewhere, and what cannot harm it."""

from __future__ import annotations

import io
import itertools
import logging
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from tests.support import fail, nothing
from tests.support import run as run_once
from trio_graph_scheduler import (
    BadType,
    BadValue,
    Rate,
    TaskGraph,
    TaskState,
    TaskType,
    WorkerGroup,
    current_graph,
    current_task,
    execute_graph,
    open_graph,
)
from trio_graph_scheduler.observe.pace import Pace, Row, Survey, Surveyor, Tally, duration, per_time
from trio_graph_scheduler.observe.terminal import bars
from trio_graph_scheduler.observe.terminal.progress import RichNeeded, progress

Run = Callable[..., Any]

CURSOR_OFF, CURSOR_ON = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    """A file that says it is a terminal, as `sys.stdout` may be."""

    def __init__(self) -> None:
        super().__init__()
        # What is called with each text before it is written.
        self.before: Callable[[str], object] = len

    def isatty(self) -> bool:
        """Say yes."""
        return True

    def write(self, text: str) -> int:
        """Write after the call of `before`."""
        self.before(text)
        return super().write(text)


async def sleep_for(seconds: float) -> None:
    """Be a body that takes so long."""
    await trio.sleep(seconds)


def console_of(width: int = 100, height: int = 25) -> tuple[Console, Terminal]:
    """Return a console on a terminal of this size, and what it writes to."""
    terminal = Terminal()
    console = Console(
        file=terminal, force_terminal=True, width=width, height=height, markup=False, color_system=None
    )
    return console, terminal


def last_picture(written: str) -> list[str]:
    """Return the lines of the picture that a terminal shows last."""
    return written.replace(CURSOR_ON, "").rsplit("\x1b[2K", 1)[1].strip("\n").split("\n")


# Rates and time left ----------------------------------------------------------------------------------------


def watch(main: Callable[[TaskGraph], Any], graph: TaskGraph, seconds: float, run: Run) -> list[Survey]:
    """Run a graph with a body for `open_graph`, and return surveys, one per second."""
    surveys: list[Survey] = []

    async def look() -> None:
        surveyor = Surveyor(graph)
        for _ in range(round(seconds)):
            surveys.append(surveyor.look(trio.current_time()))
            await trio.sleep(1)

    async def both() -> None:
        async with open_graph(graph, raise_failures=False), trio.open_nursery() as nursery:
            await trio.sleep(0.01)  # so that nothing happens in the moment of a look
            nursery.start_soon(look)
            await main(graph)

    run(both)
    return surveys


async def stay(_: TaskGraph) -> None:
    """Add nothing."""


def test_the_rate_of_a_graph_that_stands_still_tells_the_time_left(run: Run) -> None:
    """Four places, each with a task every half second, end eight a second; what is open takes accordingly."""
    graph = TaskGraph(worker_loops={"default": 4})
    for _ in range(160):
        graph.add(sleep_for, 0.5)
    surveys = watch(stay, graph, 20, run)
    for second, survey in enumerate(surveys[2:], 2):
        assert survey.rows[0].rate == pytest.approx(8, rel=0.3)
        assert survey.rows[0].left == pytest.approx(20 - second, rel=0.3)
        assert survey.whole.rate == survey.rows[0].rate


def test_nothing_is_known_before_the_first_end(run: Run) -> None:
    """A type none of whose tasks has ended has no rate, however long they take; then their time counts."""
    graph = TaskGraph(worker_loops={"default": 1})
    for _ in range(3):
        graph.add(sleep_for, 100)
    surveys = watch(stay, graph, 130, run)
    assert all((survey.whole.rate, survey.whole.left) == (None, None) for survey in surveys[:100])
    assert surveys[101].whole.rate == pytest.approx(1 / 100, rel=0.05)
    assert surveys[101].whole.left == pytest.approx(200, rel=0.05)


def test_time_left_is_unknown_while_the_total_grows(run: Run) -> None:
    """It is known again when no task was added for as long as the rate is taken over."""

    async def add_some(graph: TaskGraph) -> None:
        await trio.sleep(0.3)
        for _ in range(20):
            for _ in range(5):
                graph.add(sleep_for, 0.5)
            await trio.sleep(1)

    graph = TaskGraph(worker_loops={"default": 1})
    surveys = watch(add_some, graph, 45, run)
    known = [survey.whole.left is not None for survey in surveys]
    # The last were added in second 19; twenty ends take ten seconds.
    assert known.index(True) in range(28, 32)
    assert all(known[31:])
    assert all(survey.whole.rate is not None for survey in surveys[2:])


def test_a_rate_falls_and_is_unknown_when_nothing_ends_any_more(run: Run) -> None:
    """The last value is not shown for ever."""
    graph = TaskGraph(worker_loops={"default": 1})
    for _ in range(20):
        graph.add(sleep_for, 0.5)
    for _ in range(2):
        graph.add(sleep_for, 1000)
    rates = [survey.whole.rate for survey in watch(stay, graph, 30, run)]
    falling = [rate for rate in rates[11:20] if rate is not None]
    assert falling == sorted(falling, reverse=True)
    assert rates[12] is not None
    assert rates[25:] == [None] * 5


def test_what_was_skipped_or_cancelled_says_nothing_about_the_rate(run: Run) -> None:
    """Only tasks that end by themselves count; the others are no longer open, though."""
    graph = TaskGraph(worker_loops={"default": 1})
    bad = graph.add(fail)
    for _ in range(1000):
        graph.add(sleep_for, 1, after=bad)
    for _ in range(10):
        graph.add(sleep_for, 1)
    survey = watch(stay, graph, 5, run)[4]
    tally = survey.whole.tally
    assert (tally.skipped, tally.failed, tally.open) == (1000, 1, 6)
    assert survey.rows[1].rate == pytest.approx(1, rel=0.1)


def test_a_type_that_begins_late_is_measured_from_then(run: Run) -> None:
    """What it waited for is not its own doing."""
    graph = TaskGraph(worker_loops={"default": 1})
    first = graph.add(sleep_for, 50)
    late = TaskType(sleep_for, name="late")
    for _ in range(20):
        graph.add(late, 1, after=first)
    surveys = watch(stay, graph, 60, run)
    assert surveys[45].rows[1].rate is None
    assert surveys[55].rows[1].rate == pytest.approx(1, rel=0.3)
    assert surveys[55].rows[1].left == pytest.approx(15, rel=0.4)


def test_a_rate_limit_does_not_look_like_a_standstill(run: Run) -> None:
    """Where nothing runs most of the time, but things end regularly, there is a rate."""
    graph = TaskGraph(worker_loops={"default": WorkerGroup(5, rate=Rate(1, 20))})
    for _ in range(10):
        graph.add(nothing)
    surveys = watch(stay, graph, 150, run)
    assert surveys[100].whole.rate == pytest.approx(1 / 20, rel=0.3)


def test_bursts_are_smoothed(run: Run) -> None:
    """The rate is taken over some seconds, even where there are many ends in one."""
    graph = TaskGraph(worker_loops={"default": 60})
    for _ in range(1200):
        graph.add(sleep_for, 2)
    rates = [survey.whole.rate for survey in watch(stay, graph, 38, run)]
    assert [rate for rate in rates[10:] if rate is None or not 22 < rate < 38] == []


def test_paces_take_little_memory() -> None:
    """However often one looks, and however long: so many tallies are kept as are needed."""
    pace = Pace(0, Tally(waiting=100_000))
    for step in range(50_000):
        pace.look(step / 1000, Tally(succeeded=step, running=1, waiting=99_999 - step))
        assert len(pace._kept) <= 10
    assert pace.rate == pytest.approx(1000, rel=0.01)


def test_each_run_is_measured_anew(run: Run) -> None:
    """The time between two runs, and the pace of an earlier one, do not count."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        surveyor = Surveyor(graph)
        for pause in (1, 2):
            for _ in range(10):
                graph.add(sleep_for, pause)
            async with open_graph(graph):
                surveyor.look(trio.current_time())
                await trio.sleep(5 * pause + 0.5)
                survey = surveyor.look(trio.current_time())
                assert survey.took is None
                assert survey.whole.rate == pytest.approx(1 / pause, rel=0.1)
            survey = surveyor.look(trio.current_time())
            assert survey.took == pytest.approx(10 * pause)
            assert (survey.whole.rate, survey.whole.left) == (None, None)
            await trio.sleep(1000)

    run(main)


def test_a_rerun_is_measured_anew(run: Run) -> None:
    """Fewer have ended than before; that is no negative rate."""

    async def rerun_all(graph: TaskGraph) -> None:
        await trio.sleep(10)
        graph.rerun([task for task in graph if task.state.ended], downstream=False)

    graph = TaskGraph(worker_loops={"default": 1})
    for _ in range(30):
        graph.add(sleep_for, 1)
    rates = [survey.whole.rate for survey in watch(rerun_all, graph, 25, run)]
    assert all(rate is None or rate > 0 for rate in rates)
    assert rates[20] == pytest.approx(1, rel=0.2)


def test_the_whole_takes_no_less_than_its_slowest_type(run: Run) -> None:
    """Many quick ones do not hide that a slow one takes long."""
    graph = TaskGraph(worker_loops={"default": 1, "slow": 1})
    slow = TaskType(sleep_for, name="slow", group="slow")
    for _ in range(1000):
        graph.add(sleep_for, 0.1)
    for _ in range(10):
        graph.add(slow, 10)
    survey = watch(stay, graph, 50, run)[40]
    assert survey.rows[1].left == pytest.approx(60, rel=0.4)
    assert survey.whole.left == survey.rows[1].left


def test_times_and_rates_for_people() -> None:
    """Times get coarser as they get longer, rates get the unit in which they are at least 1."""
    assert [duration(it) for it in (0, 0.346, 59, 60, 125.2, 3599.7, 7200, 90000)] == [
        "0 s", "0.35 s", "59 s", "1:00", "2:05", "1:00:00", "2:00:00", "1 d 1 h",
    ]  # fmt: skip
    assert [per_time(it) for it in (12345.6, 123.4, 12.34, 1, 0.5, 0.01, 0.0001)] == [
        "12,346/s", "123/s", "12.3/s", "1/s", "30/min", "36/h", "0.36/h",
    ]  # fmt: skip


# Lines ------------------------------------------------------------------------------------------------------


def lines_of(
    main: Callable[[TaskGraph, io.StringIO], Any], graph: TaskGraph, run: Run = run_once
) -> list[str]:
    """Run a function of a graph and a file, and return the lines that it wrote there."""
    file = io.StringIO()
    run(main, graph, file)
    return file.getvalue().splitlines()


async def show_lines(graph: TaskGraph, file: io.StringIO, **options: Any) -> None:
    """Execute a graph and show its progress."""
    async with progress(graph, file=file, **options):
        await execute_graph(graph, raise_failures=False)


def test_lines_say_how_the_whole_stands(run: Run) -> None:
    """There is one per interval, and one at the end; what is zero is left out."""
    graph = TaskGraph(worker_loops={"default": 2}, name="crawl")
    for _ in range(30):
        graph.add(sleep_for, 1.7)
    bad = graph.add(fail)
    graph.add(nothing, after=bad)
    assert lines_of(show_lines, graph, run) == [
        "crawl: 10 of 32 done, 2 running, 20 waiting, 1/s, 22 s left",
        "crawl: 22 of 32 done, 2 running, 8 waiting, 1.09/s, 10 s left",
        "crawl: 32 of 32 done, 1 failed, 1 skipped, took 25 s",
    ]


def test_no_line_without_news(run: Run) -> None:
    """A task that takes days, while nothing else happens, is one line, and one at the end."""

    async def talk() -> None:
        await trio.sleep(15)
        current_task().progress(1, 2)
        await trio.sleep(80_000)

    graph = TaskGraph()
    graph.add(sleep_for, 1)
    graph.add(talk)
    assert lines_of(show_lines, graph, run) == [
        "graph: 1 of 2 done, 1 running, 6/min, 10 s left",
        "graph: 2 of 2 done, took 22:13:35",
    ]


def test_lines_come_at_most_once_per_interval(run: Run) -> None:
    """However much happens."""
    times: list[float] = []

    async def main() -> None:
        file = Terminal()
        file.before = lambda _: times.append(trio.current_time())
        file.isatty = lambda: False  # type: ignore[method-assign]  # for once it is none
        graph = TaskGraph(worker_loops={"default": 1})
        for _ in range(100):
            graph.add(sleep_for, 0.3)
        began = trio.current_time()
        await show_lines(graph, file, interval=7)
        assert [round(when - began, 3) for when in times] == [7, 14.2, 21.4, 28.6, 30]

    run(main)


def test_the_total_grows(run: Run) -> None:
    """Tasks that tasks add are counted, and hide the time left."""

    async def spawn(more: int) -> None:
        await trio.sleep(1.3)
        if more:
            current_graph().add(spawn, more - 1)
            current_graph().add(sleep_for, 0.6)

    graph = TaskGraph()
    graph.add(spawn, 20)
    lines = lines_of(show_lines, graph, run)
    assert [line.split(",")[0] for line in lines] == [
        "graph: 14 of 15 done",
        "graph: 30 of 31 done",
        "graph: 41 of 41 done",
    ]
    assert not any("left" in line for line in lines)


@pytest.mark.parametrize("inside", [False, True])
def test_it_may_be_around_a_run_or_within(run: Run, inside: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Within, what follows its body is not shown."""

    async def main(graph: TaskGraph, file: io.StringIO) -> None:
        if inside:
            async with open_graph(graph), progress(graph, file=file):
                await graph.add(sleep_for, 1).wait()
                graph.add(sleep_for, 1)
        else:
            async with progress(graph, file=file), open_graph(graph):
                await graph.add(sleep_for, 1).wait()
                graph.add(sleep_for, 1)

    end = "graph: 1 of 2 done, 1 waiting, 1/s" if inside else "graph: 2 of 2 done, took 2 s"
    lines = lines_of(main, TaskGraph(), run)
    assert len(lines) == 1
    assert lines[0].startswith(end)


def test_several_runs_none_and_a_graph_that_has_ended(run: Run) -> None:
    """What there is to be said of them is said."""

    async def main(graph: TaskGraph, file: io.StringIO) -> None:
        async with progress(graph, file=file):
            pass
        async with progress(graph, file=file):
            for seconds in (15, 25):
                graph.add(sleep_for, seconds)
                await execute_graph(graph)
        async with progress(graph, file=file):
            pass

    assert lines_of(main, TaskGraph(), run) == [
        "graph: 0 of 0 done",
        "graph: 0 of 1 done, 1 running",
        "graph: 1 of 2 done, 1 running",
        "graph: 2 of 2 done, took 25 s",
        "graph: 2 of 2 done, took 25 s",
    ]


def test_names_are_text_in_lines() -> None:
    """Escapes and line breaks are shown as such, long names are cut, and what the file cannot encode is
    escaped.
    """
    raw = io.BytesIO()
    for name in ("\x1b[2J\n\ud800 é", "x" * 1_000_000):
        file = io.TextIOWrapper(raw, "ascii", write_through=True)
        run_once(show_lines, TaskGraph(name=name), file)
        file.detach()
    assert raw.getvalue().decode().splitlines() == [
        r"\x1b[2J\n\ud800 \xe9: 0 of 0 done, took 0 s",
        "x" * 59 + r"\u2026: 0 of 0 done, took 0 s",
    ]


def test_lines_go_to_stderr_if_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """As other diagnostics do."""

    async def main() -> None:
        async with progress(TaskGraph()):
            pass

    run_once(main)
    assert capsys.readouterr() == ("", "graph: 0 of 0 done\n")


def test_a_graph_may_be_built_in_a_thread() -> None:
    """It is noticed; the graph does not run, so that is allowed."""
    file = io.StringIO()

    async def main() -> None:
        graph = TaskGraph()
        async with progress(graph, file=file, interval=0.001):
            await trio.to_thread.run_sync(graph.add, nothing)
            while not file.getvalue():  # noqa: ASYNC110 - what is waited for is a string that grows
                await trio.lowlevel.checkpoint()
            assert file.getvalue() == "graph: 0 of 1 done, 1 waiting\n"

    run_once(main, clock=False)


# What it costs ----------------------------------------------------------------------------------------------


class Steps(trio.abc.Instrument):
    """Counts the steps of the trio task that shows progress."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
        self.count += task.name == "progress of a task graph"


def test_an_idle_graph_costs_nothing(run: Run) -> None:
    """While nothing changes it does not wake up, but for rates that have to fall: more and more rarely."""

    async def main() -> None:
        graph = TaskGraph()
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        console, _ = console_of()
        async with progress(graph, console=console), open_graph(graph):
            for _ in range(10):
                graph.add(sleep_for, 1)
            graph.add(sleep_for, 100_000)
            await trio.sleep(1000)
            assert steps.count <= 20
            steps.count = 0
            await trio.sleep(80_000)
            assert steps.count == 0
        trio.lowlevel.remove_instrument(steps)

    run(main)


def test_the_graph_is_observed_only_until_something_changes(run: Run) -> None:
    """What happens between two surveys costs nothing, nor does anything at the end."""

    async def main() -> None:
        graph = TaskGraph()
        async with progress(graph, file=io.StringIO(), interval=10), open_graph(graph):
            assert not graph._observers
            graph.add(sleep_for, 1)
            await trio.sleep(9)
            assert not graph._observers
            await trio.sleep(2)
            assert len(graph._observers) == 1
        assert not graph._observers

    run(main)


def test_nothing_is_left_of_it(run: Run) -> None:
    """Neither an observer nor a trio task; what changes afterwards is not shown."""

    async def main(graph: TaskGraph, file: io.StringIO) -> None:
        living = trio.lowlevel.current_statistics().tasks_living
        for _ in range(3):
            async with progress(graph, file=file):
                pass
            assert not graph._observers
        graph.add(nothing)
        await trio.sleep(100)
        assert trio.lowlevel.current_statistics().tasks_living == living

    assert lines_of(main, TaskGraph(), run) == ["graph: 0 of 0 done"] * 3


# What the body raises ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ValueError(), KeyboardInterrupt(), StopAsyncIteration(), SystemExit(), ExceptionGroup("", [KeyError()])],
    ids=repr,
)
def test_errors_of_the_body_come_out_as_they_are(run: Run, error: BaseException) -> None:
    """Not in a group, the very object, and the last state is shown."""

    async def main(graph: TaskGraph, file: io.StringIO) -> None:
        with pytest.raises(type(error)) as caught:
            async with progress(graph, file=file):
                graph.add(nothing)
                raise error
        assert caught.value is error
        assert not graph._observers

    assert lines_of(main, TaskGraph(), run) == ["graph: 0 of 1 done, 1 waiting"]


def test_cancelling_the_body_shows_what_became_of_the_tasks(run: Run) -> None:
    """The scope catches its own cancellation, and clean-up that takes long is still shown."""

    async def clean_up_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(30)

    async def main(graph: TaskGraph, file: io.StringIO) -> None:
        with trio.move_on_after(5) as scope:
            async with progress(graph, file=file, interval=4):
                graph.add(clean_up_slowly)
                graph.add(sleep_for, 8, after=graph.add(sleep_for, 1000))
                await execute_graph(graph)
        assert scope.cancelled_caught

    assert lines_of(main, TaskGraph(), run) == [
        "graph: 0 of 3 done, 2 running, 1 waiting",
        "graph: 2 of 3 done, 1 running, 2 cancelled",
        "graph: 3 of 3 done, 3 cancelled, took 35 s",
    ]


def test_it_can_be_cancelled_before_it_begins(run: Run) -> None:
    """Then nothing is shown and nothing is left."""

    async def main(graph: TaskGraph, file: io.StringIO) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with progress(graph, file=file):
                pytest.fail("not reached")
        assert not graph._observers

    assert lines_of(main, TaskGraph(), run) == []


# Output that fails ------------------------------------------------------------------------------------------


def broken(error: Exception, after: int) -> Terminal:
    """Return a terminal that fails after so many writes."""
    file = Terminal()
    writes = itertools.count()

    def fail_later(_: str) -> None:
        if next(writes) >= after:
            raise error

    file.before = fail_later
    return file


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("after", [0, 1, 2, 5])
@pytest.mark.parametrize("error", [OSError("gone"), BrokenPipeError(), ValueError("closed")], ids=repr)
def test_output_that_fails_harms_nothing(  # noqa: PLR0917 - pytest passes them by name
    run: Run,
    error: Exception,
    after: int,
    terminal: bool,  # noqa: FBT001 - a parameter of the test
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run goes on to its end, the failure is logged once, nothing more is written, all is restored."""
    stdout, stderr = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    # What rich does to file descriptors where a pipe is broken is to stay out of the tests:
    monkeypatch.setattr("os.dup2", lambda *_: None)
    monkeypatch.setattr(stdout, "fileno", lambda: 1, raising=False)
    file = broken(error, after)
    monkeypatch.setattr(file, "isatty", lambda: terminal)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        async with progress(graph, file=file, interval=0.4), open_graph(graph):
            tasks = [graph.add(sleep_for, 1) for _ in range(10)]
        assert [task.state.name for task in tasks] == ["SUCCEEDED"] * 10
        assert not graph._observers

    run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "the progress of graph 'graph' can no longer be shown"
    ]
    assert caplog.records[0].levelno == logging.ERROR
    assert caplog.records[0].exc_info is not None
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_a_closed_stderr_harms_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the lines nor the log can be written then."""
    stderr = io.StringIO()
    stderr.close()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(stderr)])

    async def main() -> None:
        graph = TaskGraph()
        async with progress(graph), open_graph(graph):
            task = graph.add(sleep_for, 100)
        assert task.state.name == "SUCCEEDED"

    run(main)


# In a terminal ----------------------------------------------------------------------------------------------


async def draw(graph: TaskGraph, console: Console) -> None:
    """Execute a graph and show its progress."""
    async with progress(graph, console=console):
        await execute_graph(graph, raise_failures=False)


def test_a_terminal_gets_a_table_which_stays(run: Run) -> None:
    """A row for each type, one for the whole; at the end the cursor is below it, and seen again."""
    graph = TaskGraph(worker_loops={"default": 2}, name="crawl")
    for _ in range(10):
        graph.add(sleep_for, 1)
    graph.add(nothing, after=graph.add(fail))
    console, terminal = console_of(width=70)
    run(draw, graph, console)
    written = terminal.getvalue()
    rows = [line.split() for line in last_picture(written)]
    assert rows[0] == ["done", "of", "failed", "skipped", "took"]
    assert [[row[0], *row[2:]] for row in rows[1:]] == [
        ["sleep_for", "10", "10"],
        ["fail", "1", "1", "1"],
        ["nothing", "1", "1", "1"],
        ["crawl", "12", "12", "1", "1", "5", "s"],
    ]
    assert written.startswith(CURSOR_OFF)
    assert written.endswith("\n" + CURSOR_ON)


def test_rates_fall_in_the_terminal_while_nothing_changes(run: Run) -> None:
    """A rate of long ago does not stay there."""
    console, terminal = console_of()

    async def main() -> None:
        graph = TaskGraph()
        async with progress(graph, console=console), open_graph(graph):
            for _ in range(10):
                graph.add(sleep_for, 1)
            await trio.sleep(2)
            graph.add(sleep_for, 1000)
            await trio.sleep(1)
            assert last_picture(terminal.getvalue())[-1].split()[-2].endswith("/s")
            await trio.sleep(100)
            assert last_picture(terminal.getvalue())[-1].split()[-2:] == ["–", "–"]  # noqa: RUF001 - as shown

    run(main)


def test_a_low_terminal_is_not_filled(run: Run) -> None:
    """One line is left for what stands above."""
    console, terminal = console_of(height=6)
    graph = TaskGraph()
    for number in range(10):
        graph.add(TaskType(nothing, name=f"kind{number}"))
    run(draw, graph, console)
    assert len(last_picture(terminal.getvalue())) == 5


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_printed_meanwhile_appears_above_the_table(
    run: Run, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is erased, the line written, the table drawn below; what looks like markup is text."""
    console, terminal = console_of()
    monkeypatch.setattr(sys, stream, terminal)

    async def speak() -> None:
        await trio.sleep(5)
        say = partial(print, file=getattr(sys, stream))
        say("[bold]said[/nothing]")
        say("no end of line, [/] flushed", end="", flush=True)
        say("no end of line", end="")

    graph = TaskGraph()
    graph.add(speak)
    graph.add(sleep_for, 10)
    run(draw, graph, console)
    assert getattr(sys, stream) is terminal
    written = terminal.getvalue()
    before, after = written.split("[bold]said[/nothing]\n")
    assert before.endswith("\x1b[2K")
    assert after.startswith("         ")
    assert written.index("[/] flushed\n") < written.index("no end of line\n")


def test_what_goes_elsewhere_stays_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A standard output that is a file does not appear in the terminal of the table."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    console, terminal = console_of()

    async def speak() -> None:
        await trio.sleep(5)
        print("said")  # noqa: T201 - this is what it is about

    graph = TaskGraph()
    graph.add(speak)
    run(draw, graph, console)
    assert file.getvalue() == "said\n"
    assert "said" not in terminal.getvalue()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_the_terminal_is_given_back_after_an_error(
    run: Run, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor is seen, the streams are what they were, and the picture is the last one."""
    console, terminal = console_of()
    monkeypatch.setattr(sys, "stderr", terminal)

    async def main() -> None:
        graph = TaskGraph()
        graph.add(sleep_for, 100)
        async with progress(graph, console=console), open_graph(graph):
            await trio.sleep(5)
            raise kind

    with pytest.raises(kind):
        run(main)
    assert sys.stderr is terminal
    assert terminal.getvalue().endswith("\n" + CURSOR_ON)
    assert last_picture(terminal.getvalue())[-1].split()[-5:] == ["1", "1", "1", "5", "s"]


def test_ctrl_c_gives_the_terminal_back() -> None:
    """Wherever it strikes; it comes out as it is."""
    for when in range(40):
        console, terminal = console_of()
        writes = itertools.count()

        def strike(_: str, when: int = when, writes: Iterator[int] = writes) -> None:
            if next(writes) == when:
                signal.raise_signal(signal.SIGINT)

        terminal.before = strike
        graph = TaskGraph(worker_loops={"default": 1})
        for _ in range(10):
            graph.add(sleep_for, 1)
        with pytest.raises(KeyboardInterrupt):
            run_once(draw, graph, console)
        assert terminal.getvalue().count(CURSOR_OFF) == 1
        assert terminal.getvalue().endswith("\n" + CURSOR_ON)
        if graph.statistics().states[TaskState.SUCCEEDED] == 10:
            return
    pytest.fail("it never struck at the end")


def test_dumb_terminals_and_those_without_the_characters_get_lines(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does a console that is no terminal."""
    monkeypatch.setenv("TERM", "dumb")
    assert lines_in(Terminal(), run) == ["graph: 1 of 1 done, took 1 s"]
    monkeypatch.setenv("TERM", "xterm")
    plain = io.StringIO()
    run(draw, one_second(), Console(file=plain, force_terminal=False))
    assert plain.getvalue() == "graph: 1 of 1 done, took 1 s\n"

    class Latin(Terminal):
        encoding = "latin-1"

    assert lines_in(Latin(), run) == ["graph: 1 of 1 done, took 1 s"]
    assert CURSOR_OFF in lines_in(Terminal(), run)[0]


def one_second() -> TaskGraph:
    """Return a graph of one task that takes a second."""
    graph = TaskGraph()
    graph.add(sleep_for, 1)
    return graph


def lines_in(file: io.StringIO, run: Run) -> list[str]:
    """Return what is shown of a graph of one task."""
    run(show_lines, one_second(), file)
    return file.getvalue().splitlines()


@contextmanager
def without_rich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be a program in whose environment rich is not installed."""
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "trio_graph_scheduler.observe.terminal.bars")
        patch.delattr("trio_graph_scheduler.observe.terminal.bars")
        for name in [name for name in sys.modules if name == "rich" or name.startswith("rich.")]:
            patch.setitem(sys.modules, name, None)
        yield


def test_rich_is_needed_for_terminals_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install; lines are written without it."""
    with without_rich(monkeypatch):
        assert lines_in(io.StringIO(), run) == ["graph: 1 of 1 done, took 1 s"]
        with pytest.raises(RichNeeded, match=r"pip install 'trio_graph_scheduler\[progress\]'"):
            lines_in(Terminal(), run)


# The table --------------------------------------------------------------------------------------------------


def row_of(name: str, tally: Tally, **options: Any) -> Row:
    """Return a row."""
    return Row(name, **{"group": None, "tally": tally, "rate": None, "left": None, **options})


def drawn(rows: list[Row], width: int, height: int = 100, took: float | None = None) -> list[str]:
    """Return the lines of a table."""
    whole = row_of("all", Tally.sum(row.tally for row in rows))
    return bars.table(Survey(tuple(rows), whole, took), width, height).plain.split("\n")


BUSY = row_of("fetch", Tally(6000, 120, 0, 3, 10, 400), rate=41.23, left=8.7)


def test_wide_terminals_show_all_columns() -> None:
    """The bar does not grow beyond what is of use."""
    heading, row, _ = drawn([BUSY], 200)
    assert "  failed  running  waiting  " in heading
    assert heading.split() == ["done", "of", "failed", "running", "waiting", "skipped", "rate", "left"]
    assert row.split()[2:] == ["6,123", "6,533", "120", "10", "400", "3", "41.2/s", "9", "s"]
    assert len(row) < 120
    assert sum(row.count(char) for char in "━╍─") == 40


@pytest.mark.parametrize("width", range(30, 121))
def test_narrow_terminals_show_what_matters_most(width: int) -> None:
    """Columns are aligned and complete, or not there; there is a bar at any width."""
    heading, *rows = drawn([BUSY, row_of("a" * 300, Tally(waiting=1))], width)
    assert {len(line) for line in (heading, *rows)} <= {len(heading)}
    assert len(heading) <= width
    columns = heading.split()
    assert columns[:2] == ["done", "of"]
    assert columns == [
        name for name in ("done", "of", "failed", "running", "waiting", "skipped", "rate", "left")
        if name in columns
    ]  # fmt: skip
    assert all(sum(row.count(char) for char in "━╍─") >= 6 for row in rows)
    assert "failed" in columns or width < 35
    assert "left" in columns or width < 45
    assert len(columns) == 8 or width < 100


def test_bars_are_full_only_when_all_is_done() -> None:
    """Each part has its share, from left to right; what is done is rounded down."""

    def bar(tally: Tally) -> str:
        return drawn([row_of("x", tally)], 200)[1].split()[1]

    assert bar(Tally(waiting=1)) == "─" * 40
    assert bar(Tally(succeeded=999_999, waiting=1)) == "━" * 39 + "─"
    assert bar(Tally(succeeded=1_000_000)) == "━" * 40
    assert bar(Tally(5, 5, 5, 5, 10, 10)) == "━" * 20 + "╍" * 10 + "─" * 10


def test_the_largest_types_have_rows_and_all_others_one() -> None:
    """In the order in which they came to the graph; one that is left over is shown instead of summed up."""
    rows = [row_of(f"kind{size}", Tally(waiting=size)) for size in (*range(1, 15), 100)]
    names = [line.split()[0] for line in drawn(rows, 100)[1:]]
    assert names == [*(f"kind{size}" for size in (*range(4, 15), 100)), "3", "all"]
    assert drawn(rows, 100)[-2].split()[:3] == ["3", "more", "types"]
    assert drawn(rows, 100)[-2].split()[4:] == ["0", "6", "6", "–", "–"]  # noqa: RUF001 - as shown
    assert [line.split()[0] for line in drawn(rows[:13], 100)[1:]] == [row.name for row in rows[:13]] + [
        "all"
    ]
    rows = [row_of(f"kind{size}", Tally(waiting=size)) for size in range(1, 61)]
    names = [line.split()[0] for line in drawn(rows, 100)[1:13]]
    assert names == [f"kind{size}" for size in range(49, 61)]


def test_names_are_text_in_tables() -> None:
    """Escapes, tabs and markup are shown as such; what is too wide is cut, by the cells that it fills."""
    names = ["\x1b[31ma\tb", "[red]c[/]", "日本語の長い名前", "日本語の長い"]
    lines = drawn([row_of(name, Tally(waiting=1)) for name in names], 54)
    assert [line.split("─")[0].rstrip() for line in lines[1:]] == [
        r"\x1b[31ma\tb", "[red]c[/]", "日本語の長い…", "日本語の長い", "all",
    ]  # fmt: skip
    assert len({cell_len(line) for line in lines}) == 1


@pytest.mark.parametrize("height", range(3, 20))
def test_low_terminals_get_fewer_rows(height: int) -> None:
    """What is drawn is never higher than the terminal, from three lines on; the whole is always there."""
    rows = [row_of(f"kind{number}", Tally(waiting=1)) for number in range(30)]
    lines = drawn(rows, 80, height)
    assert len(lines) == min(height, 15)
    assert lines[-1].startswith("all")


def test_types_in_several_groups_are_told_apart(run: Run) -> None:
    """Only those are shown with their groups."""
    graph = TaskGraph(worker_loops={"default": 1, "http": 1})
    kind = TaskType(nothing, name="fetch")
    graph.add(kind)
    graph.add(kind.but(group="http"))
    graph.add(fail)
    console, terminal = console_of()
    run(draw, graph, console)
    names = [line.split("━")[0].strip() for line in last_picture(terminal.getvalue())[1:]]
    assert names == ["fetch · default", "fetch · http", "fail", "graph"]


COUNTS = st.integers(0, 10**7)
ROWS = st.builds(
    Row,
    st.text(max_size=40) | st.text("a\u0301日\x1b\n[red]🎉\u202e", max_size=300),
    st.none() | st.text(max_size=10),
    st.builds(Tally, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    st.none() | st.floats(1e-6, 1e6),
    st.none() | st.floats(0, 1e9),
)


@given(st.lists(ROWS, min_size=1, max_size=20), st.integers(30, 150), st.integers(3, 30))
def test_any_table_fits_and_is_text(rows: list[Row], width: int, height: int) -> None:
    """Whatever the names and the figures: lines of equal width, no more than there is room for, and nothing
    in them that a terminal would act on.
    """
    lines = drawn(rows, width, height)
    assert len(lines) <= height
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= width
    assert all(line.isprintable() for line in lines)


# What it is given -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0, -1, math.inf, math.nan, "1", True])
def test_the_interval_is_a_number_of_seconds(interval: Any) -> None:
    """Above 0, and finite."""
    with pytest.raises(BadValue, match="interval"):
        run_once(partial(show_lines, interval=interval), TaskGraph(), io.StringIO())


def test_other_things_are_refused() -> None:
    """Before anything is shown."""

    async def main(*args: Any, **options: Any) -> None:
        async with progress(*args, **options):
            pytest.fail("not reached")

    with pytest.raises(BadType, match="graph"):
        run_once(main, 3)
    with pytest.raises(BadType, match="text file"):
        run_once(partial(main, TaskGraph(), file="out.txt"))
    with pytest.raises(BadType, match="Console"):
        run_once(partial(main, TaskGraph(), console=io.StringIO()))
    with pytest.raises(BadValue, match="not both"):
        run_once(partial(main, TaskGraph(), file=io.StringIO(), console=Console()))
