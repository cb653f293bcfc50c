"""Checks the rules of the layout that a compiler does not: core < proto < ech < net < tools, includes never point to
the right; above core nothing touches a socket, a clock or a random source except through the reactor; and no code of
ours sleeps. A line that has to break a rule says why: "// layers: allow, REASON".
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = ["core", "proto", "ech", "net", "tools"]
INCLUDE = re.compile(r'^\s*#\s*include\s+["<](\w+)/')
ALLOW = re.compile(r"//\s*layers: allow, \S+")

# What only core may call. Calls are recognised by their global qualification or by names nothing else has.
SYSTEM = [
    (r"::(socket|socketpair|connect|bind|listen|accept4?|send|recv|sendto|recvfrom|sendmsg|recvmsg|sendmmsg|recvmmsg"
     r"|shutdown|getsockopt|setsockopt|poll|ppoll|select|epoll_\w+|eventfd|timerfd_\w+)\s*\(", "a socket call"),
    (r"\b(io_uring_\w+|epoll_(create1?|ctl|wait|pwait2?)|accept4)\s*\(", "a socket call"),
    (r"#\s*include\s+<(sys/socket|sys/epoll|sys/eventfd|sys/timerfd|liburing|poll|sys/select)\.?h?>", "a socket header"),
    (r"\b(steady_clock|system_clock|high_resolution_clock)::now\b", "a clock"),
    (r"\b(gettimeofday|clock_gettime|timespec_get)\s*\(", "a clock"),
    (r"(?<![\w.>:])(::|std::)time\s*\(|(?<![\w.>:])time\s*\(\s*(nullptr|NULL|0|&)", "a clock"),
    (r"\babsl::(Now|GetCurrentTimeNanos)\s*\(", "a clock"),
    (r"\b(getrandom|getentropy|arc4random\w*)\s*\(|std::(random_device|rand)\b|/dev/u?random\b|\bRAND_bytes\s*\(",
     "a random source"),
]
SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|clock_nanosleep)\s*\(|::sleep\s*\(")


def strip_comment(line):
    """The code of a line: what a comment says is nobody's call. Strings are left alone on purpose (/dev/urandom)."""
    return re.sub(r"(?<!:)//.*$", "", line)


def check(path, layer):
    problems = []
    rank = LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
    in_block_comment = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.relative_to(ROOT)}:{number}"
        if ALLOW.search(line):
            continue
        code = strip_comment(line)
        if in_block_comment:
            if "*/" not in code:
                continue
            code, in_block_comment = code.split("*/", 1)[1], False
        code = re.sub(r"/\*.*?\*/", "", code)
        if "/*" in code:
            code, in_block_comment = code.split("/*", 1)[0], True

        include = INCLUDE.match(code)
        if include and include.group(1) in LAYERS and LAYERS.index(include.group(1)) > rank:
            problems.append(f"{where}: {layer} must not include {include.group(1)}: {line.strip()}")
        if layer in LAYERS[1:]:
            for pattern, what in SYSTEM:
                if re.search(pattern, code):
                    problems.append(f"{where}: {what} outside core: {line.strip()}")
                    break
        if SLEEP.search(code):
            problems.append(f"{where}: sleeping: {line.strip()}")
    return problems


def main():
    files = [(path, layer) for layer in [*LAYERS, "tests", "bench"] for suffix in ("*.h", "*.cc")
             for path in sorted((ROOT / layer).rglob(suffix))]
    problems = [problem for path, layer in files for problem in check(path, layer)]
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
