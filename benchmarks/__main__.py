"""The command: `python -m benchmarks --help`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from . import report
from .comparing import Compared, compare
from .measuring import SHAPE_NAMES, Row, case_of, measure
from .observers import SHAPES as OBSERVED_SHAPES
from .observers import SIZE as OBSERVER_SIZE
from .observers import WatchedShape, measure_watched
from .policies import POLICIES, comparisons
from .policies import SIZES as POLICY_SIZES

SIZES = (1_000, 10_000, 100_000)
REPEATS = 9


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line as soon as it is known, and say at the end of a table which targets hold."""
    options = _options(arguments)
    print(report.machine())
    rows = _measure_shapes(options) if options.shapes else []
    policies = _measure_policies(options) if options.policies else []
    watched = _measure_observers(options) if options.observers else []
    if options.json:
        figures = report.as_json(rows, policies, watched)
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def _measure_shapes(options: Namespace) -> list[Row]:
    print(report.head())
    rows = []
    for shape in options.shapes:
        for size in options.sizes:
            rows.append(measure(case_of(shape, size), options.repeats))
            print(report.line(rows[-1]), flush=True)
    print("\nTargets")
    for verdict in report.verdicts(rows):
        print(verdict)
    print()
    return rows


def _measure_policies(options: Namespace) -> list[Compared]:
    print(report.policy_head())
    rows = []
    for policy in options.policies:
        for comparison in comparisons(policy, options.policy_size):
            rows.append(compare(comparison, options.repeats))
            print(report.policy_lines(rows[-1]), flush=True)
    return rows


def _measure_observers(options: Namespace) -> list[WatchedShape]:
    print(report.observer_head())
    shapes = []
    for shape in options.observers:
        shapes.append(measure_watched(shape, options.observer_size, max(1, options.repeats // 3)))
        print(report.observer_lines(shapes[-1]), flush=True)
    print("\nTargets")
    for verdict in report.observer_verdicts(shapes):
        print(verdict)
    print()
    return shapes


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what scheduling a task costs, and what policies and observers add to that. There"
        " are three tables; with --shapes, --policies or --observers there are only those.",
    )
    option = parser.add_argument
    option(
        "--shapes",
        nargs="*",
        choices=SHAPE_NAMES,
        help=f"measure these shapes (default: all): {', '.join(SHAPE_NAMES)}",
        metavar="SHAPE",
    )
    option(
        "--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="of shapes (default: %(default)s)"
    )
    option(
        "--million", action="store_true", help=f"measure N = {report.GROWTH_SIZE:,} too: minutes per shape"
    )
    option(
        "--policies",
        nargs="*",
        choices=tuple(POLICIES),
        help=f"measure these policies (default: all): {', '.join(POLICIES)}",
        metavar="POLICY",
    )
    usual = ", ".join(f"{policy} {size:,}" for policy, size in POLICY_SIZES.items() if size)
    option(
        "--policy-size",
        type=int,
        metavar="N",
        help=f"tasks for each policy (default: {usual}; rate: the starts of a second)",
    )
    option(
        "--observers",
        nargs="*",
        choices=OBSERVED_SHAPES,
        help=f"measure these shapes with observers (default: all): {', '.join(OBSERVED_SHAPES)}",
        metavar="SHAPE",
    )
    option(
        "--observer-size",
        type=int,
        default=OBSERVER_SIZE,
        metavar="N",
        help="of these (default: %(default)s)",
    )
    option(
        "--repeats",
        type=int,
        default=REPEATS,
        metavar="R",
        help="rounds (default: %(default)s); a third for large N, for rates and for observers",
    )
    option("--json", type=Path, metavar="FILE", help="write all figures to a file as well")
    options = parser.parse_args(arguments)
    smallest = 1 if options.policy_size is None else options.policy_size
    if min(options.repeats, *options.sizes, smallest, options.observer_size) < 1:
        parser.error("sizes and repeats must be 1 or more")
    if options.million:
        options.sizes = [*options.sizes, report.GROWTH_SIZE]
    tables = {"shapes": SHAPE_NAMES, "policies": tuple(POLICIES), "observers": OBSERVED_SHAPES}
    everything = all(getattr(options, table) is None for table in tables)
    for table, names in tables.items():
        if everything or getattr(options, table) == []:
            setattr(options, table, names)
    return options


if __name__ == "__main__":
    main()
