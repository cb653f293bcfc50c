"""Configuration files: servers and clients that are told everything by one, what is refused, and -check-config."""

import json
import os
import subprocess
import tomllib

import pytest

import apps
from conftest import TOKEN
from origins import echo
from pki import HIDDEN, PUBLIC
from procs import free_port
from waiting import SLOWNESS


def call(binary, *arguments, env=None):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ECH_TUNNEL_")}
    return subprocess.run([binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=10 * SLOWNESS, check=False,
                          env={**clean, **(env or {})})


def secret_file(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def server_toml(lab, port, keys):
    return f"""
# everything there is to say
l = "wss://127.0.0.1:{port}/tunnel"
token = "{TOKEN}"
cert = "{lab.pki.cert}"
key = "{lab.pki.key}"
name = ["{HIDDEN}"]
ech-keys = "{keys}"
ech-public-name = "{PUBLIC}"
allow-target = ["127.0.0.0/8:*"]
state = "{lab.folder}"
backend = "{lab.backend}"
"""


def use(port, origin):
    with apps.socks5(port, "127.0.0.1", origin.port) as sock:
        sock.sendall(b"hello")
        assert apps.receive_exactly(sock, 5) == b"hello"


def start(lab, name, *arguments):
    return lab.start(name, lab.binary, *arguments)


@pytest.mark.sanitizers
def test_server_and_client_by_file(lab):
    """A server by TOML and a client by the JSON of the forks; the command line beats the file."""
    origin = lab.origin(echo)
    port, proxy, other = free_port(), free_port(), free_port()
    keys = lab.keygen()
    file = secret_file(lab.path("server.toml"), server_toml(lab, port, keys))
    server = start(lab, "server", "-config", file)
    server.wait_log(r"listening on wss://")
    config = next(keys.glob("*.ech"))
    token = secret_file(lab.path("token"), TOKEN + "\n")
    client_file = secret_file(lab.path("client.json"), json.dumps({
        "listen": f"proxy://127.0.0.1:{proxy}", "forward": f"wss://{HIDDEN}:{port}/tunnel", "ip": "127.0.0.1",
        "cert": "", "key": "", "cidr": None, "token": f"@{token}", "fallback": False, "connections": 2,
        "ca": str(lab.pki.ca), "ech-config": f"@{config}", "state": str(lab.folder), "backend": lab.backend}))
    client = start(lab, "client", "-config", client_file)
    client.wait_log(r"channel \d+ up: .*ECH accepted", count=2)
    use(proxy, origin)
    assert "warn" not in client.log() and TOKEN not in client.log() + server.log()
    client.stop()
    client = start(lab, "client", "-config", client_file, "-n", "1", "-l", f"proxy://127.0.0.1:{other}")
    client.wait_log(r"channel 1 up: .*ECH accepted")
    use(other, origin)
    assert "channels=1" in client.log() and f":{proxy}" not in client.log()


@pytest.mark.one_backend
def test_world_readable_secrets_are_warned_of(lab):
    port = free_port()
    keys = lab.keygen()
    file = secret_file(lab.path("server.toml"), server_toml(lab, port, keys))
    file.chmod(0o644)
    server = start(lab, "server", "-config", file)
    server.wait_log(r"warn.*server\.toml holds a secret and everyone on this host may read it")


BAD = {
    "no such file": (None, "No such file"),
    "a directory": ("/", "not a regular file"),
    "not TOML": (b"token = Sesame\n", ":1: expected TOML"),
    "a table": (b"[server]\nl = 1\n", ":1: unknown key server"),
    "not UTF-8": (b"l = \"\xff\"\n", ":1: expected TOML"),
    "binary": (bytes(range(256)), ":1: expected TOML"),
    "unknown key": (b"l = \"ws://127.0.0.1:1/\"\n\ntokne = \"Sesame\"\n", ":3: unknown key tokne (did you mean token?)"),
    "wrong type": (b"l = \"ws://127.0.0.1:1/\"\ntoken = 5\n", ":2: token (not shown): expected a string"),
    "bad value": (b"l = \"ws://127.0.0.1/\"\n", ":1: l \"ws://127.0.0.1/\": expected a port"),
    "secret that is none": (b"l = \"ws://127.0.0.1:1/\"\ntoken = \"Sesame Sesame\"\n", ":2: token (not shown)"),
    "too large": (b"#" * (256 * 1024 + 1), "at most 262144"),
    "far too large": (b"#" * (9 * 1024 * 1024), "more than"),
    "JSON cut short": (b"{\"token\": \"Sesame", ":1: expected JSON"),
    "JSON that is a list": (b"{}\n[1]", ":2: expected JSON"),
    "names another file": (b"config = \"x.toml\"\n", ":1: unknown key config"),
    "deep": (b"l = " + b"[" * 100000, ":1: expected TOML"),
}


@pytest.mark.sanitizers
def test_bad_files(binary, tmp_path):
    for name, (content, expected) in BAD.items():
        file = tmp_path / "c.toml"
        if isinstance(content, bytes):
            file.write_bytes(content)
        path = file if isinstance(content, bytes) else content or tmp_path / "none.toml"
        for extra in ((), ("-check-config",)):
            result = call(binary, "-config", path, "-state", tmp_path, *extra)
            assert result.returncode == 2 and not result.stdout, (name, result)
            lines = result.stderr.strip().splitlines()
            assert len(lines) == 1 and expected in lines[0] and str(path) in lines[0], (name, result.stderr)
            assert "Sesame" not in lines[0], name


@pytest.mark.sanitizers
@pytest.mark.one_backend
def test_check_config(lab, tmp_path):
    """Prints what is in effect, in a form that -config takes, without its secrets; makes nothing."""
    keys = lab.keygen()
    file = secret_file(lab.path("server.toml"), server_toml(lab, 1, keys))
    result = call(lab.binary, "-config", file, "-check-config", "-require-ech", "-log-level", "debug",
                  env={"ECH_TUNNEL_THREADS": "2"})
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert TOKEN not in result.stdout
    settings = tomllib.loads(result.stdout)
    expected = tomllib.loads(file.read_text())
    assert settings == {**expected, "token": "***", "require-ech": True, "log-level": "debug", "threads": 2,
                        "name": HIDDEN, "allow-target": "127.0.0.0/8:*", "backend": "auto"}
    comments = result.stdout.splitlines()
    assert f'cert = "{lab.pki.cert}"  # {file}:5' in comments
    assert "require-ech = true  # command line" in comments and "threads = 2  # environment" in comments
    assert "# log-format: text (default)" in comments
    assert any(line.startswith("# certificate: sha256/") and HIDDEN in line for line in comments)
    assert any(line.startswith("# ECH keys: 1, outer name " + PUBLIC) for line in comments)
    again = secret_file(tmp_path / "again.toml", result.stdout)
    second = call(lab.binary, "-config", again, "-check-config")
    assert second.returncode == 0 and tomllib.loads(second.stdout) == settings
    assert "which -check-config prints in a secret's place" in second.stdout

    state = tmp_path / "state"
    result = call(lab.binary, "-l", "wss://127.0.0.1:1/", "-state", state, "-check-config")
    assert result.returncode == 0 and not state.exists(), result
    result = call(lab.binary, "-l", "proxy://u5er:pa55@127.0.0.1:1", "-f", f"wss://{HIDDEN}/", "-check-config")
    assert result.returncode == 0 and "u5er" not in result.stdout and "pa55" not in result.stdout
    assert tomllib.loads(result.stdout)["l"] == "proxy://***:***@127.0.0.1:1"


@pytest.mark.one_backend
def test_check_config_looks_into_files(lab, tmp_path):
    """Whatever would keep it from starting is said, as one line."""
    pki = lab.pki
    _, other_key = pki.issue("another", ["other.test"])
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    broken_keys = tmp_path / "keys"
    broken_keys.mkdir()
    (broken_keys / "one.ech").write_text("nothing of the kind\n")
    server = ["-l", "wss://127.0.0.1:1/", "-state", tmp_path / "state"]
    client = ["-l", "proxy://127.0.0.1:1", "-f", f"wss://{HIDDEN}/"]
    cases = {
        "key of another certificate": ([*server, "-cert", pki.cert, "-key", other_key], other_key),
        "certificate that is none": ([*server, "-cert", garbage, "-key", pki.key], garbage),
        "key that is none": ([*server, "-cert", pki.cert, "-key", garbage], garbage),
        "broken ECH keys": ([*server, "-ech-keys", broken_keys], "one.ech"),
        "trust anchors that are none": ([*client, "-ca", garbage], garbage),
        "no trust anchors in it": ([*client, "-ca", pki.key], pki.key),
    }
    for name, (arguments, named) in cases.items():
        result = call(lab.binary, *arguments, "-check-config")
        assert result.returncode == 2 and not result.stdout, (name, result)
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1 and str(named) in lines[0], (name, result.stderr)
    for arguments in ([*server, "-cert", pki.cert, "-key", pki.key, "-ech-keys", lab.keygen()],
                      [*client, "-ca", pki.ca]):
        assert call(lab.binary, *arguments, "-check-config").returncode == 0
