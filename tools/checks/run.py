"""Runs every step of tools/test, sums what each one counted, and ends with "N passed, N failed".

A step returns a Count. What it prints goes to build/test-logs/STEP.log; when something in it failed, the log's tail is
shown. A step that raises is one failure, and the following steps run all the same.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "test-logs"
CORES = len(os.sched_getaffinity(0))
JOBS = int(os.environ.get("JOBS", CORES))
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "30"))
PYTEST_WORKERS = int(os.environ.get("PYTEST_WORKERS", min(2, CORES)))
TAIL_LINES = 60

SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
    "ASAN_SYMBOLIZER_PATH": shutil.which("llvm-symbolizer-19") or "",
    "TSAN_SYMBOLIZER_PATH": shutil.which("llvm-symbolizer-19") or "",
}

children = set()


class Count:
    """What a step found: passed and failed checks, those skipped, and a note for the step's line."""

    def __init__(self, passed=0, failed=0, skipped=0, note=""):
        self.passed, self.failed, self.skipped, self.note = passed, failed, skipped, note

    def __iadd__(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        return self


def run(command, log, env=None, timeout=1800):
    """Runs a command in a process group of its own, appends its output to the log, returns its exit status."""
    log.write(f"$ {' '.join(map(str, command))}\n")
    log.flush()
    child = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                             stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True)
    children.add(child)
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        log.write(f"\ngave up after {timeout} s\n")
        return 124
    finally:
        end(child)


def end(child):
    """Ends what is left of the process group that run() started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    children.discard(child)


def build(variant):
    def step(log):
        status = run(["tools/build", variant], log, timeout=3600)
        return Count(passed=int(status == 0), failed=int(status != 0))
    return step


def count_junit(path):
    count = Count()
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        kinds = {element.tag for element in case}
        if kinds & {"failure", "error"}:
            count.failed += 1
        elif "skipped" in kinds:
            count.skipped += 1
        else:
            count.passed += 1
    return count


def unit(variant):
    """Unit tests and the replays of the fuzz corpora, one count per case where a program reports its cases."""

    def step(log):
        directory = ROOT / "build" / variant
        logs = directory / "meson-logs"
        for name in ("testlog.json", "testlog.junit.xml"):
            (logs / name).unlink(missing_ok=True)
        status = run(["meson", "test", "-C", directory, "--no-rebuild", "--print-errorlogs", "--num-processes", JOBS],
                     log, SANITIZER_ENV)
        count = count_junit(logs / "testlog.junit.xml")
        # A program that crashed left no cases behind: it counts as one failure.
        results = [json.loads(line)["result"] for line in open(logs / "testlog.json", encoding="utf-8")]
        bad = sum(result not in ("OK", "SKIP", "EXPECTEDFAIL") for result in results)
        count.failed = max(count.failed, bad, int(status != 0))
        return count

    return step


def end_to_end(variant, marker=None):
    def step(log):
        report = LOGS / f"e2e-{variant}.xml"
        report.unlink(missing_ok=True)
        command = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", "--tb=short",
                   "--durations=8", "-n", PYTEST_WORKERS, "--junit-xml", report, ROOT / "tests" / "e2e"]
        if marker:
            command += ["-m", marker]
        command += os.environ.get("PYTEST_ARGS", "").split()
        status = run(command, log, {
            **SANITIZER_ENV, "ECH_TUNNEL_BIN": str(ROOT / "build" / variant / "tools" / "ech-tunnel"),
            "ECH_TUNNEL_VARIANT": variant, "PYTHONDONTWRITEBYTECODE": "1"})
        count = count_junit(report)
        count.failed = max(count.failed, int(status != 0))
        return count

    return step


def fuzz_one(program, seconds):
    """Fuzzes from a copy of the seeds, so that what is found does not end up in the repository."""
    name = program.name.removesuffix("_fuzz")
    log_path = LOGS / f"fuzz-{name}.log"
    artifacts = ROOT / "build" / "fuzz-findings" / name
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as corpus, open(log_path, "w", encoding="utf-8") as log:
        seeds = ROOT / "tests" / "fuzz" / "corpus" / name
        status = run([program, f"-max_total_time={seconds}", "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1",
                      f"-artifact_prefix={artifacts}/", corpus, seeds], log,
                     {**SANITIZER_ENV, "ASAN_OPTIONS": SANITIZER_ENV["ASAN_OPTIONS"]}, timeout=seconds + 120)
    return name, status, log_path


def fuzz(log):
    programs = sorted(path for path in (ROOT / "build" / "asan" / "tests" / "fuzz").glob("*_fuzz")
                      if os.access(path, os.X_OK) and path.is_file())
    sources = sorted((ROOT / "tests" / "fuzz").glob("*_fuzz.cc"))
    count = Count(note=f"{len(programs)} targets, {FUZZ_SECONDS} s each")
    for missing in {path.stem for path in sources} - {path.name for path in programs}:
        log.write(f"{missing}: was not built\n")
        count.failed += 1
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(2, CORES)) as pool:
        for name, status, path in pool.map(lambda program: fuzz_one(program, FUZZ_SECONDS), programs):
            text = path.read_text(encoding="utf-8", errors="replace")
            runs = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
            log.write(f"{name}: exit {status}, {runs.group(1) if runs else '?'} runs\n")
            if status == 0:
                count.passed += 1
            else:
                count.failed += 1
                log.write("".join(text.splitlines(keepends=True)[-40:]))
    return count


def our_sources():
    return sorted(path for folder in ("core", "proto", "ech", "net", "tools", "bench", "tests")
                  for suffix in ("*.h", "*.cc") for path in (ROOT / folder).rglob(suffix))


def clang_format(log):
    status = run(["clang-format-19", "--dry-run", "-Werror", *our_sources()], log)
    return Count(passed=int(status == 0), failed=int(status != 0))


def script(*command):
    def step(log):
        status = run(["/usr/bin/python3", *command], log, timeout=3600)
        return Count(passed=int(status == 0), failed=int(status != 0))
    return step


def libraries(log):
    """BoringSSL and OpenSSL export the same symbols: the program must load the one and never the other."""
    output = subprocess.run(["ldd", ROOT / "build" / "release" / "tools" / "ech-tunnel"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    log.write(output.stdout)
    bad = [line for line in output.stdout.splitlines()
           if re.search(r"lib(ssl|crypto)\.so\.[1-9]|libgnutls|not found", line)]
    for line in bad:
        log.write(f"must not be loaded: {line.strip()}\n")
    good = output.returncode == 0 and not bad
    return Count(passed=int(good), failed=int(not good))


def steps(quick):
    release = [("build-release", build("release")), ("unit-release", unit("release"))]
    if quick:
        return release + [("e2e-release", end_to_end("release"))]
    return [
        *release,
        ("layers", script("tools/checks/layers.py")),
        ("libraries", libraries),
        ("format", clang_format),
        ("e2e-release", end_to_end("release")),
        ("build-gcc", build("gcc")), ("unit-gcc", unit("gcc")),
        ("build-asan", build("asan")), ("unit-asan", unit("asan")), ("e2e-asan", end_to_end("asan", "sanitizers")),
        ("fuzz", fuzz),
        ("build-tsan", build("tsan")), ("unit-tsan", unit("tsan")), ("e2e-tsan", end_to_end("tsan", "sanitizers")),
        ("tidy", script("tools/checks/tidy.py", "--jobs", str(JOBS))),
    ]


def perform(name, step):
    """Runs one step, prints its line and, when it failed, the tail of its log."""
    started = time.monotonic()
    path = LOGS / f"{name}.log"
    with open(path, "w", encoding="utf-8") as log:
        try:
            count = step(log)
        except Exception:  # the following steps have to run
            traceback.print_exc(file=log)
            count = Count(failed=1)
    seconds = time.monotonic() - started
    extra = (f", {count.skipped} skipped" if count.skipped else "") + (f" ({count.note})" if count.note else "")
    print(f"{name:<14} {seconds:7.1f} s   {count.passed} passed, {count.failed} failed{extra}", flush=True)
    if count.failed:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"--- last lines of {path.relative_to(ROOT)}")
        print("\n".join("    " + line for line in lines[-TAIL_LINES:]))
        print(f"--- end of {path.relative_to(ROOT)}", flush=True)
    return count


def main():
    parser = argparse.ArgumentParser(prog="tools/test")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="append", metavar="STEP")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--setup-failed", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    selected = steps(arguments.quick)
    if arguments.list:
        print("\n".join(name for name, _ in selected))
        return 0
    if arguments.only:
        unknown = set(arguments.only) - {name for name, _ in selected}
        if unknown:
            parser.error(f"unknown step {', '.join(sorted(unknown))}; there are {', '.join(n for n, _ in selected)}")
        selected = [(name, step) for name, step in selected if name in arguments.only]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)

    started = time.monotonic()
    total = Count()
    if arguments.setup_failed:
        print("setup          failed, see above")
        total.failed += 1
    try:
        for name, step in selected:
            total += perform(name, step)
    finally:
        for child in list(children):
            end(child)
    print(f"{'total':<14} {time.monotonic() - started:7.1f} s" + (f"   {total.skipped} skipped" if total.skipped else ""))
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
