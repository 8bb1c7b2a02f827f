"""The server `engram`, started on a directory of its own, and one connection to it."""

import base64
import http.client
import json
import pathlib
import re
import signal
import subprocess
import time

import numpy as np

IDLE_SECONDS = 3


class Server:
    """A running server; `ready_seconds` is how long it took to answer `/readyz` with 200."""

    def __init__(self, engram: pathlib.Path, data: pathlib.Path):
        begin = time.perf_counter()
        self.process = subprocess.Popen([engram, "start", "--data", data, "--listen", "127.0.0.1:0"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://(\S+)", line)
        if not found:
            raise RuntimeError(f"engram start said {line!r}")
        self.address = found[1]
        self.connection, self.asked_at = http.client.HTTPConnection(self.address), 0.0
        while self.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.005)
        self.ready_seconds = time.perf_counter() - begin

    def ask(self, method: str, path: str, body=None, kind: str = "application/json"):
        """Status and body."""
        headers = {"Content-Type": kind} if body is not None else {}
        # The server closes what is idle for long; a new connection is opened by itself.
        if time.perf_counter() - self.asked_at > IDLE_SECONDS:
            self.connection.close()
        self.asked_at = time.perf_counter()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def post(self, path: str, body, kind: str = "application/json") -> dict:
        """The answer to what must succeed."""
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        status, answer = self.ask("POST", path, body, kind)
        if status not in (200, 201):
            raise RuntimeError(f"{path}: {status} {answer[:500]!r}")
        return json.loads(answer)

    def stop(self) -> None:
        """As a service manager would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()

    def settle(self) -> float:
        """Waits until it has had nothing to do for six seconds; gives how long that took."""
        begin, before, quiet = time.perf_counter(), self.ticks(), 0
        while quiet < 6:
            time.sleep(1)
            now = self.ticks()
            quiet = quiet + 1 if now - before <= 2 else 0
            before = now
        return time.perf_counter() - begin - quiet

    def ticks(self) -> int:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()
        return int(fields[11]) + int(fields[12])


def packed(vector: np.ndarray) -> str:
    """A vector as base64, the short way to send one."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
