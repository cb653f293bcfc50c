"""What a user gets wrong: exit status 2 and one line that names the flag, the value and what is expected."""

import base64
import socket
import subprocess

import pytest

from ech_bytes import Key
from waiting import SLOWNESS

SERVER = ["-l", "wss://127.0.0.1:1/"]
CLIENT = ["-l", "proxy://127.0.0.1:1", "-f", "wss://secret.test/", "-ip", "127.0.0.1"]
GOOD_CONFIG = Key("cover.test").base64()


def broken(config):
    """An ECHConfigList cut short: its length says more than there is."""
    return base64.b64encode(base64.b64decode(config)[:-3]).decode()


# (what stands on the command line, the flag that the line names, a value that it names or None)
CASES = {
    "unknown flag": ([*SERVER, "-no-such-flag", "x"], "no-such-flag", None),
    "unknown flag, two dashes": ([*SERVER, "--no-such-flag=x"], "no-such-flag", None),
    "flag without its value": ([*SERVER, "-token"], "-token", None),
    "nothing to listen on": ([], "-l", None),
    "client without a server": (["-l", "proxy://127.0.0.1:1"], "-f", None),
    "unknown scheme": (["-l", "quic://127.0.0.1:1/"], "-l", "quic://127.0.0.1:1/"),
    "not an address": (["-l", "wss://127.0.0.1.5:1/"], "-l", "127.0.0.1.5"),
    "port too large": (["-l", "wss://127.0.0.1:65536/"], "-l", "65536"),
    "no port": (["-l", "proxy://127.0.0.1"], "-l", "proxy://127.0.0.1"),
    "IPv6 without brackets": (["-l", "proxy://::1:1080"], "-l", "::1:1080"),
    "forward without a target": (["-l", "tcp://127.0.0.1:1", "-f", "wss://secret.test/"], "-l", "127.0.0.1:1"),
    "server that is not a URL": (["-l", "proxy://127.0.0.1:1", "-f", "secret.test"], "-f", "secret.test"),
    "server by plain ws": (["-l", "proxy://127.0.0.1:1", "-f", "http://secret.test/"], "-f", "http://secret.test/"),
    "bad pinned address": ([*CLIENT[:4], "-ip", "127.0.0.1,nonsense"], "-ip", "nonsense"),
    "no channels": ([*CLIENT, "-n", "0"], "-n", "0"),
    "channels not a number": ([*CLIENT, "-n", "three"], "-n", "three"),
    "bad cidr": ([*SERVER, "-cidr", "10.0.0.0/33"], "-cidr", "10.0.0.0/33"),
    "cidr with a name": ([*SERVER, "-cidr", "localhost"], "-cidr", "localhost"),
    "missing certificate": ([*SERVER, "-cert", "/nonexistent/cert.pem", "-key", "/nonexistent/key.pem"], "-cert",
                            "/nonexistent/cert.pem"),
    "certificate that is none": ([*SERVER, "-cert", "/etc/hostname", "-key", "/etc/hostname"], "-cert",
                                 "/etc/hostname"),
    "certificate without a key": ([*SERVER, "-cert", "/etc/hostname"], "-key", None),
    "ECHConfig that is not base64": ([*CLIENT, "-ech-config", "!!!"], "-ech-config", None),
    "ECHConfig cut short": ([*CLIENT, "-ech-config", broken(GOOD_CONFIG)], "-ech-config", None),
    "ECHConfig of another version only": (
        [*CLIENT, "-ech-config", base64.b64encode(bytes.fromhex("0008" "fe0a0004" "00000000")).decode()],
        "-ech-config", None),
    "missing ECHConfig file": ([*CLIENT, "-ech-config", "@/nonexistent/ech"], "-ech-config", "/nonexistent/ech"),
    "missing CA": ([*CLIENT, "-ca", "/nonexistent/ca.pem"], "-ca", "/nonexistent/ca.pem"),
    "bad pin": ([*CLIENT, "-pin", "abc"], "-pin", "abc"),
    "resolver that is not a URL": ([*CLIENT, "-dns", "https://"], "-dns", "https://"),
    "unknown backend": ([*SERVER, "-backend", "kqueue"], "-backend", "kqueue"),
    "no threads": ([*SERVER, "-threads", "0"], "-threads", "0"),
    "bad target rule": ([*SERVER, "-allow-target", "10.0.0.0/8:port"], "-allow-target", "10.0.0.0/8:port"),
    "unknown log level": ([*SERVER, "-log-level", "loud"], "-log-level", "loud"),
    "positional argument": ([*SERVER, "surplus"], "surplus", None),
}


def call(binary, *arguments):
    return subprocess.run([binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=10 * SLOWNESS, check=False)


@pytest.mark.parametrize("case", CASES)
def test_bad_flag(binary, tmp_path, case):
    arguments, flag, value = CASES[case]
    result = call(binary, *arguments, "-state", tmp_path) if arguments[-1:] != ["-token"] else call(binary, *arguments)
    assert result.returncode == 2, (result.returncode, result.stderr)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert flag in lines[0] and (value or "") in lines[0], lines[0]


@pytest.mark.sanitizers
def test_every_bad_flag(binary, tmp_path):
    for case, (arguments, _, _) in CASES.items():
        result = call(binary, *arguments)
        assert result.returncode == 2, (case, result.returncode, result.stderr)


def test_key_of_another_certificate(binary, pki, tmp_path):
    _, other = pki.issue("other", ["other.test"])
    result = call(binary, *SERVER, "-cert", pki.cert, "-key", other, "-state", tmp_path)
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "-key" in result.stderr or "-cert" in result.stderr


def test_help_and_version(binary):
    for spelling in ("-h", "--help"):
        result = call(binary, spelling)
        assert result.returncode == 0
        for flag in ("-l", "-f", "-token", "-ech-config", "-fallback", "-serve-dns", "-backend"):
            assert flag in result.stdout + result.stderr
    result = call(binary, "version")
    assert result.returncode == 0
    assert "0.1.0" in result.stdout and "BoringSSL" in result.stdout


def test_both_spellings_of_flags(binary, tmp_path):
    """`--token=X` and `-token X` are the same; the port in use shows that both got past the command line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for spelling in (["--token=X"], ["-token", "X"], ["-token=X"], ["--token", "X"]):
            result = call(binary, "-l", f"wss://127.0.0.1:{port}/", "-state", tmp_path, *spelling)
            assert result.returncode == 1, result.stderr
