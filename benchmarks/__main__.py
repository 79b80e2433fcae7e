"""The command: `python -m benchmarks --help`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from . import report
from .measuring import SHAPE_NAMES, case_of, measure

SIZES = (1_000, 10_000, 100_000)
REPEATS = 9


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a line as soon as it is known, and say at the end which targets hold."""
    options = _options(arguments)
    print(report.machine())
    print(report.head())
    rows = []
    for shape in options.shapes:
        for size in options.sizes:
            rows.append(measure(case_of(shape, size), options.repeats))
            print(report.line(rows[-1]), flush=True)
    print("\nTargets")
    for verdict in report.verdicts(rows):
        print(verdict)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(rows), indent=1), encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(prog="python -m benchmarks", description="Measure what scheduling a task costs.")
    option = parser.add_argument
    option("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="(default: %(default)s)")
    option(
        "--million", action="store_true", help=f"measure N = {report.GROWTH_SIZE:,} too: minutes per shape"
    )
    option("--shapes", nargs="+", choices=SHAPE_NAMES, default=SHAPE_NAMES, help="(default: all)")
    option(
        "--repeats",
        type=int,
        default=REPEATS,
        metavar="R",
        help="rounds (default: %(default)s); a third for large N",
    )
    option("--json", type=Path, metavar="FILE", help="write all figures to a file as well")
    options = parser.parse_args(arguments)
    if options.repeats < 1 or min(options.sizes) < 1:
        parser.error("sizes and repeats must be 1 or more")
    if options.million:
        options.sizes = [*options.sizes, report.GROWTH_SIZE]
    return options


if __name__ == "__main__":
    main()
