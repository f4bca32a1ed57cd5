"""What is done with vouchers, in the order of life."""

from datetime import date, timedelta
from typing import Final
from uuid import UUID

import sqlalchemy as sa

from domain import calendar, documents, fields, money
from domain.access import ISSUER_STAFF, MERCHANT, Actor
from domain.codes import new_id
from domain.deadlines import when_due
from domain.errors import RefusalCode, Refused
from domain.ledger import Balance, Transfer, debt_account_of, guarantee_of, merchant_account_of
from domain.notices import Notice
from domain.parties import Holder, Merchant, require_member
from domain.reimbursements import FOLLOW, Reimbursement, ReimbursementLine, ReimbursementStatus
from domain.series import next_number
from domain.texts import Text
from domain.vouchers import secret
from domain.vouchers.life import (
    LIFE,
    WRONG_CODES_BLOCK,
    ExcessDecision,
    SupplierInvoice,
    SupplierInvoiceStatus,
    Voucher,
    VoucherKind,
    VoucherStatus,
    number_as_printed,
)
from domain.vouchers.secret import TypedCode
from domain.work import Work

# ── the member's side ─────────────────────────────────────────────────────────────────────────────────────────────────


async def request(
    work: Work, actor: Actor, *, supplier_id: UUID | None, amount: str, kind_code: str | None = None
) -> Voucher:
    """A member takes a voucher by itself, at any hour (V2); its value, rounded up to the euro (V6), is reserved.

    Raises Refused: FORBIDDEN before the membership is recorded (V1), DUES_UNPAID on a day that the dues do not cover
    (V7), INVALID for a missing or wrong field (V5), AMOUNT_TOO_LOW, AMOUNT_TOO_HIGH beyond the kind's maximums
    (AV5), or when all that is guaranteed for the member would be more than MAXIMUM_CENTS."""
    actor.require("requestVoucher")
    assert actor.holder_id is not None, "a holder's user is a holder"
    cents = money.positive_cents(amount, "input.amount")
    value = money.rounded_up_to_euro(cents)

    member, guarantee = await work.take(
        Holder.by(id=actor.holder_id), Balance.maybe(account_id=guarantee_of(actor.holder_id))
    )
    today = calendar.today(work.now)
    require_member(member, today)
    if member.dues_paid_until is None or member.dues_paid_until < today:
        raise Refused(
            RefusalCode.DUES_UNPAID,
            Text(
                "Votre cotisation n’est pas à jour : prenez contact avec votre agence.",
                "Your dues are not up to date: please contact your agency.",
            ),
        )
    assert guarantee is not None, "members have an account for their guarantees"
    supplier = await _supplier(work, supplier_id)
    kind = await _kind(work, kind_code)
    _check_maximums(kind, value, -guarantee.amount)
    valid_until = _valid_until(kind, today)
    voucher = Voucher(
        tenant=work.tenant,
        id=new_id(),
        kind_id=kind.id,
        status=VoucherStatus.ISSUED,
        holder_id=member.id,
        supplier_id=supplier,
        value=value,
        # Its own, once the value is reserved for it.
        reservation_id=new_id(),
        issued_at=work.now,
        valid_until=valid_until,
        expires_at=calendar.end_of_day(valid_until),
        last_action_at=work.now,
    )
    voucher.reservation_id = work.reserve(voucher, guarantee, voucher.held_account, value, "guarantee")
    work.create(voucher)
    work.deadline(voucher, "expire", voucher.expires_at)
    return work.note("request", voucher, amount=value, holder_id=member.id)


async def reveal(work: Work, actor: Actor, voucher_id: UUID, *, key_of_code: str) -> Voucher:
    """The code is drawn, for good (V10, V11); asked for again, the voucher stays as it is, with the same code (AV3).
    `key_of_code` is the newest of the secret keys. Membership and dues were asked for when the voucher was taken, and
    are not any more: its value is guaranteed, and what is not to be used the agency takes back before its code is
    drawn. Raises Refused: NOT_FOUND, TOO_LATE, WRONG_STATE."""
    actor.require("revealVoucherCode")
    voucher = await _take_own(work, actor, voucher_id)
    if LIFE.status_at(voucher, work.now) is VoucherStatus.CODE_REVEALED:
        return voucher
    work.move(
        voucher,
        "reveal",
        revealed_at=work.now,
        code_salt=secret.new_salt(),
        code_key=secret.fingerprint(key_of_code),
        last_action_at=work.now,
    )
    return work.note("reveal", voucher, holder_id=voucher.holder_id)


async def deliver(work: Work, actor: Actor, voucher_id: UUID) -> Voucher:
    """The voucher is presented, once: it gets its number, and no longer expires (V15, V16, V17). A delivered voucher
    stays as it is. As with the code, whoever took it may present it, a member still or not. Raises Refused: NOT_FOUND,
    TOO_LATE, WRONG_STATE before the code is revealed."""
    actor.require("deliverVoucher")
    voucher = await _take_own(work, actor, voucher_id)
    if voucher.status in (VoucherStatus.DELIVERED, VoucherStatus.INVOICED, VoucherStatus.SETTLED):
        return voucher
    if LIFE.status_at(voucher, work.now) is VoucherStatus.ISSUED:
        raise Refused(
            RefusalCode.WRONG_STATE,
            Text(
                "Ce n’est pas encore possible : obtenez d’abord le code secret.",
                "This is not possible yet: draw the secret code first.",
            ),
        )
    work.require(voucher, "deliver")
    kind = VoucherKind.from_row((await work.read(_KIND_BY_ID, kind=voucher.kind_id))[0])
    year, n = await next_number(work, kind.series)
    number = f"W{year}.{kind.department}.{kind.series}.{n:08d}"
    work.move(voucher, "deliver", number=number, delivered_at=work.now, last_action_at=work.now)
    work.no_longer(voucher, "expire")
    return work.note("deliver", voucher, amount=voucher.value, holder_id=voucher.holder_id)


# ── the agency's side ─────────────────────────────────────────────────────────────────────────────────────────────────


async def cancel(work: Work, actor: Actor, voucher_id: UUID) -> Voucher:
    """The agency takes back a voucher whose code nobody has seen (AV4); its guarantee is released. Raises Refused."""
    actor.require("cancelVoucher")
    voucher = await work.take(Voucher.by(id=voucher_id))
    await _release_and_move(work, voucher, "cancel")
    return work.note("cancel", voucher, amount=voucher.value, holder_id=voucher.holder_id)


async def unblock(work: Work, actor: Actor, voucher_id: UUID) -> Voucher:
    """Codes may be tried again on a number that wrong ones have blocked (V20). Raises Refused."""
    actor.require("unblockVoucher")
    voucher = await work.take(Voucher.by(id=voucher_id))
    if voucher.blocked_at is None:
        raise Refused(RefusalCode.WRONG_STATE, Text("Ce bon n’est pas bloqué.", "This voucher is not blocked."))
    work.change(voucher, blocked_at=None, wrong_codes=0)
    return work.note("unblock", voucher, holder_id=voucher.holder_id)


async def decide_excess(work: Work, actor: Actor, invoice_id: UUID, decision: ExcessDecision) -> SupplierInvoice:
    """A person decides about what an invoice asks above the voucher's value: paid, it is the member's debt too; or
    not (AV6). Raises Refused."""
    actor.require("decideExcess")
    invoice = await work.take(SupplierInvoice.by(id=invoice_id))
    verb = "pay_excess" if decision is ExcessDecision.PAID else "refuse_excess"
    work.move(invoice, verb, decided_at=work.now)
    holder_id = (await work.read(_HOLDER, voucher=invoice.voucher_id))[0][0]
    if decision is ExcessDecision.PAID:
        work.transfer(
            invoice,
            debt_account_of(holder_id),
            merchant_account_of(invoice.supplier_id),
            invoice.excess,
            "excess",
        )
    return work.note(verb, invoice, amount=invoice.excess, holder_id=holder_id)


# ── the supplier's side ───────────────────────────────────────────────────────────────────────────────────────────────


async def verify(work: Work, actor: Actor, *, number: str, code: TypedCode) -> Voucher:
    """Whether number and code belong together (V20): a wrong code is counted, and the fifth blocks the number, for the
    right code too, until the agency unblocks it (AV8). Raises Refused: FORBIDDEN to a supplier's staff without a point
    of sale, NOT_FOUND, BAD_CREDENTIALS, ACCOUNT_LOCKED."""
    actor.require("verifyVoucher")
    if actor.is_without_place:
        raise Refused.forbidden()
    voucher = await _take_presented(work, actor, number, "input.number")
    _check_code(work, voucher, code)
    return work.note("verify", voucher, holder_id=voucher.holder_id)


async def record_invoice(
    work: Work,
    actor: Actor,
    *,
    voucher_number: str,
    code: TypedCode,
    invoice_number: str,
    amount: str,
    document: documents.File | None = None,
) -> SupplierInvoice:
    """The supplier's invoice for a voucher: paid up to the voucher's value, owed by the member, the rest of the
    guarantee released (V23); what exceeds it waits for a decision (AV6).

    Raises Refused: as `verify` does; WRONG_STATE for a voucher that is invoiced already, ALREADY_EXISTS for an invoice
    number that this supplier has used, INVALID, AMOUNT_TOO_LOW, FILE_INVALID."""
    actor.require("recordSupplierInvoice")
    if actor.is_without_place:
        raise Refused.forbidden()
    cents = money.positive_cents(amount, "input.amount")
    invoice_number = fields.line(invoice_number, "input.invoiceNumber", longest=40)
    media_type = documents.media_type_of(document, "input.document") if document is not None else None
    voucher = await _take_presented(work, actor, voucher_number, "input.voucherNumber")
    _check_code(work, voucher, code)
    if voucher.status in (VoucherStatus.INVOICED, VoucherStatus.SETTLED):
        raise Refused(
            RefusalCode.WRONG_STATE,
            Text("Une facture est déjà enregistrée pour ce bon.", "An invoice is already recorded for this voucher."),
        )
    namesake, guarantee = await work.take(
        SupplierInvoice.maybe(supplier_id=voucher.supplier_id, invoice_number=invoice_number),
        Balance.by(account_id=guarantee_of(voucher.holder_id)),
    )
    if namesake is not None:
        raise Refused(
            RefusalCode.ALREADY_EXISTS,
            Text(
                "Cette facture est déjà enregistrée pour un autre bon.",
                "This invoice is already recorded for another voucher.",
            ),
            field="input.invoiceNumber",
        )
    paid = min(cents, voucher.value)
    work.move(voucher, "invoice", last_action_at=work.now)
    work.post(
        voucher,
        voucher.reservation_id,
        voucher.held_account,
        voucher.supplier_account,
        paid,
        guarantee,
        voucher.value - paid,
        "invoice",
    )
    # The guarantee is whole again, and the member owes what was paid for it.
    work.transfer(voucher, debt_account_of(voucher.holder_id), guarantee, paid, "bill")
    work.note("invoice", voucher, amount=paid, holder_id=voucher.holder_id)
    excess = cents - paid
    kept = await documents.keep(work, document, media_type) if document is not None and media_type else None
    invoice = work.create(
        SupplierInvoice(
            tenant=work.tenant,
            id=new_id(),
            supplier_id=voucher.supplier_id,
            voucher_id=voucher.id,
            document_id=kept.id if kept else None,
            invoice_number=invoice_number,
            amount=cents,
            excess=excess,
            status=SupplierInvoiceStatus.TO_DECIDE if excess else SupplierInvoiceStatus.RECORDED,
            recorded_at=work.now,
        )
    )
    return work.note("record", invoice, amount=cents, holder_id=voucher.holder_id)


# ── what deadlines do ─────────────────────────────────────────────────────────────────────────────────────────────────


@when_due(Voucher, "expire")
async def expire(work: Work, actor: Actor, voucher_id: UUID) -> Voucher | None:
    """The last day of validity is over and the voucher was not delivered: its guarantee is released (V19)."""
    voucher = await work.take(Voucher.by(id=voucher_id))
    if not LIFE.allows(voucher, "expire", work.now):
        return None
    await _release_and_move(work, voucher, "expire")
    return work.note("expire", voucher, amount=voucher.value, holder_id=voucher.holder_id)


@when_due(Reimbursement, FOLLOW)
async def follow(work: Work, actor: Actor, reimbursement_id: UUID) -> None:
    """The vouchers whose invoices a reimbursement pays are settled with it; they are not any more when its money came
    back."""
    reimbursement = await work.take(Reimbursement.by(id=reimbursement_id))
    is_settled = reimbursement.status is ReimbursementStatus.SETTLED
    verb, was = ("settle", VoucherStatus.INVOICED) if is_settled else ("reopen", VoucherStatus.SETTLED)
    rows = await work.read(_REIMBURSED, reimbursement=reimbursement.id, was=str(was), released=not is_settled)
    paid: dict[UUID, int] = {row["id"]: row["amount"] for row in rows}
    for voucher in await work.take_all(Voucher, id=list(paid)):
        work.move(voucher, verb, last_action_at=work.now)
        work.note(verb, voucher, amount=paid[voucher.id], holder_id=voucher.holder_id)
    if len(rows) == _FOLLOWED_AT_ONCE:
        work.deadline(reimbursement, FOLLOW, work.now)
    else:
        work.no_longer(reimbursement, FOLLOW)


# ── private ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_FOLLOWED_AT_ONCE: Final = 200
_ANEW: Final = ReimbursementLine.table.alias("anew")
_PAYING: Final = Reimbursement.table.alias("paying")
_PAID_ANEW: Final = sa.exists().where(
    _ANEW.c.transfer_id == Transfer.table.c.id,
    sa.not_(_ANEW.c.released),
    _PAYING.c.id == _ANEW.c.reimbursement_id,
    _PAYING.c.status == str(ReimbursementStatus.SETTLED),
)
_REIMBURSED: Final = (
    sa.select(Voucher.table.c.id, ReimbursementLine.table.c.amount)
    .join(Transfer.table, Transfer.table.c.subject_id == Voucher.table.c.id)
    .join(ReimbursementLine.table, ReimbursementLine.table.c.transfer_id == Transfer.table.c.id)
    .where(
        ReimbursementLine.table.c.reimbursement_id == sa.bindparam("reimbursement", type_=sa.Uuid()),
        ReimbursementLine.table.c.released == sa.bindparam("released", type_=sa.Boolean()),
        Transfer.table.c.subject_kind == Voucher.prefix,
        Voucher.table.c.status == sa.bindparam("was", type_=sa.Text()),
        # What came back may be paid anew before this is heard.
        sa.or_(sa.not_(ReimbursementLine.table.c.released), sa.not_(_PAID_ANEW)),
    )
    .order_by(Voucher.table.c.id)
    .limit(_FOLLOWED_AT_ONCE)
)
_SUPPLIER: Final = sa.select(Merchant.table.c.id).where(
    Merchant.table.c.id == sa.bindparam("supplier"), Merchant.table.c.active
)
_HOLDER: Final = sa.select(Voucher.table.c.holder_id).where(Voucher.table.c.id == sa.bindparam("voucher"))
_KIND_BY_ID: Final = sa.select(*VoucherKind.selected()).where(VoucherKind.table.c.id == sa.bindparam("kind"))
_KIND_BY_CODE: Final = sa.select(*VoucherKind.selected()).where(VoucherKind.table.c.code == sa.bindparam("code"))
_PREFERRED_KIND: Final = (
    sa.select(*VoucherKind.selected()).order_by(VoucherKind.table.c.preferred.desc(), VoucherKind.table.c.code).limit(1)
)


async def _take_own(work: Work, actor: Actor, voucher_id: UUID) -> Voucher:
    voucher = await work.take(Voucher.by(id=voucher_id))
    if voucher.holder_id != actor.holder_id:
        raise Refused.not_found()
    return voucher


async def _take_presented(work: Work, actor: Actor, number: str, field: str) -> Voucher:
    """A voucher that the supplier knows by its number; any for the issuer's staff. One that is another supplier's is
    not there."""
    voucher = await work.take(Voucher.maybe(number=number_as_printed(fields.line(number, field, longest=40))))
    may = voucher is not None and (
        actor.role in ISSUER_STAFF or (actor.role in MERCHANT and actor.merchant_id == voucher.supplier_id)
    )
    if voucher is None or not may:
        raise Refused(
            RefusalCode.NOT_FOUND,
            Text("Aucun bon ne porte ce numéro.", "No voucher bears this number."),
            field=field,
        )
    return voucher


def _check_code(work: Work, voucher: Voucher, code: TypedCode) -> None:
    """A refused code is remembered, whatever else the deed wanted."""
    if not code.is_well_formed:
        raise Refused.invalid(
            "input.secretCode", "Le code secret a quatre chiffres.", "The secret code has four digits."
        )
    if voucher.blocked_at is not None:
        raise Refused(
            RefusalCode.ACCOUNT_LOCKED,
            Text(
                "Ce bon est bloqué après plusieurs codes erronés : seule l’agence peut le débloquer.",
                "This voucher is blocked after several wrong codes: only the agency can unblock it.",
            ),
        )
    if code.opens(voucher):
        if voucher.wrong_codes:
            work.change(voucher, wrong_codes=0)
        return
    wrong = voucher.wrong_codes + 1
    blocks = wrong == WRONG_CODES_BLOCK
    work.change(voucher, wrong_codes=wrong, blocked_at=work.now if blocks else None)
    work.note("block" if blocks else "wrong_code", voucher, holder_id=voucher.holder_id)
    if blocks:
        work.tell(Notice("voucher_blocked", voucher))
        raise Refused(
            RefusalCode.BAD_CREDENTIALS,
            Text(
                "Code secret incorrect. Ce bon est maintenant bloqué : seule l’agence peut le débloquer.",
                "Wrong secret code. This voucher is now blocked: only the agency can unblock it.",
            ),
            field="input.secretCode",
            keeps_effects=True,
        )
    raise Refused(
        RefusalCode.BAD_CREDENTIALS,
        Text("Code secret incorrect. Essais restants : {left}.", "Wrong secret code. Tries left: {left}."),
        field="input.secretCode",
        keeps_effects=True,
        left=WRONG_CODES_BLOCK - wrong,
    )


async def _supplier(work: Work, supplier_id: UUID | None) -> UUID:
    if supplier_id is None or not await work.read(_SUPPLIER, supplier=supplier_id):
        raise Refused.invalid(
            "input.supplierId", "Choisissez un fournisseur de la liste.", "Choose a supplier from the list."
        )
    return supplier_id


async def _kind(work: Work, code: str | None) -> VoucherKind:
    given = fields.optional_line(code, "input.kindCode", longest=20)
    found = await work.read(_PREFERRED_KIND) if given is None else await work.read(_KIND_BY_CODE, code=given)
    if not found:
        raise Refused.invalid("input.kindCode", "Ce type de bon n’existe pas.", "There is no such kind of voucher.")
    return VoucherKind.from_row(found[0])


def _check_maximums(kind: VoucherKind, value: int, outstanding: int) -> None:
    if kind.maximum_value is not None and value > kind.maximum_value:
        raise Refused(
            RefusalCode.AMOUNT_TOO_HIGH,
            Text("Un bon vaut {maximum} au plus.", "A voucher is worth {maximum} at most."),
            field="input.amount",
            maximum=money.shown(kind.maximum_value),
        )
    maximum = min(kind.maximum_outstanding or money.MAXIMUM_CENTS, money.MAXIMUM_CENTS)
    if outstanding + value > maximum:
        raise Refused(
            RefusalCode.AMOUNT_TOO_HIGH,
            Text(
                "Vos bons en cours s’élèvent à {outstanding}, pour {maximum} au plus.",
                "Your open vouchers amount to {outstanding}, of {maximum} at most.",
            ),
            field="input.amount",
            outstanding=money.shown(outstanding),
            maximum=money.shown(maximum),
        )


def _valid_until(kind: VoucherKind, today: date) -> date:
    last = today + timedelta(days=kind.validity_days)
    return min(last, date(today.year, 12, 31)) if kind.ends_with_year else last


async def _release_and_move(work: Work, voucher: Voucher, verb: str) -> None:
    guarantee = await work.take(Balance.by(account_id=guarantee_of(voucher.holder_id)))
    work.move(voucher, verb, last_action_at=work.now)
    work.void(voucher, voucher.reservation_id, voucher.held_account, guarantee, voucher.value, verb)
    work.no_longer(voucher, "expire")
