"""Messages whose end, or whose lines, can be told in more than one way."""

from __future__ import annotations

from dataclasses import dataclass

from cases import Group
from groups.framing.scene import BODY, DOORS, Message, reading, scene

LENGTH = len(BODY)
SIZE = b"%x" % LENGTH
CHUNKS = SIZE + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
INNER = b"GET /r/TAG-smuggled HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\n\r\n"


def head(*lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    """Returns the head of a POST with more lines."""
    return b"\r\n".join([b"POST TARGET " + version, b"host: router", b"x-tag: TAG", *lines]) + b"\r\n\r\n"


def sized(*lines: bytes) -> bytes:
    """Returns a POST with a right length and more lines."""
    return head(b"content-length: %d" % LENGTH, *lines) + BODY


def chunked(body: bytes) -> bytes:
    """Returns a POST in chunks, which are written by hand."""
    return head(b"transfer-encoding: chunked") + body


@dataclass(frozen=True)
class Overruled:
    """A message of which RFC 9112 says which of two lengths counts, its body by that one, and what else is allowed."""

    raw: bytes
    body: bytes
    allowed: frozenset[str] = frozenset({"served alone"})


TE = b"transfer-encoding: "
CL = b"content-length: "
TWO_LENGTHS = {
    "length before chunks": head(CL + b"%d" % LENGTH, TE + b"chunked") + BODY,
    "two lengths": sized(CL + b"5"),
    "two lengths, 0 first": head(CL + b"0", CL + b"%d" % LENGTH) + BODY,
    "a list of two lengths": head(CL + b"%d, 5" % LENGTH) + BODY,
    "chunked twice": head(TE + b"chunked", TE + b"chunked") + CHUNKS,
    "a list of chunked": head(TE + b"chunked, chunked") + CHUNKS,
    "chunked not last": head(TE + b"chunked, identity") + CHUNKS,
    "identity before chunked": head(TE + b"identity, chunked") + CHUNKS,
    "gzip before chunked": head(TE + b"gzip, chunked") + CHUNKS,
    "identity": head(TE + b"identity", CL + b"%d" % LENGTH) + BODY,
    "gzip": head(TE + b"gzip") + BODY,
    "xchunked": head(TE + b"xchunked") + CHUNKS,
    "chunked with a parameter": head(TE + b"chunked;a=b") + CHUNKS,
    "chunked in quotes": head(TE + b'"chunked"') + CHUNKS,
    "chunked behind a vertical tab": head(TE + b"\x0bchunked") + CHUNKS,
    "chunked before a form feed": head(TE + b"chunked\x0c") + CHUNKS,
    "chunked behind a comma": head(TE + b", chunked") + CHUNKS,
    "an empty encoding": sized(b"transfer-encoding:"),
    "chunks in HTTP/1.0": head(TE + b"chunked", version=b"HTTP/1.0") + CHUNKS,
}
# A length beside chunks may be refused, or the chunks count and the connection ends (RFC 9112, section 6.3).
OVERRULED = {
    "a length behind chunks": Overruled(head(TE + b"chunked", CL + b"%d" % LENGTH) + CHUNKS, BODY),
    "a short length behind chunks": Overruled(head(TE + b"chunked", CL + b"4") + CHUNKS, BODY),
    "a length before chunks": Overruled(head(CL + b"%d" % LENGTH, TE + b"chunked") + CHUNKS, BODY),
    "a short length before chunks": Overruled(head(CL + b"4", TE + b"chunked") + CHUNKS, BODY),
    "length 0 before chunks": Overruled(head(CL + b"0", TE + b"chunked") + CHUNKS, BODY),
    "a request behind the chunks, within the length": Overruled(
        head(TE + b"chunked", CL + b"%d" % (5 + len(INNER))) + b"0\r\n\r\n" + INNER, b""
    ),
    "a request behind the chunks, beyond the length": Overruled(
        head(TE + b"chunked", CL + b"5") + b"0\r\n\r\n" + INNER, b""
    ),
    # An upgrade that is none may be ignored (RFC 9110, section 7.8).
    "a WebSocket with a body": Overruled(
        sized(b"connection: upgrade", b"upgrade: websocket"), BODY, frozenset({"served"})
    ),
    "half a WebSocket": Overruled(
        b"GET TARGET HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\nupgrade: websocket\r\n\r\n",
        b"",
        frozenset({"served", "refused 404, open"}),
    ),
    "two equal lengths": Overruled(sized(CL + b"%d" % LENGTH), BODY, frozenset({"served"})),
    "a list of equal lengths": Overruled(head(CL + b"%d, %d" % (LENGTH, LENGTH)) + BODY, BODY, frozenset({"served"})),
}
LENGTHS = {
    name: head(CL + value) + BODY
    for name, value in {
        "hexadecimal": b"0x1a",
        "empty": b"",
        "with a blank": b"2 6",
        "with a plus": b"+26",
        "negative": b"-26",
        "a fraction": b"26.0",
        "an exponent": b"26e0",
        "with a comma": b"26,",
        "of 65 bits": b"18446744073709551642",
        "of 200 digits": b"9" * 200,
        "Arabic digits": "٢٦".encode(),
        "with a semicolon": b"26;a",
        "with letters": b"26a",
        "with NUL": b"26\0",
    }.items()
}
LINES = {
    "a folded line": sized(b"x-a: 1\r\n transfer-encoding: chunked"),
    "a folded line by a tab": sized(b"x-a: 1\r\n\tb"),
    "a line that begins with a blank": b"POST TARGET HTTP/1.1\r\n host: router\r\nx-tag: TAG\r\n\r\n",
    "a blank before the colon": sized(b"transfer-encoding : chunked"),
    "a tab before the colon": sized(b"transfer-encoding\t: chunked"),
    "a length with a blank before the colon": head(b"content-length : 26") + BODY,
    "no colon": sized(b"transfer-encoding"),
    "an empty name": sized(b": chunked"),
    "NUL in a value": sized(b"x-a: a\0b"),
    "NUL in a name": sized(b"x\0a: b"),
    "CR in a value": sized(b"x-a: a\rtransfer-encoding: chunked"),
    "a control character in a value": sized(b"x-a: a\x01b"),
    "DEL in a value": sized(b"x-a: a\x7fb"),
    "a control character in a name": sized(b"x\x01a: b"),
    "a bracket in a name": sized(b"x(a): b"),
    "a name beyond ASCII": sized("ẋ-a: b".encode()),
    "a slash in a name": sized(b"x/a: b"),
    "two hosts": sized(b"host: router"),
    "two other hosts": sized(b"host: other"),
    "no host": sized().replace(b"host: router\r\n", b""),
    "a tunnel": b"CONNECT router:80 HTTP/1.1\r\nhost: router:80\r\nx-tag: TAG\r\n\r\n",
    "a version of three digits": b"GET TARGET HTTP/1.10\r\nhost: router\r\nx-tag: TAG\r\n\r\n",
    "HTTP/2.0 in a line": b"GET TARGET HTTP/2.0\r\nhost: router\r\nx-tag: TAG\r\n\r\n",
    "HTTP/0.9": b"GET TARGET\r\n",
    "two blanks in the first line": b"GET  TARGET HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\n\r\n",
    "a tab in the first line": b"GET\tTARGET HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\n\r\n",
    "a blank in the target": b"GET TARGET x HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\n\r\n",
    "a method with a colon": b"GE:T TARGET HTTP/1.1\r\nhost: router\r\nx-tag: TAG\r\n\r\n",
}
BROKEN_CHUNKS = {
    name: chunked(body)
    for name, body in {
        "a prefix": b"0x" + CHUNKS,
        "a sign": b"+" + CHUNKS,
        "a minus": b"-" + CHUNKS,
        "a blank in front": b" " + CHUNKS,
        "65 bits": b"1000000000000000" + CHUNKS,
        "a second size": CHUNKS.replace(b"\r\n", b" 5\r\n", 1),
        "a line that ends in LF": CHUNKS.replace(b"\r\n", b"\n", 1),
        "a line that ends in CR": CHUNKS.replace(b"\r\n", b"\r", 1),
        "LF in an extension": CHUNKS.replace(b"\r\n", b";a\n\r\n", 1),
        "CR in an extension": CHUNKS.replace(b"\r\n", b";a\rb\r\n", 1),
        "longer than it says": CHUNKS.replace(BODY, BODY + b"x", 1),
        "shorter than it says": CHUNKS.replace(BODY, BODY[:-1], 1),
        "data that ends in LF": CHUNKS.replace(BODY + b"\r\n", BODY + b"\n", 1),
        "an empty size": b"\r\n" + CHUNKS,
        "no size but an extension": b";a\r\n" + CHUNKS,
        "a size that is no number": b"z\r\n" + CHUNKS,
        "a size with an underscore": b"1_a\r\n" + BODY + b"\r\n0\r\n\r\n",
    }.items()
}
ONE_MEANING = {
    "as it should be": sized(),
    "empty lines in front": b"\r\n\r\n" + sized(),
    "blanks around a value": sized(b"x-a: \t b \t"),
    "bytes beyond ASCII in a value": sized("x-a: ä".encode()),
    "a length with zeros": head(CL + b"00026") + BODY,
    "chunks": chunked(CHUNKS),
    "chunks in other case": head(b"Transfer-Encoding: Chunked") + CHUNKS,
    "a size with zeros": chunked(b"000" + CHUNKS),
    "a size in upper case": chunked(CHUNKS.replace(SIZE, SIZE.upper(), 1)),
    "an extension": chunked(CHUNKS.replace(b"\r\n", b';a="b"\r\n', 1)),
    "trailers": chunked(CHUNKS.replace(b"\r\n0\r\n", b"\r\n0\r\ncontent-length: 7\r\nhost: x\r\n")),
    "one byte a chunk": chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"),
    "an offer of h2c": sized(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAA"),
}


REFUSED = {
    # A transfer coding that is not known is 501 (RFC 9112, section 6.1).
    "two lengths": {"refused 400", "refused 501"},
    "lengths that are no number": {"refused 400"},
    # As are methods, while CONNECT is known and not allowed; versions have a status of their own.
    "broken lines": {"refused 400", "refused 405", "refused 501", "refused 505"},
    "broken chunks": {"refused 400"},
}


def _message(raw: bytes, target: str) -> Message:
    return Message(raw, target)


def add_to(group: Group) -> None:
    """Adds the families, each on a ModelRoute and on an HTTPRoute."""
    promise = "docs/security.md, refused with 400 and closed; RFC 9112, sections 5 and 6.3"
    for family, variants in (
        ("two lengths", TWO_LENGTHS),
        ("lengths that are no number", LENGTHS),
        ("broken lines", LINES),
        ("broken chunks", BROKEN_CHUNKS),
    ):
        group.family(
            family,
            promise,
            scene,
            reading,
            {
                f"{door}: {name}": _message(raw, target)
                for door, target in DOORS.items()
                for name, raw in variants.items()
            },
            REFUSED[family],
        )
    overruled = {
        f"{door}: {name}": (each, target) for door, target in DOORS.items() for name, each in OVERRULED.items()
    }
    group.family(
        "what is overruled",
        "RFC 9112, section 6.3, RFC 9110, section 7.8: refused, or read by the rule",
        scene,
        lambda stage, each: reading(stage, Message(each[0].raw, each[1], each[0].body)),
        overruled,
        lambda each: each[0].allowed | {"refused 400"},
    )
    group.family(
        "one meaning",
        "docs/security.md, taken in one meaning; RFC 9112, section 2.2",
        scene,
        reading,
        {
            f"{door}: {name}": _message(raw, target)
            for door, target in DOORS.items()
            for name, raw in ONE_MEANING.items()
        },
        {"served"},
    )
