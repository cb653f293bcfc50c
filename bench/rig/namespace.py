"""Network namespaces of the rig's own: nobody else's traffic or ports, and one congestion control for every socket.

A namespace is left to the kernel, which removes it with the last process in it. The algorithm is an attribute of the
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

_libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """This system does not let us have a namespace."""


def enter(congestion_control):
    """Moves this process, and so all its children, into a new namespace. As an ordinary user by way of a user
    namespace. Has to come before any thread is started."""
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(CLONE_NEWNET) != 0:
        if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise Unavailable(f"a network namespace: {os.strerror(ctypes.get_errno())}; run as root")
        for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)
    _ip("link", "set", "lo", "up")
    for route in LOOPBACK_ROUTES:
        _ip("route", "replace", "local", route, "dev", "lo", "table", "local", "proto", "kernel", "scope", "host",
            "src", "127.0.0.1", "congctl", congestion_control)


def enter_two(congestion_control, tcp_buffer_bytes):
    """As enter(), and makes another one beside it, which is returned as a descriptor; it is there as long as that, or a
    process in it. In both, TCP's buffers may grow to `tcp_buffer_bytes`, and a connection learns nothing from those
    before it to the same host."""
    descriptors = []
    for _ in range(2):
        enter(congestion_control)
        for name, value in (("tcp_rmem", f"4096 131072 {tcp_buffer_bytes}"),
                            ("tcp_wmem", f"4096 65536 {tcp_buffer_bytes}"), ("tcp_no_metrics_save", "1")):
            try:
                with open(f"/proc/sys/net/ipv4/{name}", "w", encoding="ascii") as file:
                    file.write(value)
            except OSError as error:
                raise Unavailable(f"net.ipv4.{name}: {error}") from error
        descriptors.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    os.close(descriptors[1])
    return descriptors[0]


def join(descriptor):
    """Moves this process into a namespace; nothing for None."""
    if descriptor is not None and _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def configure(device, address, network, congestion_control, where):
    """Gives `device` in the namespace `where` its address, and all of `network` the algorithm."""
    _ip("address", "add", f"{address}/{network.split('/')[1]}", "dev", device, where=where)
    _ip("link", "set", device, "up", where=where)
    _ip("route", "replace", network, "dev", device, "src", address, "congctl", congestion_control, where=where)


def _ip(*arguments, where=None):
    done = subprocess.run(["ip", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10,
                          check=False, preexec_fn=lambda: join(where))
    if done.returncode != 0:
        raise Unavailable(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def listening_ports(pid):
    """The TCP ports that somebody listens on in the namespace of the process; none when it has ended."""
    try:
        with open(f"/proc/{pid}/net/tcp", encoding="ascii") as table:
            lines = table.readlines()[1:]
    except OSError:
        return set()
    return {int(fields[1].split(":")[1], 16) for fields in map(str.split, lines) if fields[3] == LISTEN}


def congestion_controls(where=None):
    """The names of those that established connections use now in the namespace `where`, or in this one."""
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control", encoding="ascii") as file:
        known = set(file.read().split())
    output = subprocess.run(["ss", "-tinHO", "state", "established"], stdin=subprocess.DEVNULL, capture_output=True,
                            text=True, timeout=10, check=True, preexec_fn=lambda: join(where)).stdout
    return known & set(output.split())
