"""Reports: one HTML file that shows a run, and that no name can make do anything else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints

from tests.support import add_here, examples, fail_later, give_later, nothing
from tests.support import run as run_seeded
from trio_graph_scheduler import (
    BadType,
    Rate,
    Retry,
    Task,
    TaskGraph,
    TaskType,
    WorkerGroup,
    done,
    execute_graph,
    open_graph,
)
from trio_graph_scheduler.observe.report import page as report
from trio_graph_scheduler.observe.report.layers import GAP, layout

VOID = {"meta", "input"}


class Page(HTMLParser):
    """A report as a browser parses it: its elements, and the text in its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: list[tuple[str, dict[str, str | None], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        (data,) = (
            text for _, attributes, text in self.blocks if attributes.get("type") == "application/json"
        )
        self.data = json.loads(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in ("script", "style"):
            self.blocks.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        """Close an element, which must be the innermost one."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep the text of scripts and styles."""
        if self._open and self._open[-1] in ("script", "style"):
            tag, attributes, text = self.blocks[-1]
            self.blocks[-1] = tag, attributes, text + data

    def handle_comment(self, data: str) -> None:
        """Fail: there are none."""
        pytest.fail(f"a comment: {data[:50]}")


def report_on(graph: TaskGraph) -> Page:
    """Run a graph on the mock clock and return the report on it."""

    async def main() -> str:
        await execute_graph(graph, raise_failures=False)
        return report.html(graph)

    return Page(run_seeded(main))


def columns(page: Page, *places: int) -> list[tuple[Any, ...]]:
    """Return some columns of the table of tasks."""
    return [tuple(row[place] for place in places) for row in page.data["tasks"]["rows"]]


# What a browser makes of it ---------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    """Its policy forbids all but the style and the script within it, named by their hashes, and it needs no
    more.
    """
    page = report_on(TaskGraph())
    (policy,) = (
        str(attributes["content"])
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, attributes, text in page.blocks
        if "type" not in attributes
    }
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{hashes['style']}'",
        "script-src": f"'sha256-{hashes['script']}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert [kind for kind, _, _ in page.blocks] == ["style", "script", "script"]
    for tag, attributes in page.elements:
        assert tag not in ("base", "iframe", "link", "img", "object")
        assert not {"src", "href", "style", "srcdoc"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]


def test_the_script_makes_text_of_its_data_and_nothing_else() -> None:
    """It knows none of the ways to turn text into elements or code, and loads nothing."""
    page = report_on(TaskGraph())
    script = page.blocks[-1][2]
    ways = r"HTML|insertAdjacent|\.write|eval|Function\(|setTimeout|fetch|XMLHttp|import|src|href"
    assert re.findall(ways, re.sub(r"^//.*$", "", script, flags=re.MULTILINE)) == []


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>&lt;b&gt;&amp;",
    "\u2028\u2029\x00\x1b[31m\r\n",
    "\ud800\udc00\udfff",
    "$data ${script} $$",
    "\u202eevil",
    "<img src=x onerror=alert(1)>" + "x" * 1_000_000,
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_string_may_be_a_name_or_a_message(name: str) -> None:
    """Names of graphs, groups, types and tasks, messages and reasons come through as text, and short."""

    async def fail_so() -> None:
        raise type(name.replace("\0", "") if "\ud800" not in name else "E", (ValueError,), {})(name)

    graph = TaskGraph(worker_loops={name: 1}, name=name)
    kind = TaskType(fail_so, name=name, group=name)
    bad = graph.add(kind, name=name)
    graph.add(kind, name=name)
    graph.add(nothing, after=bad, name=name)
    graph.add(nothing, name=name).cancel(name)
    page = report_on(graph)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert not {"img", "b"} & {tag for tag, _ in page.elements}
    texts = list(strings(page.data))
    assert all(text.isprintable() for text in texts)
    assert max(map(len, texts)) < 2000
    assert any(name[:4] in text for text in texts) == name[:4].isprintable()
    assert [state for (state,) in columns(page, 4)] == ["FAILED", "FAILED", "SKIPPED", "CANCELLED"]


def strings(value: object) -> list[str]:
    """Return all strings in what JSON gave."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


def test_arguments_and_results_are_not_in_it() -> None:
    """Of an exception there are the class and the message; of a value there is nothing."""
    graph = TaskGraph()
    graph.add(give_later, "s3cret")
    graph.add(fail_later, "no answer")
    page = report_on(graph)
    assert "s3cret" not in json.dumps(page.data)
    assert ("FAILED", "ValueError: no answer") in columns(page, 4, 9)


# What it shows ----------------------------------------------------------------------------------------------


def test_the_table_has_every_task_with_its_times() -> None:
    """A row tells the trials, and for how long the task waited for places and ran, in all of them."""
    graph = TaskGraph(worker_loops={"default": 1})
    graph.add(TaskType(fail_later, name="flaky", retry=Retry(2, delay=5)), "no", 2, name="first")
    skipped = graph.add(nothing, after=graph.add(give_later, 1, 3), name="after")
    skipped.cancel("not needed")
    page = report_on(graph)
    assert page.data["tasks"]["rows"] == [
        [1, "first", "flaky", "default", "FAILED", 2, 0, 0, 4, "ValueError: no"],
        [2, "give_later", "give_later", "default", "SUCCEEDED", 1, 2, 2, 3, ""],
        [3, "after", "nothing", "default", "CANCELLED", 0, None, None, None, "not needed"],
    ]
    assert page.data["tasks"]["note"] == "All of them."
    counts = {state: look["count"] for state, look in page.data["states"].items() if look["count"]}
    assert counts == {"FAILED": 1, "CANCELLED": 1, "SUCCEEDED": 1}


def test_the_timeline_has_every_trial_on_its_lane() -> None:
    """A slice tells what ran when, how it ended, and whether it is on the critical path."""
    graph = TaskGraph(worker_loops={"default": 2})
    short, long = graph.add(give_later, 1, 1, name="short"), graph.add(give_later, 1, 3, name="long")
    graph.add(fail_later, "no", 2, after=done(short, long), name="bad")
    timeline = report_on(graph).data["timeline"]
    slices = [piece for lane in timeline["lanes"] for piece in lane["slices"]]
    assert [lane["name"] for lane in timeline["lanes"]] == ["default-1", "default-2"]
    assert sorted(slices) == [
        [0, 1, "SUCCEEDED", "short", "task 1, trial 1", 0],
        [0, 3, "SUCCEEDED", "long", "task 2, trial 1", 1],
        [3, 5, "FAILED", "bad", "task 3, trial 1, ValueError", 1],
    ]
    assert timeline["duration"] == 5


def test_the_profile_is_told() -> None:
    """The critical path, idle places, waits and larger limits are those of the profile."""
    graph = TaskGraph(worker_loops={"default": 1})
    for _ in range(3):
        graph.add(give_later, 1, 2, name="work")
    profile = report_on(graph).data["profile"]
    assert profile["path"] == [[1, "task 3 'work'", "it was there", 0, 4, 2]]
    assert profile["waits"] == [[4, "task 3 'work'", "default"], [2, "task 2 'work'", "default"]]
    assert profile["replay"]["rows"] == [["default", 2, 4, 2]]
    assert profile["groups"][0] == {"name": "default", "limit": 1, "share": 0, "idle": 0, "reasons": []}


def test_a_replay_that_is_off_tells_nothing() -> None:
    """Where a rate rules, no gain is claimed."""
    graph = TaskGraph(worker_loops={"default": WorkerGroup(3, rate=Rate(0.1))})
    for _ in range(5):
        graph.add(give_later, 1, 2)
    replay = report_on(graph).data["profile"]["replay"]
    assert replay["rows"] == []
    assert "too far off" in replay["note"]


def test_the_graph_is_drawn_by_task_or_by_type() -> None:
    """A small graph has a box for each task and arrows between them, a large one a box for each type."""
    graph = TaskGraph()
    first = graph.add(give_later, 1, name="first")
    graph.add(nothing, after=first, name="then")
    drawn = report_on(graph).data["graph"]
    assert [box["lines"][0] for box in drawn["boxes"].values()] == ["first", "then"]
    (arrow,) = drawn["arrows"]
    assert [drawn["boxes"][arrow[end]]["lines"][0] for end in ("first", "then")] == ["first", "then"]
    assert arrow["points"] == [[box["x"], box["y"]] for box in drawn["boxes"].values()]
    for _ in range(200):
        graph.add(nothing, after=first)
    drawn = report_on(graph).data["graph"]
    assert [box["lines"][0] for box in drawn["boxes"].values()] == ["give_later", "nothing"]


def test_large_graphs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks, lanes and steps: what is left out is told, and what failed is in the table first."""
    monkeypatch.setattr(report, "MOST_ROWS", 100)
    monkeypatch.setattr(report, "MOST_SLICES", 300)
    monkeypatch.setattr(report, "MOST_LANES", 20)
    monkeypatch.setattr(report, "MOST_STEPS", 10)
    graph = TaskGraph(worker_loops={"default": 30})
    last: Task[Any] | None = None
    for number in range(1000):
        graph.add(give_later, 1, 1 + number % 7)
        last = graph.add(give_later, 1, 1, after=last)
    bad = graph.add(fail_later, "no", 0)
    page = report_on(graph)
    rows = columns(page, 0, 4)
    assert len(rows) == 100
    assert rows[0] == (bad.uid, "FAILED")
    assert page.data["tasks"]["note"].startswith("100 of 2,001: ")
    timeline = page.data["timeline"]
    assert len(timeline["lanes"]) == 20
    assert 20 < sum(len(lane["slices"]) for lane in timeline["lanes"]) <= 300 + 20
    assert "shown as one" in timeline["note"]
    assert "10 more worker loops are left out" in timeline["note"]
    for lane in timeline["lanes"]:
        assert all(first[1] <= then[0] for first, then in pairwise(lane["slices"]))
    assert (len(page.data["profile"]["path"]), page.data["profile"]["left_out"]) == (10, 990)


def test_trials_shown_as_one_tell_how_many_and_the_worst() -> None:
    """Of trials that are too short to be told apart a failed one gives the colour."""
    graph = TaskGraph(worker_loops={"default": 1})
    graph.add(fail_later, "no", 0.001)
    graph.add(give_later, 1, 100)
    for _ in range(report.MOST_SLICES):
        graph.add(nothing)
    timeline = report_on(graph).data["timeline"]
    first, long, rest = timeline["lanes"][0]["slices"]
    assert (first[2], long[2]) == ("FAILED", "SUCCEEDED")
    assert rest[2:5] == ["SUCCEEDED", f"{report.MOST_SLICES:,} trials", ""]


def test_in_the_middle_of_a_run_and_before_one() -> None:
    """A report can be made at any time."""
    assert Page(report.html(TaskGraph())).data["timeline"]["lanes"] == []

    async def main() -> None:
        graph = TaskGraph(worker_loops={"default": 1})
        for _ in range(2):
            graph.add(give_later, 1, 5)
        async with open_graph(graph):
            await trio.sleep(2)
            page = Page(report.html(graph))
            assert ["so far", "still running"] in page.data["figures"]
            assert columns(page, 4, 8) == [("RUNNING", 2), ("READY", None)]

    run_seeded(main)


def test_spawned_tasks_have_dashed_arrows() -> None:
    """Who added whom is shown, apart from who waits for whom."""

    async def parent() -> None:
        add_here(nothing, name="child")

    graph = TaskGraph()
    graph.add(parent)
    (arrow,) = report_on(graph).data["graph"]["arrows"]
    assert arrow["spawned"] is True


def test_writing_checkpoints_and_makes_a_file(tmp_path: Path) -> None:
    """`write` is async and leaves the page in a file; `trio.run` writes one when the run is over."""
    path = tmp_path / "run.html"
    graph = TaskGraph(name="löng")
    graph.add(nothing)

    async def main() -> None:
        await execute_graph(graph)
        with assert_checkpoints():
            await report.write(graph, path)

    run_seeded(main, clock=False)
    assert path.read_text(encoding="utf-8") == report.html(graph)
    path.unlink()
    trio.run(report.write, graph, str(path))
    assert path.read_text(encoding="utf-8") == report.html(graph)


def test_only_graphs_have_reports() -> None:
    """Anything else is refused by name."""
    with pytest.raises(BadType, match="must be a TaskGraph"):
        report.html("graph")  # type: ignore[arg-type]  # that is the point


# The layout -------------------------------------------------------------------------------------------------

keys = st.integers(0, 9).map(str)


@settings(max_examples=examples(200), deadline=None)
@given(st.dictionaries(keys, st.tuples(st.floats(10, 200), st.floats(10, 60))), st.data())
def test_boxes_do_not_overlap_and_arrows_lead_from_left_to_right(sizes: Any, data: st.DataObject) -> None:
    """Whatever leads where, in circles too: all is within the picture, and every arrow connects its boxes.

    Without circles each arrow leads to the right.
    """
    pairs = st.tuples(st.sampled_from(sorted(sizes)), st.sampled_from(sorted(sizes)))
    arrows = data.draw(st.lists(pairs, max_size=20)) if sizes else []
    placed = layout(sizes, arrows)
    assert placed.boxes.keys() == sizes.keys()
    assert placed.arrows.keys() == set(arrows)
    for box, (x, y) in placed.boxes.items():
        width, height = sizes[box]
        assert -0.01 <= x - width / 2 <= x + width / 2 <= placed.width + 0.01
        assert -0.01 <= y - height / 2 <= y + height / 2 <= placed.height + 0.01
        for other, (x2, y2) in placed.boxes.items():
            far = abs(x - x2) >= (width + sizes[other][0]) / 2 - 0.01
            apart = abs(y - y2) >= (height + sizes[other][1]) / 2 + GAP - 0.01
            assert box == other or far or apart
    for (first, then), points in placed.arrows.items():
        assert (points[0], points[-1]) == (placed.boxes[first], placed.boxes[then])
        if all(one < other for one, other in arrows):
            assert all(a[0] < b[0] for a, b in pairwise(points))


def test_a_diamond_is_drawn_straight() -> None:
    """Boxes are in the middle of their neighbours, and a long arrow goes around what is between."""
    size = (100.0, 20.0)
    placed = layout(dict.fromkeys("abcd", size), [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
    boxes = placed.boxes
    assert boxes["a"][1] == pytest.approx(boxes["d"][1]) == pytest.approx((boxes["b"][1] + boxes["c"][1]) / 2)
    assert abs(boxes["b"][1] - boxes["c"][1]) == pytest.approx(20 + GAP)
    placed = layout(dict.fromkeys("abc", size), [("a", "b"), ("b", "c"), ("a", "c")])
    (_, (x, y), _) = placed.arrows["a", "c"]
    assert x == placed.boxes["b"][0]
    assert abs(y - placed.boxes["b"][1]) >= 10 + GAP
