"""The two servers: started, stopped, and loaded by the same client."""

import json
import os
import pwd
import re
import shutil
import subprocess
import time
import urllib.request

import machine

SERVER_CPU = 0
CLIENT_CPU = 1
START_PATIENCE_S = 120


class BenchFailed(Exception):
    """A run of the client that gave no result."""


def run_client(binary, arguments, environment, cpus=str(CLIENT_CPU)):
    """One run of `nabu-store bench`: its report. Errors of requests end the comparison: a number with errors in it is none."""
    command = [binary, "bench", "--json", "--cpus", cpus, "--fail-on-error", "--keep", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 0:
        raise BenchFailed(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr.strip()}\n{done.stdout.strip()}")
    return json.loads(done.stdout)


class Nabu:
    """nabu-store on a data directory that lives as long as the comparison, or on a fresh one."""

    name = "nabu-store"

    def __init__(self, binary, work, memory, client=None):
        self.binary = binary
        self.client = client or binary
        self.work = work
        self.memory = memory
        self.process = None
        self.data = None

    def start(self, cores=1, fresh=False):
        """With one core on the server's CPU; with more on all. A fresh directory holds nothing, and goes with the server."""
        self.stop()
        self.data = self.work / ("nabu-fresh" if fresh else "nabu")
        if fresh:
            shutil.rmtree(self.data, ignore_errors=True)
        port = machine.free_port()
        pin = ["taskset", "-c", str(SERVER_CPU)] if cores == 1 else []
        command = [*pin, self.binary, "start", "--cores", str(cores), "--data", str(self.data), "--listen", f"127.0.0.1:{port}",
                   "--memory", self.memory, "--log-level", "warn"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("NABU_")}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        machine.wait_for_port(port, self.process)
        self.api = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_PATIENCE_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("nabu-store does not get ready")
            time.sleep(0.02)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.api}/readyz", timeout=10) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None
            if self.data.name == "nabu-fresh":
                shutil.rmtree(self.data, ignore_errors=True)

    def pids(self):
        return [self.process.pid]

    def bench(self, size, arguments, cpus=str(CLIENT_CPU)):
        environment = {"NABU_API": self.api, "NABU_TOKEN": (self.data / "admin.token").read_text().strip()}
        return run_client(self.client, ["--sizes", size, *arguments], environment, cpus)

    def prepare(self, size, objects):
        self.bench(size, ["--objects", objects, "--mix", "head", "--requests", 1, "--connections", 1])

    def read(self, size, objects, arguments, cpus=str(CLIENT_CPU)):
        return self.bench(size, ["--objects", objects, "--no-prepare", *arguments], cpus)

    def write(self, size, arguments, cpus=str(CLIENT_CPU)):
        return self.bench(size, ["--mix", "put", *arguments], cpus)


class Nginx:
    """nginx as a file server, with its DAV module for uploads."""

    name = "nginx"

    def __init__(self, work):
        self.work = work
        self.root = work / "nginx"
        (self.root / "files").mkdir(parents=True)
        self.process = None

    def start(self, cores=1, fresh=False):
        """As many workers as cores; the files stay, but those of uploads go."""
        self.stop()
        self.port = machine.free_port()
        user = pwd.getpwuid(os.getuid()).pw_name
        affinity = "worker_cpu_affinity 01;" if cores == 1 else ""
        config = self.root / "nginx.conf"
        config.write_text(f"""
            daemon off; worker_processes {cores}; {affinity} {"user " + user + ";" if os.getuid() == 0 else ""}
            pid {self.root}/pid; error_log {self.root}/error.log warn;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 1h;
                default_type application/octet-stream; client_max_body_size 0;
                client_body_temp_path {self.root}/temp; proxy_temp_path {self.root}/proxy; fastcgi_temp_path {self.root}/fastcgi;
                uwsgi_temp_path {self.root}/uwsgi; scgi_temp_path {self.root}/scgi;
                server {{
                    listen 127.0.0.1:{self.port} reuseport; root {self.root}/files;
                    location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
                }}
            }}
        """)
        if fresh:
            shutil.rmtree(self.root / "files" / "put", ignore_errors=True)
        command = ["nginx", "-p", str(self.root), "-e", str(self.root / "error.log"), "-c", str(config)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        machine.wait_for_port(self.port, self.process)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None
            shutil.rmtree(self.root / "files" / "put", ignore_errors=True)

    def pids(self):
        children = machine.text_of(["pgrep", "-P", str(self.process.pid)])
        return [self.process.pid, *map(int, re.findall(r"\d+", children))]

    def bench(self, folder, size, arguments, cpus=str(CLIENT_CPU)):
        url = f"http://127.0.0.1:{self.port}/{folder}/{{n}}"
        return run_client(os.environ["NABU_BINARY"], ["--url", url, "--sizes", size, *arguments], {}, cpus)

    def prepare(self, size, objects):
        self.bench(size, size, ["--objects", objects, "--mix", "head", "--prepare", "--requests", 1, "--connections", 1])

    def read(self, size, objects, arguments, cpus=str(CLIENT_CPU)):
        return self.bench(size, size, ["--objects", objects, *arguments], cpus)

    def write(self, size, arguments, cpus=str(CLIENT_CPU)):
        return self.bench("put", size, ["--mix", "put", *arguments], cpus)
