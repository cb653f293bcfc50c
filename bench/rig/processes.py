"""A program that was started, and what it has used. Ended by pid; the kernel ends it when the rig is gone."""

import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time

from rig import namespace

PR_SET_PDEATHSIG = 1
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 20
STOP_SECONDS = 3

_libc = ctypes.CDLL(None)


def in_child(cores, where=None):
    """For preexec_fn: what every program we start begins with. `where`: as for namespace.join()."""
    namespace.join(where)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, cores)


class Failure(Exception):
    """A run that did not work."""


def environment():
    """No proxies, and no settings for ech-tunnel that somebody exported."""
    return {key: value for key, value in os.environ.items()
            if not key.lower().endswith("_proxy") and not key.startswith("ECH_TUNNEL_")}


class Process:
    def __init__(self, role, argv, log_path, cores, where=None, inherit=()):
        """`role`: what it is in its chain, as the report calls it. `cores`: the ones it may run on. `where`: as for
        namespace.join(). `inherit`: descriptors it gets."""
        self.role, self.argv, self.log_path = role, [str(part) for part in argv], pathlib.Path(log_path)
        with open(self.log_path, "wb") as log:
            self.child = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          env=environment(), start_new_session=True, pass_fds=inherit,
                                          preexec_fn=lambda: in_child(cores, where))

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def wait_until(self, condition, what):
        """Polls condition(); Failure when the process ends first, or after START_SECONDS."""
        end = time.monotonic() + START_SECONDS
        while True:
            ended = self.child.poll() is not None
            if value := condition():
                return value
            if ended or time.monotonic() > end:
                how = f"ended with status {self.child.returncode}" if ended else f"was not there in {START_SECONDS} s"
                raise Failure(f"{self.role} {how}, waiting for {what}; its last lines:\n"
                              + "\n".join(self.log().splitlines()[-12:]))
            time.sleep(0.01)

    def wait_listening(self, *ports):
        self.wait_until(lambda: namespace.listening_ports(self.child.pid) >= set(ports), f"it to listen on {ports}")

    def wait_log(self, pattern, count=1):
        """Waits for `count` matches and returns the first."""
        regex = re.compile(pattern, re.MULTILINE)
        return self.wait_until(lambda: len(found := list(regex.finditer(self.log()))) >= count and found[0],
                               f"{count} times '{pattern}' in its log")

    def _family(self):
        """The process and its descendants, as pids."""
        pids = [self.child.pid]
        for pid in pids:
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    pids += map(int, children.read_text(encoding="ascii").split())
                except OSError:
                    continue
        return pids

    def cpu_seconds(self):
        """User and system time so far, of the process, its descendants, and those of them that have ended."""
        ticks = 0
        for pid in self._family():
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            ticks += sum(map(int, stat.rsplit(")", 1)[1].split()[11:15]))
        return ticks / TICKS

    def peak_memory_mib(self):
        """VmHWM, summed over the process and its descendants."""
        kib = 0
        for pid in self._family():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                kib += int(found.group(1))
        return kib / 1024

    def check_running(self):
        if self.child.poll() is not None:
            raise Failure(f"{self.role} ended with status {self.child.returncode}; its last lines:\n"
                          + "\n".join(self.log().splitlines()[-12:]))

    def stop(self):
        """Asks twice (a drain is cut short by the second request), then insists, also on what it left behind."""
        for _ in range(2):
            if self.child.poll() is None:
                self.child.terminate()
                try:
                    self.child.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        try:
            os.killpg(self.child.pid, signal.SIGKILL)  # the session is the process's own
        except ProcessLookupError:
            pass
        return self.child.wait()
