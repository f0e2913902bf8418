"""What the machine is, what it can do at best, and its counters."""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

FIO_SIZE = "2G"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SECTOR = 512
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def text_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout + done.stderr).strip()


def describe(work, binary):
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpus": os.cpu_count(),
        "cpu_model": model.group(1) if model else platform.machine(),
        "memory_gib": round(int(total.group(1)) / 2**20, 1) if total else None,
        "kernel": platform.release(),
        "file_system": text_of(["findmnt", "-no", "FSTYPE,SOURCE,OPTIONS", "-T", str(work)]),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "nabu_store": text_of([binary, "--version"]),
        "nginx": text_of(["nginx", "-v"]).removeprefix("nginx version: "),
        "load_before": os.getloadavg()[0],
    }


def measure_limits(work, seconds):
    """The bounds that no server on this machine passes, in bytes a second."""
    limits = {}
    if shutil.which("fio"):
        for name in ("write", "read"):
            limits[f"disk_{name}"] = fio(work / "fio", name, seconds)
        (work / "fio").unlink(missing_ok=True)
    else:
        print("fio is not installed: the limits of the disk are missing", file=sys.stderr)
    if shutil.which("iperf3"):
        limits["loopback"] = iperf3(seconds)
    else:
        print("iperf3 is not installed: the limit of the loopback is missing", file=sys.stderr)
    if shutil.which("openssl"):
        text = text_of(["taskset", "-c", "0", "openssl", "speed", "-mr", "-evp", "sha256", "-bytes", "1048576", "-seconds", "2"])
        found = re.search(r"^\+F:\d+:[^:]*:([\d.]+)", text, re.MULTILINE)
        limits["sha256_core"] = float(found.group(1)) if found else None
    else:
        print("openssl is not installed: the limit of hashing is missing", file=sys.stderr)
    return limits


def fio(path, kind, seconds):
    command = [
        "fio", "--name=limit", f"--filename={path}", f"--rw={kind}", "--bs=1M", f"--size={FIO_SIZE}", "--direct=1",
        "--ioengine=io_uring", "--iodepth=8", "--output-format=json",
    ]
    command += ["--end_fsync=1"] if kind == "write" else ["--time_based", f"--runtime={seconds:g}"]
    done = subprocess.run(["taskset", "-c", "0", *command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["jobs"][0][kind]["bw_bytes"]


def iperf3(seconds):
    port = str(free_port())
    server = subprocess.Popen(
        ["taskset", "-c", "1", "iperf3", "-s", "-1", "-p", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(int(port), server)
        command = ["taskset", "-c", "0", "iperf3", "-c", "127.0.0.1", "-p", port, "-t", f"{max(1, round(seconds))}", "-l", "1M", "-J"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 8
    finally:
        server.kill()
        server.wait()


def wait_for_port(port, process):
    """Waits until a process listens; looks at the kernel's table, since a connect could be the only one it takes."""
    deadline = time.monotonic() + 60
    needle = f":{port:04X} "
    while process.poll() is None and time.monotonic() < deadline:
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            lines = Path(table).read_text().splitlines()
            if any(needle in line and " 0A " in line for line in lines):
                return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


def can_drop_caches():
    return os.access(DROP_CACHES, os.W_OK)


def drop_caches():
    os.sync()
    DROP_CACHES.write_text("3\n")


def cpu_seconds(pids):
    """User and kernel time of processes."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def disk_bytes(path):
    """Bytes that the device below a path has read and written, or None where it is no plain device."""
    device = os.stat(path).st_dev
    stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    try:
        fields = stat.read_text().split()
    except OSError:
        return None
    return int(fields[2]) * SECTOR, int(fields[6]) * SECTOR
