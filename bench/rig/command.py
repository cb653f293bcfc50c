"""The command line of bench/run."""

import argparse
import itertools
import json
import os
import pathlib
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import time

from rig import chains, machine, measures, namespace, path, path_measures, report
from rig.chains.chain import SERVER_NAME, Setting
from rig.processes import Failure
from rig.runner import Runner

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
CONGESTION_CONTROL = "cubic"
FIRST_PORT = 20000

EPILOG = """
Every chain is the same: load generator, client, server, and the load generator's target, on loopback in a network
namespace of its own. The application's end shares its cores with the client, the target with the server. Exit status:
0 when every run worked, however slow it was; 1 when one failed; 2 for a mistake on the command line.
"""


def parse(argv):
    parser = argparse.ArgumentParser(prog="bench/run", description="Measures ech-tunnel beside other tunnels.",
                                     epilog=EPILOG)
    parser.add_argument("--path", action="store_true",
                        help="over emulated paths between two namespaces instead of loopback: what round trips cost; as "
                             "root, within 5 minutes: 6 s a run, 3 rounds")
    parser.add_argument("--quick", action="store_true", help="ends within 5 minutes: 0.7 s a run, 3 rounds")
    parser.add_argument("--seconds", type=float, help="the length of a run (default 2, with --path 6)")
    parser.add_argument("--rounds", type=int, help="runs of each chain in each measure (default 5, with --path 3)")
    parser.add_argument("--minutes", type=float, 
                        help="there are fewer rounds where they would take longer (default 27; with --quick 4)")
    parser.add_argument("--only", metavar="CHAIN,...", help=f"of {', '.join(one.name for one in chains.ALL)}; with "
                        f"--path of {', '.join(one.name for one in path_measures.CHAINS)}")
    parser.add_argument("--measures", metavar="MEASURE,...", help=f"of {', '.join(one.name for one in measures.ALL)}; "
                        f"with --path of {', '.join(one.name for one in path_measures.ALL)}")
    parser.add_argument("--channels", type=int, default=3, help="of ech-tunnel's client (default 3)")
    parser.add_argument("--client-cores", metavar="N,...", help="for the application and the client")
    parser.add_argument("--server-cores", metavar="N,...", 
                        help="for the server and the target (default: one core each)")
    parser.add_argument("--build-dir", type=pathlib.Path, metavar="DIR",
                        help="take ech-tunnel and the load generator from there and build nothing (default: "
                             "build/release, brought up to date)")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--markdown", metavar="FILE", nargs="?", const=DOCUMENT,
                        help="write the tables there: between the markers if the file has them (default: "
                             "docs/benchmarks.md)")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (0.7 if options.quick else 6.0 if options.path else 2.0)
    options.rounds = options.rounds or (3 if options.quick or options.path else 5)
    options.minutes = options.minutes or (4 if options.quick or options.path else 27)
    if not 0.05 <= options.seconds <= 600 or not 1 <= options.rounds <= 1000 or not 1 <= options.channels <= 64:
        parser.error("--seconds is 0.05 to 600, --rounds 1 to 1000, --channels 1 to 64")
    options.chains = pick(parser, "--only", options.only, path_measures.CHAINS if options.path else chains.ALL)
    options.measures = pick(parser, "--measures", options.measures,
                            path_measures.ALL if options.path else measures.ALL)

    allowed = sorted(os.sched_getaffinity(0))
    options.client_cores = cores(parser, "--client-cores", options.client_cores, allowed, allowed[0])
    options.server_cores = cores(parser, "--server-cores", options.server_cores, allowed, allowed[1 % len(allowed)])
    return options


def pick(parser, flag, text, known):
    if text is None:
        return list(known)
    wanted = text.split(",")
    if unknown := set(wanted) - {one.name for one in known}:
        parser.error(f"{flag}: unknown {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in known)}")
    return [one for one in known if one.name in wanted]


def cores(parser, flag, text, allowed, default):
    if text is None:
        return frozenset([default])
    try:
        chosen = frozenset(map(int, text.split(",")))
    except ValueError:
        parser.error(f"{flag}: '{text}' is not a list of core numbers")
    if not chosen <= set(allowed):
        parser.error(f"{flag}: this process may use cores {', '.join(map(str, allowed))}")
    return chosen


def build():
    """Brings ech-tunnel and the load generator up to date; returns their build directory."""
    directory = ROOT / "build" / "release"
    if (directory / "configured-with").exists():
        command = ["ninja", "-C", directory, "tools/ech-tunnel", "bench/load_generator", "bench/path"]
    else:
        command = [ROOT / "tools" / "build", "release"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=3600, check=False)
    if done.returncode != 0:
        raise Failure("the build failed:\n" + "\n".join(done.stdout.splitlines()[-40:]))
    return directory


def source():
    """Which state of our sources this is."""
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                          timeout=10, check=False)
    return done.stdout.strip() or "unknown"


def make_certificate(folder):
    """Self-signed, P-256, for SERVER_NAME."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "7", "-subj", f"/CN={SERVER_NAME}", "-addext", f"subjectAltName=DNS:{SERVER_NAME}",
                    "-keyout", key, "-out", certificate], check=True, timeout=30, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return certificate, key


def say(line):
    print(line, file=sys.stderr, flush=True)


def run(options, command):
    """Returns whether every run worked."""
    directory = options.build_dir.resolve() if options.build_dir else build()
    load_generator, ours = directory / "bench" / "load_generator", directory / "tools" / "ech-tunnel"
    for program in (load_generator, ours):
        if not os.access(program, os.X_OK):
            raise Failure(f"{program} is not there: run tools/build release")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    far_namespace = None
    if options.path:
        far_namespace = namespace.enter_two(CONGESTION_CONTROL, path.TCP_BUFFER_BYTES)
    else:
        namespace.enter(CONGESTION_CONTROL)

    with tempfile.TemporaryDirectory(prefix="ech-tunnel-bench-") as folder:
        folder = pathlib.Path(folder)
        certificate, key = make_certificate(folder)
        setting = Setting(folder, ours, certificate, key, options.client_cores, options.server_cores, options.channels,
                          itertools.count(FIRST_PORT), far_namespace)
        installed, versions = [], {}
        for chain in options.chains:
            if program := chain.program(setting):
                installed.append(chain)
                versions[chain.name] = chain.version(program)
            else:
                say(f"{chain.title}: not installed (tools/setup peers)")
        results = {
            "command": command,
            "machine": machine.describe(CONGESTION_CONTROL),
            "settings": {"seconds": options.seconds, "rounds": options.rounds, "channels": options.channels,
                         "client_cores": sorted(options.client_cores), "server_cores": sorted(options.server_cores)},
            "reference": chains.REFERENCE,
            "paths": {},
            "titles": {chain.name: chain.title for chain in options.chains},
            "versions": versions,
            "source": source(),
            "not_installed": [chain.name for chain in options.chains if chain not in installed],
            "measures": {measure.name: measure for measure in options.measures},
            "rows": [],
        }
        runner = Runner(setting, load_generator, options.seconds, options.rounds, CONGESTION_CONTROL,
                        time.monotonic() + options.minutes * 60, say)
        for index, measure in enumerate(options.measures):
            results["rows"] += runner.measure(measure, installed, share=1 / (len(options.measures) - index))
        results["paths"] = runner.path_counters

    text = report.to_markdown(results)
    print(text)
    if options.markdown:
        markers = (report.PATH_BEGIN, report.PATH_END) if options.path else (report.BEGIN, report.END)
        report.write_markdown(options.markdown, text, *markers)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report.to_json(results), indent=1) + "\n", encoding="utf-8")
    failures = [row for row in results["rows"] if row.failure]
    for row in failures:
        say(f"failed: {row.measure}, {row.chain}: {row.failure}")
    return bool(results["rows"]) and not failures


def main():
    def interrupted(number, _frame):
        # Everything is cleaned up on the way out; a second signal does not cut that short.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    options = parse(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        return 0 if run(options, shlex.join(["bench/run", *sys.argv[1:]])) else 1
    except (Failure, namespace.Unavailable, OSError, subprocess.SubprocessError) as error:
        say(f"bench/run: {error}")
        return 1
