"""Traces: what Perfetto and chrome://tracing are told of a run."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

from tests.support import add_here, examples, give, give_later, nothing
from tests.support import run as run_seeded
from trio_graph_scheduler import (
    BadType,
    Retry,
    Task,
    TaskGraph,
    TaskType,
    at_least,
    done,
    execute_graph,
    open_graph,
    settled,
    succeeded,
)
from trio_graph_scheduler.observe import trace

Run = Callable[..., Any]
Event = dict[str, Any]


class Trace:
    """The events of a graph's trace, as a viewer reads them; makes sure that it can."""

    def __init__(self, graph: TaskGraph) -> None:
        text = json.dumps(trace.events(graph), allow_nan=False)
        text.encode("ascii")
        self.events: list[Event] = json.loads(text)["traceEvents"]
        names = {event["name"] for event in self.of("M")}
        assert names <= {"process_name", "process_sort_index", "thread_name", "thread_sort_index"}
        self.processes = {e["pid"]: e["args"]["name"] for e in self.of("M") if e["name"] == "process_name"}
        self.threads = {
            (e["pid"], e["tid"]): e["args"]["name"] for e in self.of("M") if e["name"] == "thread_name"
        }
        self.slices = self.of("X")
        self.arrows = [(self.end_of(s), self.end_of(f)) for s, f in self._flows()]
        for event in self.events:
            assert type(event["pid"]) is int
            assert type(event["tid"]) is int
            assert event["pid"] in self.processes
            assert event["ph"] == "M" or event["ts"] >= 0
        tracks = defaultdict(list)
        for piece in self.slices:
            assert (piece["pid"], piece["tid"]) in self.threads
            tracks[piece["tid"]].append(piece)
        for pieces in tracks.values():
            pieces.sort(key=lambda piece: float(piece["ts"]))
            for first, then in pairwise(pieces):
                assert _nano(first["ts"]) + _nano(first["dur"]) <= _nano(then["ts"])

    def of(self, phase: str) -> list[Event]:
        """Return the events of a phase."""
        return [event for event in self.events if event["ph"] == phase]

    def _flows(self) -> list[tuple[Event, Event]]:
        starts = {event["id"]: event for event in self.of("s")}
        ends = {event["id"]: event for event in self.of("f")}
        assert len(starts) == len(self.of("s"))
        assert len(ends) == len(self.of("f"))
        assert starts.keys() == ends.keys()
        for number, start in starts.items():
            assert ends[number]["bp"] == "e"
            assert (start["cat"], start["name"]) == (ends[number]["cat"], ends[number]["name"])
            assert start["ts"] <= ends[number]["ts"]
        return [(start, ends[number]) for number, start in starts.items()]

    def end_of(self, flow: Event) -> tuple[int, int]:
        """Return the uid and the trial of the one slice that an end of an arrow lies in."""
        around = [
            piece
            for piece in self.slices
            if piece["tid"] == flow["tid"]
            and _nano(piece["ts"]) <= _nano(flow["ts"]) < _nano(piece["ts"]) + _nano(piece["dur"])
        ]
        assert len(around) == 1
        if flow["ph"] == "f":
            assert around[0]["ts"] == flow["ts"]
        return around[0]["args"]["uid"], around[0]["args"]["trial"]


def _nano(micro: float) -> int:
    return round(micro * 1000)


def seconds(piece: Event) -> tuple[float, float]:
    """Return when a slice begins and ends."""
    return round(piece["ts"] / 1e6, 6), round((piece["ts"] + piece["dur"]) / 1e6, 6)


def test_every_trial_is_a_slice_on_the_track_of_its_worker(run: Run, size: int) -> None:
    """A group is a process, a loop a thread, a trial a slice from its start to its end."""

    async def main() -> None:
        graph = TaskGraph(
            worker_loops={"default": size, "http": 2}, worker_assignments={"give_later": "http"}
        )
        tasks = [graph.add(give_later, n, 1 + n / 10, name=f"page {n}") for n in range(4)]
        tasks += [graph.add(nothing, after=task) for task in tasks]
        await trio.sleep(100)
        await execute_graph(graph)
        begin = graph.runs[0][0]
        made = Trace(graph)
        assert list(made.processes.values()) == ["default", "http"]
        assert len(made.slices) == len(tasks)
        for piece in made.slices:
            task = graph[piece["args"]["uid"]]
            (trial,) = task.trials
            assert piece["name"] == task.name
            assert piece["args"]["type"] == piece["cat"] == task.type.name
            assert piece["args"]["state"] == "SUCCEEDED"
            assert piece["args"]["trial"] == 1
            assert made.processes[piece["pid"]] == task.group.name
            assert made.threads[piece["pid"], piece["tid"]] == trial.worker
            assert seconds(piece) == pytest.approx((trial.start - begin, (trial.end or 0) - begin), abs=1e-6)
        order = [e["args"]["sort_index"] for e in made.of("M") if e["name"] == "thread_sort_index"]
        assert order == sorted(set(order))
        assert not {pid for pid, _ in made.threads} & {tid for _, tid in made.threads}

    run(main)


def test_failures_show_their_class_and_nothing_else(run: Run) -> None:
    """A failed trial tells the class of its error; messages, arguments and results are in no event."""

    async def flaky(secret: str) -> str:
        if len(tasks[0].trials) < 3:
            raise ConnectionError(f"message {secret}")
        return f"result {secret}"

    tasks: list[Task[str]] = []

    async def main() -> None:
        graph = TaskGraph()
        tasks.append(graph.add(TaskType(flaky, retry=Retry(3, delay=2)), "s3cret"))
        await execute_graph(graph)
        made = Trace(graph)
        told = [(p["args"]["trial"], p["args"]["state"], p["args"].get("error")) for p in made.slices]
        assert told == [
            (1, "FAILED", "ConnectionError"),
            (2, "FAILED", "ConnectionError"),
            (3, "SUCCEEDED", None),
        ]
        assert [seconds(piece)[0] for piece in made.slices] == [0, 2, 4]
        assert made.arrows == [((1, 1), (1, 2)), ((1, 2), (1, 3))]
        assert "s3cret" not in json.dumps(made.events)

    run(main)


def test_arrows_lead_along_dependencies_and_from_parents(run: Run, size: int) -> None:
    """An arrow ends where a trial starts, and begins in what it waited for, or in the body that added it."""

    async def parent() -> None:
        await trio.sleep(1)
        add_here(give_later, 1)
        await trio.sleep(1)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        first, second = graph.add(parent), graph.add(give_later, 0, 5)
        both = graph.add(give, first, after=done(second))
        index = graph.add(nothing, after=settled(first) & done(both))
        await execute_graph(graph)
        (child,) = first.children
        expected = {(first, child), (first, both), (second, both), (both, index)}
        arrows = {(graph[a], graph[b]) for (a, _), (b, _) in Trace(graph).arrows}
        assert expected <= arrows
        assert arrows - expected <= {(first, index), (child, index)}

    run(main)


def test_a_settled_condition_is_an_arrow_from_what_ended_last(run: Run) -> None:
    """Who waits for a task to settle is shown to wait for the descendant that ended last."""

    async def parent(depth: int) -> None:
        if depth:
            await trio.sleep(1)
            add_here(parent, depth - 1)

    async def main() -> None:
        graph = TaskGraph()
        top = graph.add(parent, 3)
        index = graph.add(nothing, after=settled(top))
        await execute_graph(graph)
        assert ((5, 1), (index.uid, 1)) in Trace(graph).arrows

    run(main)


def test_a_large_fan_in_has_few_arrows(run: Run) -> None:
    """Of many predecessors those that ended last have arrows."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 100})
        tasks = [graph.add(give_later, n, 1 + n / 10) for n in range(50)]
        last = graph.add(give, tasks)
        other = graph.add(nothing, after=succeeded(*tasks))
        await execute_graph(graph)
        arrows = Trace(graph).arrows
        latest = {task.uid for task in tasks[-8:]}
        for end in (last, other):
            assert {a for (a, _), (b, _) in arrows if b == end.uid} == latest

    run(main)


def test_the_number_of_arrows_is_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are enough arrows no more are drawn; the slices are all there."""
    monkeypatch.setattr(trace, "MOST_ARROWS_IN_ALL", 10)

    async def main() -> None:
        graph = TaskGraph()
        task = graph.add(nothing)
        for _ in range(20):
            task = graph.add(nothing, after=task)
        await execute_graph(graph)
        made = Trace(graph)
        assert len(made.arrows) == 10
        assert len(made.slices) == 21

    run(main)


def test_a_suspended_body_is_one_slice(run: Run) -> None:
    """A body that waits for another task in between is drawn as a whole, on a track for itself."""

    async def body() -> None:
        await add_here(give_later, 1, 3).wait()

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(body)
        await execute_graph(graph)
        made = Trace(graph)
        assert [seconds(piece) for piece in made.slices] == [(0, 3), (0, 3)]
        assert len({piece["tid"] for piece in made.slices}) == 2

    run(main)


def test_counters_tell_how_many_run_and_wait(run: Run) -> None:
    """A group's counters change when its tasks become READY, start and end, and are zero at the end."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 2, "idle": 1})
        for _ in range(3):
            graph.add(give_later, 0, 1)
        await execute_graph(graph)
        made = Trace(graph)
        counts = [(e["ts"] / 1e6, e["args"]["running"], e["args"]["waiting"]) for e in made.of("C")]
        assert counts == [(0, 2, 1), (1, 1, 0), (2, 0, 0)]
        assert {made.processes[event["pid"]] for event in made.of("C")} == {"default"}

    run(main)


def test_runs_are_laid_one_after_another(run: Run) -> None:
    """The time between two runs is left out, and each is marked."""

    async def main() -> None:
        graph = TaskGraph()
        first = graph.add(give_later, 1, 2)
        await execute_graph(graph)
        await trio.sleep(50)
        second = graph.add(give_later, first, 3)
        await execute_graph(graph)
        made = Trace(graph)
        assert [(p["args"]["uid"], *seconds(p)) for p in made.slices] == [
            (first.uid, 0, 2),
            (second.uid, 2, 5),
        ]
        marks = [(event["name"], event["ts"] / 1e6) for event in made.of("i")]
        assert marks == [("run 1 begins", 0), ("run 1 ends", 2), ("run 2 begins", 2), ("run 2 ends", 5)]
        assert {event["s"] for event in made.of("i")} == {"g"}

    run(main)


def test_in_the_middle_of_a_run_slices_end_now(run: Run) -> None:
    """What runs is drawn up to now, and what has not started is not drawn."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        graph.add(give_later, 1, 10)
        graph.add(give_later, 1, 10)
        async with open_graph(graph):
            await trio.sleep(4)
            (piece,) = Trace(graph).slices
            assert seconds(piece) == (0, 4)
            assert piece["args"]["state"] == "RUNNING"

    run(main)


def test_tasks_shorter_than_the_clock_can_tell_have_slices_that_do_not_touch(run: Run, size: int) -> None:
    """A thousand tasks in the same moment are slices one after another, with the arrows between them."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": size})
        last = graph.add(nothing)
        for _ in range(300):
            last = graph.add(nothing, after=[last, graph.add(nothing)])
        await execute_graph(graph)
        assert graph.runs[0][0] == graph.runs[0][1]
        made = Trace(graph)
        assert len(made.slices) == 601
        assert len(made.arrows) == 600

    run(main)


def test_other_drivers_have_tracks_too() -> None:
    """Trials that overlap in one worker, or have none, are on tracks of their own."""
    graph = TaskGraph(worker_loops={"default": 3})
    for _ in range(3):
        graph.add(nothing)
    tasks = [graph.take("default") for _ in range(3)]
    graph.now = 2.0
    for task in tasks:
        assert task is not None
        graph.finish(task)
    made = Trace(graph)
    assert [seconds(piece) for piece in made.slices] == [(0, 2)] * 3
    assert list(made.threads.values()) == ["default"] * 3


def test_a_graph_that_never_ran_has_an_empty_trace() -> None:
    """There is nothing but the groups, and the counters of none."""
    made = Trace(TaskGraph(worker_loops={"http": 1}))
    assert list(made.processes.values()) == ["default", "http"]
    assert made.slices == made.of("C") == []


HOSTILE = [
    "line\nbreak",
    '"quoted\\"',
    "</script>",
    "\ud800 lone",
    "\x1b[31m",
    "\u2028",
    "\u202e",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_string_may_be_a_name(name: str) -> None:
    """Names of tasks, types and groups are printable and short in the trace, and it stays valid JSON."""

    async def main() -> None:
        graph = TaskGraph(worker_loops={name: 1})
        graph.add(TaskType(nothing, name=name, group=name), name=name)
        await execute_graph(graph)
        made = Trace(graph)
        texts = [
            *made.processes.values(),
            *made.threads.values(),
            made.slices[0]["name"],
            made.slices[0]["cat"],
        ]
        for text in texts:
            assert text.isprintable()
            assert len(text) <= trace.LONGEST_NAME + 10
            text.encode("utf-8")

    run_seeded(main)


def test_writing_checkpoints_and_makes_a_file(tmp_path: Path) -> None:
    """`write` is async and leaves the events in a file; `trio.run` writes one when the run is over."""
    path = tmp_path / "run.json"
    graphs: list[TaskGraph] = []

    async def main() -> None:
        graph = TaskGraph()
        graphs.append(graph)
        for _ in range(3000):
            graph.add(nothing)
        await execute_graph(graph)
        with assert_checkpoints():
            await trace.write(graph, path)

    run_seeded(main, clock=False)
    assert json.loads(path.read_bytes()) == trace.events(graphs[0])
    trio.run(trace.write, graphs[0], str(path))
    assert json.loads(path.read_bytes()) == trace.events(graphs[0])


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """What the file system says goes to the caller."""
    with pytest.raises(FileNotFoundError):
        trio.run(trace.write, TaskGraph(), tmp_path / "missing" / "run.json")


def test_only_graphs_have_traces() -> None:
    """Anything else is refused by name."""
    with pytest.raises(BadType, match="must be a TaskGraph"):
        trace.events("graph")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(BadType, match="must be a TaskGraph"):
        trio.run(trace.write, None, "nowhere.json")  # type: ignore[arg-type]  # likewise


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_traces_of_any_graph_are_sound(data: st.DataObject) -> None:
    """Whatever depends on what, fails, is tried again or spawned: slices do not overlap and arrows are whole.

    There is one slice for each trial, and `Trace` looks at the rest.
    """
    draw = data.draw
    delays = st.sampled_from([0, 0, 0.001, 1, 2.5])

    async def body(delay: float, failures: int, children: int) -> None:
        await trio.sleep(delay)
        for _ in range(children):
            add_here(give_later, 1, delay)
        if failures and counts[failures] < 2:
            counts[failures] += 1
            raise ValueError

    counts: dict[int, int] = defaultdict(int)

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": draw(st.integers(1, 3)), "b": 2})
        kind = TaskType(body, retry=Retry(draw(st.integers(1, 3)), delay=draw(delays)))
        tasks: list[Task[None]] = []
        for number in range(draw(st.integers(1, 8))):
            after = draw(st.lists(st.sampled_from(tasks), max_size=3, unique=True)) if tasks else []
            verbs: list[Callable[..., Any]] = [
                succeeded,
                done,
                settled,
                partial(_some, draw(st.integers(0, 1))),
            ]
            condition = draw(st.sampled_from(verbs))
            group = draw(st.sampled_from(["default", "b"]))
            arguments = draw(delays), draw(st.sampled_from([0, 0, number + 1])), draw(st.integers(0, 2))
            tasks.append(graph.add(kind.but(group=group), *arguments, after=condition(*after)))
        for _ in range(2):
            await execute_graph(graph, raise_failures=False)
            made = Trace(graph)
            trials = {(task.uid, trial.number) for task in graph for trial in task.trials}
            assert sorted(trials) == sorted((p["args"]["uid"], p["args"]["trial"]) for p in made.slices)
            graph.rerun()

    run_seeded(main)


def _some(n: int, *tasks: Task[None]) -> Any:
    return at_least(min(n, len(tasks)), tasks)
