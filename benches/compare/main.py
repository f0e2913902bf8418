"""The options of a comparison, and its order: machine, limits, rows, report."""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import machine
import report
from rows import ROWS, Context
from servers import Nabu, Nginx


def parse_arguments():
    parser = argparse.ArgumentParser(prog="benches/compare.sh", description="nabu-store beside nginx, in paired runs")
    parser.add_argument("--rows", help="the rows to run, with commas; all unless given")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement (5)")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of each row (3)")
    parser.add_argument("--memory", default="4GiB", help="memory of nabu-store; the hot objects should fit (4GiB)")
    parser.add_argument("--dir", default="target/bench", help="where data and results go: the disk that is measured (target/bench)")
    parser.add_argument("--discard", action="store_true", help="hot GETs to a client that lets the kernel throw bodies away: the server alone")
    parser.add_argument("--list", action="store_true", help="list the rows and end")
    arguments = parser.parse_args()
    if arguments.seconds <= 0 or arguments.pairs < 1:
        parser.error("--seconds is above 0 and --pairs at least 1")
    names = [row.name for row in ROWS]
    wanted = arguments.rows.split(",") if arguments.rows else names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(names)}")
    arguments.rows = [row for row in ROWS if row.name in wanted]
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.list:
        for row in arguments.rows:
            print(f"{row.name:<18} {row.title}")
        return
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("benches/compare.sh needs two CPUs: one for the server, one for the client")
    binary = os.environ["NABU_BINARY"]
    results = Path(arguments.dir)
    results.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="compare-", dir=results.resolve()))
    started = time.monotonic()
    try:
        about = machine.describe(work, binary)
        limits = machine.measure_limits(work, arguments.seconds)
        nginx = Nginx(work) if shutil.which("nginx") else None
        if nginx is None:
            print("nginx is not installed: its side stays empty", file=sys.stderr)
        context = Context(
            work=work, binary=binary, nabu=Nabu(binary, work, arguments.memory), nginx=nginx, seconds=arguments.seconds,
            pairs=arguments.pairs, limits=limits, can_drop_caches=machine.can_drop_caches(),
            discard=arguments.discard,
        )
        outcomes = []
        try:
            for row in arguments.rows:
                print(f"{row.name}: {row.title}", file=sys.stderr)
                outcomes.append(row.run(context))
                print(f"    {report.summary(outcomes[-1])}", file=sys.stderr)
        finally:
            context.stop()
        about["load_after"] = os.getloadavg()[0]
        about["minutes"] = round((time.monotonic() - started) / 60, 1)
        about["bodies"] = "discarded" if arguments.discard else "received"
        document = {"machine": about, "limits": limits, "rows": outcomes}
        (results / "compare.json").write_text(json.dumps(document, indent=2) + "\n")
        (results / "compare.md").write_text(report.markdown(document))
        (results / "compare.svg").write_text(report.svg(document))
        print(report.markdown(document))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
