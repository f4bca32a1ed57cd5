"""Hostile HTTP: what is sent to the port before any document is read."""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, urlencode

from tests.hostile.documents import SPLINTERS, Documents

PATHS = (
    "/graphql", "/", "/livez", "/readyz", "/p/x", "/files/x", "/password/x", "/payments/x", "/mails", "/graphiql",
    "/assets/x", "/graphiql/assets/x", "/icon.svg",
)  # fmt: skip
"""Every route."""


class Ends(Enum):
    """What must come of it: an answer; an answer or a close; or nothing, since the client hangs up in the middle."""

    ANSWERED = "answered"
    ANSWERED_OR_CLOSED = "answered or closed"
    HUNG_UP = "hung up"


@dataclass(frozen=True)
class Raw:
    """Bytes for one connection, sent piece by piece."""

    name: str
    pieces: tuple[bytes, ...]
    ends: Ends = Ends.ANSWERED
    answers: int = 1
    is_head: bool = False


class Bodies:
    """Makes HTTP from chance."""

    def __init__(self, chance: random.Random, documents: Documents) -> None:
        self._chance = chance
        self._documents = documents
        self._kinds: list[Callable[[], Raw]] = [
            self._truncated_json,
            self._charset,
            self._content_type,
            self._compressed,
            self._large_headers,
            self._odd_headers,
            self._chunked,
            self._length_lies,
            self._get,
            self._method,
            self._path,
            self._pipelined,
            self._dripping,
            self._large_body,
            self._broken_request,
            self._form,
            self._hung_up,
            self._forged,
        ]

    def hostile(self) -> Raw:
        """One of them."""
        return self._chance.choice(self._kinds)()

    # ── kinds ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _valid(self) -> bytes:
        return self._documents.valid("query").body()

    def _truncated_json(self) -> Raw:
        body = self._valid()
        body = body[: self._chance.randrange(len(body))] + self._chance.choice([b"", b"}", b"\xff", b"\0", b"]]"])
        return Raw("truncated JSON", (_post(body),))

    def _charset(self) -> Raw:
        encoding = self._chance.choice(["utf-16", "utf-16-le", "utf-32", "utf-7", "cp500", "utf-8-sig"])
        said = self._chance.choice(["", "; charset=utf-16", "; charset=utf-8", "; charset=latin-1", "; charset=\x01"])
        return Raw(
            "charset", (_post(self._valid().decode().encode(encoding), f"content-type: application/json{said}"),)
        )

    def _content_type(self) -> Raw:
        content_type = self._chance.choice(
            [
                "",
                "text/plain",
                "application/graphql",
                "application/x-www-form-urlencoded",
                "multipart/form-data",
                "multipart/form-data; boundary=x",
                "application/json, text/plain",
                "application/json;" * 500,
                "é",
                "*/*",
                "application/jsonp",
                "application/json/x",
                "APPLICATION/JSON ; charset=UTF-8",
                "application/json; charset=",
            ]
        )
        return Raw("content type", (_post(self._valid(), f"content-type: {content_type}"),))

    def _compressed(self) -> Raw:
        body = self._chance.choice([gzip.compress(self._valid()), b"\x1f\x8b", self._valid(), b"\0" * 1_000])
        encoding = self._chance.choice(["gzip", "deflate", "br", "identity, gzip", "x", "GZIP", ""])
        return Raw("compressed", (_post(body, "content-type: application/json", f"content-encoding: {encoding}"),))

    def _large_headers(self) -> Raw:
        size = self._chance.choice([1_000, 8_000, 60_000, 70_000, 300_000])
        header = self._chance.choice(
            [
                f"authorization: Bearer {'A' * size}",
                f"accept-language: {'fr,' * (size // 3)}",
                f"x-a: {'b' * size}",
                f"accept: {'a/b;q=0.1,' * (size // 10)}",
                f"cookie: {'a=b; ' * (size // 5)}",
                f"x-{'y' * size}: 1",
                "\r\n".join(f"x-{n}: 1" for n in range(size // 10)),
            ]
        )
        return Raw("large headers", (_post(self._valid(), header),), Ends.ANSWERED_OR_CLOSED)

    def _odd_headers(self) -> Raw:
        header = self._chance.choice(
            [
                "accept: ",
                "accept: ;;q=,,",
                "accept: */*;q=1e999",
                "accept: application/json;q=NaN",
                "accept-language: *",
                "accept-language: fr;q=",
                "accept-language: \xe9\xff",
                "authorization: Bearer",
                "authorization: Bearer \xff",
                "authorization: Basic YTpi",
                f"authorization: Bearer {'A' * 43}",
                "authorization: Bearer a b c",
                "cookie: __Host-escarcelle=" + "A" * 48,
                'cookie: __Host-escarcelle="\\000"',
                "cookie: =;=;\x7f",
                "x-forwarded-for: ' OR 1=1 --",
                "x-forwarded-for: 1.2.3.4, [::1",
                'forwarded: for="_x"',
                "host: a b",
                "host: ",
                "x-forwarded-proto: gopher",
                "origin: http://[",
                "expect: 100-continue",
                "te: trailers",
                "range: bytes=0-",
                "if-none-match: *",
                "content-length: 3",
                "transfer-encoding: identity",
                "upgrade: h2c",
                "connection: upgrade",
                "user-agent: " + "\xff" * 300,
                "x-escarcelle-session: cookie",
                "graphql-preflight: \x01",
            ]
        )
        return Raw(
            "odd header", (_post(self._valid(), "content-type: application/json", header),), Ends.ANSWERED_OR_CLOSED
        )

    def _chunked(self) -> Raw:
        body = self._valid()
        head = _head("POST", "/graphql", "content-type: application/json", "transfer-encoding: chunked")
        size = f"{len(body):x}".encode()
        chunks, ends = self._chance.choice(
            [
                ((size + b"\r\n" + body + b"\r\n0\r\n\r\n",), Ends.ANSWERED),
                ((size + b";a=b\r\n" + body + b"\r\n0\r\nx-trailer: 1\r\n\r\n",), Ends.ANSWERED),
                ((b"ZZ\r\n" + body,), Ends.ANSWERED_OR_CLOSED),
                ((b"-1\r\n" + body,), Ends.ANSWERED_OR_CLOSED),
                ((b"f" * 20 + b"\r\n" + body,), Ends.ANSWERED_OR_CLOSED),
                ((size + b"\r\n" + body[:-1],), Ends.HUNG_UP),
                ((size + b"\n" + body + b"\n0\n\n",), Ends.ANSWERED_OR_CLOSED),
                ((size + b"\r\n" + body + b"XX0\r\n\r\n",), Ends.ANSWERED_OR_CLOSED),
                ((*(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body), b"0\r\n\r\n"), Ends.ANSWERED),
                ((b"0\r\n\r\n",), Ends.ANSWERED),
            ]
        )
        return Raw("chunked", (head, *chunks), ends)

    def _length_lies(self) -> Raw:
        body = self._valid()
        length, ends = self._chance.choice(
            [
                (str(len(body) - 1), Ends.ANSWERED),
                (str(len(body) + 1), Ends.HUNG_UP),
                ("0", Ends.ANSWERED),
                ("-1", Ends.ANSWERED_OR_CLOSED),
                ("1e3", Ends.ANSWERED_OR_CLOSED),
                ("9" * 30, Ends.ANSWERED_OR_CLOSED),
                (str(10**15), Ends.ANSWERED),
                (f"{len(body)}, {len(body)}", Ends.ANSWERED_OR_CLOSED),
                ("٣", Ends.ANSWERED_OR_CLOSED),
                (f"{len(body)}\r\ntransfer-encoding: chunked", Ends.ANSWERED_OR_CLOSED),
                (f"{len(body)}\r\ncontent-length: 2", Ends.ANSWERED_OR_CLOSED),
            ]
        )
        lines = ["POST /graphql HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {length}"]
        head = "\r\n".join([*lines, "connection: close", "", ""]).encode()
        return Raw("a length that lies", (head, body), ends)

    def _get(self) -> Raw:
        operation = self._documents.valid(self._chance.choice(["query", "mutation", "subscription"]))
        fields = {"query": operation.text, "variables": json.dumps(operation.variables)}
        asked = self._chance.choice(
            [
                urlencode(fields),
                urlencode({"query": operation.text}),
                "query=%ff%fe",
                "query=%ed%a0%80",
                "query=" + quote(operation.text) + "%00",
                "query=" + "{" * 3_000,
                urlencode(fields) + "&query={a}",
                "variables={&extensions=[",
                "&" * 5_000,
                "x=1&" * 200,
                urlencode({**fields, "extensions": '{"persistedQuery":{}}'}),
                "%",
                "query=%zz",
            ]
        )
        return Raw("GET", (_head("GET", f"/graphql?{asked}", "connection: close"),))

    def _method(self) -> Raw:
        method = self._chance.choice(
            [
                "PUT",
                "DELETE",
                "PATCH",
                "OPTIONS",
                "HEAD",
                "TRACE",
                "CONNECT",
                "get",
                "POST ",
                "XYZZY",
                "PROPFIND",
                "\xff",
                "",
            ]
        )
        ends = Ends.ANSWERED if method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD") else Ends.ANSWERED_OR_CLOSED
        return Raw("method", (_post(self._valid(), method=method),), ends, is_head=method == "HEAD")

    def _path(self) -> Raw:
        path = self._chance.choice(
            [
                "/../../etc/x",
                "/graphql/../files/x",
                "/%2e%2e/%2e%2e/x",
                "//graphql",
                "/graphql/",
                "/p/%00",
                "/p/%ff",
                "/p/" + "A" * 43,
                "/p/" + "A" * 60_000,
                "/files/" + "_" * 70,
                "/files/%c0%ae",
                "/password/" + "-" * 70,
                "/payments/%0d%0aX: 1",
                "*",
                "http://other/graphql",
                "/\u00e9",
                "/nowhere",
                "/p/ x",
                "/graphql#x",
                "/;a=b",
                "/mails?x=%0a",
            ]
        )
        method = self._chance.choice(["GET", "GET", "POST", "HEAD", "DELETE"])
        is_odd = any(character in path for character in "* \u00e9")
        ends = Ends.ANSWERED_OR_CLOSED if is_odd or len(path) > 50_000 else Ends.ANSWERED
        return Raw(
            "path", (_head(method, path, "connection: close", "content-length: 0"),), ends, is_head=method == "HEAD"
        )

    def _pipelined(self) -> Raw:
        count = self._chance.choice([2, 5, 20])
        one = _post(self._valid(), "content-type: application/json", closes=False)
        return Raw("pipelined", (one * count,), answers=count)

    def _dripping(self) -> Raw:
        whole = _post(self._valid(), "content-type: application/json")
        return Raw("dripping", tuple(whole[at : at + 7] for at in range(0, len(whole), 7)))

    def _large_body(self) -> Raw:
        size = self._chance.choice([262_144, 262_145, 400_000, 2_000_000])
        filler = self._chance.choice([b" ", b"[", b'{"a":', b"\0", b"1"])
        return Raw("large body", (_post((filler * size)[:size]),))

    def _broken_request(self) -> Raw:
        request, chance = bytearray(_post(self._valid(), "content-type: application/json")), self._chance
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(request) + 1)
            if chance.random() < 0.5:
                request[at:at] = chance.choice(
                    [*(s.encode(errors="replace") for s in SPLINTERS), b"\r\n", b"\r", b" ", b":"]
                )
            else:
                request[at : at + 1] = bytes([chance.randrange(256)])
        return Raw("broken request", (bytes(request),), Ends.HUNG_UP)

    def _form(self) -> Raw:
        boundary = b"--x\r\ncontent-disposition: form-data; name=password\r\n\r\n" + b"p" * 50 + b"\r\n--x--\r\n"
        body = self._chance.choice(
            [
                boundary,
                b"password=" + b"%ff" * 10,
                b"password=" + b"x" * 5_000,
                b"a=1&" * 50,
                b"password=\0",
                b"",
                b"&&&=",
                b"%" * 99,
            ]
        )
        kind = self._chance.choice(
            ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "multipart/form-data"]
        )
        path = self._chance.choice(["/graphql", "/password/" + "A" * 70, "/password/" + "A" * 71, *PATHS])
        return Raw("form", (_post(body, f"content-type: {kind}", path=path),))

    def _hung_up(self) -> Raw:
        whole = _post(self._valid(), "content-type: application/json")
        return Raw("hung up", (whole[: self._chance.randrange(len(whole))],), Ends.HUNG_UP)

    def _forged(self) -> Raw:
        cookie = f"cookie: __Host-escarcelle={'A' * 48}"
        more = self._chance.choice(
            [(), ("origin: https://evil.example",), ("x-escarcelle-client: web",), ("sec-fetch-site: cross-site",)]
        )
        return Raw("forged", (_post(self._valid(), "content-type: application/json", cookie, *more),))


def _post(body: bytes, *headers: str, method: str = "POST", path: str = "/graphql", closes: bool = True) -> bytes:
    length = f"content-length: {len(body)}"
    return _head(method, path, *headers, length, *(["connection: close"] if closes else [])) + body


def _head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *headers, "", ""]).encode()
