"""What banks answer, and what is made to look like it: nothing is settled or rejected that the bank does not mean."""

from xml.sax.saxutils import escape

import pytest

from reporting import sepa
from tests.flows.cast import Cast as Payments
from tests.flows.test_reimbursements import (
    AGENCY_IBAN,
    CANOE_IBAN,
    Cast,
    begun,
    camt_053,
    entry,
    tx,
)
from tests.matrix.reimbursements import followed
from tests.world import Running, World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def cast(cast: Payments, world: World, running: Running) -> Cast:
    """Two reimbursements of 29.25 € are at the bank, in a file of each."""
    everyone = await begun(cast, world, running)
    await everyone.account()
    for n in (1, 2):
        await everyone.collect("30,00", f"REF{n}")
        await everyone.run()
    return everyone


async def statuses(cast: Cast) -> list[str]:
    """Of the first and the second."""
    return [each["status"] for each in reversed(await cast.all())]


async def told(cast: Cast, content: bytes) -> list[str]:
    """The problems of an answer."""
    return [each["message"] for each in (await cast.answer(content))["problems"]]


async def test_an_amount_of_another_currency_or_of_none_settles_nothing(cast: Cast) -> None:
    dollars = entry("R2026-00000001", "29.25").replace('Ccy="EUR"', 'Ccy="USD"')
    many = entry("R2026-00000002", "29.253")
    async with cast.world.unchanged_but("jobs", "journal"):
        assert await told(cast, camt_053(dollars, many)) == [
            "R2026-00000001 : la banque dit 29.25 USD, le remboursement est de 29,25\u00a0€. Rien n’a été changé.",
            "R2026-00000002 : la banque dit 29.253 EUR, le remboursement est de 29,25\u00a0€. Rien n’a été changé.",
        ]
    # Older statements tell the amount of a lone transfer with its entry.
    alone = entry("R2026-00000001", "29.24").replace('</Refs><Amt Ccy="EUR">29.24</Amt>', "</Refs>")
    assert len(await told(cast, camt_053(alone))) == 1
    assert await statuses(cast) == ["SENT", "SENT"]


async def test_a_transfer_that_is_not_named_does_not_stand_for_its_whole_message(cast: Cast) -> None:
    for status in ("RJCT", "ACSC"):
        for nameless in (tx("", status), tx("", status).replace("<OrgnlEndToEndId></OrgnlEndToEndId>", "")):
            async with cast.world.unchanged_but("jobs", "journal"):
                assert await told(cast, cast.report(nameless)) == ["? : aucun remboursement ne porte cette référence."]


async def test_what_else_is_on_the_account_is_nobodys_problem(cast: Cast) -> None:
    fees = entry("", "4.10").replace("<Refs><EndToEndId></EndToEndId></Refs>", "")
    salaries = batch("SALARIES-7", "29.25")
    async with cast.world.unchanged_but("jobs", "journal"):
        assert await told(cast, camt_053(fees, salaries, entry("F-2026-12", "29.25"))) == []


@pytest.mark.parametrize("ending", ["", "-1"])
async def test_a_batch_that_is_booked_as_one_sum_is_settled(cast: Cast, ending: str) -> None:
    identifier = cast.file() + ending
    async with cast.world.unchanged_but("jobs", "journal"):
        assert await told(cast, camt_053(batch(identifier, "29.24"))) == [
            f"{identifier} : la banque dit 29,24\u00a0€, le remboursement est de 29,25\u00a0€. Rien n’a été changé."
        ]
    assert await told(cast, camt_053(batch(identifier, "29.25"))) == []
    assert await statuses(cast) == ["SETTLED", "SENT"]
    await followed(cast.world)
    async with cast.world.unchanged_but("jobs", "journal"):
        assert await told(cast, camt_053(batch(identifier, "29.25"))) == []


def test_a_batch_may_be_named_where_a_transfer_would_be() -> None:
    for nameless in ("", "<EndToEndId>NOTPROVIDED</EndToEndId>"):
        names = f"<PmtInfId>ESCARCELLE-7-2026-000001-1</PmtInfId>{nameless}"
        of_batch = entry("X", "29.25").replace("<EndToEndId>X</EndToEndId>", names)
        (answer,) = sepa.answers(camt_053(of_batch))
        assert (answer.outcome, answer.end_to_end_id, answer.message_id, answer.amount) == (
            sepa.Outcome.SETTLED, None, "ESCARCELLE-7-2026-000001-1", 29_25,
        )  # fmt: skip
    assert sepa.answers(camt_053(entry("NOTPROVIDED", "12.00"))) == []


async def test_a_statement_of_another_account_is_not_believed(cast: Cast) -> None:
    """Another issuer's references are like ours, and so may the amounts be."""
    of_another = camt_053(entry("R2026-00000001", "29.25")).replace(b"<Stmt>", account(CANOE_IBAN))
    async with cast.world.unchanged_but("jobs", "journal"):
        assert await told(cast, of_another) == [
            "R2026-00000001 : ce n’est pas le compte d’où ce virement a été ordonné. Rien n’a été changé."
        ]
    of_ours = camt_053(entry("R2026-00000001", "29.25")).replace(b"<Stmt>", account(AGENCY_IBAN))
    assert await told(cast, of_ours) == []
    assert await statuses(cast) == ["SETTLED", "SENT"]


async def test_an_answer_to_another_message_is_not_believed(cast: Cast) -> None:
    """Another issuer's transfers have references like ours; its messages have not."""
    of_another = cast.report(tx("R2026-00000001", "ACSC"), file=f"ESCARCELLE-{cast.world.tenant + 1}-2026-000001")
    of_the_second = cast.report(tx("R2026-00000001", "RJCT", "AC04"), file=cast.file(2))
    async with cast.world.unchanged_but("jobs", "journal"):
        for report in (of_another, of_the_second):
            assert await told(cast, report) == [
                "R2026-00000001 : ce n’est pas la réponse à l’envoi de ce virement. Rien n’a été changé."
            ]
    assert await told(cast, cast.report(tx("R2026-00000001", "ACSC"))) == []
    assert await statuses(cast) == ["SETTLED", "SENT"]


async def test_a_rejected_message_keeps_the_reason_of_each_transfer(cast: Cast) -> None:
    report = cast.report(tx("R2026-00000001", "RJCT", "AC04", "Compte clôturé"), group="RJCT")
    assert await told(cast, report) == []
    first = (await cast.all())[1]
    assert (first["status"], first["rejectionCode"], first["rejectionReason"]) == ("REJECTED", "AC04", "Compte clôturé")


async def test_a_rejected_message_does_not_take_back_what_is_settled(cast: Cast) -> None:
    await cast.settle((await cast.all())[1])
    await followed(cast.world)
    async with cast.world.unchanged_but("jobs", "journal"):
        (problem,) = await told(cast, cast.report(group="RJCT"))
    assert problem.startswith("R2026-00000001 : la banque rejette tout l’envoi, mais ce remboursement est déjà réglé.")


async def test_what_comes_back_is_known_by_its_return_or_reversal_alone(cast: Cast) -> None:
    for n in (1, 2):
        assert await told(cast, camt_053(entry(f"R2026-0000000{n}", "29.25"))) == []
    await followed(cast.world)
    credit = entry("R2026-00000001", "29.25").replace("DBIT", "CRDT")
    sent_back = entry("R2026-00000001", "29.25", back="AC06").replace("CRDT", "DBIT")
    async with cast.world.unchanged_but("jobs", "journal"):
        assert await told(cast, camt_053(credit, sent_back)) == [], "somebody used our reference"
    code = "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>RRTN</SubFmlyCd></Fmly></Domn></BkTxCd>"
    returned = credit.replace("<NtryDtls>", f"{code}<NtryDtls>")
    reversed_ = credit.replace("00000001", "00000002").replace("<Sts>", "<RvslInd>true</RvslInd><Sts>")
    assert await told(cast, camt_053(returned, reversed_)) == []
    assert await statuses(cast) == ["REJECTED", "REJECTED"]
    assert await cast.totals() == (60_00, 0)


def test_an_answer_that_is_nested_into_itself_costs_no_more_than_its_size() -> None:
    within = b"<TxDtls><CdtDbtInd>DBIT</CdtDbtInd></TxDtls>" * 30_000
    depth = 30_000
    nested = b"<Ntry><Sts>BOOK</Sts>" * depth + within + b"</Ntry>" * depth
    content = camt_053().replace(b"<Stmt><Id>1</Id>", b"<Stmt><Id>1</Id>" + nested)
    assert sepa.answers(content) == []


def test_a_document_without_a_body_is_no_answer() -> None:
    with pytest.raises(sepa.NotAnAnswer):
        sepa.answers(b"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.053.001.08'/>")


def batch(identifier: str, amount: str) -> str:
    """A batch that was booked as one sum."""
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>DBIT</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts><NtryDtls><Btch>'
        f"<PmtInfId>{escape(identifier)}</PmtInfId><NbOfTxs>1</NbOfTxs></Btch></NtryDtls></Ntry>"
    )


def account(iban: str) -> bytes:
    """Whose statement begins."""
    return f"<Stmt><Acct><Id><IBAN>{iban.replace(' ', '')}</IBAN></Id></Acct>".encode()
