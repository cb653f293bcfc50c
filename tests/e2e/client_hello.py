"""A ClientHello taken apart: everything in it by which an observer can tell programs apart, and nothing that is fresh
each time. Values of GREASE (RFC 8701) are called GREASE, keys and random bytes are left out or measured."""

import struct

GREASE = "GREASE"

EXTENSIONS = {
    0: "server_name", 5: "status_request", 10: "supported_groups", 11: "ec_point_formats", 13: "signature_algorithms",
    16: "alpn", 18: "signed_certificate_timestamp", 21: "padding", 23: "extended_master_secret",
    27: "compress_certificate", 35: "session_ticket", 41: "pre_shared_key", 42: "early_data",
    43: "supported_versions", 44: "cookie", 45: "psk_key_exchange_modes", 51: "key_share", 17513: "alps_old",
    17613: "alps", 0xca34: "trust_anchors", 0xfe0d: "encrypted_client_hello", 0xff01: "renegotiation_info",
}


class Reader:
    """Reads the vectors of the TLS presentation language; whatever is left over or missing is an error."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert self.at + count <= len(self.data), "cut short"
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, width):
        return int.from_bytes(self.take(width), "big")

    def vector(self, width):
        return self.take(self.number(width))

    def left(self):
        return self.at < len(self.data)


def name_of(value):
    """GREASE for its sixteen values, else the number."""
    return GREASE if value & 0x0f0f == 0x0a0a and value >> 8 == value & 0xff else value


def numbers(data, width=2):
    reader = Reader(data)
    found = []
    while reader.left():
        value = reader.number(width)
        found.append(name_of(value) if width == 2 else value)
    return found


def vectors(data, width=1):
    reader = Reader(data)
    found = []
    while reader.left():
        found.append(reader.vector(width))
    return found


def protocols(data):
    return [protocol.decode() for protocol in vectors(Reader(data).vector(2))]


def key_shares(data):
    """Groups and lengths, in order."""
    reader = Reader(Reader(data).vector(2))
    found = []
    while reader.left():
        group = name_of(reader.number(2))
        found.append((group, len(reader.vector(2))))
    return found


def outer_ech(data):
    """Of the outer extension, what does not depend on the server's config: KDF, AEAD, length of the encapsulated key.
    RFC 9849 section 5."""
    reader = Reader(data)
    kind, kdf, aead = reader.number(1), reader.number(2), reader.number(2)
    reader.number(1)
    encapsulated = reader.vector(2)
    reader.vector(2)
    assert not reader.left()
    return {"type": kind, "kdf": kdf, "aead": aead, "enc": len(encapsulated)}


# What each extension says; of one that is not here, or whose content is another each time, only that it is there.
CONTENTS = {
    "status_request": bytes.hex,
    "supported_groups": lambda data: numbers(Reader(data).vector(2)),
    "ec_point_formats": bytes.hex,
    "signature_algorithms": lambda data: numbers(Reader(data).vector(2)),
    "alpn": protocols,
    "signed_certificate_timestamp": bytes.hex,
    "extended_master_secret": bytes.hex,
    "compress_certificate": lambda data: numbers(Reader(data).vector(1)),
    "session_ticket": bytes.hex,
    "supported_versions": lambda data: numbers(Reader(data).vector(1)),
    "psk_key_exchange_modes": lambda data: numbers(Reader(data).vector(1), 1),
    "key_share": key_shares,
    "alps_old": protocols,
    "alps": protocols,
    "encrypted_client_hello": outer_ech,
    "renegotiation_info": bytes.hex,
}


def handshake_message(captured):
    """The first handshake message in a client's captured bytes, joined from its records; None while it is not whole."""
    message, rest = b"", bytes(captured)
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if len(rest) < 5 or len(rest) < 5 + int.from_bytes(rest[3:5], "big"):
            return None
        assert rest[0] == 22, "not a handshake record"
        length = int.from_bytes(rest[3:5], "big")
        message += rest[5:5 + length]
        rest = rest[5 + length:]
    return message[:4 + int.from_bytes(message[1:4], "big")]


class ClientHello:
    """fields: name -> value, one for each thing that can be compared. order: the extensions as they came."""

    def __init__(self, captured):
        message = handshake_message(captured)
        assert message is not None and message[0] == 1, "no ClientHello"
        reader = Reader(message[4:])
        self.fields = {"record_version": struct.unpack(">H", captured[1:3])[0], "legacy_version": reader.number(2)}
        reader.take(32)
        self.fields["session_id_bytes"] = len(reader.vector(1))
        self.fields["cipher_suites"] = numbers(reader.vector(2))
        self.fields["compression_methods"] = reader.vector(1).hex()
        extensions = Reader(reader.vector(2))
        assert not reader.left()
        self.server_name, self.order, bodies = None, [], {}
        while extensions.left():
            kind = name_of(extensions.number(2))
            name = kind if kind == GREASE else EXTENSIONS.get(kind, f"extension_{kind}")
            body = extensions.vector(2)
            self.order.append(name)
            assert name == GREASE or name not in bodies, f"{name} twice"
            bodies[name] = body
            if name in CONTENTS:
                self.fields[name] = CONTENTS[name](body)
        if "server_name" in bodies:
            self.server_name = bodies["server_name"][5:].decode()
        # Chromium's library puts a GREASE extension at each end and permutes what lies between.
        self.fields["extensions"] = sorted(self.order)
        self.fields["grease_at_the_ends"] = self.order[0] == GREASE and GREASE in self.order[-2:]


def differences(ours, theirs):
    """field -> (ours, theirs), for each that differs; what an extension says counts where both have it, for "extensions"
    tells of the others. Of lists that agree in what they share, only what each has and the other has not."""
    found = {}
    for field in sorted(ours.fields.keys() & theirs.fields.keys()):
        mine, other = ours.fields[field], theirs.fields[field]
        if mine == other:
            continue
        found[field] = (mine, other)
        if isinstance(mine, list):
            if [value for value in mine if value in other] == [value for value in other if value in mine]:
                found[field] = ([value for value in mine if value not in other],
                                [value for value in other if value not in mine])
    return found
