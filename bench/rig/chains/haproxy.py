"""HAProxy, TCP to TLS 1.3 and back, and the same pair without TLS. As many threads as cores, as ech-tunnel has."""

import re
import subprocess

from rig.chains.chain import CIPHER_SUITE, SERVER_NAME, Chain, find

CONFIG = """\
global
  nbthread {threads}
  maxconn 8000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites {suite}
  ssl-default-server-ciphersuites {suite}
defaults
  mode tcp
  timeout connect 10s
  timeout client 120s
  timeout server 120s
listen tunnel
  bind 127.0.0.1:{listen} {bind_options}
  server next 127.0.0.1:{connect} {server_options}
"""


class HaproxyPlain(Chain):
    name = "haproxy-plain"
    title = "HAProxy pair, plain TCP"
    packages = "haproxy"

    @classmethod
    def program(cls, setting):
        return find("haproxy")

    @classmethod
    def version(cls, program):
        output = subprocess.run([program, "-vv"], capture_output=True, text=True, timeout=10, check=True).stdout
        library = re.search(r"Running on OpenSSL version : (.*)", output)
        return f"HAProxy {output.split()[2]}" + (f", {library.group(1)}" if library else "")

    def bind_options(self):
        return ""

    def server_options(self):
        return ""

    def start(self):
        between = next(self.setting.ports)
        self._start("server", between, self.target_port, len(self.setting.server_cores), bind=self.bind_options())
        self._start("client", self.entry_port, between, len(self.setting.client_cores), server=self.server_options())

    def _start(self, role, listen, connect, threads, bind="", server=""):
        config = self.write(f"{role}.cfg", CONFIG.format(threads=threads, suite=CIPHER_SUITE, listen=listen,
                                                         connect=connect, bind_options=bind, server_options=server))
        self.spawn(role, self.program(self.setting), "-db", "-f", config).wait_listening(listen)


class HaproxyTls(HaproxyPlain):
    name = "haproxy-tls"
    title = "HAProxy pair, TLS 1.3"

    def bind_options(self):
        both = self.write("server.pem", self.setting.certificate.read_text(encoding="ascii")
                          + self.setting.key.read_text(encoding="ascii"))
        return f"ssl crt {both}"

    def server_options(self):
        return f"ssl verify required ca-file {self.setting.certificate} sni str({SERVER_NAME}) verifyhost {SERVER_NAME}"
