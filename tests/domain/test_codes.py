"""Ids, tokens and numbers keep their promises; QR codes are read back as a telephone would."""

import itertools
import re
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import cv2
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain import codes
from domain.codes import (
    EXPIRING_TOKEN_LENGTH,
    LARGEST_TENANT,
    digest,
    expiring_token,
    global_id,
    new_id,
    new_token,
    qr_png,
    qr_svg,
    read_expiring_token,
    read_global_id,
    read_signed_token,
    signed_token,
    tenant_of_token,
    transaction_number,
)
from domain.errors import RefusalCode, Refused

TENANTS = st.integers(0, LARGEST_TENANT)
AN_ID = UUID("01900000-0000-7000-8000-00000000002a")
unhurried = settings(deadline=None)


def assert_not_found(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(Refused) as refused:
        read(text)
    assert refused.value.code is RefusalCode.NOT_FOUND


def milliseconds_of(id: UUID) -> int:  # noqa: A002
    return id.int >> 80


def test_ids_are_uuids_of_version_7_with_the_time_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.codes._ids", codes._Ids())
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == RFC_4122
    assert before <= milliseconds_of(made) <= after


def test_an_id_has_the_bits_of_the_standards_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.codes._ids", codes._Ids())
    monkeypatch.setattr("domain.codes.time.time_ns", lambda: 0x017F22E279B0 * 1_000_000 + 999_999)
    monkeypatch.setattr("domain.codes.secrets.randbits", lambda _: 0xCC3 << 62 | 0x18C4DC0C0C07398F)
    assert new_id() == UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")  # RFC 9562, A.6


def test_ids_rise_within_a_millisecond() -> None:
    ids = [new_id() for _ in range(20_000)]
    assert all(earlier < later for earlier, later in itertools.pairwise(ids))
    assert len({milliseconds_of(each) for each in ids}) < len(ids)


def test_ids_rise_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id()
    monkeypatch.setattr("domain.codes.time.time_ns", lambda: 1_592_992_775_000_000_000)
    after = [new_id() for _ in range(100)]
    assert sorted([before, *after]) == [before, *after]
    assert {each.version for each in after} == {7}


def test_ids_of_several_threads_are_all_different(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[UUID]] = []
    gate = threading.Barrier(8)

    def no_chance_but_another_threads_turn(bits: int) -> int:
        time.sleep(0)
        return 0

    def make() -> None:
        gate.wait()
        made.append([new_id() for _ in range(200)])

    monkeypatch.setattr("domain.codes.secrets.randbits", no_chance_but_another_threads_turn)
    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for ids in made for each in ids}) == 1_600
    assert all(ids == sorted(ids) for ids in made)


@pytest.mark.parametrize(
    ("prefix", "tenant", "id_", "text"),
    [
        ("preq", 0, UUID(int=0), "preq_" + "0" * 32),
        ("preq", 1, AN_ID, "preq_00000081j0000000e00800000000001a"),
        ("vch", LARGEST_TENANT, UUID(int=2**128 - 1), "vch_fzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
    ],
)
def test_global_ids_are_spelled_in_one_way(prefix: str, tenant: int, id_: UUID, text: str) -> None:
    assert global_id(prefix, tenant, id_) == text
    assert read_global_id(text) == (prefix, tenant, id_)


GOOD = global_id("preq", 1, AN_ID)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "preq",
        "preq_",
        "_" + GOOD.removeprefix("preq_"),
        GOOD.removeprefix("preq_"),
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        GOOD + "\x00",
        " " + GOOD,
        "\x00" + GOOD,
        GOOD.upper(),
        GOOD.replace("preq", "Preq"),
        GOOD.replace("preq", "préq"),
        GOOD.replace("_", "-"),
        GOOD[:-1] + "i",
        GOOD[:-1] + "l",
        GOOD[:-1] + "o",
        GOOD[:-1] + "u",
        GOOD[:-1] + "A",
        GOOD[:-1] + "=",
        GOOD[:-1] + "٣",
        GOOD[:-1] + "\ud800",
        "a" * 17 + GOOD.removeprefix("preq"),
        "preq_" + "z" * 32,
        "preq_g" + "0" * 31,
        "a" * 1_000_000,
        "preq_" + "0" * 1_000_000,
    ],
    ids=lambda text: ascii(text[:40]),
)
def test_global_ids_that_were_never_given_are_not_found(text: str) -> None:
    assert_not_found(read_global_id, text)


@pytest.mark.parametrize(("prefix", "tenant"), [("", 1), ("Preq", 1), ("a_b", 1), ("a" * 17, 1), ("preq", -1)])
def test_global_ids_are_not_made_of_anything(prefix: str, tenant: int) -> None:
    with pytest.raises(ValueError, match=r"letters|tenant"):
        global_id(prefix, tenant, AN_ID)


@unhurried
@given(st.from_regex("[a-z]{1,16}", fullmatch=True), TENANTS, st.uuids())
def test_global_ids_can_be_read_back(prefix: str, tenant: int, id_: UUID) -> None:
    text = global_id(prefix, tenant, id_)
    assert re.fullmatch("[a-z]+_[0-9a-z]{32}", text)
    assert read_global_id(text) == (prefix, tenant, id_)


@unhurried
@given(st.text(max_size=60) | st.from_regex("[a-z]{1,4}_[0-9a-hjkmnp-tv-z]{32}", fullmatch=True))
def test_any_text_is_one_global_id_or_none(text: str) -> None:
    try:
        parts = read_global_id(text)
    except Refused:
        return
    assert global_id(*parts) == text


@unhurried
@given(TENANTS, st.sampled_from(range(128, 520, 8)))
def test_tokens_name_their_tenant_and_have_one_spelling(tenant: int, bits: int) -> None:
    token = new_token(tenant, bits)
    assert re.fullmatch("[A-Za-z0-9_-]+", token)
    assert len(token) == -(-(32 + bits) // 6)
    assert tenant_of_token(token) == tenant


def test_tokens_are_secret() -> None:
    tokens = {new_token(7) for _ in range(1_000)}
    assert len(tokens) == 1_000
    assert {len(token) for token in tokens} == {48}
    assert len({token[8:] for token in tokens}) == 1_000


TOKEN = new_token(1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TOKEN + "=",
        TOKEN + "\n",
        TOKEN + "\x00",
        " " + TOKEN,
        TOKEN[:-1] + "+",
        TOKEN[:-1] + "/",
        TOKEN[:-1] + "é",
        TOKEN[:-1] + "\ud800",
        TOKEN[:-3],  # 45 characters: no number of whole bytes
        "A" * 26,  # too short to be secret
        "A" * 26 + "B",  # its last character has bits to spare, and uses them
        "A" * 92,
        "A" * 1_000_000,
        "_" * 48,  # a tenant beyond PostgreSQL's integers
        "gAAAAA" + "A" * 42,
    ],
    ids=lambda text: ascii(text[:50]),
)
def test_tokens_that_were_never_given_are_not_found(text: str) -> None:
    assert_not_found(tenant_of_token, text)


@pytest.mark.parametrize("bits", [0, 64, 120, 129, 520])
def test_tokens_are_neither_guessable_nor_odd(bits: int) -> None:
    with pytest.raises(ValueError, match="multiple of 8"):
        new_token(1, bits)


@pytest.mark.parametrize("tenant", [-1, LARGEST_TENANT + 1])
def test_tokens_are_made_for_tenants_only(tenant: int) -> None:
    with pytest.raises(ValueError, match="tenant"):
        new_token(tenant)


@unhurried
@given(tenant=TENANTS, seconds=st.integers(0, 2**37))
def test_an_expiring_token_names_its_row_and_its_end_under_one_key_and_purpose(tenant: int, seconds: int) -> None:
    until = datetime.fromtimestamp(seconds, UTC)
    token = expiring_token("key", "document", tenant, AN_ID, until)
    assert len(token) == EXPIRING_TOKEN_LENGTH != len(signed_token("key", "document", tenant, AN_ID))
    assert read_expiring_token(["new", "key"], "document", token) == (tenant, AN_ID, until)
    for keys, purpose in ((["other"], "document"), (["key"], "download"), ([], "document")):
        with pytest.raises(Refused):
            read_expiring_token(keys, purpose, token)


def test_an_expiring_token_can_neither_be_changed_nor_be_another_s() -> None:
    token = expiring_token("key", "document", 1, AN_ID, datetime(2026, 11, 22, tzinfo=UTC))
    for at, was in enumerate(token):
        other = token[:at] + ("A" if was != "A" else "B") + token[at + 1 :]
        assert_not_found(lambda text: read_expiring_token(["key"], "document", text), other)
    assert_not_found(lambda text: read_signed_token(["key"], "document", text), token)
    for wrong in ("", token[:-1], token + "A", token.replace(token[0], "é", 1), signed_token("key", "d", 1, AN_ID)):
        assert_not_found(lambda text: read_expiring_token(["key"], "document", text), wrong)


def test_digests_are_sha_256() -> None:
    assert digest("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest("é") != digest("e")
    assert len(digest("\ud800")) == 32


def test_H11_transaction_numbers() -> None:
    numbers = {transaction_number() for _ in range(5_000)}
    assert len(numbers) == 5_000
    assert all(re.fullmatch("[a-z0-9]{10}", number) for number in numbers)
    assert {character for number in numbers for character in number} == set("abcdefghijklmnopqrstuvwxyz0123456789")


CONTENTS = [
    "https://payer.example/p/AAAAAQ3yT0m7-kXq_9dVbnW2sLcJ5hRfGzUe8iNo",
    "00000000383",
    "Café Éloi, 40,00 €",
    "x" * 200,
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("module_pixels", [4, 8])
def test_a_png_is_read_by_a_telephone(content: str, module_pixels: int) -> None:
    assert scanned(pixels_of(qr_png(content, module_pixels))) == content


@pytest.mark.parametrize("content", CONTENTS)
def test_an_svg_is_read_by_a_telephone_on_a_dark_page(content: str) -> None:
    code = drawn(qr_svg(content), module_pixels=8)
    page = numpy.pad(code, 100, constant_values=20)
    assert scanned(page) == content


@pytest.mark.parametrize("content", CONTENTS)
def test_svg_and_png_are_the_same_code(content: str) -> None:
    assert numpy.array_equal(drawn(qr_svg(content), module_pixels=8), pixels_of(qr_png(content)))


def test_a_code_has_its_quiet_zone_of_four_modules() -> None:
    code = pixels_of(qr_png("REF202006241", 1))
    assert code.shape == (29, 29)  # version 1 is 21 modules wide
    assert (code[:4] == 255).all()
    assert (code[:, :4] == 255).all()
    assert (code[-4:] == 255).all()
    assert (code[:, -4:] == 255).all()
    assert (code[4, 4:11] == 0).all()


def test_a_code_survives_damage_as_level_m_promises() -> None:
    code = pixels_of(qr_png(CONTENTS[0]))
    middle = len(code) // 2
    code[middle - 20 : middle + 20, middle - 20 : middle + 20] = 255
    assert scanned(code) == CONTENTS[0]


def test_too_much_for_a_code_is_an_error() -> None:
    with pytest.raises(ValueError, match="41"):
        qr_png("x" * 2332)


def pixels_of(png: bytes) -> numpy.ndarray:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return numpy.asarray(cv2.imdecode(numpy.frombuffer(png, numpy.uint8), cv2.IMREAD_GRAYSCALE))


def drawn(svg: str, module_pixels: int) -> numpy.ndarray:
    """A rasteriser of just what our SVG holds: a view box, a ground and one path of strokes a module wide."""
    root = ET.fromstring(svg)
    ground, path = root
    side = int(root.attrib["viewBox"].removeprefix("0 0 ").split()[0])
    assert root.attrib["viewBox"] == f"0 0 {side} {side}"
    assert ground.attrib == {"width": str(side), "height": str(side), "fill": "#fff"}
    assert path.attrib["stroke"] == "#000"
    modules = numpy.full((side, side), 255, numpy.uint8)
    runs = re.findall(r"M(\d+) (\d+)\.5h(\d+)", path.attrib["d"])
    assert "".join(f"M{x} {y}.5h{width}" for x, y, width in runs) == path.attrib["d"]
    for x, y, width in runs:
        modules[int(y), int(x) : int(x) + int(width)] = 0
    return modules.repeat(module_pixels, 0).repeat(module_pixels, 1)


def scanned(image: numpy.ndarray) -> str:
    text, _, _ = cv2.QRCodeDetectorAruco().detectAndDecode(image)
    return str(text)
