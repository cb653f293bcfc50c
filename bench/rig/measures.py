"""What is measured. A measure turns one run of the load generator into figures, the first of which is compared."""

import dataclasses

from rig.results import jain


@dataclasses.dataclass(frozen=True)
class Figure:
    name: str    # in JSON
    title: str   # a column
    digits: int


@dataclasses.dataclass(frozen=True)
class Work:
    """What CPU time is divided by."""
    name: str          # in JSON: cpu_SECONDS_per_NAME
    title: str         # in a column's title
    scale: float = 1   # from seconds to the unit of the title
    digits: int = 2


GB = Work("gb", "s/GB")
CONNECTION = Work("connection", "µs each", scale=1e6, digits=0)


class Measure:
    name = ""
    title = ""
    figures = ()
    work = None
    length = 1         # of a run, by --seconds
    path = None        # the Path it goes over; None is loopback
    chains = None      # the classes it is about; None for all
    reference = None   # the name of the one that others are compared with; None for the report's

    def applies_to(self, chain):
        """`chain` is the class."""
        return self.chains is None or chain in self.chains

    def arguments(self, chain):
        """For the load generator, without --seconds."""
        raise NotImplementedError

    def read(self, output):
        """The load generator's JSON as ({figure: value}, amount of work)."""
        raise NotImplementedError


class Bulk(Measure):
    """Bytes that reached the receiver within the time, over the time."""

    work = GB

    def __init__(self, direction, streams):
        self._direction, self._streams = direction, streams
        way = {"up": "application to target", "down": "target to application"}[direction]
        self.name = f"bulk-{direction}" if streams == 1 else f"streams-{direction}"
        self.title = f"Bulk, {streams} stream{'s' * (streams > 1)}, {way}"
        self.figures = (Figure("gbit_per_second", "Gbit/s", 2),)
        if streams > 1:
            self.figures += (Figure("jain_fairness", "Jain's fairness", 3),)

    def arguments(self, chain):
        return ["bulk", "--direction", self._direction, "--streams", self._streams, *chain.entry]

    def read(self, output):
        window = output["window_bytes"]
        return {"gbit_per_second": sum(window) * 8 / output["duration_seconds"] / 1e9,
                "jain_fairness": jain(window)}, output["total_bytes"] / 1e9


class Connections(Measure):
    """Each worker opens a connection, sends 1 KiB, gets it back, closes, and begins again."""

    name = "connections"
    work = CONNECTION
    figures = (Figure("per_second", "connections/s", 0), Figure("p50_us", "p50 µs", 0), Figure("p99_us", "p99 µs", 0))
    WORKERS = 16
    title = f"New connections, 1 KiB request and answer each, {WORKERS} at a time"

    def arguments(self, chain):
        return ["requests", "--workers", self.WORKERS, "--size", 1024, "--port", chain.entry_port]

    def read(self, output):
        latency = output["latency_us"]
        return {"per_second": output["count"] / output["elapsed_seconds"], "p50_us": latency["p50"],
                "p99_us": latency["p99"]}, output["count"]


class Latency(Measure):
    """One thing at a time, a pause between two: an idle tunnel."""

    figures = (Figure("p50_us", "p50 µs", 0), Figure("p99_us", "p99 µs", 0))
    PAUSE_US = 2000
    size = 1

    def arguments(self, chain):
        return ["requests", "--size", self.size, "--interval-us", self.PAUSE_US, "--port", chain.entry_port]

    def read(self, output):
        return {"p50_us": output["latency_us"]["p50"], "p99_us": output["latency_us"]["p99"]}, 0


class FirstByte(Latency):
    name = "first-byte"
    title = "From connect to the first byte through a forward, idle"


class FirstByteSocks(Latency):
    name = "first-byte-socks"
    title = "From connect to the first byte through SOCKS5, idle"

    def applies_to(self, chain):
        return chain.offers_socks

    def arguments(self, chain):
        return ["requests", "--size", self.size, "--interval-us", self.PAUSE_US, "--port", chain.socks_port,
                "--socks-target", chain.target_port]


class RoundTrip(Latency):
    name = "round-trip"
    title = "Round trip of 64 bytes on an open stream, idle"
    size = 64

    def arguments(self, chain):
        return [*super().arguments(chain), "--reuse"]


MANY = 64
ALL = (Bulk("up", 1), Bulk("down", 1), Bulk("up", MANY), Bulk("down", MANY), Connections(), FirstByte(),
       FirstByteSocks(), RoundTrip())
