"""stunnel: a thread for every connection."""

import subprocess

from rig.chains.chain import CIPHER_SUITE, SERVER_NAME, Chain, find

COMMON = """\
foreground = yes
pid =
syslog = no
debug = warning
sslVersionMin = TLSv1.3
ciphersuites = {suite}
[tunnel]
accept = 127.0.0.1:{listen}
connect = 127.0.0.1:{connect}
"""


class Stunnel(Chain):
    name = "stunnel"
    title = "stunnel pair, TLS 1.3"
    packages = "stunnel4"

    @classmethod
    def program(cls, setting):
        return find("stunnel4", "stunnel")

    @classmethod
    def version(cls, program):
        output = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=10, check=False).stderr
        return next((line for line in output.splitlines() if line.startswith("stunnel ")), "?").split(" on ")[0]

    def start(self):
        between = next(self.setting.ports)
        self._start("server", between, self.target_port,
                    f"cert = {self.setting.certificate}\nkey = {self.setting.key}\n")
        self._start("client", self.entry_port, between,
                    f"client = yes\nverifyChain = yes\nCAfile = {self.setting.certificate}\nsni = {SERVER_NAME}\n"
                    f"checkHost = {SERVER_NAME}\n")

    def _start(self, role, listen, connect, extra):
        config = self.write(f"{role}.conf", COMMON.format(suite=CIPHER_SUITE, listen=listen, connect=connect) + extra)
        self.spawn(role, self.program(self.setting), config).wait_listening(listen)
