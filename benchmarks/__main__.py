"""The command: `python -m benchmarks --help`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from . import report
from .comparing import Compared, compare
from .measuring import SHAPE_NAMES, Row, case_of, measure
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
    if options.json:
        options.json.write_text(json.dumps(report.as_json(rows, policies), indent=1), encoding="utf-8")


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


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what scheduling a task costs, and what policies add to that. There are two"
        " tables, of shapes of graphs and of policies; with --shapes or --policies there is only that one.",
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
        "--repeats",
        type=int,
        default=REPEATS,
        metavar="R",
        help="rounds (default: %(default)s); a third for large N, and for rates",
    )
    option("--json", type=Path, metavar="FILE", help="write all figures to a file as well")
    options = parser.parse_args(arguments)
    smallest = 1 if options.policy_size is None else options.policy_size
    if min(options.repeats, *options.sizes, smallest) < 1:
        parser.error("sizes and repeats must be 1 or more")
    if options.million:
        options.sizes = [*options.sizes, report.GROWTH_SIZE]
    both = options.shapes is None and options.policies is None
    if both or options.shapes == []:
        options.shapes = SHAPE_NAMES
    if both or options.policies == []:
        options.policies = tuple(POLICIES)
    return options


if __name__ == "__main__":
    main()
