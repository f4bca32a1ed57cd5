"""The bank's papers: transfers as it takes them (pain.001.001.09), and its answers (pain.002, camt.053)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError, SubElement, fromstring, tostring

import defusedxml.ElementTree
from defusedxml import DefusedXmlException
from sepaxml import SepaTransfer
from sepaxml.validation import try_valid_xml
from text_unidecode import unidecode

from domain.parties import Issuer
from domain.reimbursements import Reimbursement, TransferFile
from domain.texts import Text

SCHEMA: Final = "pain.001.001.09"

# ── transfers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def transfers(file: TransferFile, ordered: Sequence[Reimbursement], issuer: Issuer) -> bytes:
    """The file for the bank, valid against its schema; the same whenever it is asked for. Payees read the issuer's name
    beside the reference. Addresses are structured, or left out: banks refuse others since November 2026. A sandbox's
    says of itself and in every transfer that it is a TEST (X5)."""
    remittance = f"TEST {issuer.name}" if issuer.sandbox else issuer.name
    paper = SepaTransfer(
        {"name": _plain(file.account_holder, 70), "IBAN": file.iban, "batch": True, "currency": "EUR"}
        | _bic_and_address(file),
        schema=SCHEMA,
        clean=False,
    )
    for reimbursement in ordered:
        assert reimbursement.iban and reimbursement.account_holder, "what is sent says where to"
        paper.add_payment(
            {
                "name": _plain(reimbursement.account_holder, 70),
                "IBAN": reimbursement.iban,
                "amount": reimbursement.net,
                "execution_date": reimbursement.due_on,
                "description": _plain(f"{remittance} {reimbursement.reference}", 140),
                "endtoend_id": reimbursement.reference,
            }
            | _bic_and_address(reimbursement)
        )
    document = fromstring(paper.export(validate=False))  # noqa: S314 — our own
    # The library draws identifiers by lot and takes the machine's clock.
    _one(document, "GrpHdr/MsgId").text = file.reference
    _one(document, "GrpHdr/CreDtTm").text = f"{file.created_at:%Y-%m-%dT%H:%M:%SZ}"
    if issuer.sandbox:
        header = _one(document, "GrpHdr")
        authorisation = Element(f"{_NS}Authstn")
        SubElement(authorisation, f"{_NS}Prtry").text = "TEST"
        header.insert(2, authorisation)
    for bank in document.iterfind(f".//{_NS}FinInstnId"):
        if len(bank) == 0:
            SubElement(SubElement(bank, f"{_NS}Othr"), f"{_NS}Id").text = "NOTPROVIDED"
    for n, batch in enumerate(document.iterfind(f".//{_NS}PmtInf"), start=1):
        _one(batch, "PmtInfId").text = f"{file.reference}-{n}"
    made: bytes = b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(document, "utf-8")
    try_valid_xml(made, SCHEMA)
    return made


_NS: Final = f"{{urn:iso:std:iso:20022:tech:xsd:{SCHEMA}}}"
_NOT_SEPA: Final = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]+")


def _bic_and_address(party: TransferFile | Reimbursement) -> dict[str, Any]:
    said: dict[str, Any] = {"BIC": party.bic} if party.bic else {}
    if party.street and party.postcode and party.town and party.country:
        said["address"] = {
            "street_name": _plain(party.street, 70),
            "postcode": _plain(party.postcode, 16),
            "town": _plain(party.town, 35),
            "country": party.country,
        }
    return said


def _plain(text: str, longest: int) -> str:
    """In the few characters that every bank takes."""
    return " ".join(_NOT_SEPA.sub(" ", unidecode(text)).split())[:longest].strip() or "-"


def _one(element: Element, path: str) -> Element:
    found = element.find(".//" + "/".join(_NS + part for part in path.split("/")))
    assert found is not None, f"the library writes {path}"
    return found


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Outcome(StrEnum):
    """What became of a transfer."""

    SETTLED = "SETTLED"
    REJECTED = "REJECTED"


class NotAnAnswer(Exception):
    """A file that is no answer of a bank."""

    text: Final = Text(
        "Ce fichier n’est ni un pain.002 ni un camt.053 complet.",
        "This file is neither a complete pain.002 nor a complete camt.053.",
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bank says about one transfer; about all of a message, or of a batch of it, when `end_to_end_id` is None;
    an empty one is missing. `is_report`: it answers a message, and is no line of a statement. `amount` in cents, and
    `said` as the bank writes it, where it says one: what is said and is no amount of euros has none. `account` is whose
    statement it is, by its IBAN; `code` is why not."""

    outcome: Outcome
    end_to_end_id: str | None
    message_id: str | None
    is_report: bool = False
    amount: int | None = None
    said: str | None = None
    account: str | None = None
    code: str | None = None
    text: str | None = None
    bank_reference: str | None = None


def answers(content: bytes) -> list[Answer]:
    """What a pain.002 or a camt.053 says about transfers; what is only under way says nothing yet. Raises NotAnAnswer
    for anything else."""
    document = _parsed(content)
    namespace = document.tag.partition("}")[0].removeprefix("{")
    kind = re.fullmatch(r"urn:iso:std:iso:20022:tech:xsd:(pain\.002|camt\.053)\.001\.\d\d", namespace)
    if kind is None:
        raise NotAnAnswer
    _strip_namespaces(document)
    if document.find(_BODIES[kind[1]]) is None:
        raise NotAnAnswer
    read = _of_report if kind[1] == "pain.002" else _of_statement
    return list(read(document))


_BODIES: Final = {"pain.002": "CstmrPmtStsRpt", "camt.053": "BkToCstmrStmt"}


def _of_report(document: Element) -> Iterator[Answer]:
    """pain.002: a rejection may concern single transfers, a batch of the message, or the whole. What is said of a
    transfer comes first: it knows best why."""
    group = document.find("CstmrPmtStsRpt/OrgnlGrpInfAndSts")
    message = _text(group, "OrgnlMsgId")
    none_of_it = _text(group, "GrpSts") == "RJCT"
    for batch in document.iterfind("CstmrPmtStsRpt/OrgnlPmtInfAndSts"):
        rejected = none_of_it or _text(batch, "PmtInfSts") == "RJCT"
        for each in batch.iterfind("TxInfAndSts"):
            status = _text(each, "TxSts") or ("RJCT" if rejected else None)
            outcome = {"RJCT": Outcome.REJECTED, "ACSC": Outcome.SETTLED, "ACCC": Outcome.SETTLED}.get(status or "")
            if outcome is None:
                continue
            why = (_reason(each) or _reason(batch) or _reason(group)) if outcome is Outcome.REJECTED else {}
            yield Answer(
                outcome,
                # One that is not named must not stand for all.
                _text(each, "OrgnlEndToEndId") or "",
                message,
                is_report=True,
                **_amount(each.find(".//InstdAmt")),
                account=_iban(each, "OrgnlTxRef/DbtrAcct"),
                bank_reference=_text(each, "AcctSvcrRef"),
                **why,
            )
        if rejected and not none_of_it:
            why = _reason(batch) or _reason(group)
            yield Answer(Outcome.REJECTED, None, _text(batch, "OrgnlPmtInfId"), is_report=True, **why)
    if none_of_it:
        yield Answer(Outcome.REJECTED, None, message, is_report=True, **_reason(group))


def _of_statement(document: Element) -> Iterator[Answer]:
    """camt.053: what was booked, transfer by transfer or as one sum of a batch; a credit that returns or reverses a
    transfer brings it back."""
    for statement in document.iterfind("BkToCstmrStmt/Stmt"):
        account = _iban(statement, "Acct")
        for entry in statement.iterfind("Ntry"):
            status = entry.find("Sts")
            booked = (_text(status, "Cd") or (status.text if status is not None else None) or "").strip() == "BOOK"
            if not booked:
                continue
            details = entry.findall("NtryDtls/TxDtls")
            named = [each for each in details if _text(each, "Refs/EndToEndId") not in (None, "NOTPROVIDED")]
            for detail in named:
                yield from _of_detail(entry, detail, account, alone=len(details) == 1)
            if not named and _text(entry, "CdtDbtInd") == "DBIT" and _text(entry, "RvslInd") != "true":
                yield from _of_batches(entry, account)


def _of_batches(entry: Element, account: str | None) -> Iterator[Answer]:
    """Of a batch, many banks book no more than its sum."""
    batches = entry.findall("NtryDtls/Btch") or entry.findall("NtryDtls/TxDtls/Refs")
    for batch in batches:
        amount = batch.find("TtlAmt")
        if amount is None and len(batches) == 1:
            amount = entry.find("Amt")
        identifier = _text(batch, "PmtInfId") or _text(batch, "MsgId")
        if identifier and amount is not None:
            reference = _text(entry, "AcctSvcrRef")
            yield Answer(
                Outcome.SETTLED, None, identifier, **_amount(amount), account=account, bank_reference=reference
            )


def _of_detail(entry: Element, detail: Element, account: str | None, *, alone: bool) -> Iterator[Answer]:
    direction = _text(detail, "CdtDbtInd") or _text(entry, "CdtDbtInd")
    returned = detail.find("RtrInf")
    back = (
        returned is not None
        or "RRTN" in (_text(part, "BkTxCd/Domn/Fmly/SubFmlyCd") for part in (detail, entry))
        or _text(entry, "RvslInd") == "true"
    )
    # Money that we send back, or that comes for another reason, is none of this.
    if direction != ("CRDT" if back else "DBIT"):
        return
    amount = detail.find("Amt")
    if amount is None:
        amount = detail.find("AmtDtls/TxAmt/Amt")
    if amount is None and alone:
        amount = entry.find("Amt")
    yield Answer(
        Outcome.REJECTED if back else Outcome.SETTLED,
        _text(detail, "Refs/EndToEndId"),
        None,
        **_amount(amount),
        account=account,
        code=_text(returned, "Rsn/Cd") or _text(returned, "Rsn/Prtry"),
        text=_text(returned, "AddtlInf"),
        bank_reference=_text(detail, "Refs/AcctSvcrRef") or _text(entry, "AcctSvcrRef"),
    )


def _reason(element: Element | None) -> Mapping[str, Any]:
    found = element.find("StsRsnInf") if element is not None else None
    if found is None:
        return {}
    return {"code": _text(found, "Rsn/Cd") or _text(found, "Rsn/Prtry"), "text": _text(found, "AddtlInf")}


def _text(element: Element | None, path: str) -> str | None:
    found = element.findtext(path) if element is not None else None
    return found.strip()[:140] or None if found else None


def _iban(element: Element, path: str) -> str | None:
    found = _text(element, f"{path}/Id/IBAN")
    return found.replace(" ", "") if found else None


def _amount(element: Element | None) -> Mapping[str, Any]:
    if element is None:
        return {}
    said = f"{(element.text or '').strip()} {element.get('Ccy') or ''}".strip()
    return {"amount": _cents(element), "said": said[:_LONGEST_AMOUNT]}


_LONGEST_AMOUNT: Final = 30


def _cents(amount: Element | None) -> int | None:
    text = (amount.text or "").strip() if amount is not None and amount.get("Ccy") == "EUR" else ""
    euros, _, fraction = text.partition(".")
    if not re.fullmatch(r"\d{1,16}", euros) or not re.fullmatch(r"\d{0,2}0*", fraction):
        return None
    return int(euros) * 100 + int(fraction[:2].ljust(2, "0"))


def _strip_namespaces(document: Element) -> None:
    for element in document.iter():
        element.tag = element.tag.rpartition("}")[2]


def _parsed(content: bytes) -> Element:
    """The root of an XML document of no more elements than memory is meant for."""
    root: Element | None = None
    try:
        events = defusedxml.ElementTree.iterparse(BytesIO(content), events=("start",), forbid_dtd=True)
        for n, (_, element) in enumerate(events):
            if n == _MOST_ELEMENTS:
                raise NotAnAnswer
            root = element if root is None else root
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise NotAnAnswer from None
    if root is None:
        raise NotAnAnswer
    return root


_MOST_ELEMENTS: Final = 300_000
"""About seven thousand transfers; ten megabytes of the smallest elements would take half a gigabyte."""
