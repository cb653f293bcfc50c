"""What is measured over an emulated path (bench/run --path): what round trips cost, and what flow control makes of them."""

from rig.measures import Bulk, Figure, Measure
from rig.path import Path
from rig.chains.path_chains import OursBehindConnect, OursBesideStalled, OursOne, OursThree, PlainTcp
from rig.chains.yamux import Yamux

LONG = Path(round_trip_ms=100, mbit_per_second=1000)
SHORT = Path(round_trip_ms=50, mbit_per_second=1000)
STALLED = 100


class PathBulk(Bulk):
    path = LONG
    reference = PlainTcp.name
    chains = (PlainTcp, OursOne, OursThree, Yamux)

    def __init__(self, direction):
        super().__init__(direction, 1)
        self.name = f"path-bulk-{direction}"
        self.title += f", over {self.path}"
        self.figures = (Figure("gbit_per_second", "Gbit/s", 3),)


class PathOpen(Measure):
    """One connection after another. Of a plain connection that is open: the path's own round trip."""

    name = "path-open"
    path = SHORT
    length = 0.5
    title = f"SOCKS5 CONNECT to the first byte of the target's answer, over {SHORT}"
    reference = PlainTcp.name
    chains = (PlainTcp, OursOne, OursBehindConnect)
    figures = (Figure("open_p50_ms", "first byte, p50 ms", 1), Figure("reply_p50_ms", "CONNECT's reply, p50 ms", 1))

    def arguments(self, chain):
        if isinstance(chain, PlainTcp):
            return ["requests", "--size", 1, "--reuse", *chain.entry]
        extra = ["--optimistic"] if chain.behind_connect else []
        return ["requests", "--size", 1, "--port", chain.socks_port, "--socks-target", chain.target_port, *extra]

    def read(self, output):
        if "open_us" not in output:
            return {"open_p50_ms": output["latency_us"]["p50"] / 1e3}, 0
        return {"open_p50_ms": output["open_us"]["p50"] / 1e3, "reply_p50_ms": output["reply_us"]["p50"] / 1e3}, 0


class EchoBesideStalled(Measure):
    """The stalled streams are downloads that the application does not read; all share one channel."""

    length = 0.5
    reference = OursOne.name
    chains = (OursOne, OursBesideStalled)
    figures = (Figure("p99_us", "p99 µs", 0), Figure("p50_us", "p50 µs", 0), Figure("max_us", "max µs", 0))
    PAUSE_US = 4000

    def __init__(self, name, path, workers):
        self.name, self.path, self._workers = name, path, workers
        streams = f"{workers} streams" if workers > 1 else "one stream"
        where = f"over {path}" if path else "on loopback"
        self.title = f"Round trip of 64 bytes on {streams} beside {STALLED} stalled ones on the same channel, {where}"

    def arguments(self, chain):
        return ["requests", "--size", 64, "--reuse", "--interval-us", self.PAUSE_US, "--workers", self._workers,
                "--stalled", STALLED * chain.beside_stalled, *chain.entry]

    def read(self, output):
        return {f"{name}_us": output["latency_us"][name] for name in ("p50", "p99", "max")}, 0


# Over a path one stream has few round trips in the time there is: several, or the p99 is the slowest.
ALL = (PathBulk("up"), PathBulk("down"), PathOpen(), EchoBesideStalled("stalled-loopback", None, 1),
       EchoBesideStalled("stalled-path", SHORT, 16))
CHAINS = (PlainTcp, OursOne, OursThree, OursBehindConnect, OursBesideStalled, Yamux)
