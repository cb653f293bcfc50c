"""Headless browsers, each with a home of its own, ended by their process group. Each recipe was tried by hand first."""

import os
import shutil
import signal
import subprocess

import pytest

CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def need(program):
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


class Browser:
    """One run of a browser; a lab.keep()s it. What it prints goes to a file, what it complains about is dropped."""

    def __init__(self, argv, home, limit_seconds):
        home.mkdir(exist_ok=True)
        self.output_path = home / "output"
        # Nothing of the user's session: no display, no bus, no proxy.
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(home)}
        with open(self.output_path, "wb") as output:
            self.child = subprocess.Popen(["timeout", str(limit_seconds), *map(str, argv)], stdin=subprocess.DEVNULL,
                                          stdout=output, stderr=subprocess.DEVNULL, env=environment, cwd=home,
                                          start_new_session=True)

    def output(self):
        return self.output_path.read_text(encoding="utf-8", errors="replace")

    def running(self):
        return self.child.poll() is None

    def stop(self):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
