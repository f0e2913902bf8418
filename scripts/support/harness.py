"""What the scripts that use a server hard share: the server itself, and blobs that are unlike one another."""

import hashlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import time

POOL = os.urandom(48 << 20)


def content(seed, size):
    """The bytes of a blob, as pieces: unlike those of any other seed."""
    head = seed.to_bytes(16, "little")
    start = random.Random(seed).randrange(len(POOL) - size)
    return head[:size], memoryview(POOL)[start : start + max(size - 16, 0)]


class Server:
    """The server, with a data directory on a file system of its own."""

    def __init__(self, binary, data, log_path, memory, config=""):
        self.binary, self.data, self.log_path, self.memory = binary, data, log_path, memory
        self.config = log_path + ".yaml"
        with open(self.config, "w") as file:
            file.write(config)
        self.process = None
        token = "churn-" + os.urandom(16).hex()
        self.headers = {"Authorization": "Bearer " + token}
        self.tokens = log_path + ".tokens"
        with open(self.tokens, "w") as file:
            file.write(f"admin {hashlib.sha256(token.encode()).hexdigest()} churn\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self):
        command = [self.binary, "start", "--data", self.data, "--listen", f"127.0.0.1:{self.port}", "--token-file", self.tokens, "--config", self.config]
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen(command + ["--memory", self.memory], stderr=self.log, stdout=self.log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/readyz")[0] == 200:
                    return
            except OSError:
                if self.process.poll() is not None:
                    break
            time.sleep(0.05)
        sys.exit(f"the server does not start: {open(self.log_path).read()[-2000:]}")

    def request(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, headers=self.headers)
        response = connection.getresponse()
        return response.status, response.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(120) != 0:
            sys.exit(f"the server ended with {self.process.returncode}")

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmRSS"].split()[0]) >> 10
