"""UDP through the proxy by programs that others wrote: dante's socksify with dig, and node-socks."""

import ctypes
import errno
import json
import platform
import shutil
import struct
import subprocess

import pytest

import udp
from origins import echo
from peers import start_named
from waiting import SLOWNESS

ZONE = 'one 60 IN A 192.0.2.1\nsix 60 IN AAAA 2001:db8::6\nlong 60 IN TXT "' + '" "'.join(["x" * 200] * 4) + '"'

NODE_CONNECT = """
const {SocksClient} = require('socks');
const [proxy, port] = process.argv.slice(1).map(Number);
SocksClient.createConnection({proxy: {host: '127.0.0.1', port: proxy, type: 5}, command: 'connect',
                              destination: {host: 'localhost', port}}).then(({socket}) => {
  let got = '';
  socket.on('data', (data) => { got += data; if (got == 'through node-socks') { console.log(got); socket.end(); } });
  socket.write('through node-socks');
}, (error) => { console.error(error); process.exit(1); });
"""

NODE_ASSOCIATE = """
const {SocksClient} = require('socks');
const dgram = require('dgram');
const [proxy, ...ports] = process.argv.slice(1).map(Number);
const udp = dgram.createSocket('udp4');
const answers = [];
const client = new SocksClient({proxy: {host: '127.0.0.1', port: proxy, type: 5}, command: 'associate',
                                destination: {host: '0.0.0.0', port: 0}});
udp.on('message', (message) => {
  const {remoteHost, data} = SocksClient.parseUDPFrame(message);
  answers.push([remoteHost.host, remoteHost.port, data.toString()]);
  if (answers.length == ports.length) { console.log(JSON.stringify(answers)); udp.close(); client.socket.destroy(); }
});
client.on('established', (info) => {
  for (const port of ports) {
    const frame = SocksClient.createUDPFrame({remoteHost: {host: '127.0.0.1', port}, data: Buffer.from('to ' + port)});
    udp.send(frame, info.remoteHost.port, info.remoteHost.host);
  }
});
client.on('error', (error) => { console.error(error); process.exit(1); });
udp.bind(0, '127.0.0.1', () => client.connect());
"""


# Debian's modules, wherever node itself comes from.
NODE = {"NODE_PATH": "/usr/share/nodejs:/usr/share/javascript", "PATH": "/usr/bin:/bin"}


LIBC = ctypes.CDLL(None, use_errno=True)
SENDMMSG_RECVMMSG = {"x86_64": (307, 299), "aarch64": (269, 243)}
FILTER = b"".join(struct.pack("HBBI", *step) for step in [
    (0x20, 0, 0, 0),  # the call's number
    *[(0x15, 2 - i, 0, call) for i, call in enumerate(SENDMMSG_RECVMMSG.get(platform.machine(), (-1 % 2**32,) * 2))],
    (0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | errno.ENOSYS)])
FILTER_MEMORY = ctypes.create_string_buffer(FILTER)
FILTER_PROGRAM = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(FILTER) // 8, ctypes.addressof(FILTER_MEMORY)))


def without_mmsg():
    """In a child: the kernel says that it has no sendmmsg and recvmmsg. libuv, which dig is made of, calls them around
    the C library and so around dante, unless they are missing."""
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    if LIBC.prctl(no_new_privileges, 1, 0, 0, 0) != 0 or LIBC.prctl(seccomp, filter_mode, FILTER_PROGRAM, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def run(argv, env=None, prepare=None):
    result = subprocess.run([str(argument) for argument in argv], capture_output=True, text=True, env=env, check=False,
                            timeout=60 * SLOWNESS, stdin=subprocess.DEVNULL, preexec_fn=prepare)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def named(lab):
    return start_named(lab, ZONE)


# Debian 13 has no dante.
@pytest.mark.skipif(shutil.which("socksify") is None, reason="dante-client is not installed")
def test_socksify_dig(lab, named):
    """Queries over UDP, one of them with a long answer."""
    _, client = lab.pair()
    config = lab.path("socks.conf")
    config.write_text(f"""
        resolveprotocol: fake
        route {{
          from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {client.port}
          protocol: tcp udp
          proxyprotocol: socks_v5
          method: none
        }}
        """)
    # Loopback, too, by the route above: dante would go there directly.
    env = {"SOCKS_CONF": str(config), "SOCKS_AUTOADD_LANROUTES": "no", "SOCKS_DIRECTROUTE_FALLBACK": "no",
           "PATH": "/usr/bin:/bin"}
    dig = ["socksify", "dig", "@127.0.0.1", "-p", named.dns_port, "+short", "+tries=2", "+timeout=10"]
    assert run([*dig, "+notcp", "one.test", "A"], env, without_mmsg) == "192.0.2.1\n"
    assert run([*dig, "+notcp", "six.test", "AAAA"], env, without_mmsg) == "2001:db8::6\n"
    assert run([*dig, "+notcp", "+bufsize=4096", "long.test", "TXT"], env, without_mmsg).count("x" * 200) == 4
    kdig = ["socksify", "kdig", "@127.0.0.1", "-p", named.dns_port, "+short", "+timeout=10", "+notcp"]
    assert run([*kdig, "one.test", "A"], env) == "192.0.2.1\n"
    counters = client.process.counters()
    assert counters["datagrams_malformed"] == counters["datagrams_foreign"] == 0
    assert counters["datagrams_received"] >= 4


def test_node_socks_connect(lab):
    _, client = lab.pair()
    assert run(["node", "-e", NODE_CONNECT, client.port, lab.origin(echo).port], NODE) == "through node-socks\n"


def test_node_socks_associate(lab):
    targets = lab.keep(udp.Echo(5))
    _, client = lab.pair()
    answers = json.loads(run(["node", "-e", NODE_ASSOCIATE, client.port, *targets.ports], NODE))
    assert sorted(answers) == sorted(["127.0.0.1", port, f"{port}|to {port}"] for port in targets.ports)
