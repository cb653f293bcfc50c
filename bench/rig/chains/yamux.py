"""yamux with its defaults on one plain TCP connection: bench/peers/yamux_pair.go, built when Go is installed."""

import os
import pathlib
import subprocess

from rig.chains.chain import Chain, find
from rig.processes import Failure

GO = find("/usr/bin/go", "go")
GO_PATH = pathlib.Path("/usr/share/gocode")   # of Debian's golang-*-dev packages
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "peers" / "yamux_pair.go"


class Yamux(Chain):
    name = "yamux"
    title = "yamux, 256 KiB window, plain TCP"
    packages = "golang-go golang-github-hashicorp-yamux-dev"

    @classmethod
    def program(cls, setting):
        if not GO or not (GO_PATH / "src/github.com/hashicorp/yamux").is_dir():
            return None
        program = setting.build_dir / "bench" / "yamux_pair"
        if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
            done = subprocess.run(
                [GO, "build", "-o", program, SOURCE], capture_output=True, text=True, timeout=300, check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PATH),
                     "GOCACHE": str(setting.build_dir / "bench" / "go-cache")})
            if done.returncode != 0:
                raise Failure(f"go build: {done.stderr.strip()}")
        return program

    @classmethod
    def version(cls, program):
        output = subprocess.run(["dpkg-query", "-W", "-f=${Version}", "golang-github-hashicorp-yamux-dev"],
                                capture_output=True, text=True, timeout=10, check=False).stdout
        go = subprocess.run([GO, "version"], capture_output=True, text=True, timeout=10, check=False).stdout
        return f"golang-github-hashicorp-yamux-dev {output or '?'}, {' '.join(go.split()[2:3])}"

    def start(self):
        program, address = self.program(self.setting), self.setting.server_address
        between = next(self.setting.ports)
        self.spawn("server", program, "server", f"{address}:{between}",
                   f"127.0.0.1:{self.target_port}").wait_listening(between)
        self.spawn("client", program, "client", f"127.0.0.1:{self.entry_port}",
                   f"{address}:{between}").wait_listening(self.entry_port)
