"""ECH on the wire, written down independently of the program: ECHConfigLists (RFC 9849 section 4), the PEM files of
RFC 9934, the key format NSS wants, and what an observer can read in a ClientHello."""

import base64
import re
import struct

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519


class Key:
    """An X25519 key with one ECHConfig for it."""

    def __init__(self, public_name, config_id=7):
        private = x25519.X25519PrivateKey.generate()
        self.private = private.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw,
                                             serialization.NoEncryption())
        self.public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        suites = struct.pack(">HHHH", 1, 1, 1, 3)  # HKDF-SHA256 with AES-128-GCM, with ChaCha20-Poly1305
        name = public_name.encode()
        contents = (struct.pack(">BHH", config_id, 0x0020, len(self.public)) + self.public +
                    struct.pack(">H", len(suites)) + suites + struct.pack(">BB", 32, len(name)) + name +
                    struct.pack(">H", 0))
        config = struct.pack(">HH", 0xfe0d, len(contents)) + contents
        self.config_list = struct.pack(">H", len(config)) + config

    def base64(self):
        return base64.b64encode(self.config_list).decode()

    def for_selfserv(self):
        """The argument of `selfserv -X`: u16 length, PKCS#8 as NSS reads it, ECHConfigList."""
        curve25519 = der(0x06, bytes.fromhex("2b06010401da470f01"))  # 1.3.6.1.4.1.11591.15.1, not RFC 8410's
        ec_public_key = der(0x06, bytes.fromhex("2a8648ce3d0201"))
        ec_private = der(0x30, der(0x02, b"\x01") + der(0x04, self.private) +
                         der(0xa1, der(0x03, b"\x00" + self.public)))
        pkcs8 = der(0x30, der(0x02, b"\x00") + der(0x30, ec_public_key + curve25519) + der(0x04, ec_private))
        return base64.b64encode(struct.pack(">H", len(pkcs8)) + pkcs8 + self.config_list).decode()


def der(tag, body):
    assert len(body) < 256
    length = bytes([len(body)]) if len(body) < 128 else bytes([0x81, len(body)])
    return bytes([tag]) + length + body


def read_pem_folder(folder):
    """The ECHConfigList of the newest key file in a folder, in base64."""
    files = [path for path in folder.rglob("*") if path.is_file() and b"BEGIN ECHCONFIG" in path.read_bytes()]
    assert files, f"no ECHCONFIG in {list(folder.rglob('*'))}"
    text = max(files, key=lambda path: path.stat().st_mtime_ns).read_text()
    body = re.search(r"-----BEGIN ECHCONFIG-----(.*?)-----END ECHCONFIG-----", text, re.DOTALL).group(1)
    return "".join(body.split())


def client_hello(captured):
    """server_name and the set of extension types of the first ClientHello in a client's captured bytes."""
    assert captured[0] == 22, "the first record is not a handshake record"
    hello, rest = b"", captured
    while len(hello) < 4 or len(hello) < 4 + int.from_bytes(hello[1:4], "big"):
        assert rest[0] == 22
        length = int.from_bytes(rest[3:5], "big")
        hello += rest[5:5 + length]
        rest = rest[5 + length:]
    assert hello[0] == 1
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at]
    end = at + 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 2
    name, kinds = None, set()
    while at < end:
        kind, length = struct.unpack(">HH", hello[at:at + 4])
        body = hello[at + 4:at + 4 + length]
        kinds.add(kind)
        if kind == 0:
            name = body[5:5 + int.from_bytes(body[3:5], "big")].decode()
        at += 4 + length
    return name, kinds


ECH_EXTENSION = 0xfe0d
