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

    def spawn(self):
        """Starts the process, and does not wait for it to serve."""
        command = [self.binary, "start", "--data", self.data, "--token-file", self.tokens]
        command += ["--listen", f"127.0.0.1:{self.port}", "--config", self.config]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command + ["--memory", self.memory], stderr=log, stdout=log
            )

    def serves(self):
        """Waits until the server serves; False when it ends by itself, or takes too long."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/readyz")[0] == 200:
                    return True
            except OSError:
                if self.process.poll() is not None:
                    break
            time.sleep(0.05)
        return False

    def start(self):
        self.spawn()
        if not self.serves():
            sys.exit(f"the server does not start: {open(self.log_path).read()[-2000:]}")

    def last_line(self):
        """The last line that the server wrote: why it did not start, where it did not."""
        with open(self.log_path) as log:
            return log.read().rstrip().rpartition("\n")[2]

    def request(self, method, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, headers=self.headers)
        response = connection.getresponse()
        return response.status, response.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(120) != 0:
            sys.exit(f"the server ended with {self.process.returncode}")

    def kill(self):
        """Ends the server as a crash does."""
        self.process.kill()
        self.process.wait()

    def resident_mib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmRSS"].split()[0]) >> 10
