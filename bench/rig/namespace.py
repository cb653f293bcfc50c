"""A network namespace of the rig's own: nobody else's traffic or ports, and one congestion control for every socket.

The namespace is left to the kernel, which removes it with the last process in it. The algorithm is an attribute of the
loopback routes: that reaches every connection of every program, statically linked ones too, and needs no permission
outside the namespace; net.ipv4.tcp_congestion_control takes unprivileged algorithms only.
"""

import ctypes
import os
import subprocess

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
LOOPBACK_ROUTES = ("127.0.0.0/8", "127.0.0.1")
LISTEN = "0A"


class Unavailable(Exception):
    """This system does not let us have a namespace."""


def enter(congestion_control):
    """Moves this process, and so all its children, into a new namespace. As an ordinary user by way of a user
    namespace. Has to come before any thread is started."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) != 0:
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise Unavailable(f"a network namespace: {os.strerror(ctypes.get_errno())}; run as root")
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
    _ip("link", "set", "lo", "up")
    for route in LOOPBACK_ROUTES:
        _ip("route", "replace", "local", route, "dev", "lo", "table", "local", "proto", "kernel", "scope", "host",
            "src", "127.0.0.1", "congctl", congestion_control)


def _ip(*arguments):
    done = subprocess.run(["ip", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
                          check=False)
    if done.returncode != 0:
        raise Unavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def listening_ports():
    """The TCP ports that somebody listens on in the namespace."""
    ports = set()
    with open("/proc/self/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN:
                ports.add(int(fields[1].split(":")[1], 16))
    return ports


def congestion_controls():
    """The names of those that established connections use now."""
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control", encoding="ascii") as file:
        known = set(file.read().split())
    output = subprocess.run(["ss", "-tinHO", "state", "established"], stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, timeout=10, check=True).stdout
    return known & set(output.split())
