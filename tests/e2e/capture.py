"""Every packet of a network namespace's loopback, and a namespace for a module of tests."""

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading

import pytest

CLONE_NEWNET = 0x40000000
ETH_P_ALL, ETHERNET_BYTES = 0x0003, 14
SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 263, 6, 33
OUTGOING = 4  # of what goes through loopback there are two copies


@contextlib.contextmanager
def network_namespace():
    """Moves this thread, and so what it starts, into a namespace with nothing but loopback, and back."""
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip("a network namespace needs root")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)
        yield
        assert libc.setns(outside, CLONE_NEWNET) == 0
    finally:
        os.close(outside)


class Capture:
    """What crosses loopback, from now until stop()."""

    def __init__(self):
        self._packets = []
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        self._socket.bind(("lo", ETH_P_ALL))
        self._socket.settimeout(0.2)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        # What was there when the end was asked for is still read.
        while True:
            try:
                packet, address = self._socket.recvfrom(1 << 17)
                if address[2] != OUTGOING:
                    self._packets.append(packet)
            except socket.timeout:
                if self._ending.is_set():
                    return

    def stop(self):
        """Ends it; fails when the kernel had to leave packets out."""
        if self._socket.fileno() < 0:
            return
        self._ending.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        _, drops = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._socket.close()
        assert drops == 0, f"{drops} packets are missing"

    def everything(self):
        """All bytes in lower case: the packets as they were, then each TCP direction in one piece, for what lies across
        two segments."""
        streams = {}
        for packet in self._packets:
            ip = packet[ETHERNET_BYTES:]
            if ip[0] >> 4 != 4 or ip[9] != socket.IPPROTO_TCP:
                continue
            tcp = ip[(ip[0] & 15) * 4:struct.unpack(">H", ip[2:4])[0]]
            payload = tcp[(tcp[12] >> 4) * 4:]
            key = (ip[12:20], tcp[0:4])
            streams.setdefault(key, {})[struct.unpack(">I", tcp[4:8])[0]] = payload
        pieces = list(self._packets)
        for segments in streams.values():
            pieces.append(b"".join(payload for _, payload in sorted(segments.items())))
        return b"\n".join(pieces).lower()
