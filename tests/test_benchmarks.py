"""What `python -m benchmarks` measures does what it claims to, and its figures are figured right."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from benchmarks import observers, policies, report, tree, ways
from benchmarks.__main__ import main
from benchmarks.clients import Frames
from benchmarks.comparing import Compared, Figures, compare, most_suspended
from benchmarks.comparing import rounds as rounds_of_comparison
from benchmarks.measuring import CHANNEL, LIBRARY, PLAIN_LOOP, SHAPE_NAMES, START_SOON, Row, case_of, rounds
from benchmarks.policies import POLICIES, comparisons
from benchmarks.shapes import SHAPES, chain, layered, map_reduce, wide
from trio_graph_scheduler import Change, Task, TaskGraph, TaskState, TaskType, execute_graph


class Recorder:
    """Bodies for a shape that note when they run."""

    def __init__(self, needs: list[tuple[int, ...]]) -> None:
        self.needs = needs
        self.ended: set[int] = set()
        self.running = 0
        self.most = 0

    def body(self, index: int) -> ways.Body:
        """Return the body of a task."""

        async def run() -> None:
            assert index not in self.ended
            assert self.ended.issuperset(self.needs[index])
            self.running += 1
            self.most = max(self.most, self.running)
            await trio.lowlevel.checkpoint()
            self.running -= 1
            self.ended.add(index)

        return run


class RecordingTree(tree.Tree):
    """A tree that notes what is done in which order."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.visited: list[int] = []
        self.added_up: list[int] = []

    def visit(self, index: int) -> range:
        """Be the task of a node, after the one that spawned it."""
        assert not index or (index - 1) // 2 in self.visited
        self.visited.append(index)
        return super().visit(index)

    async def add_up(self, index: int) -> None:
        """Be the task that sums, after those of its children."""
        for child in self.children(index):
            assert child in (self.added_up if self.children(child) else self.visited)
        await trio.lowlevel.checkpoint()
        await super().add_up(index)
        self.added_up.append(index)


@pytest.mark.parametrize("size", [1, 2, 11, 350])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", ways.WAYS)
def test_every_way_runs_every_body_once_and_after_its_needs(way: str, shape: str, size: int) -> None:
    """All ways do the same work: each body once, none before what it needs, ten at a time at most."""
    needs = SHAPES[shape](size)
    recorder = Recorder(needs)
    trio.run(ways.WAYS[way], needs, [recorder.body(index) for index in range(len(needs))])
    assert recorder.ended == set(range(len(needs)))
    assert recorder.most <= (1 if way == PLAIN_LOOP else ways.LIMIT)


@pytest.mark.parametrize("way", [LIBRARY, START_SOON, CHANNEL])
def test_ten_at_a_time(way: str) -> None:
    """Where tasks wait, all the ways but the plain loop run ten of them at a time."""
    needs = wide(100)
    recorder = Recorder(needs)
    trio.run(ways.WAYS[way], needs, [recorder.body(index) for index in range(len(needs))])
    assert recorder.most == ways.LIMIT


@pytest.mark.parametrize("size", [1, 2, 3, 10, 350])
@pytest.mark.parametrize("way", tree.WAYS)
def test_every_way_sums_the_tree_from_the_leaves_up(way: str, size: int) -> None:
    """Each node is visited once, after its parent, and summed once, after its children."""
    recorder = RecordingTree(size)
    trio.run(tree.WAYS[way], recorder)
    assert sorted(recorder.visited) == list(range(size))
    assert sorted(recorder.added_up) == [index for index in range(size) if recorder.children(index)]
    assert len(recorder.visited) + len(recorder.added_up) == recorder.tasks
    recorder.verify()


def test_a_tree_that_was_summed_wrongly_is_found_out() -> None:
    """A way that leaves a node out does not get a time."""
    unfinished = tree.Tree(7)
    with pytest.raises(ArithmeticError, match="a tree of 7"):
        unfinished.verify()


def test_the_library_runs_as_many_tasks_as_are_counted() -> None:
    """Times and bytes are divided by the number of tasks that the graph has in the end."""
    for shape in SHAPE_NAMES:
        case = case_of(shape, 200)
        graph = case.build()
        trio.run(execute_graph, graph)
        assert len(graph) == case.tasks


def test_the_shapes() -> None:
    """The shapes are those that the table names."""
    assert wide(2) == [(), ()]
    assert chain(3) == [(), (0,), (1,)]
    needs = layered(350)
    assert needs[:100] == [()] * 100
    for index, some in enumerate(needs[100:], 100):
        assert len(set(some)) == 3
        assert {other // 100 for other in some} == {index // 100 - 1}
    needs = map_reduce(111)
    assert len(needs) == 111 + 12 + 2 + 1
    assert needs[111] == tuple(range(10))
    assert needs[122] == (110,)
    assert needs[-1] == (123, 124)


def row(shape: str, size: int, ours: float, theirs: float, peak: float = 400.0) -> Row:
    """Return a row of made-up figures, in which one round was slow."""
    seconds = {LIBRARY: [ours, 5 * ours, ours], START_SOON: [theirs, 5 * theirs, theirs]}
    return Row(shape, size, size, seconds, 300.0, peak)


def test_ratios_are_taken_within_a_round() -> None:
    """A slow spell that hits a whole round does not show in the ratio, but in the spread."""
    slow = row("wide", 10_000, 2e-6, 20e-6)
    assert slow.ratio(START_SOON) == pytest.approx(0.1)
    assert slow.ratio(CHANNEL) is None
    assert slow.median(LIBRARY) == 2e-6
    assert slow.spread(LIBRARY) == pytest.approx(2)
    assert "2.00 ±200%" in report.line(slow)
    assert report.NONE in report.line(slow)


def test_verdicts() -> None:
    """Every target is listed, and holds, does not hold, or was not measured."""
    rows = [row("wide", 10_000, 2e-6, 20e-6, peak=501.0), row("wide", 1_000_000, 4.1e-6, 20e-6)]
    verdicts = {verdict.what: str(verdict) for verdict in report.verdicts(rows)}
    assert len(verdicts) == 5 + 4 + 2 + 5
    assert verdicts["wide: time over start_soon"].endswith("0.1, at most 0.15: holds")
    assert verdicts["wide: peak bytes per task"].endswith("501, at most 500: DOES NOT HOLD")
    assert verdicts["wide: time per task, N=1,000,000 over N=10,000"].endswith(
        "2.05, at most 2: DOES NOT HOLD"
    )
    assert verdicts["wide: time over channel"].endswith("not measured")
    assert verdicts["chain: time over channel"].endswith("not measured")


def test_large_sizes_take_fewer_rounds() -> None:
    """Large sizes are measured a third as often, but at least once."""
    assert [rounds(size, 9) for size in (1_000, 10_000, 100_000)] == [9, 9, 3]
    assert rounds(100_000, 1) == 1


class Counter:
    """A body that counts how often it ran, how many at a time at most, and under which deadlines."""

    def __init__(self) -> None:
        self.ended = self.running = self.most = 0
        self.deadlines: set[float] = set()

    async def body(self) -> None:
        """Be the body of a task."""
        self.running += 1
        self.most = max(self.most, self.running)
        self.deadlines.add(trio.current_effective_deadline() - trio.current_time())
        await trio.lowlevel.checkpoint()
        self.running -= 1
        self.ended += 1


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "depth-first"])
def test_every_program_of_a_policy_runs_every_body(policy: str) -> None:
    """All programs of a comparison run each body once, as many at a time as they should; the heap runs none.

    On a clock that is exact, rates are reached exactly.
    """
    counter = Counter()
    for comparison in comparisons(policy, 40, {"counted": counter.body}):
        assert len(comparison.programs) > 1
        for name, program in comparison.programs.items():
            vars(counter).update(vars(Counter()))
            rate = trio.run(program.run, clock=trio.testing.MockClock(autojump_threshold=0))
            if name == "heapq":
                assert counter.ended == 0
                continue
            assert counter.ended == comparison.tasks
            if policy == "rate":
                assert counter.most <= ways.LIMIT
            else:
                limited = policy == "limits" and name != "without"
                assert counter.most == (policies.CAPACITY if limited else ways.LIMIT)
            assert counter.deadlines == {policies.TIMEOUT if name == "fail_after" else math.inf}
            assert rate == (pytest.approx(1) if policy == "rate" else None)


def test_the_first_program_uses_the_policy() -> None:
    """What is measured as a policy is one, and what it is compared with has none."""
    options = {
        "timeout": ("timeout", policies.TIMEOUT),
        "retry": ("retry", policies.RETRY),
        "limits": ("limits", {"a": 1}),
    }
    for policy, (option, value) in options.items():
        seen = list(comparisons(policy, 3))
        assert [comparison.case for comparison in seen] == ["no-op", "checkpoint"]
        for comparison in seen:
            built = [program.build() for program in comparison.programs.values() if program.build]
            used, unused = [[getattr(task.type, option) for task in graph.tasks()] for graph in built]
            assert used == [value] * 3
            assert unused == [getattr(TaskType(ways.nothing), option)] * 3


def started(graph: TaskGraph) -> list[Task[object]]:
    """Execute a graph and return its tasks in the order in which they started."""
    order: list[Task[object]] = []

    def note(change: Change) -> None:
        if change.after is TaskState.RUNNING:
            order.append(change.task)

    with graph.subscribe(note):
        trio.run(execute_graph, graph)
    return order


@pytest.mark.parametrize("size", [7, 350])
def test_the_heap_sorts_by_what_the_graph_does(size: int) -> None:
    """Priorities and keys make the graph start tasks in the order in which the heap gives its entries.

    It is not the order in which they were added, which it is without.
    """
    labels = policies.all_labels(size)
    seen = list(comparisons("priority", size))
    assert [comparison.case for comparison in seen] == list(labels)
    for comparison in seen:
        first, without = [program.build for program in comparison.programs.values() if program.build]
        ranks = labels[comparison.case].ranks
        order = [task.uid - 1 for task in started(first())]
        assert order == sorted(range(size), key=lambda number: (ranks[number], number))
        if size > policies.KEYS:
            assert order != list(range(size))
        assert [task.uid - 1 for task in started(without())] == list(range(size))


def test_the_labels() -> None:
    """All priorities are different, or there are ten; the keys are a hundred."""
    different, ten, keys = policies.all_labels(1_000).values()
    assert len(set(different.values)) == 1_000
    assert len(set(ten.values)) == 10
    assert len(set(keys.values)) == 100
    assert set(keys.ranks) == set(range(10))


@pytest.mark.parametrize("size", [1, 2, 11, 111, 1_111])
def test_every_program_counts_the_tree_that_is_searched(size: int) -> None:
    """All programs find as many nodes as there are, or raise; the graph has a task for each."""
    for comparison in comparisons("depth-first", size):
        assert comparison.in_depth
        for program in comparison.programs.values():
            trio.run(program.run)
            if program.build is not None:
                graph = program.build()
                trio.run(execute_graph, graph)
                assert len(graph) == size


def test_what_is_suspended() -> None:
    """One at a time, a path is SUSPENDED depth first, and first in first out all who have children."""
    one, ten = comparisons("depth-first", 1_111)
    most = {name: most_suspended(program.build()) for name, program in one.programs.items() if program.build}
    assert most == {"depth_first": 3, "fifo": 111}
    row = compare(ten, 1)
    assert row.programs["fifo"].suspended_at_most == 111
    assert 3 <= (row.programs["depth_first"].suspended_at_most or 0) <= 3 * ways.LIMIT
    assert row.programs["start_soon"].suspended_at_most is None
    assert all(figures.bytes_at_most for figures in row.programs.values())


def test_a_graph_that_leaves_tasks_out_is_found_out() -> None:
    """A program whose tasks did not all succeed does not get a time."""
    graph = TaskGraph()
    graph.add(ways.nothing)
    graph.add(ways.nothing).cancel()
    with pytest.raises(ArithmeticError, match="of 2 tasks 1 did"):
        trio.run(policies.execute, graph)


def test_the_lines_of_a_comparison() -> None:
    """There is a line per program, with the first one's time over its own in the same round."""
    programs = {
        "rate=": Figures([2e-6, 10e-6, 2e-6], [0.98, 0.99, 0.5]),
        "by hand": Figures([20e-6, 100e-6, 20e-6], bytes_at_most=123.4, suspended_at_most=1_111),
    }
    row = Compared("rate", "5/s", 1_000, programs)
    assert row.ratio("rate=") is None
    assert row.ratio("by hand") == pytest.approx(0.1)
    first, second = [line.split() for line in report.policy_lines(row).splitlines()]
    none = report.NONE
    assert first == ["rate", "5/s", "1,000", "rate=", "2.00", "±200%", none, none, none, "0.980"]
    assert " ".join(second) == f"rate 5/s 1,000 by hand 20.00 ±200% 0.10 123 1,111 {none}"


def test_rates_and_large_comparisons_take_fewer_rounds() -> None:
    """What is large, or takes its time, is measured a third as often, but at least once."""
    (timeout, *_), (rate, *_), (priority, *_) = map(comparisons, ("timeout", "rate", "priority"))
    assert [rounds_of_comparison(one, 9) for one in (timeout, rate, priority)] == [9, 3, 3]
    assert rounds_of_comparison(rate, 1) == 1


@pytest.fixture
def _little_garbage() -> Iterator[None]:
    """Spare the command, which collects garbage before every run, what all other tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("_little_garbage")
def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command prints the shapes, the policies, the observers and the targets, and writes all as JSON."""
    monkeypatch.setattr(observers, "CLIENTS", (1, 3))
    file = tmp_path / "figures.json"
    sizes = ["--sizes", "20", "30", "--policy-size", "3", "--observer-size", "40"]
    main([*sizes, "--repeats", "2", "--json", str(file)])
    printed = capsys.readouterr().out
    assert f"trio {trio.__version__}" in printed
    assert [line.split()[:2] for line in printed.splitlines() if line.startswith("tree ")] == [
        ["tree", "20"],
        ["tree", "30"],
        *[["tree", "40"]] * 4,
    ]
    figures = json.loads(file.read_text())
    assert [figure["shape"] for figure in figures["rows"]] == [name for name in SHAPE_NAMES for _ in range(2)]
    for figure in figures["rows"]:
        assert set(figure["seconds"]) == set(tree.WAYS if figure["shape"] == "tree" else ways.WAYS)
        assert all(len(times) == 2 and min(times) > 0 for times in figure["seconds"].values())
        assert (figure["bytes_added"] is None) == (figure["shape"] == "tree")
        assert figure["bytes_at_most"] > 0
    assert len(figures["targets"]) == 16
    check_policies(figures["policies"], printed)
    check_observers(figures["observers"], printed)


def check_observers(shapes: list[dict[str, Any]], printed: str) -> None:
    """Check what was written of observers, one round with a size of 40, against what was printed."""
    assert [shape["shape"] for shape in shapes] == ["wide", "tree"]
    for shape in shapes:
        assert [row["observers"] for row in shape["rows"]] == ["nobody", "feed", "1 client", "3 clients"]
        assert all(len(row["seconds"]) == 1 and row["seconds"][0] > 0 for row in shape["rows"])
        # Of three clients one never reads. All who do are told at least how it stood, and of the end.
        assert [len(row["pace"]) for row in shape["rows"]] == [0, 0, 1, 2]
        assert all(pace > 0 for row in shape["rows"] for pace in row["pace"])
        assert min(shape["reader_bytes"], shape["idler_bytes"]) > 0
        for row in shape["rows"]:
            assert f"{shape['shape']:10} {40:>9} {row['observers']:12}" in printed
    assert "time with feed over nobody" in printed


def check_policies(rows: list[dict[str, Any]], printed: str) -> None:
    """Check what was written of all policies, two rounds with a size of 3, against what was printed."""
    expected = [comparison for policy in POLICIES for comparison in comparisons(policy, 3)]
    assert [(row["policy"], row["case"], row["tasks"], list(row["programs"])) for row in rows] == [
        (one.policy, one.case, one.tasks, list(one.programs)) for one in expected
    ]
    for row in rows:
        tasks = {"200/s, burst 1": 4, "2000/s, burst 50": 53}
        assert row["tasks"] == tasks.get(row["case"], 3)
        for name, program in row["programs"].items():
            assert len(program["seconds"]) == (1 if row["policy"] == "rate" else 2)
            assert min(program["seconds"]) > 0
            assert bool(program["rates"]) == (row["policy"] == "rate")
            assert bool(program["bytes_at_most"]) == (row["policy"] == "depth-first")
            assert (program["suspended_at_most"] is None) == (name not in ("depth_first", "fifo"))
            (line,) = [
                line
                for line in printed.splitlines()
                if line.startswith(f"{row['policy']:12} {row['case']:17} ") and f" {name} " in line
            ]
            assert len(line) == len(report.policy_head().splitlines()[-1])


@pytest.mark.usefixtures("_little_garbage")
def test_a_choice_of_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The shapes, policies or observers alone, all or some of them, leave the other tables out."""
    monkeypatch.setattr(observers, "CLIENTS", ())
    quick = ["--sizes", "2", "--policy-size", "2", "--repeats", "1"]
    for chosen, shapes, of_policies in (
        (["--shapes", "wide", "tree"], {"wide", "tree"}, set()),
        (["--shapes"], set(SHAPE_NAMES), set()),
        (["--policies", "retry"], set(), {"retry"}),
        (["--policies"], set(), set(POLICIES)),
        (["--policies", "retry", "--shapes", "wide"], {"wide"}, {"retry"}),
        (["--policies", "retry", "--observers", "tree", "--observer-size", "9"], {"tree"}, {"retry"}),
    ):
        main([*quick, *chosen])
        printed = capsys.readouterr().out
        firsts = {line.split(" ")[0] for line in printed.splitlines()}
        assert firsts.intersection(SHAPE_NAMES) == shapes
        assert firsts.intersection(POLICIES) == of_policies
        assert ("Targets" in firsts) == ("shape" in firsts) == bool(shapes)
        assert ("policy" in firsts) == bool(of_policies)


def test_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` names all tables and everything that is in them."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "what policies and observers add to that" in printed
    options = ("--shapes", "--sizes", "--policies", "--policy-size", "--observers", "--observer-size")
    for name in (*SHAPE_NAMES, *POLICIES, *options):
        assert name in printed


def test_options_that_cannot_be() -> None:
    """No rounds, or no tasks, are refused before anything is measured."""
    for wrong in (
        ["--repeats", "0"],
        ["--sizes", "0"],
        ["--shapes", "ring"],
        ["--policy-size", "0"],
        ["--policies", "ring"],
        ["--observers", "ring"],
        ["--observer-size", "0"],
    ):
        with pytest.raises(SystemExit):
            main(wrong)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_are_counted_however_they_come(step: int) -> None:
    """A client counts whole frames, of each of the three forms that a length may have."""
    sizes = (0, 5, 125, 126, 65_535, 65_536, 7)
    heads = [bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) for size in sizes if size < 65_536]
    heads.insert(5, b"\x7f" + (65_536).to_bytes(8))
    stream = b"".join(b"\x81" + head + b"x" * size for head, size in zip(heads, sizes, strict=True))
    frames = Frames()
    for start in range(0, len(stream) - 1, step):
        frames.feed(stream[start : min(start + step, len(stream) - 1)])
    assert frames.count == len(sizes) - 1
    frames.feed(stream[-1:])
    assert frames.count == len(sizes)
