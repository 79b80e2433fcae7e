"""Drawings of a graph as it stands, for people: DOT, Mermaid and SVG; and what they show as JSON.

    Path("crawl.dot").write_text(to_dot(graph))
    Path("crawl.svg").write_text(await to_svg(graph))

Boxes are tasks, in the colour of their state and with its name. A solid arrow leads from a task to one that
waits for it, with a word where more or less than success is asked: *done*, *failed*, *settled*; a small oval
joins the arrows of a condition of which not all is needed, such as *2 of 3*. A dashed arrow leads from a task
to one that it added. A task that has added others stands in a frame with all of these, its section.

A large graph is drawn by type: a box tells how many tasks of a type are in each state, in the colours of what
went worst, and an arrow how many tasks of the one type wait for (or were added by) tasks of the other.

Each function looks at every task that it draws, without letting others run in between, so what it shows is
one moment. Options that all of them take:

- `section`: a task, to draw only that one and all that it spawned.
- `most`: how many tasks are drawn one by one; with more of them, or five times as many arrows, a graph is
  drawn by type. 0: always by type, `math.inf`: never.

Names are cut short and escaped. Arguments, results and errors are in none of these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import trio

from trio_graph_scheduler.graph import BadValue, GraphError, Task, TaskGraph
from trio_graph_scheduler.graph.errors import shown_value
from trio_graph_scheduler.observe.palette import COLOURS

from .picture import MOST_TASKS, Edge, Node, Picture, picture

DIRECTIONS = ("LR", "RL", "TB", "BT")
FONT = "Helvetica,Arial,sans-serif"
INK, LINE, PAPER = "#3d4650", "#7a8590", "#f8f9fa"
"""Text beside the boxes, lines, and the background of sections."""


class NoGraphviz(GraphError, RuntimeError):
    """The program that makes an SVG is not there."""

    def __init__(self) -> None:
        super().__init__(
            "to_svg() runs Graphviz's program 'dot', which is not on the PATH. Install Graphviz (apt install"
            " graphviz, brew install graphviz, or https://graphviz.org/download). Without it, to_dot() gives"
            " a file to be drawn elsewhere, and to_mermaid() what GitHub and many editors draw"
        )


class GraphvizFailed(GraphError, RuntimeError):
    """Graphviz did not make a drawing.

    `code` is the exit code of `dot`, and `message` what it wrote to its standard error.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(
            f"Graphviz's program 'dot' ended with code {code} and said {shown_value(message)}. What it was"
            " given is to_dot(graph); with a lower most= there is less to lay out"
        )


def to_dot(
    graph: TaskGraph, *, section: Task[Any] | None = None, most: float = MOST_TASKS, direction: str = "LR"
) -> str:
    """Return a drawing in the language of Graphviz.

    `direction` is where the arrows lead: `"LR"` to the right, `"TB"` downwards, or `"RL"`, `"BT"`; the other
    options are those of all drawings.

    Raises `BadType`, `BadValue` or `ForeignTask` for options that cannot be.
    """
    _check_direction(direction)
    return "\n".join(_dot_lines(picture(graph, section, most), direction)) + "\n"


def to_mermaid(
    graph: TaskGraph, *, section: Task[Any] | None = None, most: float = MOST_TASKS, direction: str = "LR"
) -> str:
    """Return a drawing in the language of Mermaid, which GitHub shows in a block of that name.

    Options and errors are those of `to_dot`. With the default `most` it keeps within Mermaid's own limits of
    500 arrows and 50,000 characters (unless most names are long and full of signs that must be escaped).
    """
    _check_direction(direction)
    return "\n".join(_mermaid_lines(picture(graph, section, most), direction)) + "\n"


async def to_svg(
    graph: TaskGraph, *, section: Task[Any] | None = None, most: float = MOST_TASKS, direction: str = "LR"
) -> str:
    """Return a drawing as an `<svg>` element without scripts and references, for a file or a page of HTML.

    It is what `to_dot` returns with the same options, laid out by Graphviz. That may take seconds for
    hundreds of tasks, in another process: other tasks of trio go on, and a cancellation ends the process.
    Always checkpoints, but for options that cannot be.

    Raises `NoGraphviz` if its program `dot` is not installed, `GraphvizFailed` if that fails, and what
    `to_dot` does.
    """
    dot = to_dot(graph, section=section, most=most, direction=direction)
    try:
        process = await trio.run_process(
            ["dot", "-Tsvg"], stdin=dot.encode(), capture_stdout=True, capture_stderr=True, check=False
        )
    except FileNotFoundError:
        raise NoGraphviz from None
    svg = process.stdout.decode(errors="replace")
    start = svg.find("<svg")
    if process.returncode or start < 0:
        raise GraphvizFailed(process.returncode, process.stderr.decode(errors="replace").strip())
    # What comes before names a DTD on the network, and has no place in HTML.
    return svg[start:]


def _check_direction(direction: str) -> None:
    if direction not in DIRECTIONS:
        raise BadValue("the direction of a drawing", direction, f"it must be one of {', '.join(DIRECTIONS)}")


# DOT --------------------------------------------------------------------------------------------------------


def _dot_string(*lines: str) -> str:
    r"""Quote lines of a label, in which `\N`, `\l` and the like, and HTML's entities, mean something."""
    escaped = [line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in lines]
    return '"' + "\\n".join(escaped) + '"'


def _dot_lines(drawn: Picture, direction: str) -> Iterator[str]:
    yield "digraph tasks {"
    yield f"  graph [rankdir={direction}, label={_dot_string(drawn.title)}, labelloc=t, labeljust=l,"
    yield f'    fontname="{FONT}", fontsize=12, fontcolor="{INK}", nodesep=0.25, ranksep=0.5]'
    yield f'  node [shape=box, style="filled,rounded", fontname="{FONT}", fontsize=11, margin="0.16,0.07"]'
    yield f'  edge [fontname="{FONT}", fontsize=10, fontcolor="{INK}", color="{LINE}", arrowsize=0.7]'
    for section in drawn.sections:
        yield f"  subgraph cluster_{section.key} {{"
        yield f'    graph [label={_dot_string(section.title)}, style="filled,rounded", fontsize=11,'
        yield f'      fillcolor="{PAPER}", color="{LINE}", margin=12]'
        yield from (f"    {_dot_node(node)}" for node in section.nodes)
        yield "  }"
    yield from (f"  {_dot_node(node)}" for node in drawn.loose)
    yield from (f"  {_dot_edge(edge)}" for edge in drawn.edges)
    yield "}"


def _dot_node(node: Node) -> str:
    label = _dot_string(*node.lines)
    if node.state is None:
        return (
            f'{node.key} [label={label}, shape=ellipse, fillcolor="#ffffff", color="{LINE}",'
            f' fontcolor="{INK}", fontsize=10, margin="0.04,0.02", height=0.3, width=0.4]'
        )
    look = COLOURS[node.state]
    width = ", penwidth=2" if look.strong else ""
    return (
        f'{node.key} [label={label}, fillcolor="{look.fill}", color="{look.border}",'
        f' fontcolor="{look.ink}"{width}]'
    )


def _dot_edge(edge: Edge) -> str:
    options = [f"label={_dot_string(*edge.lines)}"] if edge.lines else []
    options += ["style=dashed", "arrowhead=vee"] if edge.spawned else []
    return f"{edge.first} -> {edge.then}" + (f" [{', '.join(options)}]" if options else "")


# Mermaid ----------------------------------------------------------------------------------------------------


def _mermaid_string(*lines: str) -> str:
    """Quote lines of a label; signs that may mean something become entities, which Mermaid decodes."""
    return '"' + "<br>".join(_mermaid_text(line) for line in lines) + '"'


_LIKE_TAGS = str.maketrans({"<": "\u2039", ">": "\u203a", "\ufb02": "fl"})


def _mermaid_text(line: str) -> str:
    # After it has decoded them Mermaid looks for `\n`, formulas in `$$` and icons such as `fa:fa-car`, which
    # a word joiner breaks; and the sign by which it knows its own entities is this ligature.
    broken = re.sub(r"([\\$:])", "\\1\u2060", line.replace("\ufb02", "fl"))
    return re.sub(r"[!-+:-@[-`{-~]", lambda match: f"#{ord(match[0])};", broken)


def _mermaid_lines(drawn: Picture, direction: str) -> Iterator[str]:
    yield "---"
    # A title is YAML, where strings are as in JSON. It has no entities, and Mermaid takes tags out of it.
    yield f"title: {json.dumps(drawn.title.translate(_LIKE_TAGS))}"
    yield "---"
    yield f"flowchart {direction}"
    for section in drawn.sections:
        yield f"  subgraph {section.key} [{_mermaid_string(section.title)}]"
        yield from (f"    {_mermaid_node(node)}" for node in section.nodes)
        yield "  end"
    yield from (f"  {_mermaid_node(node)}" for node in drawn.loose)
    yield from (f"  {_mermaid_edge(edge)}" for edge in drawn.edges)
    yield from _mermaid_classes(drawn)


def _mermaid_node(node: Node) -> str:
    label = _mermaid_string(*node.lines)
    return f"{node.key}([{label}]):::joint" if node.state is None else f"{node.key}[{label}]:::{node.state}"


def _mermaid_edge(edge: Edge) -> str:
    label = f"|{_mermaid_string(*edge.lines)}|" if edge.lines else ""
    return f"{edge.first} {'-.->' if edge.spawned else '-->'}{label} {edge.then}"


def _mermaid_classes(drawn: Picture) -> Iterator[str]:
    nodes = [*drawn.loose, *(node for section in drawn.sections for node in section.nodes)]
    used = {node.state for node in nodes}
    for state, look in COLOURS.items():
        if state in used:
            width = ",stroke-width:2px" if look.strong else ""
            yield f"  classDef {state} fill:{look.fill},stroke:{look.border},color:{look.ink}{width}"
    if None in used:
        yield f"  classDef joint fill:#ffffff,stroke:{LINE},color:{INK}"
    if drawn.sections:
        yield f"  classDef section fill:{PAPER},stroke:{LINE},color:{INK}"
        yield f"  class {','.join(section.key for section in drawn.sections)} section"
