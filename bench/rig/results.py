"""Values of several rounds, and what they come to."""

import dataclasses
import statistics


@dataclasses.dataclass
class Sample:
    """One run. `figures` by name; `cpu_seconds` by role; `work` is what the CPU time is divided by."""
    figures: dict
    cpu_seconds: dict
    work: float


@dataclasses.dataclass
class Row:
    """All rounds of one chain in one measure. `peak_memory_mib` by role; `failure` is None or says what went wrong."""
    measure: str
    chain: str
    samples: list = dataclasses.field(default_factory=list)
    peak_memory_mib: dict = dataclasses.field(default_factory=dict)
    failure: str | None = None

    def figure(self, name):
        """None where this chain does not have it."""
        values = [sample.figures[name] for sample in self.samples if name in sample.figures]
        return summary(values) if values else None

    def cost(self, role):
        """CPU seconds per unit of work; None for a role this chain does not have."""
        values = [sample.cpu_seconds[role] / sample.work for sample in self.samples
                  if role in sample.cpu_seconds and sample.work]
        return summary(values) if values else None


def summary(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "values": list(values)}


def jain(values):
    """Jain's fairness index: 1 when all are equal, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 0.0


def ratio(row, reference, figure):
    """Of the medians; None where there is nothing to compare with."""
    if row is None or reference is None or not row.samples or not reference.samples:
        return None
    above, below = row.figure(figure), reference.figure(figure)
    return above["median"] / below["median"] if above and below and below["median"] else None
