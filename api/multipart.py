"""Multipart bodies (RFC 7578), taken piece by piece as they come: no part holds more than it may, whatever is sent."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

FORM_DATA = "multipart/form-data"

_LONGEST_BOUNDARY = 70
"""RFC 2046."""


class Malformed(Exception):
    """This is no multipart body; the message says why."""


class TooLarge(Exception):
    """A part holds more than it may: `name` is the part's, `most` is in bytes."""

    def __init__(self, name: str, most: int) -> None:
        super().__init__(name)
        self.name = name
        self.most = most


@dataclass(eq=False)
class Part:
    """A part of a body. `name` is its field's; `file_name` is what its sender calls the file, if it is one."""

    name: str
    file_name: str
    most: int
    size: int = 0
    whole: bool = False
    content: io.BytesIO = field(default_factory=io.BytesIO)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)


class Parts:
    """The parts of a body, in the order in which they come. `most_of` says how many bytes the part of that name may
    hold; there may be `most_parts` of them."""

    def __init__(self, content_type: str, most_parts: int, most_of: Callable[[str], int]) -> None:
        """Raises Malformed without a boundary."""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
            raise Malformed("boundary")
        self.parts: list[Part] = []
        self.ended = False
        self._most_parts = most_parts
        self._most_of = most_of
        self._header: tuple[bytearray, bytearray] = bytearray(), bytearray()
        self._headers: dict[str, str] = {}
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_begin": self._begin_header,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._take,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        """The next piece of the body. Raises Malformed, TooLarge."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Malformed(str(error)) from None

    def _begin(self) -> None:
        if len(self.parts) == self._most_parts:
            raise Malformed(f"more than {self._most_parts} parts")
        self._headers = {}

    def _begin_header(self) -> None:
        self._header = bytearray(), bytearray()

    def _end_header(self) -> None:
        name, value = (bytes(each).decode("latin-1") for each in self._header)
        self._headers[name.strip().lower()] = value

    def _open(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition"))
        # Browsers and the specification of forms send names in UTF-8, whatever it says.
        name = options.get(b"name", b"").decode(errors="replace")
        if kind.strip() != b"form-data" or not name:
            raise Malformed("a part without a name")
        if self._headers.get("content-transfer-encoding", "binary").strip().lower() not in ("binary", "8bit", "7bit"):
            raise Malformed("content-transfer-encoding")
        file_name = options.get(b"filename", b"").decode(errors="replace")
        self.parts.append(Part(name, file_name, self._most_of(name)))

    def _take(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.size += end - start
        if part.size > part.most:
            raise TooLarge(part.name, part.most)
        piece = data[start:end]
        part.content.write(piece)
        part.digest.update(piece)

    def _close(self) -> None:
        self.parts[-1].whole = True

    def _end(self) -> None:
        self.ended = True
