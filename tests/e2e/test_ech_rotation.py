"""The server's ECH keys while it runs: files that come and go, rotation by time, the delay before a key is published,
and a hundred rotations under load."""

import re
import subprocess
import threading
import time

import pytest

import apps
from ech_bytes import read_pem_folder
from origins import echo
from peers import nss_database, tstclnt
from pki import PUBLIC
from waiting import wait_until

LOADED = r"ECH keys: (\d+) accepted \(([0-9a-f ]+)\), published ([0-9a-f]{2})"


def make_key(lab, folder):
    """Another key in the folder, as an operator makes one; its file."""
    before = set(folder.iterdir())
    subprocess.run([lab.binary, "ech-keygen", "-public-name", PUBLIC, "-out", folder], check=True, timeout=30,
                   stdout=subprocess.DEVNULL)
    made, = set(folder.iterdir()) - before
    return made


def id_of(path):
    return path.stem[-2:]


def wait_loaded(server, since, condition, what):
    """Until the server has said that it uses keys of which (number, ids, published) fulfils the condition."""
    def look():
        found = re.findall(LOADED, server.process.log(since))
        return found and condition(int(found[-1][0]), found[-1][1].split(), found[-1][2])

    wait_until(look, timeout=30, what=what)


def enters(lab, server, config):
    client = lab.client(server.port, config=config)
    return client.process.wait_log(r"channel 1 up: .*ECH accepted")


@pytest.mark.sanitizers
def test_files_that_come_and_go_are_noticed(lab):
    """Without a signal: what is put there is published, what is removed is refused."""
    keys = lab.keygen()
    server = lab.server(keys=keys)
    first, old_config = next(keys.iterdir()), server.config
    mark = server.process.mark()
    second = make_key(lab, keys)
    wait_loaded(server, mark, lambda count, ids, published: count == 2 and published == id_of(second), "the new key")
    database = nss_database(lab, with_server_key=False)
    for config in (old_config, read_pem_folder(keys)):
        status, output = tstclnt(database, server.port, config)
        assert status == 0, output
    first.unlink()
    wait_loaded(server, mark, lambda count, ids, published: ids == [id_of(second)], "the old one to be gone")
    status, output = tstclnt(database, server.port, old_config)
    assert status != 0 and "ECH_RETRY_WITH_ECH" in output, output
    enters(lab, server, old_config)


def test_a_bad_file_changes_nothing(lab):
    keys = lab.keygen()
    server = lab.server(keys=keys)
    config = server.config
    mark = server.process.mark()
    bad = keys / "zz.ech"
    bad.write_text("-----BEGIN PRIVATE KEY-----\nnot base64\n")
    server.process.wait_log(r"going on with what was loaded before: .*zz\.ech", since=mark)
    enters(lab, server, config)
    bad.unlink()
    made = make_key(lab, keys)
    wait_loaded(server, mark, lambda count, ids, published: count == 2 and published == id_of(made), "the good ones")


def test_a_folder_that_is_replaced(lab):
    """As a mount, or what synchronises a fleet, may do it."""
    keys = lab.keygen()
    server = lab.server(keys=keys)
    mark = server.process.mark()
    other = lab.path("other-keys")
    other.mkdir()
    made = make_key(lab, other)
    keys.rename(lab.path("old-keys"))
    server.process.wait_log(r"going on with what was loaded before", since=mark)
    other.rename(keys)
    server.process.child.send_signal(1)  # SIGHUP: or it would take its time, ten seconds
    wait_loaded(server, mark, lambda count, ids, published: published == id_of(made), "the key of the new folder")
    again = make_key(lab, keys)
    wait_loaded(server, mark, lambda count, ids, published: published == id_of(again), "a change in it")


def test_the_publish_delay(lab):
    """A young key is accepted at once and published later; two nodes that share a folder agree."""
    keys = lab.keygen()
    nodes = [lab.server("-serve-dns", "-ech-publish-delay", "3s", keys=keys) for _ in range(2)]
    first = next(keys.iterdir())
    marks = [node.process.mark() for node in nodes]
    second = make_key(lab, keys)
    made_at = time.monotonic()
    for node, mark in zip(nodes, marks):
        wait_loaded(node, mark, lambda count, ids, published: count == 2 and published == id_of(first), "the young key")
    for node, mark in zip(nodes, marks):
        wait_loaded(node, mark, lambda count, ids, published: published == id_of(second), "its publication")
    assert time.monotonic() - made_at > 2, "at once is no delay"
    enters(lab, nodes[0], read_pem_folder(keys))


@pytest.mark.sanitizers
def test_rotation_by_time(lab):
    """Nodes that share a folder and rotate make keys, and not each its own every time; a stream goes on meanwhile."""
    origin = lab.origin(echo)
    keys = lab.keygen()
    nodes = [lab.server("-ech-rotate", "2s", keys=keys) for _ in range(2)]
    client = lab.client(nodes[0].port, config=nodes[0].config)
    with apps.socks5(client.port, "127.0.0.1", origin.port) as sock:
        began = time.monotonic()
        nodes[0].process.wait_log(r"ECH keys: ([4-9]|\d\d) accepted", timeout=60)
        sock.sendall(b"still here")
        assert apps.receive_exactly(sock, 10) == b"still here"
    # Each period one, or two where both nodes looked at the same time.
    assert len(list(keys.iterdir())) <= 2 * (2 + (time.monotonic() - began) / 2)
    for node in nodes:
        enters(lab, node, read_pem_folder(keys))


class Talker(threading.Thread):
    """Sends numbered lines through a stream and wants each back, until it is told to end."""

    def __init__(self, port, target):
        super().__init__(daemon=True)
        self.ending = threading.Event()
        self.lines, self.error = 0, None
        self._sock = apps.socks5(port, "127.0.0.1", target)
        self._sock.settimeout(120)
        self.start()

    def run(self):
        try:
            with self._sock as sock:
                while not self.ending.is_set():
                    line = f"line {self.lines}\n".encode() * 50
                    sock.sendall(line)
                    assert apps.receive_exactly(sock, len(line)) == line
                    self.lines += 1
        except (OSError, AssertionError) as error:
            self.error = error

    def end(self):
        self.ending.set()
        self.join(120)
        assert not self.is_alive() and self.error is None, self.error
        return self.lines


@pytest.mark.protocol("native")
def test_a_hundred_rotations_under_load(lab):
    """Three channels that are cut again and again come back every time, with a list that the server forgot long ago, and
    no stream notices."""
    origin = lab.origin(echo)
    keys = lab.keygen()
    server = lab.server(keys=keys)
    relay = lab.relay(server.port)
    client = lab.client(relay.port, config=server.config, channels=3)
    talkers = [Talker(client.port, origin.port) for _ in range(4)]
    files = list(keys.iterdir())
    for rotation in range(100):
        mark = server.process.mark()
        files.append(make_key(lab, keys))
        if len(files) > 3:
            files.pop(0).unlink()
        wait_loaded(server, mark, lambda count, ids, published: published == id_of(files[-1]) and count == len(files),
                    f"rotation {rotation}")
        if rotation % 2 == 0 and client.process.counters()["channels_up"] > 0:
            relay.cut()
    counters = client.process.counters()
    assert counters["channels_opened"] > 10, counters
    wait_until(lambda: client.process.counters()["channels_up"] == 3, timeout=90, what="all channels to be back")
    assert all(talker.end() > 10 for talker in talkers)
    assert "WITHOUT ECH" not in client.process.log()
    assert client.process.counters()["ech_rejected"] > 0, "the first list was good to the end"
