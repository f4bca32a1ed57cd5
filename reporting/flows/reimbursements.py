"""Reimbursements, as analysts see them: what merchants are owed, and what they were paid."""

from typing import Final

from domain.texts import Text
from reporting import words
from reporting.store import Column, ColumnKind, Field, Flow, Macro, Read, Report, Table

_REIMBURSEMENTS: Final = Table(
    "reimbursements",
    "What merchants are paid for a period, as it was at the copy.",
    "reimbursements t",
    Read.BY_JOURNAL,
    ("id",),
    (
        Field("id", "UUID", "t.id", "the reimbursement", digest=True),
        Field("reference", "VARCHAR", "t.reference", "its number, on the bank's papers too"),
        Field("merchant_id", "UUID", "t.merchant_id", "→ merchants"),
        Field(
            "status",
            "VARCHAR",
            "t.status",
            "PENDING, SENT, SETTLED, REJECTED; reimbursements_as_of knows when",
            digest=True,
        ),
        Field("period_start", "DATE", "t.period_start", "the day of its first operation"),
        Field("period_end", "DATE", "t.period_end", "the last day of its period"),
        Field("gross_cents", "BIGINT", "t.gross", "what was owed"),
        Field("commission_cents", "BIGINT", "t.commission", "what the issuer keeps of it"),
        Field("net_cents", "BIGINT", "t.net", "what is paid"),
        Field("due_on", "DATE", "t.due_on", "when the bank is to pay"),
        Field("created_at", "TIMESTAMPTZ", "t.created_at", "when it was made"),
        Field("sent_at", "TIMESTAMPTZ", "t.sent_at", "when it went to the bank", digest=True),
        Field("settled_at", "TIMESTAMPTZ", "t.settled_at", "when the bank had paid"),
        Field("rejected_at", "TIMESTAMPTZ", "t.rejected_at", "when it was rejected, or its money came back"),
        # A code of the bank's own may be a sentence about somebody.
        Field(
            "rejection_code",
            "VARCHAR",
            "CASE WHEN t.rejection_code ~ '^[A-Z]{2}[0-9]{2}$' THEN t.rejection_code END",
            "why, by its ISO 20022 code",
        ),
    ),
    subject="reim",
)
_LINES: Final = Table(
    "reimbursement_lines",
    "Which lines of the ledger a reimbursement pays.",
    "(SELECT *, reimbursement_id AS id FROM reimbursement_lines) t",
    Read.BY_JOURNAL,
    ("id", "transfer_id"),
    (
        Field("id", "UUID", "t.id", "→ reimbursements", digest=True),
        Field("transfer_id", "UUID", "t.transfer_id", "→ ledger_lines", digest=True),
        Field("amount_cents", "BIGINT", "t.amount", "what was owed"),
        Field("commission_cents", "BIGINT", "t.commission", "what the issuer keeps of it"),
        Field("released", "BOOLEAN", "t.released", "whether it is due again, since the reimbursement was rejected"),
    ),
    subject="reim",
)

_AS_OF: Final = Macro(
    "reimbursements",
    "Reimbursements as they were known at an instant.",
    """
    WITH steps AS (
      SELECT subject_id, arg_max(kind, sequence) AS last FROM operations
      WHERE happened_at <= instant::TIMESTAMPTZ AND subject_kind = 'reim' GROUP BY subject_id
    )
    SELECT r.* EXCLUDE (status, sent_at, settled_at, rejected_at, rejection_code),
      CASE s.last WHEN 'reim.create' THEN 'PENDING' WHEN 'reim.send' THEN 'SENT' WHEN 'reim.settle' THEN 'SETTLED'
        ELSE 'REJECTED' END AS status
    FROM reimbursements r JOIN steps s ON s.subject_id = r.id
    """,
    view=False,
)
_DUE: Final = Macro(
    "due",
    "What merchants are owed and no reimbursement pays yet, line by line.",
    """
    SELECT o.owner_id AS merchant_id, o.merchant_code, o.merchant, s.flow, o.reason, o.subject_kind, o.subject_id,
      s.point_of_sale_id, o.since, (o.since AT TIME ZONE 'Europe/Paris')::DATE AS day, o.amount_cents,
      euros(o.amount_cents) AS amount
    FROM open_items_as_of(instant) o LEFT JOIN subjects s USING (subject_id) WHERE o.account_kind = 'MERCHANT'
    """,
)

_MERCHANT: Final = Column("merchant", ColumnKind.TEXT, Text("Commerçant", "Merchant"))

FLOW: Final = Flow(
    name="reimbursements",
    tables=(_REIMBURSEMENTS, _LINES),
    macros=(_AS_OF, _DUE),
    subjects="SELECT id AS subject_id, 'reimbursements' AS flow, NULL::VARCHAR AS variant, merchant_id,"
    " NULL::UUID AS point_of_sale_id, NULL::UUID AS holder_id FROM reimbursements",
    deadlines="""
    SELECT id AS subject_id, 'reimbursements' AS flow, 'transfer' AS name, merchant_id, NULL::UUID AS point_of_sale_id,
      net_cents AS amount_cents, (due_on + INTERVAL 1 DAY)::TIMESTAMP AT TIME ZONE 'Europe/Paris' AS due_at
    FROM reimbursements_as_of(instant) WHERE status IN ('PENDING', 'SENT')
    """,
    reports=(
        Report(
            "due",
            Text("Dû aux commerçants, non encore remboursé", "Owed to merchants, not reimbursed yet"),
            (
                _MERCHANT,
                Column("flow", ColumnKind.TEXT, Text("Parcours", "Flow"), words=words.FLOWS),
                Column("point_of_sale", ColumnKind.TEXT, Text("Point de vente", "Point of sale")),
                Column("since", ColumnKind.DAY, Text("Depuis le", "Since")),
                Column("items", ColumnKind.COUNT, Text("Opérations", "Operations")),
                Column("amount", ColumnKind.MONEY, Text("Montant", "Amount")),
            ),
            """
            SELECT d.merchant, d.flow, p.name AS point_of_sale, min(d.day) AS since, count(*) AS items,
              sum(d.amount_cents)::BIGINT AS amount
            FROM due_as_of($as_of) d LEFT JOIN points_of_sale p ON p.id = d.point_of_sale_id
            WHERE ($merchant IS NULL OR d.merchant_id = $merchant)
              AND ($point_of_sale IS NULL OR d.point_of_sale_id = $point_of_sale)
              AND ($since IS NULL OR d.day >= $since) AND ($until IS NULL OR d.day <= $until)
            GROUP BY d.merchant_id, d.merchant, d.flow, p.id, p.name ORDER BY 1, 2, 3, d.merchant_id, p.id
            """,
            for_merchants=True,
            chart=("merchant", "amount"),
        ),
        Report(
            "reimbursements",
            Text("Remboursements par commerçant", "Reimbursements by merchant"),
            (
                _MERCHANT,
                Column("status", ColumnKind.TEXT, Text("Statut", "Status"), words=words.STATUSES),
                Column("reimbursements", ColumnKind.COUNT, Text("Remboursements", "Reimbursements")),
                Column("gross", ColumnKind.MONEY, Text("Brut", "Gross")),
                Column("commission", ColumnKind.MONEY, Text("Commission", "Commission")),
                Column("net", ColumnKind.MONEY, Text("Net", "Net")),
            ),
            """
            SELECT m.name AS merchant, r.status, count(*) AS reimbursements, sum(r.gross_cents)::BIGINT AS gross,
              sum(r.commission_cents)::BIGINT AS commission, sum(r.net_cents)::BIGINT AS net
            FROM reimbursements_as_of($as_of) r JOIN merchants m ON m.id = r.merchant_id
            WHERE ($merchant IS NULL OR r.merchant_id = $merchant)
              AND ($since IS NULL OR (r.created_at AT TIME ZONE 'Europe/Paris')::DATE >= $since)
              AND ($until IS NULL OR (r.created_at AT TIME ZONE 'Europe/Paris')::DATE <= $until)
            GROUP BY m.id, m.name, r.status ORDER BY 1, 2
            """,
            for_merchants=True,
            chart=("merchant", "net"),
        ),
    ),
)
