"""Independent peers: bind9, dnsdist and unbound as DoH servers, NSS's tstclnt and selfserv, OpenSSH. Each recipe was
tried by hand first."""

import getpass
import os
import subprocess
import tempfile

from pki import HIDDEN
from procs import free_port
from waiting import wait_until


def start_named(lab, zone, port=None, updates=False):
    """bind9 as an authoritative DoH server (HTTP/2) for "test."; `zone` holds its records. `updates`: whoever asks may
    change it."""
    folder = lab.path("named")
    folder.mkdir()
    doh, dns, plain = port or free_port(), free_port(), free_port()
    (folder / "test.zone").write_text(
        f"$TTL 60\n@ IN SOA ns.test. root.test. 1 3600 600 86400 60\n@ IN NS ns.test.\nns IN A 127.0.0.1\n{zone}\n")
    (folder / "named.conf").write_text(f"""
        options {{ directory "{folder}"; pid-file none; session-keyfile none; listen-on port {dns} {{ 127.0.0.1; }};
          listen-on port {doh} tls doh http local {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
          http-port {plain}; https-port {doh}; recursion no; dnssec-validation no; empty-zones-enable no; }};
        http local {{ endpoints {{ "/dns-query"; }}; }};
        tls doh {{ cert-file "{lab.pki.cert}"; key-file "{lab.pki.key}"; protocols {{ TLSv1.2; TLSv1.3; }}; }};
        controls {{ }};
        zone "test." {{ type primary; file "test.zone"; {"allow-update { any; };" if updates else ""} }};
        """)
    named = lab.start("named", "named", "-g", "-n", "1", "-c", folder / "named.conf")
    named.wait_log(r"all zones loaded|running$")
    named.doh_port, named.dns_port = doh, dns
    return named


def https_records(server_port, ech):
    """The zone lines that publish a server on loopback: for the plain name and for the name with its port."""
    parameters = f'alpn="http/1.1" port={server_port} ipv4hint=127.0.0.1' + (f' ech="{ech}"' if ech else "")
    host = HIDDEN.removesuffix(".test")
    return "\n".join([f"{host} 60 IN A 127.0.0.1", f"{host} 60 IN HTTPS 1 . {parameters}",
                      f"_{server_port}._https.{host} 60 IN HTTPS 1 {HIDDEN}. {parameters}"])


def start_dnsdist(lab, zone):
    """dnsdist as a DoH front (HTTP/2 and HTTP/1.1) of a bind9 that holds `zone`. Returns its process, with doh_port."""
    named = start_named(lab, zone)
    doh, dns = free_port(), free_port()
    config = lab.path("dnsdist.conf")
    config.write_text(f"""
        setLocal("127.0.0.1:{dns}")
        addDOHLocal("127.0.0.1:{doh}", "{lab.pki.cert}", "{lab.pki.key}", "/dns-query", {{minTLSVersion="tls1.2"}})
        newServer({{address="127.0.0.1:{named.dns_port}", healthCheckMode="up"}})
        """)
    front = lab.start("dnsdist", "dnsdist", "--supervised", "--disable-syslog", "-C", config)
    front.doh_port = doh
    wait_until(lambda: listens(doh), what="dnsdist to listen")
    return front


def start_unbound(lab, zone):
    """unbound as a DoH server (HTTP/2) with `zone` as its local data. Returns its process, with doh_port."""
    folder = lab.path("unbound")
    folder.mkdir()
    doh = free_port()
    (folder / "test.zone").write_text(
        f"$ORIGIN test.\n$TTL 60\n@ IN SOA ns.test. root.test. 1 3600 600 86400 60\n@ IN NS ns.test.\n{zone}\n")
    (folder / "unbound.conf").write_text(f"""
        server:
          interface: 127.0.0.1@{doh}
          https-port: {doh}
          tls-service-key: "{lab.pki.key}"
          tls-service-pem: "{lab.pki.cert}"
          directory: "{folder}"
          chroot: ""
          username: ""
          pidfile: ""
          use-syslog: no
          logfile: ""
          do-daemonize: no
          module-config: "iterator"
          local-zone: "test." nodefault
        remote-control:
          control-enable: no
        auth-zone:
          name: "test."
          zonefile: "{folder}/test.zone"
          for-downstream: yes
          for-upstream: no
        """)
    server = lab.start("unbound", "unbound", "-d", "-c", folder / "unbound.conf")
    server.doh_port = doh
    wait_until(lambda: listens(doh), what="unbound to listen")
    return server


def _run(*argv):
    subprocess.run([str(argument) for argument in argv], check=True, timeout=60, stdout=subprocess.DEVNULL)


def trust(lab, database):
    """Makes a certificate database of NSS's ("sql:FOLDER", which browsers read as well) that trusts the tests' CA."""
    _run("certutil", "-N", "-d", database, "--empty-password")
    _run("certutil", "-A", "-d", database, "-n", "ca", "-t", "C,,", "-i", lab.pki.ca)


def nss_database(lab, with_server_key):
    """A certificate database that trusts the tests' CA."""
    folder = lab.path("nss")
    folder.mkdir()
    database = f"sql:{folder}"
    trust(lab, database)
    if with_server_key:
        _run("openssl", "pkcs12", "-export", "-in", lab.pki.cert, "-inkey", lab.pki.key, "-certfile", lab.pki.ca,
             "-name", "srv", "-out", folder / "srv.p12", "-passout", "pass:")
        _run("pk12util", "-i", folder / "srv.p12", "-d", database, "-W", "")
    return database


def tstclnt(database, port, config=None, request=b""):
    """A handshake by NSS, with ECH or, without a config, GREASE; returns its exit status and what it printed, which is
    also what the server answers to a request, or the retry configs. 0 means that ECH was not rejected."""
    # -O: certificates are checked synchronously; without it -Q, to end after the handshake, never gets to quit.
    command = ["tstclnt", "-h", "127.0.0.1", "-p", str(port), "-a", HIDDEN, "-d", database, "-V", "tls1.3:", "-O",
               *(["-N", config] if config else ["-i", "100"]), *([] if request else ["-Q"])]
    with tempfile.TemporaryFile() as stdin:  # not a pipe: when one has ended, tstclnt spins
        stdin.write(request)
        stdin.seek(0)
        result = subprocess.run(command, stdin=stdin, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                check=False)
    return result.returncode, result.stdout.decode("utf-8", "replace")


def start_selfserv(lab, key):
    """NSS's server with ECH; returns its port."""
    port = free_port()
    server = lab.start("selfserv", "stdbuf", "-oL", "selfserv", "-d", nss_database(lab, with_server_key=True), "-n",
                       "srv", "-e", "srv", "-p", port, "-V", "tls1.3:", "-X", key.for_selfserv(), "-v")
    wait_until(lambda: listens(port), what="selfserv to listen")
    assert server.running()
    return port


class Sshd:
    """OpenSSH's server on loopback, with keys made for it and for its one user, who is the user of this process."""

    def __init__(self, lab, folder):
        self.folder, self.port = folder, free_port()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=30)
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where sshd locks its unprivileged part up
        config = folder / "sshd_config"
        config.write_text(f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\n"
                          f"AuthorizedKeysFile {folder}/user.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
                          f"PasswordAuthentication no\nPermitRootLogin yes\n")
        lab.start("sshd", "/usr/sbin/sshd", "-D", "-e", "-f", config).wait_log(r"Server listening on 127\.0\.0\.1")
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} " + (folder / "host.pub").read_text())

    def ssh(self, proxy_port, kind, *command):
        """The command line that runs `command` there, by a proxy of ncat's type `kind`."""
        proxy = f"ncat --proxy 127.0.0.1:{proxy_port} --proxy-type {kind} %h %p"
        return ["ssh", "-F", "none", "-p", str(self.port), "-i", self.folder / "user", "-o", "IdentitiesOnly=yes", "-o",
                "BatchMode=yes", "-o", f"UserKnownHostsFile={self.folder}/known", "-o", f"ProxyCommand={proxy}",
                f"{getpass.getuser()}@127.0.0.1", *command]


def start_sshd(lab, folder):
    return Sshd(lab, folder)


def listens(port):
    """Whether somebody listens on the port, read from the kernel's table so that no connection is made."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(path, encoding="ascii") as table:
            for line in table.readlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A" and local.endswith(f":{port:04X}"):
                    return True
    return False
