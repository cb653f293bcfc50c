"""The results as JSON and as Markdown."""

import pathlib

from rig.results import ratio

BEGIN = "<!-- bench/run: begin -->"
END = "<!-- bench/run: end -->"
PATH_BEGIN = "<!-- bench/run --path: begin -->"
PATH_END = "<!-- bench/run --path: end -->"
ROLES = ("client", "server")


def to_json(report):
    """`report`: machine, settings, chains, measures, rows, not_installed; see command.py. Returns plain values."""
    references = {name: _reference(report, name) for name in report["measures"]}
    rows = []
    for row in report["rows"]:
        measure = report["measures"][row.measure]
        figures = {}
        for figure in measure.figures if row.samples else ():
            if row.figure(figure.name) is None:
                continue
            figures[figure.name] = {**row.figure(figure.name),
                                    "ratio_to_reference": ratio(row, references.get(row.measure), figure.name)}
        cost = {}
        if measure.work and row.samples:
            roles = sorted(row.samples[0].cpu_seconds)
            cost = {f"cpu_seconds_per_{measure.work.name}": {role: row.cost(role) for role in roles}}
        rows.append({"measure": row.measure, "chain": row.chain, "failure": row.failure, "figures": figures, **cost,
                     "cpu_seconds": [sample.cpu_seconds for sample in row.samples],
                     "peak_memory_mib": row.peak_memory_mib})
    return {"format": 1, "command": report["command"], "source": report["source"],
            "machine": report["machine"], "settings": report["settings"],
            "reference": report["reference"], "chains": report["versions"], "not_installed": report["not_installed"],
            "measures": {name: measure.title for name, measure in report["measures"].items()},
            "paths": report["paths"], "rows": rows}


def _reference(report, measure):
    """The row that others of the measure are compared with, or None."""
    name = report["measures"][measure].reference or report["reference"]
    return next((row for row in report["rows"] if (row.measure, row.chain) == (measure, name)), None)


def to_markdown(report):
    machine, settings = report["machine"], report["settings"]
    lines = [
        f"Made by `{report['command']}` on {report['source']}.",
        "",
        f"- {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {machine['kernel']}; "
        f"{machine['system']}; load average before the run {machine['load_average_at_start']}",
        f"- every socket {machine['tcp_congestion_control']}; application and client on core "
        f"{_cores(settings['client_cores'])}, server and target on core {_cores(settings['server_cores'])}; "
        f"at most {settings['rounds']} interleaved rounds of {settings['seconds']:g} s; {settings['channels']} channels "
        "where streams are multiplexed",
    ]
    said = set()
    for name, version in report["versions"].items():
        if version and version not in said:   # one program may be there in several uses
            said.add(version)
            lines.append(f"- {report['titles'][name]}: {version}")
    lines += [f"- {report['titles'][name]}: not installed" for name in report["not_installed"]]
    for name, measure in report["measures"].items():
        rows = [row for row in report["rows"] if row.measure == name]
        if rows:
            lines += ["", f"### {measure.title}", "", *_table(report, measure, rows), *_lateness(report, name)]
    return "\n".join(lines) + "\n"


def _lateness(report, measure):
    """How exact the path was: on a machine that has no time for it, figures are those of the machine."""
    counters = report["paths"].get(measure, {})
    if "out" not in counters:
        return []
    late = [counters[way]["late_us"] for way in ("out", "back")]
    return ["", f"The path delivered its packets {max(one['mean'] for one in late):.0f} µs after their time on average, at "
                f"most {max(one['max'] for one in late) / 1000:.0f} ms."]


def _table(report, measure, rows):
    reference = _reference(report, measure.name)
    titles = ["", *(figure.title for figure in measure.figures)]
    if reference:
        titles.insert(2, f"of {report['titles'][reference.chain]}")
    if measure.work:
        titles += [f"CPU {role}, {measure.work.title}" for role in ROLES]
    if measure.path is None:
        titles += [f"peak {role}, MiB" for role in ROLES]
    lines = ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for row in rows:
        title = report["titles"][row.chain]
        if row.failure:
            what = "failed: " + row.failure.splitlines()[0].replace("|", "/")
            lines.append("| " + " | ".join([title, what] + [""] * (len(titles) - 2)) + " |")
            continue
        cells = [title, *(_spread(row.figure(figure.name), figure.digits) for figure in measure.figures)]
        if reference:
            factor = ratio(row, reference, measure.figures[0].name)
            cells.insert(2, f"{factor:.2f}" if factor is not None else "")
        if measure.work:
            cells += [_spread(row.cost(role), measure.work.digits, measure.work.scale) for role in ROLES]
        if measure.path is None:
            cells += [f"{row.peak_memory_mib[role]:.1f}" if role in row.peak_memory_mib else "" for role in ROLES]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _spread(summary, digits, scale=1):
    if summary is None:
        return ""
    median, low, high = (f"{summary[key] * scale:.{digits}f}" for key in ("median", "min", "max"))
    return median if low == high else f"{median} ({low}–{high})"


def _cores(cores):
    return ", ".join(map(str, cores))


def write_markdown(path, text, begin=BEGIN, end=END):
    """Replaces what stands between the markers of a document that has them; any other file becomes the text."""
    path = pathlib.Path(path)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if begin in old and end in old:
        before, rest = old.split(begin, 1)
        text = f"{before}{begin}\n{text}{end}{rest.split(end, 1)[1]}"
    path.write_text(text, encoding="utf-8")
