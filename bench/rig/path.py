"""An emulated path between two network namespaces: bench/path, started and configured, as a context."""

import contextlib
import dataclasses
import json

from rig import namespace
from rig.processes import Process

NEAR, FAR = ("near", "10.77.0.1"), ("far", "10.77.0.2")   # the devices and their addresses
NETWORK = "10.77.0.0/30"
# For a window of one bandwidth-delay product, of which the kernel gives a receiver's application half.
TCP_BUFFER_BYTES = 64 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Path:
    """With a queue of one bandwidth-delay product in front of each direction's bottleneck."""
    round_trip_ms: int
    mbit_per_second: int

    def __str__(self):
        rate = f"{self.mbit_per_second / 1000:g} Gbit/s" if self.mbit_per_second >= 1000 \
            else f"{self.mbit_per_second} Mbit/s"
        return f"{self.round_trip_ms} ms, {rate}"


class Link:
    """The path while it is there."""

    def __init__(self, path, program, far_namespace, log_path, cores):
        self.server_address = FAR[1]
        self._process = Process("path", [program, "--far-namespace", far_namespace, "--near", NEAR[0], "--far", FAR[0],
                                         "--delay-us", path.round_trip_ms * 500, "--rate-mbit", path.mbit_per_second],
                                log_path, cores, inherit=[far_namespace])

    def configure(self, far_namespace, congestion_control):
        self._process.wait_log('"ready": true')
        for (device, address), where in ((NEAR, None), (FAR, far_namespace)):
            namespace.configure(device, address, NETWORK, congestion_control, where)

    def stop(self):
        """Returns the path's counters; the devices are gone with it."""
        self._process.stop()
        lines = self._process.log().splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, ValueError):
            return {"ended": lines[-1:]}


@contextlib.contextmanager
def opened(path, program, far_namespace, log_path, cores, congestion_control, tell):
    """Yields a Link; `tell` is given the counters at the end."""
    link = Link(path, program, far_namespace, log_path, cores)
    try:
        link.configure(far_namespace, congestion_control)
        yield link
    finally:
        tell(link.stop())
