"""What `python -m benchmarks` measures does what it claims to, and its figures are figured right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from benchmarks import report, tree, ways
from benchmarks.__main__ import main
from benchmarks.measuring import CHANNEL, LIBRARY, PLAIN_LOOP, SHAPE_NAMES, START_SOON, Row, case_of, rounds
from benchmarks.shapes import SHAPES, chain, layered, map_reduce, wide
from trio_graph_scheduler import execute_graph


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


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a line per shape and size, then the targets, and writes all of it as JSON."""
    file = tmp_path / "figures.json"
    main(["--sizes", "20", "30", "--repeats", "2", "--json", str(file)])
    printed = capsys.readouterr().out
    assert f"trio {trio.__version__}" in printed
    assert [line.split()[:2] for line in printed.splitlines() if line.startswith("tree ")] == [
        ["tree", "20"],
        ["tree", "30"],
    ]
    figures = json.loads(file.read_text())
    assert [figure["shape"] for figure in figures["rows"]] == [name for name in SHAPE_NAMES for _ in range(2)]
    for figure in figures["rows"]:
        assert set(figure["seconds"]) == set(tree.WAYS if figure["shape"] == "tree" else ways.WAYS)
        assert all(len(times) == 2 and min(times) > 0 for times in figure["seconds"].values())
        assert (figure["bytes_added"] is None) == (figure["shape"] == "tree")
        assert figure["bytes_at_most"] > 0
    assert len(figures["targets"]) == 16


def test_options_that_cannot_be() -> None:
    """No rounds, or no tasks, are refused before anything is measured."""
    for wrong in (["--repeats", "0"], ["--sizes", "0"], ["--shapes", "ring"]):
        with pytest.raises(SystemExit):
            main(wrong)
