"""GraphQL multipart requests, over real sockets: what is taken, and what is told to whoever sends something else."""

import hashlib
import json
import os
import random
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest
import strawberry
from strawberry.schema.config import StrawberryConfig

from api.shapes import SCALARS
from api.transport import GRAPHQL_RESPONSE, Limits, UploadedFile
from tests.api.test_transport import PATH, Served, code_of, serving

BOUNDARY = "----a-boundary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
SEED = int(os.environ.get("ESCARCELLE_TEST_SEED", random.randrange(2**32)))
SMALL = Limits(body_bytes=4_000, files=3, file_bytes=100_000)

ADDED: list[str] = []


def _told(file: UploadedFile) -> str:
    assert file.sha256 == hashlib.sha256(file.content).digest()
    return f"{file.name}: {len(file.content)}, {hashlib.md5(file.content).hexdigest()}"


@strawberry.input
class Paper:
    """Something to hand in."""

    title: str
    scan: UploadedFile | None = None


@strawberry.type
class Query:
    """Questions."""

    @strawberry.field
    def length(self, file: UploadedFile) -> int:
        return len(file.content)


@strawberry.type
class Mutation:
    """Deeds."""

    @strawberry.mutation
    def hand_in(self, input: Paper) -> str:  # noqa: A002 — the contract's name for it
        return f"{input.title}, {_told(input.scan) if input.scan else 'nothing'}"

    @strawberry.mutation
    def several(self, files: list[UploadedFile]) -> list[str]:
        return [_told(file) for file in files]

    @strawberry.mutation
    def add(self, file: UploadedFile) -> str:
        ADDED.append(file.name)
        return file.name


SCHEMA = strawberry.Schema(Query, Mutation, config=StrawberryConfig(scalar_map=SCALARS))

HAND_IN = "mutation ($input: Paper!) { handIn(input: $input) }"
SEVERAL = "mutation ($files: [Upload!]!) { several(files: $files) }"
ADD = "mutation ($file: Upload!) { add(file: $file) }"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(SMALL, SCHEMA) as running:
        yield running


@pytest.fixture
def impatient() -> Iterator[Served]:
    """Waits for nobody."""
    with serving(replace(SMALL, body_seconds=0.5, files_seconds=0.5), SCHEMA) as running:
        yield running


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    headers = {"accept": GRAPHQL_RESPONSE, "x-escarcelle-client": "tests"}
    with httpx.Client(base_url=served.url.removesuffix(PATH), headers=headers, timeout=10) as client:
        yield client


def part(name: str, content: bytes | str, file_name: str | None = None, *headers: str) -> bytes:
    """A part of a body, with the boundary before it."""
    disposition = f'form-data; name="{name}"' + (f'; filename="{file_name}"' if file_name is not None else "")
    head = "\r\n".join([f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *headers, "", ""])
    return head.encode() + (content.encode() if isinstance(content, str) else content) + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def operations(query: str, **variables: Any) -> bytes:
    """The first part."""
    return part("operations", json.dumps({"query": query, "variables": variables}))


def places(**where: list[str]) -> bytes:
    """The second part."""
    return part("map", json.dumps(where))


def post(client: httpx.Client, *parts: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """A body of these parts."""
    return client.post(PATH, content=b"".join(parts), headers={"content-type": FORM} | dict(headers or {}))


A_PAPER = operations(HAND_IN, input={"title": "Facture", "scan": None})
ITS_PLACE = places(a=["variables.input.scan"])
A_FILE = part("a", b"%PDF-1.7\r\n--", "f.pdf", "Content-Type: application/pdf")


# ── what is taken ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_the_value_of_its_variable(http: httpx.Client) -> None:
    response = post(http, A_PAPER, ITS_PLACE, A_FILE, END)
    digest = hashlib.md5(b"%PDF-1.7\r\n--").hexdigest()
    assert (response.status_code, response.json()) == (200, {"data": {"handIn": f"Facture, f.pdf: 12, {digest}"}})


def test_as_clients_send_it(http: httpx.Client) -> None:
    """httpx encodes forms on its own, as browsers do; the content comes in many pieces."""
    content = random.Random(SEED).randbytes(90_000)
    fields = {
        "operations": json.dumps({"query": HAND_IN, "variables": {"input": {"title": "é", "scan": None}}}),
        "map": json.dumps({"0": ["variables.input.scan"]}),
    }
    response = http.post(PATH, data=fields, files={"0": ("reçu.png", content, "image/png")})
    assert response.json()["data"]["handIn"] == f"é, reçu.png: 90000, {hashlib.md5(content).hexdigest()}"


def test_lists_of_files_and_one_file_in_two_places(http: httpx.Client) -> None:
    asked = operations(SEVERAL, files=[None, None, None])
    mapped = places(a=["variables.files.2", "variables.files.0"], b=["variables.files.1"])
    response = post(http, asked, mapped, part("b", b"bb", "b"), part("a", b"a", "a"), END)
    assert [each.split(",")[0] for each in response.json()["data"]["several"]] == ["a: 1", "b: 2", "a: 1"]


def test_without_a_file(http: httpx.Client) -> None:
    assert post(http, A_PAPER, places(), END).json() == {"data": {"handIn": "Facture, nothing"}}


def test_an_upload_is_no_text(http: httpx.Client) -> None:
    for scan in ("f.pdf", 1, {"name": "f.pdf"}):
        asked = {"query": HAND_IN, "variables": {"input": {"title": "x", "scan": scan}}}
        response = http.post(PATH, json=asked)
        assert (response.status_code, code_of(response)) == (400, "BAD_USER_INPUT")
    response = http.post(PATH, json={"query": 'mutation { add(file: "f.pdf") }'})
    assert response.status_code == 400


def test_a_file_is_no_text_either(http: httpx.Client) -> None:
    response = post(http, operations(HAND_IN, input={"title": None}), places(a=["variables.input.title"]), A_FILE, END)
    assert (response.status_code, code_of(response)) == (400, "BAD_USER_INPUT")
    assert "%PDF" not in response.text


# ── who may send it ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cookie", [{}, {"cookie": "a=b"}])
@pytest.mark.parametrize(
    ("header", "status"),
    [("x-escarcelle-client", 200), ("apollo-require-preflight", 200), ("graphql-preflight", 200), ("x-other", 403)],
)
def test_a_form_of_another_origin_cannot_send_it(
    served: Served, header: str, status: int, cookie: dict[str, str]
) -> None:
    with httpx.Client(base_url=served.url.removesuffix(PATH), headers={"accept": GRAPHQL_RESPONSE}) as client:
        response = post(client, A_PAPER, ITS_PLACE, A_FILE, END, headers={header: "1"} | cookie)
    assert response.status_code == status
    if status == 403:
        assert code_of(response) == "CSRF"


def test_files_are_not_read_for_whoever_may_not_ask(served: Served) -> None:
    """The answer is there though no file was sent yet."""
    ADDED.clear()
    host, port = served.url.removeprefix("http://").removesuffix(PATH).split(":")
    begun = operations(ADD, file=None) + places(a=["variables.file"]) + f"--{BOUNDARY}\r\n".encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {FORM}\r\naccept: {GRAPHQL_RESPONSE}\r\n"
        f"x-escarcelle-client: 1\r\ncontent-length: {len(begun) + 50_000}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(head.encode() + begun)
        assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert ADDED == []


def test_whoever_sends_on_regardless_hears_why_and_may_ask_again(http: httpx.Client) -> None:
    sent = (operations(ADD, file=None), places(a=["variables.file"]), part("a", bytes(5_000_000), "a"), END)
    for _ in range(3):
        response = post(http, *sent)
        assert (response.status_code, code_of(response)) == (401, "UNAUTHENTICATED")
    assert post(http, A_PAPER, ITS_PLACE, A_FILE, END).status_code == 200
    assert ADDED == []


# ── what is wrong with it ─────────────────────────────────────────────────────────────────────────────────────────────

WRONG: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "nothing": (400, ()),
    "an end alone": (400, (END,)),
    "no multipart at all": (400, (b'{"query": "{ length }"}',)),
    "another boundary": (400, (A_PAPER.replace(b"a-boundary", b"b"), END)),
    "no map": (400, (A_PAPER, END)),
    "the map first": (400, (ITS_PLACE, A_PAPER, A_FILE, END)),
    "the file first": (400, (A_FILE, A_PAPER, ITS_PLACE, END)),
    "a part without a name": (400, (A_PAPER.replace(b'; name="operations"', b""), ITS_PLACE, A_FILE, END)),
    "a part that is no form's": (400, (A_PAPER.replace(b"form-data", b"attachment"), ITS_PLACE, A_FILE, END)),
    "base64": (400, (A_PAPER, ITS_PLACE, part("a", b"AA==", "a", "Content-Transfer-Encoding: base64"), END)),
    "a header that never ends": (400, (A_PAPER, ITS_PLACE, part("a", b"", "a", "X: " + "x" * 9_000), END)),
    "headers without end": (400, (A_PAPER, ITS_PLACE, part("a", b"", "a", *["X: x"] * 50), END)),
    "operations that are no JSON": (400, (part("operations", "{"), ITS_PLACE, A_FILE, END)),
    "operations that are no UTF-8": (400, (part("operations", b'{"query": "\xff"}'), ITS_PLACE, A_FILE, END)),
    "a batch": (400, (part("operations", json.dumps([{"query": HAND_IN}])), ITS_PLACE, A_FILE, END)),
    "two operations parts": (400, (A_PAPER, A_PAPER, ITS_PLACE, A_FILE, END)),
    "a map that is no JSON": (400, (A_PAPER, part("map", "a"), A_FILE, END)),
    "a map that is a list": (400, (A_PAPER, part("map", "[]"), A_FILE, END)),
    "a path that is no list": (400, (A_PAPER, part("map", '{"a": "variables.input.scan"}'), A_FILE, END)),
    "a path that is no text": (400, (A_PAPER, part("map", '{"a": [1]}'), A_FILE, END)),
    "no path": (400, (A_PAPER, places(a=[]), A_FILE, END)),
    "a path elsewhere": (400, (A_PAPER, places(a=["query"]), A_FILE, END)),
    "a path to all variables": (400, (A_PAPER, places(a=["variables"]), A_FILE, END)),
    "a path to nothing": (400, (A_PAPER, places(a=["variables.input.other"]), A_FILE, END)),
    "a path through a text": (400, (A_PAPER, places(a=["variables.input.title.0"]), A_FILE, END)),
    "a path to what is given": (400, (A_PAPER, places(a=["variables.input.title"]), A_FILE, END)),
    "a path of a batch": (400, (A_PAPER, places(a=["0.variables.input.scan"]), A_FILE, END)),
    "an index beyond the list": (
        400,
        (operations(SEVERAL, files=[None]), places(a=["variables.files.1"]), A_FILE, END),
    ),
    "an index below it": (400, (operations(SEVERAL, files=[None]), places(a=["variables.files.-1"]), A_FILE, END)),
    "an index of other digits": (
        400,
        (operations(SEVERAL, files=[None]), places(a=["variables.files.٠"]), A_FILE, END),
    ),
    "a path twice": (400, (A_PAPER, places(a=["variables.input.scan"] * 2), A_FILE, END)),
    "a file called map": (400, (A_PAPER, places(map=["variables.input.scan"]), part("map", b"", "map"), END)),
    "no file": (400, (A_PAPER, ITS_PLACE, END)),
    "another file": (400, (A_PAPER, ITS_PLACE, A_FILE, part("b", b"", "b"), END)),
    "a file twice": (400, (A_PAPER, ITS_PLACE, A_FILE, A_FILE, END)),
    "no end": (400, (A_PAPER, ITS_PLACE, A_FILE)),
    "half a file": (400, (A_PAPER, ITS_PLACE, A_FILE[:-8])),
    "half a header": (400, (A_PAPER, ITS_PLACE, A_FILE[:30])),
    "too many files": (
        400,
        (
            operations(SEVERAL, files=[None] * 4),
            places(**{name: [f"variables.files.{n}"] for n, name in enumerate("abcd")}),
            *(part(name, b"x", name) for name in "abcd"),
            END,
        ),
    ),
    "more parts than there may be": (400, (A_PAPER, ITS_PLACE, *[A_FILE] * 4, END)),
    "a file that is too large": (413, (A_PAPER, ITS_PLACE, part("a", bytes(SMALL.file_bytes + 1), "a"), END)),
    "operations that are too large": (413, (operations(HAND_IN, input={"title": "x" * 4_000}), ITS_PLACE, A_FILE, END)),
    "a body that does not end": (413, (A_PAPER, ITS_PLACE, A_FILE, END, bytes(400_000))),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_malformed_is_refused(http: httpx.Client, what: str) -> None:
    status, parts = WRONG[what]
    response = post(http, *parts)
    codes = {400: "BAD_REQUEST", 413: "PAYLOAD_TOO_LARGE"}
    assert (response.status_code, code_of(response)) == (status, codes[status]), response.text


def test_a_file_may_be_as_large_as_it_may_be(http: httpx.Client) -> None:
    largest = part("a", bytes(SMALL.file_bytes), "a")
    assert post(http, A_PAPER, ITS_PLACE, largest, END).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        (f"multipart/form-data; boundary={'x' * 71}", 400),
        (f"multipart/mixed; boundary={BOUNDARY}", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/pdf", 415),
        (f"Multipart/Form-Data; charset=utf-8; boundary={BOUNDARY}", 200),
        (f'multipart/form-data; boundary="{BOUNDARY}"', 200),
    ],
)
def test_content_type(http: httpx.Client, content_type: str, status: int) -> None:
    response = post(http, A_PAPER, ITS_PLACE, A_FILE, END, headers={"content-type": content_type})
    assert response.status_code == status, response.text


def test_other_ways_to_send_it(http: httpx.Client) -> None:
    body = A_PAPER + ITS_PLACE + A_FILE + END
    for method in ("PUT", "PATCH", "DELETE"):
        assert http.request(method, PATH, content=body, headers={"content-type": FORM}).status_code == 405
    assert http.request("GET", PATH, content=body, headers={"content-type": FORM}).status_code == 400
    assert post(http, body, headers={"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("sent", [40, len(A_PAPER + ITS_PLACE), len(A_PAPER + ITS_PLACE + A_FILE) - 5])
def test_a_body_that_does_not_come(impatient: Served, sent: int) -> None:
    host, port = impatient.url.removeprefix("http://").removesuffix(PATH).split(":")
    body = A_PAPER + ITS_PLACE + A_FILE + END
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {FORM}\r\nx-escarcelle-client: 1\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(head.encode() + body[:sent])
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_no_body_makes_the_server_fail(http: httpx.Client) -> None:
    chance = random.Random(SEED)
    print(f"ESCARCELLE_TEST_SEED={SEED}")
    whole = A_PAPER + ITS_PLACE + A_FILE + END
    answered = set()
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at : at + chance.randint(1, 40)]
                case 2:
                    body[at:at] = chance.choice([b"\r\n", b"--", b"\0", b'"', b"\xff", BOUNDARY.encode()])
                case _:
                    body[at:at] = body[: chance.randint(1, 200)]
        response = post(http, bytes(body))
        assert response.status_code in (200, 400, 413), (response.status_code, bytes(body))
        assert response.json().get("data") or code_of(response), response.text
        answered.add(response.status_code)
    assert {200, 400} <= answered
