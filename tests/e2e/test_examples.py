"""Every example command of README and of -h is run. A command that nothing here knows how to run fails the test, so
that a new example comes with a way to try it.

What an example means by an address, a name or a file of the reader's is put into it here (SUBSTITUTIONS below); what
a test needs besides (trust in the test's own certificates, leave to connect to loopback) goes into the environment, so
that the command line stays the one that is printed.
"""

import contextlib
import http.server
import os
import pathlib
import re
import shlex
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading

import pytest

import apps
import udp
import ws
from conftest import ROOT
from origins import echo
from peers import start_named
from procs import free_port
from waiting import SLOWNESS

TOKEN = "SECRET"
NAMES = ["hidden.example.com", "tunnel.example.org"]
# Commands that other tests run, and which.
ELSEWHERE = {
    "tools/quickstart": "tests/e2e/test_quickstart.py",
    "tools/test": "tools/checks/run.py",  # it is what runs this
    "tools/setup build": "tools/quickstart",
    "tools/build release": "tools/quickstart",
}


def blocks_of(text):
    """The code blocks of a text in Markdown: (language, lines)."""
    return [(match.group(1), match.group(2)) for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)]


def commands_of(block):
    """The commands of a shell block: continued lines joined, comments dropped."""
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words]


def commands_in_readme(path):
    text = path.read_text(encoding="utf-8")
    commands = [command for language, block in blocks_of(text) if language in ("", "sh") for command in
                commands_of(block)]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    commands += [shlex.split(code) for code in re.findall(r"`(ech-tunnel [^`]+)`", prose)]
    return commands


def files_in_readme(path):
    """Configuration files that are shown, by the name that a command of README has for them."""
    text = path.read_text(encoding="utf-8")
    shown = [(language, block) for language, block in blocks_of(text) if language in ("toml", "json")]
    names = re.findall(r"-config (\S+)", text)
    names = list(dict.fromkeys(name.strip("`") for name in names if name.strip("`").endswith((".toml", ".json"))))
    assert len(shown) == len(names), "each file that is shown is used by a command, in the same order"
    return dict(zip(names, (block for _, block in shown)))


class UnixEcho(socketserver.ThreadingUnixStreamServer):
    """Sends back what it receives, on a Unix socket."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)

    def __init__(self, path):
        super().__init__(path, self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class World:
    """What the examples suppose: a server that answers DoH for the names, in the place of server, CDN and resolver;
    origins; and files."""

    def __init__(self, lab, commands):
        self.lab = lab
        self.port, self.proxy = free_port(), free_port()
        # The path of a Unix socket has to be short.
        self.sockets = tempfile.mkdtemp(prefix="ech-")
        lab.keep(self)
        allowed, self.unix_origin = "127.0.0.0/8", None
        if any("unix:/run/app.sock" in word for command in commands for word in command):
            self.unix_origin = UnixEcho(f"{self.sockets}/app.sock")
            allowed += f",unix:{self.sockets}/app.sock"
        self.state = lab.path("server-state")
        self.state.mkdir()
        # The CDN's name is one more name of the same server: ECHConfigLists are looked up there by default.
        self.server = lab.run("world", "-l", f"wss://127.0.0.1:{self.port}/tunnel", "-l",
                              f"wss://127.0.0.2:{self.port}/tunnel", "-token", TOKEN, "-name",
                              ",".join([*NAMES, "cloudflare-ech.com"]), "-ech-public-name", "www.example.com", "-serve-dns",
                              "-state", self.state, "-allow-target", allowed, "-allow-reverse", "127.0.0.0/8:*")
        self.server.wait_log(r"listening on wss://127\.0\.0\.2")
        self.certificate = self.state / "cert.pem"
        self.pin = self.server.wait_log(r"certificate .*: (sha256/\S+)")[0].group(1)
        self.origin = lab.origin(echo)
        self.udp_origin = lab.keep(udp.Echo())
        self.cert, self.key = lab.pki.issue("example", [*NAMES, "www.example.com", "localhost"])
        self.config = lab.path("config.b64")
        key = next((self.state / "ech").glob("*.ech")).read_text()
        self.config.write_text(re.search(r"BEGIN ECHCONFIG-+\n(.*?)\n-", key, re.S).group(1).replace("\n", "") + "\n")
        self.token = lab.path("token")
        self.token.write_text(TOKEN + "\n")
        self.token.chmod(0o600)
        self.folders = {}
        self.files = {}

    def stop(self):
        if self.unix_origin:
            self.unix_origin.shutdown()
            self.unix_origin.server_close()
        shutil.rmtree(self.sockets)

    def substitutions(self, server_side):
        """(pattern, what it stands for here), in this order. Where a command listens is up to free_port()."""
        name = "|".join(map(re.escape, NAMES))
        doh = f"https://127.0.0.1:{self.port}/dns-query"
        listen = [(r"\b(wss?)://(0\.0\.0\.0|\[::\]|10\.0\.0\.5|127\.0\.0\.1):\d+/",
                   lambda m: f"{m.group(1)}://127.0.0.1:{free_port()}/")]
        dial = [(r"^udp://.*", lambda m: re.sub(r"[\d.]+:(?:5353|51820)/[\w.]+:\d+", lambda _: (
                    f"127.0.0.1:{free_port()}/127.0.0.1:{self.udp_origin.port}"), m.group(0))),
                (rf"wss://({name})(:443)?/", rf"wss://\1:{self.port}/"),
                (r"wss://\.\.\.", f"wss://{NAMES[0]}:{self.port}/tunnel"),
                (r"proxy://127\.0\.0\.1:1080", lambda m: f"proxy://127.0.0.1:{self.proxy}"),
                (r"127\.0\.0\.1:(2222|5353|5432|8000)/", lambda m: f"127.0.0.1:{free_port()}/"),
                (r"^(rtcp://[^/]+)/127\.0\.0\.1:22$", rf"\1/127.0.0.1:{self.origin.port}"),
                (r"/(ssh\.internal|db\.internal|10\.0\.0\.5|9\.9\.9\.9):\d+", f"/127.0.0.1:{self.origin.port}")]
        return (listen if server_side else dial) + [
            (r"unix:/run/(\w+\.sock)", rf"unix:{self.sockets}/\1"),
            (r"@10\.0\.0\.7:1080$", f"@127.0.0.1:{self.proxy}"),
            (r"https://(RESOLVER|203\.0\.113\.5)/dns-query", doh),
            (r"^203\.0\.113\.5$", "127.0.0.1"),
            (r"^(198\.51\.100\.7,198\.51\.100\.8|104\.16\.1\.1,104\.16\.2\.2)$", "127.0.0.1,127.0.0.2"),
            (r"^BA7816BF\w+$", self.pin),
            (r"^fullchain\.pem$", str(self.cert)), (r"^privkey\.pem$", str(self.key)),
            (r"^server-cert\.pem$", str(self.certificate)), (r"^@config\.b64$", f"@{self.config}"),
            (r"@/etc/ech-tunnel/token", f"@{self.token}"),
            (r"^/var/lib/ech-tunnel$", str(self.folder("state"))),
            (r"^DIR$", str(self.folder("DIR"))), (r"^NAME$", "www.example.com"),
        ]

    def folder(self, name):
        if name not in self.folders:
            self.folders[name] = self.lab.path(name)
        return self.folders[name]

    def put_in(self, words, server_side):
        result = []
        for word in words:
            for pattern, value in self.substitutions(server_side):
                word = re.sub(pattern, value, word)
            result.append(str(self.files.get(word, word)))
        return result

    def environment(self, command):
        given = {word.lstrip("-") for word in command if word.startswith("-")}
        state = self.lab.path("state")
        state.mkdir()
        env = {"ECH_TUNNEL_STATE": str(state), "ECH_TUNNEL_BACKEND": self.lab.backend}
        if is_server(command):
            env["ECH_TUNNEL_ALLOW_TARGET"] = "127.0.0.0/8"
        elif not given & {"ca", "pin"}:
            env["ECH_TUNNEL_CA"] = str(self.certificate)
        if not is_server(command) and not given & {"dns", "config"}:
            env["ECH_TUNNEL_DNS"] = f"https://127.0.0.1:{self.port}/dns-query"
        return env, state


def is_server(command):
    return any(word.startswith(("ws://", "wss://")) and command[at] == "-l" for at, word in enumerate(command[1:]))


def connect(address):
    """To an address as the program logs it: ip:port, or unix:/path."""
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(15 * SLOWNESS)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 15 * SLOWNESS)


def run_server(world, command):
    """It listens, upgrades whoever has the token, and answers a Ping."""
    env, state = world.environment(command)
    words = world.put_in(command[1:], server_side=True)
    process = world.lab.start("example", world.lab.binary, *words, env=env)
    process.wait_log(r"listening on")
    scheme, address, path = re.match(r"(wss?)://(unix:[^:]+|127\.0\.0\.1:\d+):?(/.*)",
                                     words[words.index("-l") + 1]).groups()
    sock = connect(address)
    if scheme == "wss":
        made = state / "cert.pem"
        if "-state" in words:
            made = pathlib.Path(words[words.index("-state") + 1]) / "cert.pem"
        context = ssl.create_default_context(cafile=str(made if made.exists() else world.lab.pki.ca))
        # A made certificate is for the names of the command, if it has any.
        context.check_hostname = "-name" in words
        name = words[words.index("-name") + 1].split(",")[0] if "-name" in words else None
        sock = context.wrap_socket(sock, server_hostname=name)
    with sock:
        sock.sendall(ws.upgrade_head(path, TOKEN).replace("\n", "\r\n").encode())
        assert ws.read_head(sock)[0].split()[1] == "101"
        sock.sendall(ws.frame(ws.PING, b"example"))
        assert apps.receive_exactly(sock, 9) == b"\x8a\x07example"
    assert process.stop() == 0


def through_proxy(address, port):
    """A connection to a port of loopback through the SOCKS5 proxy at an address."""
    sock = connect(address)
    sock.sendall(b"\x05\x01\x00")
    assert apps.receive_exactly(sock, 2) == b"\x05\x00"
    sock.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
    assert apps.receive_exactly(sock, 10)[:2] == b"\x05\x00"
    return sock


def run_client(world, command):
    """Its channels are up with ECH, and bytes go through whatever it listens on."""
    env, _ = world.environment(command)
    words = world.put_in(command[1:], server_side=False)
    process = world.lab.start("example", world.lab.binary, *words, env=env)
    process.wait_log(r"channel \d+ up: .*ECH accepted")
    for match in process.wait_log(r"listening on (proxy|tcp|rtcp|udp)://(unix:[^:\s]+|[\d.]+:\d+)"):
        kind, address = match.groups()
        if kind == "udp":
            ask_again(int(address.rsplit(":", 1)[1]))
            continue
        with through_proxy(address, world.origin.port) if kind == "proxy" else connect(address) as sock:
            sock.sendall(b"through")
            assert apps.receive_exactly(sock, 7) == b"through"
    assert process.stop() == 0


def ask_again(port):
    """Until it is answered: the listener's core may have no channel yet."""
    with udp.udp_socket(timeout=0.5) as sock:
        for _ in range(30):
            sock.sendto(b"through", ("127.0.0.1", port))
            with contextlib.suppress(socket.timeout):
                assert sock.recv(100).endswith(b"through")
                return
    raise AssertionError(f"no answer on port {port}")


def run_once(world, command):
    """A verb, or -check-config: exit status 0 and something to read."""
    env, _ = world.environment(command)
    words = world.put_in(command[1:], server_side=False)
    result = subprocess.run([world.lab.binary, *words], env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30 * SLOWNESS, text=True, check=False)
    assert result.returncode == 0 and result.stdout and not result.stderr, result


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802, the library's name
        body = b"the page\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def page_origin(context=None):
    """A web server on loopback, by TLS with a context; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as origin:
        if context:
            origin.socket = context.wrap_socket(origin.socket, server_side=True)
        thread = threading.Thread(target=origin.serve_forever, daemon=True)
        thread.start()
        yield origin.server_address[1]
        origin.shutdown()
        thread.join()


def run_curl(world, command):
    """Fetches a page through a client, by the scheme of the example."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(world.cert, world.key)
    client, proxy = start_proxy(world)
    with page_origin() as plain, page_origin(context) as secure:
        ports = {"http": plain, "https": secure}
        words = [re.sub(r"127\.0\.0\.1:1080", f"127.0.0.1:{proxy}", word) for word in command]
        words = [re.sub(r"^(https?)://example\.org/", lambda m: f"{m.group(1)}://localhost:{ports[m.group(1)]}/", word)
                 for word in words]
        assert words != command and any("//localhost" in word for word in words), "an address nobody put in"
        clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        result = subprocess.run([*words, "--silent", "--show-error"],
                                env={**clean, "CURL_CA_BUNDLE": str(world.lab.pki.ca)}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, timeout=30 * SLOWNESS, check=False)
    assert result.returncode == 0 and result.stdout == b"the page\n", result
    assert client.stop() == 0


def run_dig(world, command):
    """Asks a real DNS server through a listener."""
    named = start_named(world.lab, "one 60 IN A 192.0.2.1")
    client, port = start_client(world, "udp", f"/127.0.0.1:{named.dns_port}")
    words = [{"5353": str(port), "example.org": "one.test"}.get(word, word) for word in command]
    result = subprocess.run(words, stdout=subprocess.PIPE, timeout=60 * SLOWNESS, check=True)
    assert b"192.0.2.1" in result.stdout, result
    assert client.stop() == 0


def start_proxy(world):
    return start_client(world, "proxy")


def start_client(world, scheme, target=""):
    port = free_port()
    state = world.lab.path("client-state")
    state.mkdir()
    process = world.lab.run("client", "-l", f"{scheme}://127.0.0.1:{port}{target}", "-f", f"wss://{NAMES[0]}:{world.port}/tunnel",
                            "-token", TOKEN, "-ca", world.certificate, "-dns",
                            f"https://127.0.0.1:{world.port}/dns-query", "-ech", "auto", "-state", state)
    process.wait_log(r"channel \d+ up:")
    return process, port


def runner_of(command):
    """How a command is run; None when nobody knows."""
    if command[0] == "curl":
        return run_curl
    if command[0] == "dig":
        return run_dig
    if command[0] != "ech-tunnel":
        return None
    if command[1] in ("check", "ech-keygen", "version") or "-check-config" in command or "-h" in command:
        return run_once
    if is_server(command):
        return run_server
    return run_client if "-f" in command or "-config" in command else None


def run_all(world, commands):
    failures = []
    for command in commands:
        shown = " ".join(command)
        plain = " ".join(word for word in command if not re.match(r"[A-Z]+=", word))
        if plain in ELSEWHERE:
            assert (ROOT / ELSEWHERE[plain]).exists(), shown
            continue
        runner = runner_of(command)
        if runner is None:
            failures.append(f"nothing here runs this example: {shown}")
            continue
        try:
            runner(world, command)
        except Exception as error:  # the others are run all the same
            failures.append(f"{shown}\n    {type(error).__name__}: {error}")
    assert not failures, "\n".join(failures)


@pytest.mark.one_backend
def test_examples_of_readme(lab):
    readme = ROOT / "README.md"
    commands = commands_in_readme(readme)
    assert len(commands) > 10
    world = World(lab, commands)
    for name, text in files_in_readme(readme).items():
        for pattern, value in world.substitutions(server_side=False):
            text = re.sub(pattern, value, text)
        world.files[name] = lab.path(name)
        world.files[name].write_text(text)
        world.files[name].chmod(0o600)
    run_all(world, commands)


@pytest.mark.one_backend
def test_examples_of_help(lab):
    """The indented lines of -h that begin with the program's name, under "Examples"."""
    text = subprocess.run([lab.binary, "-h"], stdout=subprocess.PIPE, text=True, timeout=10, check=True).stdout
    examples = text.split("\nExamples\n", 1)[1].split("\nServer and client\n", 1)[0]
    block = "\n".join(line[4:] for line in examples.splitlines() if line.startswith("    "))
    commands = commands_of(block)
    assert len(commands) >= 5 and all(command[0] == "ech-tunnel" for command in commands)
    run_all(World(lab, commands), commands)


def test_both_readmes_show_the_same_commands():
    english, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    assert commands_in_readme(chinese) == commands_in_readme(english)
    strip = [[re.sub(r"\s*#.*", "", line) for line in text.splitlines()] for path in (english, chinese)
             for text in files_in_readme(path).values()]
    assert strip[:len(strip) // 2] == strip[len(strip) // 2:]


def test_an_unknown_example_fails():
    """The control of the tests above."""
    for command in (["ech-tunnel", "frobnicate"], ["wget", "http://127.0.0.1/"], ["ech-tunnel", "-l", "proxy://:1"]):
        with pytest.raises(AssertionError, match="nothing here runs this example"):
            run_all(None, [command])
    assert commands_of("a \\\n   b # c\n# d\n\ne 'f g'") == [["a", "b"], ["e", "f g"]]
