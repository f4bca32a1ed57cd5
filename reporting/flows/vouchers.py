"""Vouchers, as analysts see them: a member's guarantee towards a supplier, and the invoice that it leads to."""

from typing import Final

from domain.texts import Text
from reporting.store import Column, ColumnKind, Field, Flow, Macro, Read, Report, Table

_KINDS: Final = Table(
    "voucher_kinds",
    "What vouchers of a kind have in common.",
    "voucher_kinds t",
    Read.WHOLE,
    ("id",),
    (
        Field("id", "UUID", "t.id", "the kind"),
        Field("code", "VARCHAR", "t.code", "its code"),
        Field("name", "VARCHAR", "t.name", "its name"),
    ),
)
_VOUCHERS: Final = Table(
    "vouchers",
    "Members' guarantees towards suppliers, as they were at the copy.",
    "vouchers t",
    Read.BY_JOURNAL,
    ("id",),
    (
        Field("id", "UUID", "t.id", "the voucher", digest=True),
        Field("kind_id", "UUID", "t.kind_id", "→ voucher_kinds"),
        Field("status", "VARCHAR", "t.status", "as the row says it; vouchers_as_of knows better", digest=True),
        Field("holder_id", "UUID", "t.holder_id", "→ holders: the member"),
        Field("supplier_id", "UUID", "t.supplier_id", "→ merchants"),
        Field("value_cents", "BIGINT", "t.value", "what it guarantees at most"),
        Field("issued_at", "TIMESTAMPTZ", "t.issued_at", "when it was asked for"),
        Field("valid_until", "DATE", "t.valid_until", "its last day"),
        Field("expires_at", "TIMESTAMPTZ", "t.expires_at", "from then on it has expired unless presented"),
        Field("revealed_at", "TIMESTAMPTZ", "t.revealed_at", "when its code was drawn"),
        Field("delivered_at", "TIMESTAMPTZ", "t.delivered_at", "when it was presented"),
        Field("blocked_at", "TIMESTAMPTZ", "t.blocked_at", "when wrong codes blocked it"),
        Field("last_action_at", "TIMESTAMPTZ", "t.last_action_at", "when anything was done last", digest=True),
    ),
    subject="vchr",
)
_INVOICES: Final = Table(
    "supplier_invoices",
    "What suppliers ask for vouchers, as it was at the copy.",
    "supplier_invoices t",
    Read.BY_JOURNAL,
    ("id",),
    (
        Field("id", "UUID", "t.id", "the invoice", digest=True),
        Field("supplier_id", "UUID", "t.supplier_id", "→ merchants"),
        Field("voucher_id", "UUID", "t.voucher_id", "→ vouchers"),
        Field("status", "VARCHAR", "t.status", "RECORDED, TO_DECIDE, EXCESS_PAID, EXCESS_REFUSED", digest=True),
        Field("amount_cents", "BIGINT", "t.amount", "what is asked for"),
        Field("excess_cents", "BIGINT", "t.excess", "what exceeds the voucher"),
        Field("recorded_at", "TIMESTAMPTZ", "t.recorded_at", "when it came"),
        Field("decided_at", "TIMESTAMPTZ", "t.decided_at", "when the excess was decided"),
        Field("is_stated", "BOOLEAN", "t.statement_id IS NOT NULL", "whether its member was told of it"),
    ),
    subject="sinv",
)

_AS_OF: Final = Macro(
    "vouchers",
    "Vouchers as they were known at an instant: what has happened to each, and what time alone has done. `invoiced` is"
    " what the issuer pays for it, an excess included once it was decided.",
    """
    WITH steps AS (
      SELECT subject_id, arg_max(kind, sequence) AS last, max(happened_at) AS last_action_at,
        max(amount_cents) FILTER (WHERE kind = 'vchr.invoice') AS invoiced
      FROM operations WHERE happened_at <= instant::TIMESTAMPTZ AND kind IN
        ('vchr.request', 'vchr.reveal', 'vchr.deliver', 'vchr.invoice', 'vchr.settle', 'vchr.reopen', 'vchr.cancel',
          'vchr.expire')
      GROUP BY subject_id
    ), excesses AS (
      SELECT i.voucher_id, sum(o.amount_cents) AS paid FROM operations o JOIN supplier_invoices i ON i.id = o.subject_id
      WHERE o.kind = 'sinv.pay_excess' AND o.happened_at <= instant::TIMESTAMPTZ GROUP BY i.voucher_id
    )
    SELECT v.id, v.kind_id, k.code AS kind, v.holder_id, v.supplier_id, v.value_cents, v.issued_at, v.valid_until,
      v.expires_at, s.last_action_at,
      CASE WHEN s.last IN ('vchr.request', 'vchr.reveal') AND v.expires_at <= instant::TIMESTAMPTZ THEN 'EXPIRED'
        WHEN s.last = 'vchr.request' THEN 'ISSUED' WHEN s.last = 'vchr.reveal' THEN 'CODE_REVEALED'
        WHEN s.last = 'vchr.deliver' THEN 'DELIVERED' WHEN s.last IN ('vchr.invoice', 'vchr.reopen') THEN 'INVOICED'
        WHEN s.last = 'vchr.settle' THEN 'SETTLED'
        WHEN s.last = 'vchr.cancel' THEN 'CANCELLED' ELSE 'EXPIRED' END AS status,
      (s.invoiced + coalesce(e.paid, 0))::BIGINT AS invoiced_cents
    FROM vouchers v JOIN steps s ON s.subject_id = v.id JOIN voucher_kinds k ON k.id = v.kind_id
    LEFT JOIN excesses e ON e.voucher_id = v.id
    """,
    view=False,
)

_COUNTS: Final = """
  count(*) AS vouchers, sum(v.value_cents)::BIGINT AS value,
  count(*) FILTER (WHERE v.status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED')) AS open,
  coalesce(sum(v.value_cents) FILTER (WHERE v.status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED')), 0)::BIGINT
    AS open_value,
  coalesce(sum(v.invoiced_cents), 0)::BIGINT AS invoiced,
  coalesce(sum(v.value_cents) FILTER (WHERE v.status IN ('EXPIRED', 'CANCELLED')), 0)::BIGINT AS lapsed
FROM vouchers_as_of($as_of) v JOIN merchants m ON m.id = v.supplier_id
WHERE ($merchant IS NULL OR v.supplier_id = $merchant)
  AND ($since IS NULL OR (v.issued_at AT TIME ZONE 'Europe/Paris')::DATE >= $since)
  AND ($until IS NULL OR (v.issued_at AT TIME ZONE 'Europe/Paris')::DATE <= $until)
"""
_COUNTED: Final = (
    Column("vouchers", ColumnKind.COUNT, Text("Bons", "Vouchers")),
    Column("value", ColumnKind.MONEY, Text("Valeur émise", "Value issued")),
    Column("open", ColumnKind.COUNT, Text("Bons en cours", "Open vouchers")),
    Column("open_value", ColumnKind.MONEY, Text("Valeur en cours", "Open value")),
    Column("invoiced", ColumnKind.MONEY, Text("Montant facturé", "Amount invoiced")),
    Column("lapsed", ColumnKind.MONEY, Text("Expirés ou annulés", "Expired or cancelled")),
)

FLOW: Final = Flow(
    name="vouchers",
    tables=(_KINDS, _VOUCHERS, _INVOICES),
    macros=(_AS_OF,),
    subjects="SELECT v.id AS subject_id, 'vouchers' AS flow, k.code AS variant, v.supplier_id AS merchant_id,"
    " NULL::UUID AS point_of_sale_id, v.holder_id FROM vouchers v JOIN voucher_kinds k ON k.id = v.kind_id"
    " UNION ALL SELECT i.id, 'vouchers', k.code, i.supplier_id, NULL, v.holder_id FROM supplier_invoices i"
    " JOIN vouchers v ON v.id = i.voucher_id JOIN voucher_kinds k ON k.id = v.kind_id",
    deadlines="""
    SELECT id AS subject_id, 'vouchers' AS flow, 'expiry' AS name, supplier_id AS merchant_id,
      NULL::UUID AS point_of_sale_id, value_cents AS amount_cents, expires_at AS due_at
    FROM vouchers_as_of(instant) WHERE status IN ('ISSUED', 'CODE_REVEALED')
    """,
    reports=(
        Report(
            "vouchers_by_supplier",
            Text("Bons par fournisseur", "Vouchers by supplier"),
            (
                Column("supplier", ColumnKind.TEXT, Text("Fournisseur", "Supplier")),
                Column("kind", ColumnKind.TEXT, Text("Type de bon", "Kind of voucher")),
                *_COUNTED,
            ),
            f"SELECT m.name AS supplier, v.kind, {_COUNTS} GROUP BY m.id, m.name, v.kind ORDER BY 1, 2, m.id",
            for_merchants=True,
            chart=("supplier", "value"),
        ),
        Report(
            "vouchers_by_member",
            Text("Bons par adhérent", "Vouchers by member"),
            (
                Column("holder_id", ColumnKind.TEXT, Text("Adhérent", "Member")),
                Column("kind", ColumnKind.TEXT, Text("Type de bon", "Kind of voucher")),
                *_COUNTED,
            ),
            f"SELECT v.holder_id, v.kind, {_COUNTS} GROUP BY v.holder_id, v.kind ORDER BY 1, 2",
        ),
    ),
)
