"""bench/run: works, says so by its exit status, and leaves nothing behind. No figure is judged here."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from conftest import ROOT
from procs import free_port
from waiting import wait_until

sys.path.insert(0, str(ROOT / "bench"))
from rig import measures, report, results  # noqa: E402: the path had to be set first

OURS = ["ours-io_uring", "ours-epoll"]

pytestmark = pytest.mark.skipif(os.environ.get("ECH_TUNNEL_VARIANT", "release") != "release",
                                reason="the load generator is built with the release build")


def namespaces():
    return any(subprocess.run(["unshare", *flags, "true"], capture_output=True, timeout=10, check=False).returncode == 0
               for flags in (["-n"], ["-Urn"]))


needs_namespace = pytest.mark.skipif(not namespaces(), reason="the kernel refuses network namespaces here")


@pytest.fixture
def build_dir(binary):
    folder = pathlib.Path(binary).resolve().parents[1]
    assert (folder / "bench" / "load_generator").exists(), "build it with -Dbenchmarks=true"
    return folder


def command(build_dir, *arguments):
    return [ROOT / "bench" / "run", "--build-dir", build_dir, "--rounds", "1", "--seconds", "0.3", *arguments]


def run(build_dir, *arguments):
    return subprocess.run(command(build_dir, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=200, check=False)


@needs_namespace
def test_every_measure_has_a_row_for_every_chain(build_dir, tmp_path):
    document = tmp_path / "document.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    expected = {"haproxy-tls", *OURS}
    done = run(build_dir, "--only", ",".join(expected), "--json", tmp_path / "out.json", "--markdown", document)
    assert done.returncode == 0, done.stderr

    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert data["machine"]["tcp_congestion_control"] == "cubic"
    rows = {(row["measure"], row["chain"]): row for row in data["rows"]}
    for measure in measures.ALL:
        chains = set(OURS) if measure.name == "first-byte-socks" else expected
        assert {chain for name, chain in rows if name == measure.name} == chains
    for (name, _), row in rows.items():
        assert row["failure"] is None
        assert set(row["peak_memory_mib"]) == {"client", "server"}
        assert all(figure["min"] <= figure["median"] <= figure["max"] for figure in row["figures"].values())
        assert next(iter(row["figures"].values()))["median"] > 0
        if name.startswith(("bulk", "streams")):
            assert {"client", "server", "application", "target"} == set(row["cpu_seconds_per_gb"])
    assert rows["bulk-up", "haproxy-tls"]["figures"]["gbit_per_second"]["ratio_to_reference"] == 1
    assert 0 < rows["streams-down", "ours-epoll"]["figures"]["jain_fairness"]["median"] <= 1

    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert all(f"### {measure.title}" in text for measure in measures.ALL)


@needs_namespace
def test_a_failing_run_is_told_by_the_exit_status(build_dir, tmp_path):
    broken = tmp_path / "build"
    (broken / "tools").mkdir(parents=True)
    (broken / "bench").mkdir()
    shutil.copy(build_dir / "bench" / "load_generator", broken / "bench")
    (broken / "tools" / "ech-tunnel").write_text('#!/bin/sh\n[ "$1" = version ] && echo none && exit 0\nexit 7\n',
                                                 encoding="ascii")
    (broken / "tools" / "ech-tunnel").chmod(0o755)
    done = run(broken, "--only", "ours-epoll,direct", "--measures", "bulk-up", "--json", tmp_path / "out.json")
    assert done.returncode == 1
    assert "failed: bulk-up, ours-epoll" in done.stderr
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]
    assert {row["chain"]: row["failure"] is None for row in rows} == {"ours-epoll": False, "direct": True}


@needs_namespace
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(build_dir, tmp_path, number):
    """The files of the run, and every process that names one of them on its command line."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    seconds = 60 + number  # this test's own load generator is known by it
    marker = f"--seconds\0{float(seconds)}".encode()
    child = subprocess.Popen(command(build_dir, "--seconds", str(seconds), "--only", "ours-epoll", "--measures",
                                     "bulk-up"),
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             env={**os.environ, "TMPDIR": str(folder)})

    def processes():
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in line or (b"load_generator\0bulk" in line and marker in line):
                found.append(line)
        return found

    try:
        wait_until(lambda: len(processes()) >= 3, what="client, server and load generator to run")
        child.send_signal(number)
        assert child.wait(30) == 128 + number
    finally:
        child.kill()
        child.wait()
    assert processes() == []
    assert list(folder.iterdir()) == []


def tun_devices():
    return os.access("/dev/net/tun", os.R_OK | os.W_OK) and os.getuid() == 0


@needs_namespace
@pytest.mark.skipif(not tun_devices(), reason="no TUN devices here")
def test_paths_delay_and_leave_nothing_behind(build_dir, tmp_path):
    done = run(build_dir, "--path", "--measures", "path-bulk-up,path-open", "--only",
               "plain-tcp,ours-1,ours-1-optimistic", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    rows = {(row["measure"], row["chain"]): row["figures"] for row in data["rows"]}
    assert set(rows) == {("path-bulk-up", "plain-tcp"), ("path-bulk-up", "ours-1"), ("path-open", "plain-tcp"),
                         ("path-open", "ours-1"), ("path-open", "ours-1-optimistic")}
    # Nothing is faster than the path, however fast the machine.
    for chain in ("plain-tcp", "ours-1", "ours-1-optimistic"):
        assert rows["path-open", chain]["open_p50_ms"]["min"] >= 50
    for counters in data["paths"].values():
        for way in ("out", "back"):
            assert counters[way]["delivered"] > 0
            assert counters[way]["dropped_by_loss"] == counters[way]["dropped_for_memory"] == 0
    assert not [name for name in os.listdir("/sys/class/net") if name in ("near", "far")]


@pytest.mark.parametrize("arguments, named", [
    (["--path", "--only", "haproxy-tls"], "haproxy-tls"),
    (["--only", "wireguard"], "wireguard"),
    (["--measures", "beauty"], "beauty"),
    (["--seconds", "1e9"], "--seconds"),
    (["--client-cores", "4711"], "--client-cores"),
])
def test_a_mistake_on_the_command_line(build_dir, arguments, named):
    done = run(build_dir, *arguments)
    assert done.returncode == 2
    assert named in done.stderr


def test_statistics():
    assert results.jain([5, 5, 5]) == pytest.approx(1)
    assert results.jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert results.jain([0, 0]) == 0
    row = results.Row("m", "a", [results.Sample({"f": value}, {"client": value}, 2.0) for value in (4.0, 1.0, 3.0)])
    assert row.figure("f") == {"median": 3.0, "min": 1.0, "max": 4.0, "values": [4.0, 1.0, 3.0]}
    assert row.cost("client")["median"] == 1.5
    assert row.cost("server") is None
    other = results.Row("m", "b", [results.Sample({"f": 6.0}, {}, 0)])
    assert results.ratio(row, other, "f") == 0.5
    assert results.ratio(row, results.Row("m", "c"), "f") is None


@pytest.mark.one_backend
@pytest.mark.protocol("native")
def test_handshakes_beside_boringssl(lab, build_dir):
    """Every handshake is a full one of the kind it is counted as; a server that is not there is an error."""
    state, port = lab.path("state"), free_port()
    state.mkdir()
    server = lab.run("server", "-l", f"wss://127.0.0.1:{port}/", "-state", state, "-threads", 1)
    server.wait_log(r"listening on wss://")
    load = [build_dir / "bench" / "handshake_load", "--pid", str(server.pid), "--state", state, "--blocks", "2",
            "--block", "20", "--port"]
    done = subprocess.run([*load, str(port)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0 and done.stdout.count("40 handshakes") == 4, (done.stdout, done.stderr)
    counters = server.counters()
    assert (counters["ech_accepted"], counters["ech_rejected"], counters["ech_absent"]) == (41, 0, 41)
    assert subprocess.run([*load, str(free_port())], capture_output=True, timeout=100, check=False).returncode == 1
