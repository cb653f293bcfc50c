"""What the figures were taken on."""

import os
import pathlib
import platform
import re


def describe(congestion_control):
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))
    release = platform.freedesktop_os_release()
    return {
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory.group(1)) / 1024 ** 2, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "system": release.get("PRETTY_NAME", "?"),
        "tcp_congestion_control": congestion_control,
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }
