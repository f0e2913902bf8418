#!/usr/bin/env python3
"""Two builds of nabu-store beside each other, by the rows of benches/compare.sh: what a change costs or gains.

    benches/compare/versions.py BEFORE AFTER [--rows NAME,…] [--seconds N] [--pairs N] [--memory SIZE] [--dir DIR]

Runs of the two take turns. Prints for each row the medians, and the median and the quartiles of the
ratios of the pairs, AFTER to BEFORE, of the row's value and of the server's CPU time for it. The
server runs on CPU 0 and the client, AFTER's for both, on CPU 1. Each has a data directory of its own.
Nothing else should run on the machine meanwhile.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import machine
from rows import ROWS, Context
from servers import Nabu

CPU = ["server_cpu_s_per_gb", "server_cpu_s_per_1000_requests"]


def quartiles(values):
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "–"
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def run(row, contexts, pairs):
    """The values of each side, and those of its CPU time."""
    values, cpu = [[], []], [[], []]
    try:
        for context in contexts:
            row.before(context, context.nabu)
        for _ in range(pairs):
            for side, context in enumerate(contexts):
                value, details = row.measure(context, context.nabu)
                values[side].append(value)
                cpu[side].append(next((details[name] for name in CPU if details.get(name)), None))
    finally:
        for context in contexts:
            context.stop()
    return values, cpu


def ratios(before, after):
    return [new / old for old, new in zip(before, after) if old and new]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="the nabu-store to compare with")
    parser.add_argument("after", help="the nabu-store that is compared")
    parser.add_argument("--rows", help="names of rows, with commas between them (those of compare.sh --list)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement (5)")
    parser.add_argument("--pairs", type=int, default=5, help="runs of each side (5)")
    parser.add_argument("--memory", default="2GiB", help="the servers' --memory (2GiB)")
    parser.add_argument("--dir", default="target/bench", help="where the data directories are made (target/bench)")
    arguments = parser.parse_args()
    if arguments.seconds <= 0 or arguments.pairs < 1:
        parser.error("--seconds is above 0 and --pairs at least 1")
    names = arguments.rows.split(",") if arguments.rows else [row.name for row in ROWS]
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}: see benches/compare.sh --list")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two CPUs are needed: one for the server, one for the client")
    Path(arguments.dir).mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="versions-", dir=Path(arguments.dir).resolve()))
    contexts = []
    try:
        for side, binary in enumerate((arguments.before, arguments.after)):
            place = work / str(side)
            place.mkdir()
            binary, client = os.path.abspath(binary), os.path.abspath(arguments.after)
            contexts.append(Context(
                work=place, binary=binary, nabu=Nabu(binary, place, arguments.memory, client),
                nginx=None, seconds=arguments.seconds, pairs=arguments.pairs, limits={},
                can_drop_caches=machine.can_drop_caches(), discard=False,
            ))
        print("| row | before | after | unit | ratio of the pairs, median and quartiles | the same of CPU |")
        print("| --- | ---: | ---: | --- | --- | --- |")
        for row in (row for row in ROWS if row.name in names):
            values, cpu = run(row, contexts, arguments.pairs)
            before, after = (statistics.median(side) for side in values)
            ratio, cpu_ratio = quartiles(ratios(*values)), quartiles(ratios(*cpu))
            print(f"| {row.name} | {before:.4g} | {after:.4g} | {row.unit} | {ratio} | {cpu_ratio} |", flush=True)
    finally:
        for context in contexts:
            context.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
