"""A program under test: started with its log captured, waited for by log line, stopped by pid."""

import collections
import os
import random
import re
import signal
import socket
import subprocess

from waiting import SLOWNESS, wait_until

REPORTS = re.compile(r"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|"
                     r"SUMMARY: \w+Sanitizer")


PORTS_PER_WORKER = 1000
handed_out = collections.deque(maxlen=PORTS_PER_WORKER // 2)


def free_port():
    """A port nobody listens on, none of the last 500 that were given. Below the range the kernel picks from, so that no outgoing
    connection takes it, and from a slice of its own per test worker, so that two workers do not race for one."""
    worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "gw0")) or 0) % 12
    while True:
        port = 20000 + worker * PORTS_PER_WORKER + random.randrange(PORTS_PER_WORKER)
        if port in handed_out:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                handed_out.append(port)
                return port
            except OSError:
                continue


class Process:
    def __init__(self, argv, log_path, env=None):
        self.argv = [str(argument) for argument in argv]
        self.log_path = log_path
        clean = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy") and not key.startswith("ECH_TUNNEL_")}
        with open(log_path, "wb") as log:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          env={**clean, **(env or {})}, start_new_session=True)

    @property
    def pid(self):
        return self.child.pid

    def log(self, since=0):
        """What the process wrote, from byte `since` on."""
        with open(self.log_path, "rb") as log:
            log.seek(since)
            return log.read().decode("utf-8", "replace")

    def mark(self):
        """Where the log ends now, for log(since) and wait_log(since)."""
        return os.path.getsize(self.log_path)

    def running(self):
        return self.child.poll() is None

    def wait_log(self, pattern, count=1, timeout=15.0, since=0):
        """Waits until `count` lines match, returns the matches; fails at once when the process has ended without."""
        regex = re.compile(pattern)

        def look():
            ended = not self.running()
            # A line is written in pieces where a buffer ends in it.
            lines = [line for line in self.log(since).splitlines(keepends=True) if ended or line.endswith("\n")]
            found = [match for line in lines if (match := regex.search(line.rstrip("\n")))]
            if len(found) >= count:
                return found
            assert not ended, f"{self.argv[0]} ended with {self.child.returncode} before it logged {pattern!r}"
            return None

        return wait_until(look, timeout, f"{count} log lines like {pattern!r}")

    def counters(self):
        """Asks for the counters by SIGUSR1."""
        since = self.mark()
        self.child.send_signal(signal.SIGUSR1)
        line = self.wait_log(r"counters: (.*)", since=since)[-1].group(1)
        return {key: int(value) for key, value in re.findall(r"(\w+)=(-?\d+)", line)}

    def rss_mib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def terminate(self):
        self.child.send_signal(signal.SIGTERM)

    def wait(self, timeout):
        return self.child.wait(timeout * SLOWNESS)

    def stop(self):
        """Ends the process and returns its exit status: asks, asks again, insists."""
        for ask, patience in ((self.terminate, 3), (self.terminate, 10)):
            if not self.running():
                break
            ask()
            try:
                self.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        if self.running():
            self.child.kill()
        return self.child.wait()
