"""Hostile WebSockets: conversations, frame by frame."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.hostile.documents import VALUES, Documents, written
from tests.hostile.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, upgrade

CODES = frozenset({1000, 1001, 1002, 1003, 1005, 1007, 1009, 4400, 4401, 4403, 4406, 4408, 4409, 4429})
"""How a socket may close on what a client does wrong: of RFC 6455 and of graphql-transport-ws, and none of ours."""


@dataclass(frozen=True)
class Conversation:
    """What one socket sends. `hangs`: the server waits for the rest of a frame, so it cannot be expected to answer."""

    name: str
    frames: tuple[bytes, ...]
    handshake: bytes
    hangs: bool = False


class Frames:
    """Makes conversations from chance."""

    def __init__(self, chance: random.Random, documents: Documents) -> None:
        self._chance = chance
        self._documents = documents
        self._kinds: list[tuple[int, Callable[[str | None], Conversation]]] = [
            (10, self._valid),
            (6, self._without_init),
            (4, self._init_again),
            (5, self._same_id),
            (12, self._broken_messages),
            (6, self._odd_messages),
            (4, self._binary),
            (4, self._control_flood),
            (5, self._fragments),
            (4, self._not_utf_8),
            (5, self._broken_frames),
            (3, self._large),
            (5, self._not_a_subscription),
            (5, self._comings_and_goings),
            (3, self._half_said),
            (3, self._odd_handshake),
            (2, self._odd_close),
        ]

    def hostile(self, token: str | None) -> Conversation:
        """One conversation, signed in with the token or not."""
        weights = [weight for weight, _ in self._kinds]
        _, make = self._chance.choices(self._kinds, weights)[0]
        return make(token)

    def thousand(self, token: str | None) -> Conversation:
        """A thousand subscriptions on one socket, each of which stays."""
        payload = {"query": "subscription { paymentRequestChanges { paymentRequest { id } } }"}
        frames = [_said({"type": "subscribe", "id": str(n), "payload": payload}) for n in range(1_000)]
        return Conversation("a thousand", (_init(token), *frames), upgrade())

    # ── kinds ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _valid(self, token: str | None) -> Conversation:
        many = self._chance.randint(1, 5)
        return self._conversation("valid", _init(token), *(self._subscribe(str(n)) for n in range(many)))

    def _without_init(self, token: str | None) -> Conversation:
        return self._conversation("without init", _said({"type": "pong"}), self._subscribe("1"), _init(token))

    def _init_again(self, token: str | None) -> Conversation:
        return self._conversation("init again", _init(token), self._subscribe("1"), _init(token))

    def _same_id(self, token: str | None) -> Conversation:
        return self._conversation("same id", _init(token), self._subscribe("1"), self._subscribe("1"))

    def _broken_messages(self, token: str | None) -> Conversation:
        chance = self._chance
        frames = []
        for _ in range(chance.randint(1, 4)):
            text = bytearray(self._message())
            for _ in range(chance.randint(1, 3)):
                at = chance.randrange(len(text) + 1)
                text[at : at + chance.randint(0, 2)] = chance.choice(
                    [b'"', b"{", b"[" * 300, b"\\ud800", b"\\u0000", b"1e999", b"", b","]
                )
            frames.append(frame(bytes(text)))
        return self._conversation("broken messages", _init(token), *frames)

    def _odd_messages(self, token: str | None) -> Conversation:
        chance = self._chance
        message = {
            "type": chance.choice(["subscribe", "complete", "ping", "pong", "next", "connection_init"]),
            "id": "1",
        }
        message |= {"payload": chance.choice(VALUES)}
        message |= {chance.choice(["type", "id", "payload"]): chance.choice(VALUES)}
        return self._conversation("odd messages", _init(token), frame(written(message)))

    def _binary(self, token: str | None) -> Conversation:
        payload = self._chance.choice([b"", b"\0", b'{"type":"connection_init"}', bytes(range(256))])
        return self._conversation("binary", _init(token), frame(payload, BINARY))

    def _control_flood(self, token: str | None) -> Conversation:
        opcode, payload = self._chance.choice([(PING, b""), (PING, b"x" * 125), (PONG, b"unasked")])
        flood = [frame(payload, opcode)] * self._chance.choice([10, 300])
        said = [_said({"type": "ping", "payload": {"n": n}}) for n in range(self._chance.choice([1, 100]))]
        return self._conversation("control flood", _init(token), *flood, *said)

    def _fragments(self, token: str | None) -> Conversation:
        text = self._message()
        pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
        frames = [
            frame(piece, CONTINUATION if n else TEXT, is_last=n == len(pieces) - 1) for n, piece in enumerate(pieces)
        ]
        odd = self._chance.choice([[], [frame(b"", PING)], [frame(b"x", TEXT)], [frame(b"x", CONTINUATION)] * 2])
        return self._conversation("fragments", _init(token), *frames[:-1], *odd, frames[-1])

    def _not_utf_8(self, token: str | None) -> Conversation:
        text = self._chance.choice(
            [b"\xff", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b'{"type":"ping","payload":{"a":"\xc0\x80"}}']
        )
        # In one packet with the client's own close, too.
        end = self._chance.choice([b"", frame(b"\x03\xe8", CLOSE)])
        return self._conversation("not UTF-8", _init(token), frame(text) + end)

    def _broken_frames(self, token: str | None) -> Conversation:
        text = self._message()
        odd = self._chance.choice(
            [
                frame(text, is_masked=False),
                frame(text, reserved=self._chance.randint(1, 7)),
                frame(text, self._chance.choice([3, 4, 5, 6, 7, 11, 15])),
                frame(b"x" * 126, PING),
                frame(b"", PING, is_last=False),
                frame(b"", length=2**63),
                frame(b"", length=2**40),
                frame(b"end", CONTINUATION),
            ]
        )
        return self._conversation("broken frames", _init(token), odd)

    def _large(self, token: str | None) -> Conversation:
        text = self._chance.choice(
            [b"x" * 65_537, "é".encode() * 32_769, b'{"type":"ping","x":"' + b"y" * 300_000 + b'"}', b"[" * 65_000]
        )
        return self._conversation("large", _init(token), frame(text))

    def _not_a_subscription(self, token: str | None) -> Conversation:
        kind = self._chance.choice(["mutation", "query"])
        payloads = [json.loads(self._documents.valid(kind).body()) for _ in range(3)]
        frames = [_said({"type": "subscribe", "id": str(n), "payload": p}) for n, p in enumerate(payloads)]
        return self._conversation(f"a {kind}", _init(token), *frames)

    def _comings_and_goings(self, token: str | None) -> Conversation:
        frames: list[bytes] = []
        for n in range(self._chance.choice([5, 40])):
            frames += [self._subscribe(str(n % 7)), _said({"type": "complete", "id": str(n % 7)})]
        return self._conversation("comings and goings", _init(token), *frames)

    def _half_said(self, token: str | None) -> Conversation:
        whole = self._subscribe("1")
        cut = self._chance.choice(
            [frame(b"half", length=500), whole[: len(whole) // 2], frame(b"{", is_last=False), b"\x81"]
        )
        return self._conversation("half said", _init(token), cut, hangs=True)

    def _odd_handshake(self, token: str | None) -> Conversation:
        handshake = self._chance.choice(
            [
                upgrade(subprotocol=None),
                upgrade(subprotocol="graphql-ws"),
                upgrade(subprotocol="x" * 5_000),
                upgrade(version=7),
                upgrade("cookie: __Host-escarcelle=" + "A" * 48, "origin: https://evil.example"),
                upgrade("cookie: a=b"),
                upgrade("sec-websocket-extensions: permessage-deflate; client_max_window_bits=99"),
                upgrade("accept-language: \xff"),
                upgrade().replace(b"sec-websocket-key", b"x-key"),
                upgrade().replace(b"/graphql", b"/nowhere"),
            ]
        )
        return Conversation("odd handshake", (_init(token), self._subscribe("1")), handshake)

    def _odd_close(self, token: str | None) -> Conversation:
        payload = self._chance.choice(
            [b"", b"\x03", b"\x03\xe8bye", b"\x00\x00", b"\x03\xed", b"\x13\x88\xff\xff", b"\xff\xff" + b"x" * 123]
        )
        return self._conversation("odd close", _init(token), self._subscribe("1"), frame(payload, CLOSE))

    # ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _conversation(self, name: str, *frames: bytes, hangs: bool = False) -> Conversation:
        # Some never introduce themselves.
        begins = 0 if self._chance.random() < 0.9 else 1
        return Conversation(name, frames[begins:], upgrade(), hangs)

    def _message(self) -> bytes:
        payload = json.loads(self._documents.subscription().body())
        kinds: list[dict[str, Any]] = [
            {"type": "subscribe", "id": "7", "payload": payload},
            {"type": "complete", "id": "7"},
            {"type": "ping", "payload": {"a": [1, None]}},
        ]
        return written(self._chance.choice(kinds))

    def _subscribe(self, id_: str) -> bytes:
        if self._chance.random() < 0.3:
            payload = self._documents.hostile()
            if len(payload) < 60_000:
                return frame(b'{"type": "subscribe", "id": "%s", "payload": %s}' % (id_.encode(), payload))
        return _said({"type": "subscribe", "id": id_, "payload": json.loads(self._documents.subscription().body())})


def _init(token: str | None) -> bytes:
    return _said({"type": "connection_init", "payload": {"token": token} if token else {}})


def _said(message: dict[str, Any]) -> bytes:
    return frame(json.dumps(message).encode())
