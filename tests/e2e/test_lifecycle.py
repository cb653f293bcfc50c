"""Channels that are lost, processes that are asked to stop, ports that are taken, backends that are refused."""

import signal
import socket
import subprocess
import time

import pytest

import apps
import ech_bytes
from origins import Paced, echo, pattern
from procs import free_port
from waiting import SLOWNESS, wait_until


def roundtrip(port, origin_port, payload=b"ping through the tunnel"):
    with apps.socks5(port, "127.0.0.1", origin_port) as sock:
        sock.sendall(payload)
        assert apps.receive_exactly(sock, len(payload)) == payload


@pytest.mark.sanitizers
@pytest.mark.protocol("legacy")
@pytest.mark.parametrize("how", ["reset", "ss -K"])
def test_lost_channel(lab, how):
    """Over the legacy protocol its streams are closed at both ends at once; it is dialled again, and new streams work."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"
        if how == "reset":
            relay.cut()
        else:
            for direction in ("dport", "sport"):
                subprocess.run(["ss", "-K", "-tn", direction, "=", f":{relay.port}"], check=True, timeout=30,
                               stdout=subprocess.DEVNULL)
        lost = time.monotonic()
        assert apps.ends(sock, timeout=3)
        wait_until(lambda: origin.open == 0, timeout=3, what="the stream to end at the server")
        assert time.monotonic() - lost < 3 * SLOWNESS
    client.process.wait_log(r"channel 1 down: \S+")
    client.process.wait_log(r"channel 1 up:", count=2, timeout=20)
    roundtrip(client.port, origin.port)
    for process in (client.process, server.process):
        wait_until(lambda: process.counters()["streams_open"] == 0, what="no stream left")


@pytest.mark.protocol("native")
@pytest.mark.sanitizers
def test_stream_outlives_its_channel(lab):
    """Over mux/2 a channel that is lost is a pause: the same stream goes on when another one is up."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        for number in range(3):
            message = b"%d" % number * 1000
            sock.sendall(message)
            assert apps.receive_exactly(sock, len(message)) == message
            relay.cut()
            sock.sendall(b"while there is no channel")
            assert apps.receive_exactly(sock, 25) == b"while there is no channel"
    client.process.wait_log(r"channel 1 up:", count=4, timeout=20)
    for process in (client.process, server.process):
        wait_until(lambda process=process: process.counters()["streams_open"] == 0, what="no stream left")
    assert client.process.counters()["streams_moved"] >= 3


def test_server_restart(lab):
    """Channels come back by themselves, with back-off in between: not a storm of attempts."""
    origin = lab.origin(echo)
    server = lab.server()
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config, channels=2)
    server.process.stop()
    client.process.wait_log(r"channel \d+ down:", count=2)
    dialled = relay.connections
    # While nothing answers: at least a second attempt of each, and no more than a back-off allows.
    began = time.monotonic()
    wait_until(lambda: relay.connections >= dialled + 4, timeout=40, what="attempts to dial again")
    assert time.monotonic() - began > 0.1, "no back-off between attempts"
    again = lab.server(port=server.port, keys=server.keys)
    client.process.wait_log(r"channel \d+ up:", count=4, timeout=60)
    roundtrip(client.port, origin.port)
    assert again.process.running()


@pytest.mark.sanitizers
def test_connection_made_while_no_channel_is_up(lab):
    """It is served once a channel is up, or refused; it never reaches the target another way."""
    origin = lab.origin(echo)
    port = free_port()
    keys = lab.keygen()
    client = lab.client(port, config=ech_bytes.read_pem_folder(keys), up=False)
    try:
        with apps.socks5(client.port, "127.0.0.1", origin.port, timeout=3) as sock:
            assert apps.ends(sock, timeout=3)
    except (apps.Refused, OSError):
        pass
    assert origin.accepted == 0
    lab.server(port=port, keys=keys)
    client.process.wait_log(r"channel 1 up:", timeout=60)
    roundtrip(client.port, origin.port)


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
        return False
    except OSError:
        return True


@pytest.mark.sanitizers
@pytest.mark.parametrize("who", ["server", "client"])
def test_sigterm_lets_streams_finish(lab, who):
    origin_handler = Paced(16)
    origin = lab.origin(origin_handler)
    server, client = lab.pair()
    stopped, port = {"server": (server.process, server.port), "client": (client.process, client.port)}[who]
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        assert apps.receive_exactly(sock, 1024) == bytes(pattern(0, 1024))
        stopped.terminate()
        wait_until(lambda: refuses(port), timeout=5, what="no more connections to be accepted")
        for index in range(1, 16):
            assert stopped.running()
            origin.call(origin_handler.go.release)
            assert apps.receive_exactly(sock, 1024) == bytes(pattern(index, 1024))
        assert apps.ends(sock)
    assert stopped.wait(10) == 0
    stopped.wait_log(r"stopped")


@pytest.mark.sanitizers
@pytest.mark.parametrize("who", ["server", "client"])
def test_sigterm_when_idle(lab, who):
    server, client = lab.pair(channels=2)
    stopped = {"server": server, "client": client}[who].process
    stopped.terminate()
    assert stopped.wait(5) == 0
    stopped.wait_log(r"stopped")


@pytest.mark.sanitizers
@pytest.mark.parametrize("who", ["server", "client"])
def test_second_sigterm_stops_at_once(lab, who):
    origin = lab.origin(echo)
    server, client = lab.pair()
    stopped, port = {"server": (server.process, server.port), "client": (client.process, client.port)}[who]
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"x")
        assert apps.receive_exactly(sock, 1) == b"x"
        stopped.terminate()
        wait_until(lambda: refuses(port), timeout=5, what="no more connections to be accepted")
        assert stopped.running()
        stopped.terminate()
        stopped.wait(3)
        assert apps.ends(sock, timeout=3)


@pytest.mark.one_backend
def test_sigint_is_sigterm(lab):
    server = lab.server()
    server.process.child.send_signal(signal.SIGINT)
    assert server.process.wait(5) == 0


@pytest.mark.parametrize("holder", ["another program", "ech-tunnel"])
@pytest.mark.parametrize("kind", ["wss", "proxy", "tcp"])
def test_port_in_use(lab, holder, kind):
    """Exit 1, and the address is named; also when the one that has it shares ports between its own threads."""
    server, client = lab.pair()
    if holder == "another program":
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    else:
        taken = None
        port = server.port if kind == "wss" else client.port
    if kind == "wss":
        arguments = ["-l", f"wss://127.0.0.1:{port}/", "-cert", lab.pki.cert, "-key", lab.pki.key]
    else:
        listen = f"proxy://127.0.0.1:{port}" if kind == "proxy" else f"tcp://127.0.0.1:{port}/127.0.0.1:9"
        arguments = ["-l", listen, "-f", f"wss://secret.test:{server.port}/tunnel", "-ip", "127.0.0.1",
                     "-ech-config", server.config]
    process = lab.run("second", *arguments, "-state", lab.path("state"))
    assert process.wait(10) == 1
    assert f"127.0.0.1:{port}" in process.log().split("effective configuration:")[-1].partition("\n")[2]
    if taken:
        taken.close()


@pytest.mark.one_backend
def test_epoll_where_io_uring_is_refused(lab):
    """As in a container whose seccomp profile forbids it: -backend auto takes epoll and says so; -backend io_uring ends."""
    arguments = ["-l", f"wss://127.0.0.1:{free_port()}/", "-cert", lab.pki.cert, "-key", lab.pki.key, "-state"]
    # -D: strace is the child, so that the signals of the test reach the program and not strace.
    strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e",
              "inject=io_uring_setup:error=EPERM"]
    state = lab.path("state")
    state.mkdir()
    process = lab.start("refused", *strace, lab.binary, *arguments, state, "-backend", "auto")
    process.wait_log(r"reactor:.*backend epoll \(.+\)")
    process.wait_log(r"listening on wss://")
    process.terminate()
    assert process.wait(10) == 0

    process = lab.start("insists", *strace, lab.binary, *arguments, state, "-backend", "io_uring")
    assert process.wait(10) not in (0, None)
    assert "io_uring" in process.log()


def test_backend_is_said(lab):
    server = lab.server()
    match = server.process.wait_log(r"reactor:.*backend (io_uring|epoll)")[0]
    assert match.group(1) == lab.backend


@pytest.mark.one_backend
def test_log_has_no_secrets(lab):
    """Neither the token nor, above debug level, the names of targets."""
    origin = lab.origin(echo)
    server, client = lab.pair()
    with apps.socks5(client.port, "localhost", origin.port) as sock:
        sock.sendall(b"payload-that-must-not-be-logged")
        apps.receive_exactly(sock, 31)
    for process in (server.process, client.process):
        process.terminate()
        assert process.wait(10) == 0
        log = process.log()
        assert "correct-horse-battery" not in log
        assert "payload-that-must-not-be-logged" not in log
        assert f":{origin.port}" not in log
        assert len([line for line in log.splitlines() if "effective configuration:" in line]) == 1
