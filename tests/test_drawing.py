"""Drawings: what is in them, that no name breaks them, and that large graphs are drawn by type."""

from __future__ import annotations

import functools
import html
import itertools
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.support import add_here, fail, forever, give, give_later, nothing
from trio_graph_scheduler import (
    BadType,
    BadValue,
    ForeignTask,
    Task,
    TaskGraph,
    TaskState,
    TaskType,
    TryAgain,
    WorkerGroup,
    all_of,
    any_of,
    at_least,
    current_task,
    done,
    execute_graph,
    failed,
    open_graph,
    settled,
    succeeded,
)
from trio_graph_scheduler.observe.drawing import (
    GraphvizFailed,
    NoGraphviz,
    to_dot,
    to_json,
    to_mermaid,
    to_svg,
)
from trio_graph_scheduler.observe.drawing.picture import brief
from trio_graph_scheduler.observe.palette import COLOURS

Run = Callable[..., Any]
HOSTILE = [
    'say "no"',
    "it's",
    "back\\slash\\",
    "\\N \\G \\l \\n",
    "two\nlines\r\n",
    "<b>bold</b>",
    "<script>alert(1)</script>",
    "&lt; &amp; &#60;",
    "nul\0nul",
    "lone \ud800 surrogate",
    "é 日本語 🎉",
    "x" * 1_000_000,
    "end",
    "subgraph x",
    "- item",
    '"`**md**`"',
    '%%{init: {"theme":"dark"}}%%',
    "a;b#35;#quot;",
    'click t1 "javascript:alert(1)"',
    "](){}[]<>|",
    "a --> b",
    "$$x^2$$",
    "fa:fa-car",
    "\u202eevil \x1b[31m",
    'a"];b[label="c',
    "-->]]></svg>",
]
any_text = st.text(st.characters(exclude_categories=()))


# Reading drawings -------------------------------------------------------------------------------------------


@attrs.frozen
class Drawn:
    """What a drawing says: its title, labels by key, arrows, and which keys stand in which section."""

    title: str
    labels: dict[str, str]
    edges: set[tuple[str, str, str, bool]]
    sections: dict[str, set[str]]

    def arrows(self) -> set[tuple[str, str, str, bool]]:
        """Return the arrows between the first lines of labels: from, to, word, dashed."""
        name = {key: label.split("\n")[0] for key, label in self.labels.items()}
        return {(name[first], name[then], word, dashed) for first, then, word, dashed in self.edges}


STRING = r'"((?:[^"\\]|\\.)*)"'
DOT_NODE = re.compile(rf"(\w+) \[label={STRING}, [^\"]*(?:\"[^\"\\]*\"[^\"]*)*\]")
DOT_EDGE = re.compile(rf"(\w+) -> (\w+)(?: \[(?:label={STRING}(?:, )?)?(style=dashed, arrowhead=vee)?\])?")
DOT_SECTION = re.compile(rf"graph \[label={STRING}, .*")
DOT_REST = re.compile(r'digraph tasks {|(node|edge) \[[^\\]*\]|fontname=[^\\]*\]|fillcolor="[^\\]*\]')


def dot_string(text: str) -> str:
    """Return what Graphviz shows for the inside of a quoted label."""
    assert set(re.findall(r"\\(.)", text)) <= {"n", '"', "\\"}
    return html.unescape(re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text))


def read_dot(text: str) -> Drawn:
    """Read DOT as strictly as this package writes it."""
    title, labels, edges, sections = "", {}, set(), {}
    inside: set[str] | None = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("subgraph cluster_"):
            inside = set()
        elif line.startswith("graph [rankdir="):
            found = re.fullmatch(rf"graph \[rankdir=(?:LR|RL|TB|BT), label={STRING}, .*", line)
            assert found is not None, line
            title = dot_string(found[1])
        elif (section := DOT_SECTION.fullmatch(line)) is not None:
            assert inside is not None
            sections[dot_string(section[1])] = inside
        elif (edge := DOT_EDGE.fullmatch(line)) is not None:
            edges.add((edge[1], edge[2], dot_string(edge[3] or ""), edge[4] is not None))
        elif line == "}":
            inside = None
        elif DOT_REST.fullmatch(line) is None:
            node = DOT_NODE.fullmatch(line)
            assert node is not None, line
            assert node[1] not in labels
            labels[node[1]] = dot_string(node[2])
            if inside is not None:
                inside.add(node[1])
    return Drawn(title, labels, edges, sections)


SAFE = r'"((?:[^!-+:-@\[-`{-~\n]|#\d+;|<br>)*)"'
MERMAID_NODE = re.compile(rf"(\w+)(?:\[{SAFE}\]:::(\w+)|\(\[{SAFE}\]\):::joint)")
MERMAID_EDGE = re.compile(rf"(\w+) (-->|-\.->)(?:\|{SAFE}\|)? (\w+)")


def mermaid_string(text: str) -> str:
    """Return what Mermaid shows for the inside of a quoted label."""
    lines = text.split("<br>")
    return "\n".join(re.sub(r"#(\d+);", lambda m: chr(int(m[1])), line) for line in lines).replace(
        "\u2060", ""
    )


def read_mermaid(text: str) -> Drawn:
    """Read Mermaid as strictly as this package writes it."""
    labels: dict[str, str] = {}
    edges: set[tuple[str, str, str, bool]] = set()
    sections: dict[str, set[str]] = {}
    inside: set[str] | None = None
    fence, title, fence_again, head, *lines = text.splitlines()
    assert (fence, fence_again) == ("---", "---")
    assert re.fullmatch(r"flowchart (LR|RL|TB|BT)", head)
    for line in map(str.strip, lines):
        if (section := re.fullmatch(rf"subgraph \w+ \[{SAFE}\]", line)) is not None:
            inside = sections.setdefault(mermaid_string(section[1]), set())
        elif line == "end":
            inside = None
        elif (edge := MERMAID_EDGE.fullmatch(line)) is not None:
            edges.add((edge[1], edge[4], mermaid_string(edge[3] or ""), edge[2] == "-.->"))
        elif not re.fullmatch(r"classDef \w+ [\w:,#-]+|class [\w,]+ section", line):
            node = MERMAID_NODE.fullmatch(line)
            assert node is not None, line
            labels[node[1]] = mermaid_string(node[2] or node[4] or "")
            if inside is not None:
                inside.add(node[1])
    return Drawn(json.loads(title.removeprefix("title: ")), labels, edges, sections)


def read(graph: TaskGraph, **options: Any) -> Drawn:
    """Return what the drawings of a graph say, after seeing that both formats say the same."""
    dot, mermaid = read_dot(to_dot(graph, **options)), read_mermaid(to_mermaid(graph, **options))
    assert dot == attrs.evolve(mermaid, title=dot.title)
    return dot


def svg_of(graph: TaskGraph, **options: Any) -> ET.Element | None:
    """Return the SVG of a graph as XML, or None where there is no Graphviz, having seen that this is told."""
    if shutil.which("dot") is None:
        with pytest.raises(NoGraphviz):
            trio.run(partial(to_svg, graph, **options))
        return None
    return ET.fromstring(trio.run(partial(to_svg, graph, **options)))  # noqa: S314 - it is our own


def texts_in(svg: ET.Element) -> list[str]:
    """Return the lines of text in an SVG; blanks at their ends and doubled ones are not told apart there."""
    texts = ("".join(one.itertext()) for one in svg.iter("{http://www.w3.org/2000/svg}text"))
    return [" ".join(text.replace("\xa0", " ").split()) for text in texts]


def body() -> None:
    """Do nothing, in no thread."""


@functools.cache
def type_named(name: str) -> TaskType[[], None]:
    """Return the one type of this name."""
    return TaskType(body, name=name, executor="async")


def named(graph: TaskGraph, name: str, after: Any = None, kind: str = "work") -> Task[Any]:
    """Add a task of this name, whose type has the name of its kind."""
    return graph.add(type_named(kind), name=name or None, after=after)


def diamond() -> TaskGraph:
    """Return a graph of four tasks, which has not run."""
    graph = TaskGraph(name="diamond")
    top = named(graph, "top")
    sides = [named(graph, side, after=top) for side in ("left", "right")]
    named(graph, "bottom", after=sides)
    return graph


# What is drawn ----------------------------------------------------------------------------------------------


def test_tasks_and_dependencies() -> None:
    """Each task is a box with its name, symbol and state, each dependency a solid arrow; the title counts."""
    drawn = read(diamond())
    assert drawn.title == "diamond: 4 tasks, 1 READY, 3 WAITING"
    assert drawn.labels == {
        "t1": "top\n◇ READY",
        "t2": "left\n○ WAITING",
        "t3": "right\n○ WAITING",
        "t4": "bottom\n○ WAITING",
    }
    pairs = ("t1", "t2"), ("t1", "t3"), ("t2", "t4"), ("t3", "t4")
    assert drawn.edges == {(*pair, "", False) for pair in pairs}
    assert drawn.sections == {}


def test_an_empty_graph_has_an_empty_drawing() -> None:
    """It says so, in every format."""
    drawn = read(TaskGraph(name="nothing"))
    assert drawn == Drawn("nothing: 0 tasks", {}, set(), {})
    assert read(TaskGraph(name="nothing"), most=0) == drawn
    assert json.loads(to_json(TaskGraph()))["tasks"] == []
    svg = svg_of(TaskGraph(name="nothing"))
    assert svg is None or texts_in(svg) == ["nothing: 0 tasks"]


def test_every_state_is_told_by_name_symbol_and_colours(run: Run) -> None:
    """In the middle of a run each task has the name of its state, and the looks of it."""

    async def wait_for_it() -> None:
        await slow.result()

    async def try_again() -> None:
        raise TryAgain(after=100)

    graph = TaskGraph(worker_loops={"default": 9, "narrow": WorkerGroup(0)})
    slow = graph.add(forever, name="running")
    bad = graph.add(fail, name="failed")
    graph.add(nothing, name="skipped", after=bad)
    graph.add(nothing, name="waiting", after=slow)
    graph.add(nothing, name="succeeded")
    victim = graph.add(forever, name="cancelled")
    graph.add(try_again, name="retrying")
    graph.add(wait_for_it, name="suspended")
    graph.add(TaskType(nothing, name="ready", group="narrow"))
    drawings = []

    async def main() -> None:
        with trio.move_on_after(2):
            async with open_graph(graph):
                await trio.sleep(1)
                victim.cancel()
                await trio.sleep(0.5)
                drawings.extend([to_dot(graph), to_mermaid(graph)])

    run(main)
    dot, mermaid = drawings
    assert {task.name.upper() for task in graph} == set(TaskState.__members__)
    for task in graph:
        look = COLOURS[TaskState(task.name)]
        label = f"{task.name}\n{look.symbol} {task.name.upper()}"
        assert read_dot(dot).labels[f"t{task.uid}"] == label
        (line,) = [line for line in dot.splitlines() if line.strip().startswith(f"t{task.uid} [")]
        colours = f'fillcolor="{look.fill}", color="{look.border}", fontcolor="{look.ink}"'
        assert colours in line
        assert ("penwidth" in line) == look.strong
        assert read_mermaid(mermaid).labels[f"t{task.uid}"] == label
        assert (
            f"classDef {task.name.upper()} fill:{look.fill},stroke:{look.border},color:{look.ink}" in mermaid
        )


def test_names_that_repeat_have_their_uids() -> None:
    """Two boxes never look alike, also if names differ only where they are cut; other names stay plain."""
    graph = TaskGraph()
    for name in ("same", "same", "other", "a" * 30 + "b" * 30 + "a" * 30, "a" * 30 + "c" * 30 + "a" * 30):
        named(graph, name)
    cut = "a" * 20 + "…" + "a" * 19
    names = [label.split("\n")[0] for label in read(graph).labels.values()]
    assert names == ["same #1", "same #2", "other", f"{cut} #4", f"{cut} #5"]


def test_later_trials_are_told(run: Run) -> None:
    """After a rerun the box tells which trial it was."""
    graph = TaskGraph()
    task = graph.add(give, 1)
    run(execute_graph, graph)
    assert read(graph).labels == {"t1": "give\n✓ SUCCEEDED"}
    graph.rerun(task)
    assert read(graph).labels == {"t1": "give\n◇ READY"}
    run(execute_graph, graph)
    assert read(graph).labels == {"t1": "give\n✓ SUCCEEDED, trial 2"}


def test_conditions_that_need_all_are_words_on_arrows() -> None:
    """What is asked beside success stands on the arrow, however deep it is nested in what needs all."""
    graph = TaskGraph()
    a, b, c = (named(graph, name) for name in "abc")
    named(graph, "end", after=[a, done(a) & (failed(b) & all_of(settled(c), succeeded(b)))])
    assert read(graph).arrows() == {
        ("a", "end", "", False),
        ("a", "end", "done", False),
        ("b", "end", "failed", False),
        ("c", "end", "settled", False),
        ("b", "end", "", False),
    }


def test_conditions_that_need_some_are_joints() -> None:
    """A condition that does not need all is a small node, and so is what counts as one in it."""
    graph = TaskGraph()
    a, b, c, d = (named(graph, name) for name in "abcd")
    named(graph, "two", after=at_least(2, [a, b, failed(c)]))
    named(graph, "either", after=any_of(succeeded(a, b), settled(d)))
    drawn = read(graph)
    assert [label for key, label in drawn.labels.items() if key[0] == "c"] == ["2 of 3", "any", "all"]
    assert drawn.arrows() == {
        ("a", "2 of 3", "", False),
        ("b", "2 of 3", "", False),
        ("c", "2 of 3", "failed", False),
        ("2 of 3", "two", "", False),
        ("a", "all", "", False),
        ("b", "all", "", False),
        ("all", "any", "", False),
        ("d", "any", "settled", False),
        ("any", "either", "", False),
    }


def test_a_shared_condition_is_drawn_once() -> None:
    """Any n tasks that share a condition on m others take n + m arrows; on a single task they take n."""
    graph = TaskGraph()
    firsts = [named(graph, f"first {number}") for number in range(20)]
    barrier, start = done(*firsts), succeeded(firsts[0])
    for number in range(20):
        named(graph, f"second {number}", after=[barrier, start])
    drawn = read(graph)
    assert len(drawn.labels) == 41
    assert len(drawn.edges) == 20 + 20 + 20
    assert {(first, then) for first, then, word, _ in drawn.arrows() if word} == {
        (f"first {number}", "all") for number in range(20)
    }


def test_joints_tell_how_they_were_decided(run: Run) -> None:
    """A condition that holds has a tick, one that no longer can a cross."""
    graph = TaskGraph()
    tasks = [graph.add(fail), graph.add(nothing)]
    graph.add(nothing, name="one", after=at_least(1, tasks))
    graph.add(nothing, name="other", after=any_of(tasks[0], failed(tasks[1])))
    run(partial(execute_graph, graph, raise_failures=False))
    assert {first for first, then, *_ in read(graph).arrows() if then in ("one", "other")} == {
        "any ✓",
        "any ✗",
    }


def test_thresholds_and_wait_tasks(run: Run) -> None:
    """A threshold is drawn as what it counts, a wait task of the explicit form by its mode."""
    graph = TaskGraph({"work": nothing})
    graph.add_threshold([partial(give, 1), partial(give, 2), partial(give, 3)], target=2, name="reached")

    async def main() -> None:
        uids = [await graph.create_task("work", None, graph.root.uid) for _ in range(3)]
        await graph.create_wait_task("work", ((), {}), uids, True)
        await graph.create_wait_task("work", ((), {}), uids, "COMPLETE__2")

    run(main)
    arrows = read(graph).arrows()
    assert {(first, word) for first, then, word, _ in arrows if then == "reached"} == {("2 of 3", "")}
    assert {(first, word) for first, then, word, _ in arrows if then == "work #8"} == {
        (f"work #{uid}", "done") for uid in (5, 6, 7)
    }
    assert {(first, word) for first, then, word, _ in arrows if first == "2 of 3" and then == "work #9"} == {
        ("2 of 3", "")
    }


async def spawn(*names: str) -> None:
    """Add a task for each name, and one below each."""
    for name in names:
        add_here(spawn, f"below {name}" if "below" not in name else "", name=name) if name else None


def test_sections_and_spawned_tasks(run: Run) -> None:
    """Tasks that were added from outside and have spawned others are sections, with all below them; arrows
    from a task to what it added are dashed.
    """
    graph = TaskGraph()
    start = graph.add(spawn, "x", "y", name="start")
    graph.add(spawn, name="alone")
    graph.add(spawn, name="index", after=settled(start))
    run(execute_graph, graph)
    drawn = read(graph)
    names = {key: label.split("\n")[0] for key, label in drawn.labels.items()}
    assert {title: {names[key] for key in keys} for title, keys in drawn.sections.items()} == {
        "start": {"start", "x", "y", "below x", "below y"}
    }
    assert drawn.arrows() == {
        ("start", "index", "settled", False),
        ("start", "x", "", True),
        ("start", "y", "", True),
        ("x", "below x", "", True),
        ("y", "below y", "", True),
    }
    part = read(graph, section=start)
    assert part.title == "graph, start #1: 5 tasks, 5 SUCCEEDED"
    assert set(part.labels) == {key for keys in drawn.sections.values() for key in keys}
    assert part.arrows() == {arrow for arrow in drawn.arrows() if arrow[3]}
    assert list(part.sections) == ["x", "y"]
    assert read(graph, section=graph.root).labels == drawn.labels


def test_a_joint_stands_with_the_task_that_waits(run: Run) -> None:
    """In a section that is the section, so that frames are not torn apart."""

    async def split() -> None:
        parts = [add_here(nothing, name=f"part {number}") for number in range(3)]
        current_task().graph.add(nothing, name="most", after=at_least(2, parts))

    graph = TaskGraph()
    graph.add(split)
    run(execute_graph, graph)
    assert len(read(graph).sections["split"]) == 6


# By type ----------------------------------------------------------------------------------------------------


def test_large_graphs_are_drawn_by_type(run: Run) -> None:
    """A box is a type in a group, with a count for each state, and looks like what went worst; an arrow tells
    how many tasks of the second type wait for some of the first, and for what.
    """
    graph = TaskGraph(worker_loops={"default": 5, "net": 5}, worker_assignments={"give": "net"})
    pages = [graph.add(give, number) for number in range(60)]
    for page in pages[:55]:
        graph.add(nothing, after=page)
    for page in pages[:5]:
        graph.add(nothing, after=done(page))
    graph.add(fail, after=at_least(2, pages))
    graph.add(nothing, after=any_of(done(*pages), pages[0]))
    run(partial(execute_graph, graph, raise_failures=False))
    drawn = read(graph)
    assert drawn.title == "graph: 122 tasks by type"
    assert drawn.labels == {
        "k0": "give\nin net\n✓ 60 SUCCEEDED",
        "k1": "nothing\n✓ 61 SUCCEEDED",
        "k2": "fail\n✗ 1 FAILED",
    }
    words = {(first, then): set(word.split("\n")) for first, then, word, _ in drawn.edges}
    assert words == {("k0", "k1"): {"55", "6 done", "1 some"}, ("k0", "k2"): {"1 some"}}
    assert read(graph, most=122).labels["t1"] == "give #1\n✓ SUCCEEDED"


def test_a_type_looks_like_what_went_worst(run: Run) -> None:
    """One failure among many successes catches the eye."""
    graph = TaskGraph()
    kind = TaskType(lambda bad: 1 // (not bad), name="divide", executor="async")
    for number in range(20):
        graph.add(kind, number == 7)
    run(partial(execute_graph, graph, raise_failures=False))
    assert read(graph, most=0).labels == {"k0": "divide\n✗ 1 FAILED\n✓ 19 SUCCEEDED"}
    assert ":::FAILED" in to_mermaid(graph, most=0)
    assert COLOURS[TaskState.FAILED].fill in to_dot(graph, most=0)


def test_what_was_spawned_by_type(run: Run) -> None:
    """A dashed arrow tells how many tasks of a type were added by tasks of another, or of the same one."""
    graph = TaskGraph()
    start = graph.add(spawn, "x", "y", "z", name="start")
    graph.add(spawn)
    run(execute_graph, graph)
    assert read(graph, most=0).edges == {("k0", "k0", "6", True)}
    assert read(graph, most=0).labels == {"k0": "spawn\n✓ 8 SUCCEEDED"}
    assert read(graph, most=0, section=start).labels == {"k0": "spawn\n✓ 7 SUCCEEDED"}


def test_a_tangle_is_drawn_by_type() -> None:
    """Tasks few enough to be drawn one by one are not if they have too many arrows."""
    graph = TaskGraph()
    firsts = [named(graph, "first") for _ in range(23)]
    for _ in range(23):
        named(graph, "second", after=firsts, kind="more")
    assert read(graph).labels == {"k0": "work\n◇ 23 READY", "k1": "more\n○ 23 WAITING"}
    assert len(read(graph, most=1000).edges) == 23 * 23


def test_mermaid_draws_what_is_drawn_by_default() -> None:
    """With as many tasks, sections, arrows and letters as are drawn one by one, its limits are kept."""
    graph = TaskGraph()
    firsts = [named(graph, f"first {number} of the tasks that come before others") for number in range(50)]
    for number in range(50):
        named(graph, f"second_{number}_of_the_tasks_that_come_after", after=done(*firsts[:10]))
    text = to_mermaid(graph)
    assert len(read_mermaid(text).labels) == 100
    assert text.count("-->") == 500
    assert len(text) < 50_000
    named(graph, "one more")
    assert read_mermaid(to_mermaid(graph)).labels == {"k0": "work\n◇ 51 READY\n○ 50 WAITING"}


def test_rare_types_are_drawn_together() -> None:
    """However many types there are, the picture has a hundred boxes; the common ones are among them."""
    graph = TaskGraph()
    tasks = [named(graph, "", kind=f"rare {number}") for number in range(300)]
    for _ in range(2):
        named(graph, "", after=tasks, kind="common")
    drawn = read(graph, most=0)
    assert len(drawn.labels) == 100
    assert drawn.labels["k99"] == "202 other types\n◇ 202 READY"
    common = next(key for key, label in drawn.labels.items() if label == "common\n○ 2 WAITING")
    assert ("k99", common, "2", False) in drawn.edges
    listed = json.loads(to_json(graph, most=0))["types"]
    assert [(kind["name"], kind["group"]) for kind in listed if kind["types"] != 1] == [(None, None)]
    assert sum(kind["types"] for kind in listed) == 301


def test_no_shape_is_too_large() -> None:
    """Long chains, wide fan-ins, conditions that many share and conditions of any depth take neither long nor
    recursion, in any format.
    """
    size = 20_000
    graph = TaskGraph()
    task = named(graph, "chain")
    for _ in range(size):
        task = named(graph, "chain", after=task)
    many = [named(graph, "many", kind="many") for _ in range(size)]
    everything = done(*many)
    for _ in range(size):
        named(graph, "user", after=everything, kind="user")
    deep = succeeded(task)
    for number in range(size):
        deep = all_of(deep) if number % 2 else any_of(deep, many[number])
    sink = named(graph, "sink", after=deep, kind="sink")
    drawn = read(graph)
    assert {(first, then, word) for first, then, word, _ in drawn.arrows()} == {
        ("work", "work", f"{size:,}"),
        ("many", "user", f"{size:,} done"),
        ("many", "sink", "1 some"),
        ("work", "sink", "1"),
    }
    assert len(json.loads(to_json(graph))["conditions"]) == size + 2
    assert read(graph, section=sink).labels == {"k0": "sink\n○ 1 WAITING"}
    # The sink, and all that is nested; what it waits for itself is an "all", which the arrow tells.
    assert len(read(graph, section=sink, most=math.inf).labels) == 1 + size - 1


# Names ------------------------------------------------------------------------------------------------------


def hostile_graph() -> TaskGraph:
    """Return a graph of hostile names, of tasks, types and itself."""
    graph = TaskGraph(name=HOSTILE[0] + HOSTILE[2])
    task = None
    for name in HOSTILE:
        task = named(graph, name, after=None if task is None else done(task), kind=name)
    return graph


@pytest.mark.parametrize("most", [math.inf, 0], ids=["one by one", "by type"])
def test_hostile_names_are_text_in_dot_and_mermaid(most: float) -> None:
    """Each name is one label, readable and short, and nothing else in the file comes from it."""
    drawn = read(hostile_graph(), most=most)
    names = [label.split("\n")[0] for label in drawn.labels.values()]
    assert names == [brief(name) for name in HOSTILE]
    assert len(drawn.edges) == len(HOSTILE) - 1
    assert all(name.isprintable() and len(name) <= 40 for name in names)


@pytest.mark.parametrize("most", [math.inf, 0], ids=["one by one", "by type"])
def test_hostile_names_are_text_in_svg(most: float) -> None:
    """What Graphviz makes of them is XML that shows them, with nothing that runs, leads or loads."""
    svg = svg_of(hostile_graph(), most=most)
    if svg is not None:
        texts = texts_in(svg)
        assert [" ".join(brief(name).split()) for name in HOSTILE if brief(name) not in texts] == []
        elements = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in svg.iter()}
        assert elements == {"svg", "g", "title", "text", "path", "polygon"}
        attributes = {name for element in svg.iter() for name in element.attrib}
        assert not [name for name in attributes if name.startswith("on") or "href" in name]


@given(any_text, any_text)
def test_any_name_is_text(name: str, other: str) -> None:
    """In every format any name comes out as it is shown to people, in JSON as it is."""
    graph = TaskGraph(name=name or "graph")
    named(graph, name, kind=other or "x")
    title = f"{brief(graph.name)}: 1 task, 1 READY"
    drawn = read_dot(to_dot(graph))
    assert (drawn.title, drawn.labels) == (title, {"t1": f"{brief(graph[1].name)}\n◇ READY"})
    drawn = read_mermaid(to_mermaid(graph))
    assert drawn.labels["t1"].replace("fl", "\ufb02") == f"{brief(graph[1].name)}\n◇ READY".replace(
        "fl", "\ufb02"
    )
    assert not {"<", ">"} & set(drawn.title)
    listed = json.loads(to_json(graph))["tasks"][0]
    assert listed["name"].encode() == graph[1].name.encode(errors="replace")
    assert listed["type"].encode() == (other or "x").encode(errors="replace")


def test_mermaid_finds_nothing_to_decode_in_names() -> None:
    """Where Mermaid looks into a label after decoding it, something invisible breaks what it looks for."""
    graph = TaskGraph()
    named(graph, "\\n $$x$$ fa:fa-car \ufb02\xb0\xb060\xb6\xdf")
    (line,) = [line for line in to_mermaid(graph).splitlines() if line.strip().startswith("t1")]
    text = re.sub(r"#(\d+);", lambda match: chr(int(match[1])), line)
    assert not re.search(r"\\n|\$\$|fa:fa|\ufb02", text)


def test_section_titles_are_escaped(run: Run) -> None:
    """Hostile names are text in the titles of sections too."""
    graph = TaskGraph()
    for name in HOSTILE:
        graph.add(spawn, "child", name=name)
    run(execute_graph, graph)
    assert list(read(graph).sections) == [brief(name) for name in HOSTILE]


# JSON -------------------------------------------------------------------------------------------------------


def test_json_of_tasks(run: Run) -> None:
    """It lists tasks, conditions and trials as documented."""
    graph = TaskGraph(name="small")
    first = graph.add(give_later, "secret", 2.0, name="first")
    graph.add(nothing, after=[first, at_least(1, [first, failed(first)])])
    graph.add(spawn, "child")
    run(execute_graph, graph)
    listed = json.loads(to_json(graph))
    for trial in [trial for task in listed["tasks"] for trial in task["trials"]]:
        assert trial.pop("worker").startswith("default")
    (began, ended), *more = listed.pop("runs")
    assert (ended - began, more) == (2.0, [])

    def trials(ready: float, start: float, end: float) -> list[dict[str, Any]]:
        times = {"ready": began + ready, "start": began + start, "end": began + end}
        return [{"number": 1, "state": "SUCCEEDED", **times}]

    common = {"group": "default", "state": "SUCCEEDED", "parent": None}
    assert listed == {
        "version": 1,
        "graph": "small",
        "section": None,
        "total": 5,
        "states": {str(state): 5 * (state is TaskState.SUCCEEDED) for state in TaskState},
        "tasks": [
            {
                **common,
                "uid": 1,
                "name": "first",
                "type": "give_later",
                "waits_for": [],
                "trials": trials(0, 0, 2),
            },
            {
                **common,
                "uid": 2,
                "name": "nothing",
                "type": "nothing",
                "waits_for": [1, "c0"],
                "trials": trials(2, 2, 2),
            },
            *(
                {
                    **common,
                    "uid": uid,
                    "name": name,
                    "type": "spawn",
                    "parent": parent,
                    "waits_for": [],
                    "trials": trials(0, 0, 0),
                }
                for uid, name, parent in ((3, "spawn", None), (4, "child", 3), (5, "below child", 4))
            ),
        ],
        "conditions": [
            {"id": "c0", "verb": "succeeded", "of": [1, "c1"], "needed": 1, "holds": True},
            {"id": "c1", "verb": "failed", "of": [1], "needed": 1, "holds": False},
        ],
    }
    part = json.loads(to_json(graph, section=graph[3]))
    assert (part["section"], [task["uid"] for task in part["tasks"]]) == (3, [3, 4, 5])


def test_json_by_type(run: Run) -> None:
    """Above `most` tasks it counts by type; the counts add up to the total."""
    graph = TaskGraph()
    firsts = [graph.add(give, number) for number in range(3)]
    graph.add(fail, after=done(*firsts))
    graph.add(spawn, "child")
    run(partial(execute_graph, graph, raise_failures=False))
    listed = json.loads(to_json(graph, most=7))
    assert "types" not in listed
    listed = json.loads(to_json(graph, most=6))
    assert "tasks" not in listed
    assert listed["total"] == 7 == sum(sum(kind["states"].values()) for kind in listed["types"])
    assert listed["states"]["FAILED"] == 1
    assert [(kind["name"], kind["group"], kind["types"]) for kind in listed["types"]] == [
        ("give", "default", 1),
        ("fail", "default", 1),
        ("spawn", "default", 1),
    ]
    assert listed["links"] == [
        {"first": 0, "then": 1, "tasks": 1, "spawned": False, "verb": "done"},
        {"first": 2, "then": 2, "tasks": 2, "spawned": True, "verb": ""},
    ]


def test_no_drawing_gives_secrets_away(run: Run) -> None:
    """Arguments, results, errors and reasons are in none of them."""
    graph = TaskGraph()
    graph.add(give, "password1")
    graph.add(fail, "password2")
    graph.add(forever).cancel("password3")
    run(partial(execute_graph, graph, raise_failures=False))
    for draw in (to_dot, to_mermaid, to_json):
        assert "password" not in draw(graph)


# SVG --------------------------------------------------------------------------------------------------------


def test_svg_shows_what_dot_says(run: Run) -> None:
    """Every label of a rich drawing is a text in the SVG, which begins with its element."""
    graph = TaskGraph(name="rich")
    start = graph.add(spawn, "x", "y", name="start")
    bad = graph.add(fail)
    graph.add(nothing, after=any_of(settled(start), failed(bad)))
    run(partial(execute_graph, graph, raise_failures=False))
    drawn = read(graph)
    svg = svg_of(graph)
    if svg is not None:
        words = {word for *_, word, _ in drawn.edges if word}
        lines = [line for label in drawn.labels.values() for line in label.split("\n")]
        assert {*lines, *words, drawn.title, *drawn.sections} == set(texts_in(svg))


def fake_dot(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program `dot` before all others: a script of the shell."""
    program = folder / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_svg_is_what_dot_makes_of_the_same_drawing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dot` is asked for SVG and gets what to_dot gives; what it writes before the element is left out."""
    fake_dot(tmp_path, monkeypatch, 'echo "<!DOCTYPE x><!-- $@ --><svg $@>"; cat; echo "</svg>"')
    graph = hostile_graph()
    svg = trio.run(partial(to_svg, graph, most=7, direction="TB"))
    assert svg == f"<svg -Tsvg>\n{to_dot(graph, most=7, direction='TB')}</svg>\n"


def test_without_graphviz_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to install it, and what needs none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoGraphviz, match=r"apt install\s+graphviz.*to_dot\(\).*to_mermaid\(\)"):
        trio.run(to_svg, diamond())


@pytest.mark.parametrize(
    ("script", "code"),
    [("cat >&2; echo syntax error >&2; exit 3", 3), ("exec 1>&-; echo no svg >&2", 0), ("kill -9 $$", -9)],
    ids=["fails", "gives nothing", "is killed"],
)
def test_when_dot_fails_its_message_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, code: int
) -> None:
    """The error has its exit code, and what it wrote to standard error."""
    fake_dot(tmp_path, monkeypatch, script)
    with pytest.raises(GraphvizFailed, match=rf"ended with code {code} ") as raised:
        trio.run(to_svg, diamond())
    assert raised.value.code == code
    message = {3: f"{to_dot(diamond())}syntax error", 0: "no svg", -9: ""}[code]
    assert raised.value.message == message


def test_svg_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation ends the process, and a scope that is cancelled already starts none."""
    marker = tmp_path / "pid"
    fake_dot(tmp_path, monkeypatch, f"echo $$ > {marker}.new; mv {marker}.new {marker}; exec sleep 1000")

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await to_svg(diamond())
        assert scope.cancelled_caught
        assert not marker.exists()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(to_svg, diamond())
            while not marker.exists():  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    trio.run(main)
    with pytest.raises(ProcessLookupError):
        os.kill(int(marker.read_text()), 0)


# Options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [to_dot, to_mermaid, to_json])
def test_bad_options_are_refused(draw: Callable[..., str]) -> None:
    """The errors name the option, the rule and what it was given."""
    graph, other = diamond(), diamond()
    with pytest.raises(ForeignTask):
        draw(graph, section=other[1])
    with pytest.raises(BadType, match="the section to be drawn is 'top'; it must be a Task"):
        draw(graph, section="top")
    for most in (-1, math.nan, "10", None):
        with pytest.raises(BadValue, match=r"most is .*; it must be a number"):
            draw(graph, most=most)


def test_the_direction() -> None:
    """Arrows lead where they are told; there are four directions."""
    for direction in ("LR", "RL", "TB", "BT"):
        assert f"rankdir={direction}," in to_dot(diamond(), direction=direction)
        assert f"\nflowchart {direction}\n" in to_mermaid(diamond(), direction=direction)
    for draw in (to_dot, to_mermaid, lambda graph, **options: trio.run(partial(to_svg, graph, **options))):
        with pytest.raises(BadValue, match="must be one of LR, RL, TB, BT"):
            draw(diamond(), direction="up")


# The palette ------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return how well two colours can be told from each other, from 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_every_state_has_looks_that_can_be_read() -> None:
    """Each has text that is legible on its fill, a border that can be seen, and colours and a symbol of its
    own.
    """
    assert set(COLOURS) == set(TaskState)
    for look in COLOURS.values():
        assert contrast(look.ink, look.fill) >= 4.5
        assert contrast(look.border, "#ffffff") >= 3
        assert len(look.symbol) == 1
    for one, other in itertools.combinations(COLOURS.values(), 2):
        assert one.symbol != other.symbol
        assert one.fill != other.fill
