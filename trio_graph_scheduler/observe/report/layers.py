"""Where to draw the boxes and arrows of a graph: in layers from left to right.

The method is the usual one, of K. Sugiyama, S. Tagawa and M. Toda, "Methods for visual understanding of
hierarchical system structures" (1981): turn arrows that close a cycle, give each box a layer, lead long
arrows through the layers in between, order the boxes of each layer by their neighbours, and place them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import pairwise

import attrs

GAP = 14
"""Pixels between two boxes of a layer."""
BETWEEN_LAYERS = 60
SWEEPS = 12
"""So often the layers are ordered, from left to right and from right to left in turn."""

Arrow = tuple[str, str]
Size = tuple[float, float]


@attrs.frozen
class Layout:
    """Where things are, in pixels: the middle of each box, what each arrow leads through, and the whole.

    The points of an arrow are the middles of its two boxes and of the gaps between others on its way.
    """

    boxes: Mapping[str, tuple[float, float]]
    arrows: Mapping[Arrow, Sequence[tuple[float, float]]]
    width: float
    height: float


def layout(sizes: Mapping[str, Size], arrows: Iterable[Arrow]) -> Layout:
    """Return where to draw boxes of these sizes, (width, height), and the arrows between them.

    Takes time in the number of layers that arrows cross, and is meant for some hundred boxes.
    """
    wanted = list(dict.fromkeys(arrows))
    turned = _turned(sizes, wanted)
    forward = {arrow: arrow[::-1] if arrow in turned else arrow for arrow in wanted}
    layer_of = _layers(sizes, forward.values())
    rows: list[list[str]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for box, layer in layer_of.items():
        rows[layer].append(box)
    heights = {box: height for box, (_, height) in sizes.items()}
    lines: dict[Arrow, list[str]] = {}
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for arrow, (first, then) in forward.items():
        line = [first]
        for layer in range(layer_of[first] + 1, layer_of[then]):
            stop = f"\0{len(heights)}"  # which is no key of a box
            heights[stop] = 0.0
            rows[layer].append(stop)
            line.append(stop)
        line.append(then)
        lines[arrow] = line[::-1] if arrow in turned else line
        for one, other in pairwise(line if first != then else ()):
            after.setdefault(one, []).append(other)
            before.setdefault(other, []).append(one)
    _order(rows, before, after)
    down = _heights(rows, heights, before, after)
    across: dict[str, float] = {}
    edge = 0.0
    for row in rows:
        widest = max(sizes[box][0] for box in row if box in sizes)
        across.update(dict.fromkeys(row, edge + widest / 2))
        edge += widest + BETWEEN_LAYERS
    return Layout(
        {box: (across[box], down[box]) for box in sizes},
        {arrow: [(across[stop], down[stop]) for stop in line] for arrow, line in lines.items()},
        max(0.0, edge - BETWEEN_LAYERS),
        max((down[box] + heights[box] / 2 for box in heights), default=0.0),
    )


def _turned(boxes: Iterable[str], arrows: Sequence[Arrow]) -> set[Arrow]:
    """Return arrows without which there are no cycles: those that lead back to where a walk came from."""
    onward: dict[str, list[str]] = {box: [] for box in boxes}
    for first, then in arrows:
        onward[first].append(then)
    turned: set[Arrow] = set()
    entered: set[str] = set()
    open_boxes: set[str] = set()
    for root, leads_to in onward.items():
        stack = [] if root in entered else [(root, iter(leads_to))]
        entered.add(root)
        open_boxes.update(box for box, _ in stack)
        while stack:
            box, rest = stack[-1]
            for then in rest:
                if then in open_boxes:
                    turned.add((box, then))
                elif then not in entered:
                    entered.add(then)
                    open_boxes.add(then)
                    stack.append((then, iter(onward[then])))
                    break
            else:
                open_boxes.remove(box)
                stack.pop()
    return turned


def _layers(boxes: Iterable[str], arrows: Iterable[Arrow]) -> dict[str, int]:
    """Return the layer of each box: one more than the highest of those that lead to it."""
    before: dict[str, list[str]] = {box: [] for box in boxes}
    for first, then in arrows:
        if first != then:
            before[then].append(first)
    layer_of: dict[str, int] = {}
    for box in TopologicalSorter(before).static_order():
        layer_of[box] = max((layer_of[other] + 1 for other in before[box]), default=0)
    return {box: layer_of[box] for box in before}


def _order(rows: list[list[str]], before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> None:
    """Order each layer by where the neighbours of its boxes are."""
    place = {box: float(index) for row in rows for index, box in enumerate(row)}
    for sweep in range(SWEEPS):
        neighbours, ordered = (after, reversed(rows)) if sweep % 2 else (before, iter(rows))
        for row in ordered:
            row.sort(key=lambda box: _mean(place, neighbours.get(box, ()), place[box]))
            place.update({box: float(index) for index, box in enumerate(row)})


def _heights(
    rows: list[list[str]],
    heights: Mapping[str, float],
    before: Mapping[str, list[str]],
    after: Mapping[str, list[str]],
) -> dict[str, float]:
    """Return how far down each box is, close to its neighbours; the topmost one begins at 0."""
    down: dict[str, float] = {}
    for row in rows:
        down.update(zip(row, _spread(row, heights, dict.fromkeys(row, 0.0)), strict=True))
    for sweep in range(SWEEPS):
        neighbours, ordered = (before, iter(rows)) if sweep % 2 else (after, reversed(rows))
        for row in ordered:
            wish = {box: _mean(down, neighbours.get(box, ()), down[box]) for box in row}
            down.update(zip(row, _spread(row, heights, wish), strict=True))
    top = min((down[box] - heights[box] / 2 for box in down), default=0.0)
    return {box: place - top for box, place in down.items()}


def _spread(row: list[str], heights: Mapping[str, float], wish: Mapping[str, float]) -> list[float]:
    """Return places for a layer that do not overlap, at the least sum of squared distances from the wishes.

    This is isotonic regression: those that come too close are pooled, and the pool gets the mean of what its
    members would like.
    """
    offsets: list[float] = []
    for index, box in enumerate(row):
        above = heights[row[index - 1]] / 2 + GAP + offsets[-1] if index else 0.0
        offsets.append(above + heights[box] / 2 if index else 0.0)
    pools: list[tuple[float, int]] = []
    for box, offset in zip(row, offsets, strict=True):
        total, count = wish[box] - offset, 1
        while pools and pools[-1][0] / pools[-1][1] >= total / count:
            last_total, last_count = pools.pop()
            total, count = total + last_total, count + last_count
        pools.append((total, count))
    means = [total / count for total, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _mean(places: Mapping[str, float], boxes: Sequence[str], otherwise: float) -> float:
    return sum(places[box] for box in boxes) / len(boxes) if boxes else otherwise
