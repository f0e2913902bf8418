"""What is compared: one row each, as pairs of runs that alternate between the two servers."""

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

import machine
from servers import Nabu, Nginx

GB = 1e9
MIB = 1 << 20
IDLE_SECONDS = 10
# A restarted server, or one with dropped caches, reads this many objects of 64 MiB once.
COLD_OBJECTS = 24
# Blobs written for the count of bytes.
AMPLIFICATION = {"64MiB": (64 * MIB, 16, 4), "1MiB": (MIB, 1024, 16), "4KiB": (4096, 40_000, 64)}


@dataclass
class Context:
    work: object
    binary: str
    nabu: Nabu
    nginx: Nginx | None
    seconds: float
    pairs: int
    limits: dict
    can_drop_caches: bool
    discard: bool

    def sides(self):
        return [side for side in (self.nabu, self.nginx) if side is not None]

    def stop(self):
        for side in self.sides():
            side.stop()

    def timed(self, connections):
        return ["--connections", connections, "--duration", f"{round(self.seconds * 1000)}ms", "--warmup", "1s"]


@dataclass
class Row:
    name: str
    title: str
    unit: str
    measure: Callable
    # Called once on each side before the pairs.
    before: Callable = lambda context, side: None
    # A side that can't take part, with the reason.
    skip: Callable = lambda context, side: None
    lower_is_better: bool = False
    limit: str | None = None
    note: str = ""

    def run(self, context):
        outcome = {
            "name": self.name, "title": self.title, "unit": self.unit, "lower_is_better": self.lower_is_better, "note": self.note,
            "limit": context.limits.get(self.limit) if self.limit else None, "limit_name": self.limit,
            "nabu-store": [], "nginx": [], "skipped": {}, "details": {"nabu-store": [], "nginx": []},
        }
        sides = []
        for side in (context.nabu, context.nginx):
            reason = "not installed" if side is None else self.skip(context, side)
            if reason:
                outcome["skipped"]["nginx" if side is None else side.name] = reason
            else:
                sides.append(side)
        try:
            for side in sides:
                self.before(context, side)
            for _ in range(context.pairs):
                for side in sides:
                    value, details = self.measure(context, side)
                    outcome[side.name].append(value)
                    outcome["details"][side.name].append(details)
        finally:
            context.stop()
        medians = [statistics.median(outcome[name]) if outcome[name] else None for name in ("nabu-store", "nginx")]
        outcome["median"] = dict(zip(("nabu-store", "nginx"), medians))
        outcome["ratio"] = medians[0] / medians[1] if all(medians) else None
        return outcome


def details_of(report):
    """What is worth keeping of a client's report."""
    # Of large objects over many connections none may both begin and end within the window.
    latency = next((operation["latency_us"] for operation in report["operations"].values()), {})
    server = report.get("server_cpu") or {}
    return {
        "gb_per_second": report["gb_per_second"], "requests_per_second": report["requests_per_second"],
        "p50_us": latency.get("p50"), "p99_us": latency.get("p99"),
        "server_cpu_s_per_gb": server.get("seconds_per_gb"),
        "server_cpu_s_per_1000_requests": server.get("seconds_per_1000_requests"), "client_busy": report["client_busy"],
    }


def hot(size, objects, connections, unit, cores=1):
    def before(context, side):
        side.start(cores=cores)
        side.prepare(size, objects)
        # Some times over all of them, so that what fits in memory is there, also where a cache
        # grows slowly.
        side.read(size, objects, ["--in-order", "--requests", max(12 * objects, connections), "--connections", connections])

    def measure(context, side):
        cpus = str(1) if cores == 1 else "0,1"
        reading = ["--discard"] if context.discard else []
        report = side.read(size, objects, [*context.timed(connections), *reading], cpus)
        return report["gb_per_second" if unit == "GB/s" else "requests_per_second"], details_of(report)

    return dict(unit=unit, before=before, measure=measure)


def make_cold(context, side):
    """The server holds nothing in memory: nginx lives in the page cache, nabu-store in its own."""
    if side is context.nginx:
        machine.drop_caches()
    else:
        side.start()


def needs_dropped_caches(context, side):
    return None if side is context.nabu or context.can_drop_caches else "page caches can be dropped by root only"


def cold_scan():
    def before(context, side):
        side.start()
        side.prepare("64MiB", COLD_OBJECTS)

    def measure(context, side):
        make_cold(context, side)
        report = side.read("64MiB", COLD_OBJECTS, ["--in-order", "--requests", COLD_OBJECTS, "--connections", 4])
        return report["gb_per_second"], details_of(report)

    return dict(unit="GB/s", before=before, measure=measure, skip=needs_dropped_caches, limit="disk_read")


def cold_fleet(clients):
    def before(context, side):
        side.start()
        side.prepare("1GiB", 1)

    def measure(context, side):
        make_cold(context, side)
        first = machine.disk_bytes(context.work)
        report = side.read("1GiB", 1, ["--requests", clients, "--connections", clients])
        last = machine.disk_bytes(context.work)
        details = details_of(report)
        details["disk_read_per_blob_byte"] = (last[0] - first[0]) / (1 << 30) if first and last else None
        return report["gb_per_second"], details

    return dict(unit="GB/s", before=before, measure=measure, skip=needs_dropped_caches)


def second_pass():
    """What a fleet's second host meets: all of it was read once since the restart, and fits in memory."""
    reading = ["--in-order", "--requests", COLD_OBJECTS, "--connections", 4]

    def before(context, side):
        side.start()
        side.prepare("64MiB", COLD_OBJECTS)

    def measure(context, side):
        make_cold(context, side)
        first_report = side.read("64MiB", COLD_OBJECTS, reading)
        first = machine.disk_bytes(context.work)
        report = side.read("64MiB", COLD_OBJECTS, reading)
        last = machine.disk_bytes(context.work)
        details = details_of(report)
        details["first_pass_gb_per_second"] = first_report["gb_per_second"]
        details["disk_read_per_blob_byte"] = (last[0] - first[0]) / (COLD_OBJECTS * 64 * MIB) if first and last else None
        return report["gb_per_second"], details

    return dict(
        unit="GB/s", before=before, measure=measure, skip=needs_dropped_caches, limit="loopback",
        note="bytes read from the disk are all of the device's, of other processes too",
    )


def put(size, connections, unit):
    def measure(context, side):
        side.start(cores=2, fresh=True)
        try:
            report = side.write(size, context.timed(connections), cpus="0,1" if connections > 1 else "1")
        finally:
            side.stop()
        return report["gb_per_second" if unit == "GB/s" else "requests_per_second"], details_of(report)

    return dict(unit=unit, measure=measure, note="nabu-store syncs each upload to the disk before it answers, nginx does not; two cores each")


def amplification(name):
    size, count, connections = AMPLIFICATION[name]

    def measure(context, side):
        side.start(cores=2, fresh=True)
        try:
            subprocess.run(["sync"], check=True)
            first = machine.disk_bytes(context.work)
            report = side.write(name, ["--requests", count, "--connections", connections], cpus="0,1" if connections > 1 else "1")
            subprocess.run(["sync"], check=True)
            last = machine.disk_bytes(context.work)
        finally:
            side.stop()
        return (last[1] - first[1]) / (size * count), details_of(report)

    def skip(context, side):
        return None if machine.disk_bytes(context.work) else "the directory is on no plain device"

    return dict(
        unit="bytes written per byte stored", measure=measure, skip=skip, lower_is_better=True,
        note="all that reached the device meanwhile, of other processes too",
    )


def idle():
    def before(context, side):
        side.start(cores=1)

    def measure(context, side):
        first = machine.cpu_seconds(side.pids())
        time.sleep(IDLE_SECONDS)
        return (machine.cpu_seconds(side.pids()) - first) * 1000, {}

    return dict(unit=f"ms of CPU in {IDLE_SECONDS} s", before=before, measure=measure, lower_is_better=True)


ROWS = [
    Row("get-64m-1", "hot GET of 64 MiB, 1 connection", **hot("64MiB", 4, 1, "GB/s"), limit="loopback"),
    Row("get-64m-16", "hot GET of 64 MiB, 16 connections", **hot("64MiB", 4, 16, "GB/s"), limit="loopback"),
    Row("get-1g-1", "hot GET of 1 GiB, 1 connection", **hot("1GiB", 1, 1, "GB/s"), limit="loopback"),
    Row("get-1g-16", "hot GET of 1 GiB, 16 connections", **hot("1GiB", 1, 16, "GB/s"), limit="loopback"),
    Row("get-4k-64", "hot GET of 4 KiB, 64 connections", **hot("4KiB", 256, 64, "requests/s")),
    Row("get-64k-64", "hot GET of 64 KiB, 64 connections", **hot("64KiB", 256, 64, "requests/s")),
    Row("cold-64m-4", f"cold GET of {COLD_OBJECTS} blobs of 64 MiB, 4 connections", **cold_scan()),
    Row("cold-1g-1", "one cold blob of 1 GiB, 1 client", **cold_fleet(1), limit="disk_read"),
    Row("cold-1g-16", "one cold blob of 1 GiB, 16 clients at once", **cold_fleet(16)),
    Row("second-64m-4", f"second pass over {COLD_OBJECTS} blobs of 64 MiB after a restart, 4 connections", **second_pass()),
    Row("put-64m-1", "PUT of 64 MiB, 1 connection", **put("64MiB", 1, "GB/s"), limit="sha256_core"),
    Row("put-64m-16", "PUT of 64 MiB, 16 connections", **put("64MiB", 16, "GB/s"), limit="disk_write"),
    Row("put-4k-64", "PUT of 4 KiB, 64 connections", **put("4KiB", 64, "requests/s")),
    Row("disk-64m", "disk writes for blobs of 64 MiB", **amplification("64MiB")),
    Row("disk-1m", "disk writes for blobs of 1 MiB", **amplification("1MiB")),
    Row("disk-4k", "disk writes for blobs of 4 KiB, 64 connections", **amplification("4KiB")),
    Row("cores-1", "hot GET of 4 KiB, 64 connections, 1 server core", **hot("4KiB", 256, 64, "requests/s")),
    Row("cores-2", "the same with 2 server cores, shared with the client", **hot("4KiB", 256, 64, "requests/s", cores=2)),
    Row("idle", "a server without requests", **idle()),
]
