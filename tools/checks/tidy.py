"""Runs clang-tidy-19 over our sources, several at once. Their command lines come from build/lint, which is configured
to compile file by file, and never built: what a file needs to compile alone is part of what is checked.

A file that was clean is not looked at again until its text, a header of ours it includes, its command line or
.clang-tidy changes: build/tidy-cache holds an empty file per clean combination.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "lint"
CACHE = ROOT / "build" / "tidy-cache"
FOLDERS = ("core", "proto", "ech", "net", "tools", "bench")
INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def closure(source):
    """The file and every header of ours that it includes, directly or not."""
    seen, todo = set(), [source]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in INCLUDE.findall(path.read_bytes()):
            for base in (ROOT, path.parent):
                header = base / os.fsdecode(name)
                if header.is_file():
                    todo.append(header.resolve())
                    break
    return sorted(seen)


def key(source, command, version):
    digest = hashlib.sha256(f"{version}\0{command}\0".encode())
    digest.update((ROOT / ".clang-tidy").read_bytes())
    for path in closure(source):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def lint(source, command, version):
    clean = CACHE / key(source, command, version)
    name = str(source.relative_to(ROOT))
    if clean.exists():
        return name, 0, "", True
    result = subprocess.run(["clang-tidy-19", "-quiet", "-p", str(BUILD), str(source)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode == 0:
        clean.touch()
    return name, result.returncode, result.stdout + (result.stderr if result.returncode else ""), False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("files", nargs="*", type=pathlib.Path, help="only these sources")
    arguments = parser.parse_args()
    only = {path.resolve() for path in arguments.files}

    if not (BUILD / "compile_commands.json").exists():
        subprocess.run(["meson", "setup", str(BUILD), "-Dbuildtype=release"], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL, env={**os.environ, "CXX": "clang++-19"})
    CACHE.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["clang-tidy-19", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    commands = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        source = (pathlib.Path(entry["directory"]) / entry["file"]).resolve()
        if ROOT in source.parents and source.relative_to(ROOT).parts[0] in FOLDERS and (not only or source in only):
            commands[source] = entry["command"]

    failed = cached = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=arguments.jobs) as pool:
        futures = [pool.submit(lint, source, command, version) for source, command in sorted(commands.items())]
        for future in concurrent.futures.as_completed(futures):
            name, status, output, was_cached = future.result()
            cached += was_cached
            if status:
                failed += 1
                print(f"== {name}\n{output}", flush=True)
    print(f"{len(commands)} files, {cached} unchanged since they were clean, {failed} with findings")
    return 1 if failed or not commands else 0


if __name__ == "__main__":
    sys.exit(main())
