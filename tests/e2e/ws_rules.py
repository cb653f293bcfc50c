"""The rules of RFC 6455 as a table: what a peer sends, and what must come back. Both roles run the same rows: against
a server the frames are masked, against a client they are not, and `flip` makes the mask bit wrong.

A row's frames are a function of `f`, which builds one (f(opcode, payload, ...), as ws.frame). What must come back is
 Echo(messages...)   each message, whole, and then a Ping is still answered
 Pong(payload)       a Pong with that payload
 Closed(code)        a Close with one of the codes, and the end of the connection
"""

import collections

from ws import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

Rule = collections.namedtuple("Rule", "section name frames expected")


class Echo(tuple):
    def __new__(cls, *messages):
        return super().__new__(cls, messages)


class Pong(bytes):
    pass


class Closed(tuple):
    def __new__(cls, *codes):
        return super().__new__(cls, codes)


def code(number, reason=b""):
    return number.to_bytes(2, "big") + reason


def _fragments(f, opcode, parts):
    frames = b""
    for index, part in enumerate(parts):
        frames += f(opcode if index == 0 else CONTINUATION, part, fin=index == len(parts) - 1)
    return frames


EURO = "\u20ac".encode()
FOUR_KINDS = "k\u00e9\u20ac\U0001f600".encode()  # characters of one, two, three and four bytes
BAD_UTF8 = {
    "lone continuation byte": b"\x80",
    "never a byte": b"\xff",
    "overlong in two": b"\xc0\xaf",
    "overlong in three": b"\xe0\x80\xaf",
    "overlong in four": b"\xf0\x80\x80\xaf",
    "surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "cut character": b"\xe2\x82",
    "cut in the middle": b"a\xe2\x82b",
}

RULES = [
    # 5.2, 5.6: whole messages, every form of the length
    *[Rule("5.2", f"{kind} message of {size} bytes",
           lambda f, opcode=opcode, size=size: f(opcode, b"x" * size), Echo((opcode, b"x" * size)))
      for kind, opcode in (("text", TEXT), ("binary", BINARY))
      for size in (0, 1, 125, 126, 127, 65535, 65536, 200000)],
    Rule("5.6", "messages in a row keep their order and kind",
         lambda f: f(TEXT, b"1") + f(BINARY, b"\xff") + f(TEXT, b"3"), Echo((TEXT, b"1"), (BINARY, b"\xff"), (TEXT, b"3"))),
    # 5.1
    Rule("5.1", "wrong mask bit", lambda f: f(TEXT, b"hello", flip=True), Closed(1002)),
    Rule("5.1", "wrong mask bit on an empty frame", lambda f: f(BINARY, b"", flip=True), Closed(1002)),
    Rule("5.1", "wrong mask bit on a control frame", lambda f: f(PING, b"", flip=True), Closed(1002)),
    Rule("5.1", "wrong mask bit on a Close", lambda f: f(CLOSE, code(1000), flip=True), Closed(1002)),
    # 5.2
    *[Rule("5.2", f"RSV{4 - bit.bit_length()} on {what}", lambda f, bit=bit, opcode=opcode: f(opcode, b"x", rsv=bit),
           Closed(1002)) for bit in (4, 2, 1) for what, opcode in (("text", TEXT), ("binary", BINARY), ("Ping", PING))],
    Rule("5.2", "RSV1 on a continuation",
         lambda f: f(TEXT, b"a", fin=False) + f(CONTINUATION, b"b", rsv=4), Closed(1002)),
    Rule("5.2", "RSV1 on a Close", lambda f: f(CLOSE, code(1000), rsv=4), Closed(1002)),
    *[Rule("5.2", f"reserved opcode {opcode}", lambda f, opcode=opcode: f(opcode, b"x"), Closed(1002))
      for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    Rule("5.2", "reserved opcode inside a message",
         lambda f: f(TEXT, b"a", fin=False) + f(3, b"b"), Closed(1002)),
    *[Rule("5.2", f"{size} bytes with a length of {length} bytes",
           lambda f, size=size, length=length: f(BINARY, b"x" * size, length_bytes=length), Closed(1002))
      for size, length in ((0, 2), (5, 2), (125, 2), (0, 8), (126, 8), (65535, 8))],
    Rule("5.2", "top bit of a 64-bit length", lambda f: f(BINARY, b"", claim=1 << 63), Closed(1002)),
    Rule("5.2", "every bit of a 64-bit length", lambda f: f(BINARY, b"", claim=(1 << 64) - 1), Closed(1002)),
    Rule("10.4", "a frame larger than anything allowed", lambda f: f(BINARY, b"", claim=1 << 40), Closed(1009)),
    Rule("10.4", "a message larger than anything allowed, in fragments",
         lambda f: f(BINARY, b"x" * (1 << 19), fin=False) + f(CONTINUATION, b"x" * (1 << 19), fin=False) +
         f(CONTINUATION, b"x", fin=False), Closed(1009)),
    # 5.4
    Rule("5.4", "two fragments", lambda f: _fragments(f, TEXT, [b"Hel", b"lo"]), Echo((TEXT, b"Hello"))),
    Rule("5.4", "many fragments", lambda f: _fragments(f, BINARY, [bytes([i]) for i in range(256)]),
         Echo((BINARY, bytes(range(256))))),
    Rule("5.4", "empty fragments", lambda f: _fragments(f, BINARY, [b"", b"", b"x", b"", b""]), Echo((BINARY, b"x"))),
    Rule("5.4", "nothing but empty fragments", lambda f: _fragments(f, TEXT, [b"", b"", b""]), Echo((TEXT, b""))),
    Rule("5.4", "continuation of nothing", lambda f: f(CONTINUATION, b"x"), Closed(1002)),
    Rule("5.4", "unfinished continuation of nothing", lambda f: f(CONTINUATION, b"x", fin=False), Closed(1002)),
    Rule("5.4", "continuation after the end",
         lambda f: f(TEXT, b"a", fin=False) + f(CONTINUATION, b"b") + f(CONTINUATION, b"c"), Closed(1002)),
    Rule("5.4", "text inside a message", lambda f: f(TEXT, b"a", fin=False) + f(TEXT, b"b"), Closed(1002)),
    Rule("5.4", "binary inside a message", lambda f: f(TEXT, b"a", fin=False) + f(BINARY, b"b", fin=False),
         Closed(1002)),
    # 5.5
    Rule("5.5.2", "Ping", lambda f: f(PING, b"Hello"), Pong(b"Hello")),
    Rule("5.5.2", "empty Ping", lambda f: f(PING, b""), Pong(b"")),
    Rule("5.5.2", "Ping of 125 bytes, any bytes", lambda f: f(PING, bytes(range(131, 256))), Pong(bytes(range(131, 256)))),
    Rule("5.5.2", "Ping between fragments",
         lambda f: f(TEXT, b"a", fin=False) + f(PING, b"between") + f(CONTINUATION, b"b"), Pong(b"between")),
    Rule("5.5.3", "unasked Pong", lambda f: f(PONG, b"x") + f(TEXT, b"still here"), Echo((TEXT, b"still here"))),
    Rule("5.4", "control frames between fragments change nothing",
         lambda f: f(TEXT, b"a", fin=False) + f(PONG, b"p") + f(CONTINUATION, b"b", fin=False) + f(PING, b"q") +
         f(CONTINUATION, b"c"), Echo((TEXT, b"abc"))),
    Rule("5.5", "Ping of 126 bytes", lambda f: f(PING, b"x" * 126), Closed(1002)),
    Rule("5.5", "Pong of 65536 bytes", lambda f: f(PONG, b"x" * 65536), Closed(1002)),
    Rule("5.5", "Close of 126 bytes", lambda f: f(CLOSE, code(1000, b"x" * 124)), Closed(1002)),
    *[Rule("5.5", f"fragmented {name}", lambda f, opcode=opcode: f(opcode, b"", fin=False), Closed(1002))
      for name, opcode in (("Ping", PING), ("Pong", PONG), ("Close", CLOSE))],
    # 5.5.1, 7.4
    Rule("5.5.1", "Close without a code", lambda f: f(CLOSE), Closed(1005)),
    *[Rule("7.4", f"Close with {number}", lambda f, number=number: f(CLOSE, code(number, b"bye")), Closed(number))
      for number in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)],
    *[Rule("7.4", f"Close with {number}, which may not travel",
           lambda f, number=number: f(CLOSE, code(number)), Closed(1002))
      for number in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)],
    Rule("5.5.1", "Close of one byte", lambda f: f(CLOSE, b"\x03"), Closed(1002)),
    Rule("5.5.1", "longest reason", lambda f: f(CLOSE, code(1000, b"r" * 123)), Closed(1000)),
    Rule("5.5.1", "reason in UTF-8", lambda f: f(CLOSE, code(1000, FOUR_KINDS)), Closed(1000)),
    *[Rule("5.5.1", f"reason not UTF-8: {name}", lambda f, bad=bad: f(CLOSE, code(1000, bad)), Closed(1007))
      for name, bad in BAD_UTF8.items()],
    Rule("5.5.1", "Close inside a message", lambda f: f(TEXT, b"a", fin=False) + f(CLOSE, code(1000)), Closed(1000)),
    Rule("1.4", "data after a Close is not looked at", lambda f: f(CLOSE, code(1000)) + f(TEXT, b"late") + b"\xff" * 40,
         Closed(1000)),
    Rule("7.1.7", "data after an error is not looked at", lambda f: f(3, b"x") + f(TEXT, b"late") + f(CLOSE, code(1000)),
         Closed(1002)),
    Rule("5.5.2", "a Ping after a Close is not answered", lambda f: f(CLOSE, code(1001)) + f(PING, b"late"), Closed(1001)),
    # 8.1
    Rule("8.1", "text in UTF-8", lambda f: f(TEXT, FOUR_KINDS), Echo((TEXT, FOUR_KINDS))),
    *[Rule("5.6", f"text cut at byte {at}", lambda f, at=at: _fragments(f, TEXT, [FOUR_KINDS[:at], FOUR_KINDS[at:]]),
           Echo((TEXT, FOUR_KINDS))) for at in range(len(FOUR_KINDS) + 1)],
    *[Rule("5.6", f"text cut at byte {at}, a Ping between",
           lambda f, at=at: f(TEXT, FOUR_KINDS[:at], fin=False) + f(PING, b"\xff") + f(CONTINUATION, FOUR_KINDS[at:]),
           Echo((TEXT, FOUR_KINDS))) for at in range(1, len(FOUR_KINDS))],
    Rule("5.6", "text in fragments of one byte", lambda f: _fragments(f, TEXT, [bytes([b]) for b in FOUR_KINDS]),
         Echo((TEXT, FOUR_KINDS))),
    *[Rule("8.1", f"text not UTF-8: {name}", lambda f, bad=bad: f(TEXT, b"good " + bad), Closed(1007))
      for name, bad in BAD_UTF8.items()],
    *[Rule("8.1", f"text not UTF-8, in fragments of one byte: {name}",
           lambda f, bad=bad: _fragments(f, TEXT, [bytes([b]) for b in b"a" + bad]), Closed(1007))
      for name, bad in BAD_UTF8.items()],
    Rule("8.1", "text ends within a character, last fragment empty",
         lambda f: f(TEXT, b"a\xe2\x82", fin=False) + f(CONTINUATION, b""), Closed(1007)),
    Rule("8.1", "a bad character fails at once, not at the end of its frame",
         lambda f: f(TEXT, b"\xff" + b"x" * 60000)[:100], Closed(1007)),
    Rule("8.1", "binary is not checked", lambda f: f(BINARY, b"\xff\xc0\x80"), Echo((BINARY, b"\xff\xc0\x80"))),
    Rule("8.1", "what one message leaves does not reach the next",
         lambda f: f(TEXT, EURO) + f(BINARY, EURO[:1]) + f(TEXT, EURO[1:]), Closed(1007)),
]

# The tunnel's legacy protocol puts bytes in text frames, so that its server cannot insist on UTF-8 there; and it echoes
# nothing.
FOR_THE_TUNNEL = [rule for rule in RULES if not isinstance(rule.expected, Echo) and not rule.name.startswith("text")
                  and rule.section != "8.1"]
assert len({(rule.section, rule.name) for rule in RULES}) == len(RULES)
