"""trojan: a TLS connection for every stream, the client as a fixed forward."""

import json
import subprocess

from rig.chains.chain import CIPHER_SUITE, SERVER_NAME, Chain, find

PASSWORD = "benchmark"
TCP = {"no_delay": True, "keep_alive": True, "reuse_port": False, "fast_open": False, "fast_open_qlen": 20}


class Trojan(Chain):
    name = "trojan"
    title = "trojan pair, TLS 1.3"
    packages = "trojan"

    @classmethod
    def program(cls, setting):
        return find("trojan")

    @classmethod
    def version(cls, program):
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
        words = (done.stdout + done.stderr).split()
        return " ".join(words[words.index("trojan"):][:2]) if "trojan" in words else "trojan"

    def start(self):
        between = next(self.setting.ports)
        common = {"password": [PASSWORD], "log_level": 2, "tcp": TCP}
        tls = {"cipher": "", "cipher_tls13": CIPHER_SUITE, "alpn": [], "reuse_session": True, "session_ticket": True,
               "curves": ""}
        server = self.write("server.json", json.dumps({
            **common, "run_type": "server", "local_addr": "127.0.0.1", "local_port": between,
            "remote_addr": "127.0.0.1", "remote_port": self.target_port, "udp_timeout": 60,
            "ssl": {**tls, "cert": str(self.setting.certificate), "key": str(self.setting.key), "key_password": "",
                    "prefer_server_cipher": True, "alpn_port_override": {}, "session_timeout": 600,
                    "plain_http_response": "", "dhparam": ""},
            "mysql": {"enabled": False}}))
        self.spawn("server", self.program(self.setting), "-c", server).wait_listening(between)
        client = self.write("client.json", json.dumps({
            **common, "run_type": "forward", "local_addr": "127.0.0.1", "local_port": self.entry_port,
            "remote_addr": "127.0.0.1", "remote_port": between, "target_addr": "127.0.0.1",
            "target_port": self.target_port, "udp_timeout": 60,
            "ssl": {**tls, "verify": True, "verify_hostname": True, "cert": str(self.setting.certificate),
                    "sni": SERVER_NAME}}))
        self.spawn("client", self.program(self.setting), "-c", client).wait_listening(self.entry_port)
