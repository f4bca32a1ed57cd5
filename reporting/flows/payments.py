"""Payment requests, as analysts see them."""

from typing import Final

from domain.texts import Text
from reporting import words
from reporting.store import Column, ColumnKind, Field, Flow, Macro, Read, Report, Table

_REQUESTS: Final = Table(
    "payment_requests",
    "Merchants' requests for money, as they were at the copy.",
    "payment_requests t",
    Read.BY_JOURNAL,
    ("id",),
    (
        Field("id", "UUID", "t.id", "the request", digest=True),
        Field("flow", "VARCHAR", "t.flow", "at once or by a day, with or without validation"),
        Field("status", "VARCHAR", "t.status", "as the row says it; payment_requests_as_of knows better", digest=True),
        Field("merchant_id", "UUID", "t.merchant_id", "→ merchants"),
        Field("point_of_sale_id", "UUID", "t.point_of_sale_id", "→ points_of_sale"),
        Field("collection", "VARCHAR", "t.collection", "QR_CODE, IDENTIFIER, EMAIL"),
        Field("amount_requested_cents", "BIGINT", "t.amount_requested", "what was asked for"),
        Field("amount_paid_cents", "BIGINT", "t.amount_paid", "what was paid or reserved"),
        Field("amount_validated_cents", "BIGINT", "t.amount_validated", "what is the merchant's"),
        Field("payment_due_on", "DATE", "t.payment_due_on", "the last day to pay, where one was set"),
        Field("payment_deadline", "TIMESTAMPTZ", "t.payment_deadline", "from then on it has expired unpaid"),
        Field("validation_days", "BIGINT", "t.validation_days", "the merchant's days to validate"),
        Field("validation_deadline", "TIMESTAMPTZ", "t.validation_deadline", "from then on the days are over"),
        Field("auto_validation", "BOOLEAN", "t.auto_validation", "whether it is then validated"),
        Field("customer_id", "UUID", "t.customer_id", "→ holders, where one was named"),
        Field("payer_id", "UUID", "t.payer_id", "→ holders, who paid"),
        Field("created_at", "TIMESTAMPTZ", "t.created_at", "when it was asked for"),
        Field("paid_at", "TIMESTAMPTZ", "t.paid_at", "when it was paid"),
        Field("last_action_at", "TIMESTAMPTZ", "t.last_action_at", "when anything was done last", digest=True),
    ),
    subject="preq",
)

_AS_OF: Final = Macro(
    "payment_requests",
    "Payment requests as they were known at an instant: what has happened to each, and what time alone has done.",
    """
    WITH steps AS (
      SELECT subject_id, arg_max(kind, sequence) FILTER (WHERE kind <> 'preq.pay') AS last,
        max(amount_cents) FILTER (WHERE kind = 'preq.pay') AS paid,
        max(amount_cents) FILTER (WHERE kind IN ('preq.validate', 'preq.auto_validate')) AS validated,
        max(happened_at) AS last_action_at
      FROM operations WHERE happened_at <= instant::TIMESTAMPTZ AND kind IN ('preq.create', 'preq.pay', 'preq.validate',
        'preq.auto_validate', 'preq.cancel', 'preq.decline', 'preq.expire')
      GROUP BY subject_id
    ), known AS (
      SELECT r.id, r.flow, r.merchant_id, r.point_of_sale_id, r.collection, r.amount_requested_cents,
        s.paid AS amount_paid_cents, r.payment_deadline, r.auto_validation,
        CASE WHEN s.paid IS NOT NULL THEN r.validation_deadline END AS validation_deadline, r.customer_id,
        CASE WHEN s.paid IS NOT NULL THEN r.payer_id END AS payer_id, r.created_at, s.last_action_at, s.validated,
        CASE WHEN s.last IN ('preq.validate', 'preq.auto_validate') THEN 'VALIDATED'
          WHEN s.last IN ('preq.cancel', 'preq.decline') THEN 'CANCELLED' WHEN s.last = 'preq.expire' THEN 'EXPIRED'
          WHEN s.paid IS NULL THEN 'AWAITING_PAYMENT' WHEN r.validation_days IS NULL THEN 'VALIDATED'
          ELSE 'TO_VALIDATE' END AS done
      FROM payment_requests r JOIN steps s ON s.subject_id = r.id
    )
    SELECT k.* EXCLUDE (done, validated), CASE
        WHEN done = 'AWAITING_PAYMENT' AND payment_deadline <= instant::TIMESTAMPTZ THEN 'EXPIRED'
        WHEN done = 'TO_VALIDATE' AND validation_deadline <= instant::TIMESTAMPTZ
          THEN CASE WHEN auto_validation THEN 'VALIDATED' ELSE 'EXPIRED' END
        ELSE done END AS status,
      CASE WHEN done = 'VALIDATED' THEN coalesce(validated, amount_paid_cents) END AS amount_validated_cents
    FROM known k
    """,
    view=False,
)

FLOW: Final = Flow(
    name="payments",
    tables=(_REQUESTS,),
    macros=(_AS_OF,),
    subjects="SELECT id AS subject_id, 'payments' AS flow, flow AS variant, merchant_id, point_of_sale_id,"
    " coalesce(payer_id, customer_id) AS holder_id FROM payment_requests",
    deadlines="""
    SELECT id AS subject_id, 'payments' AS flow, 'payment' AS name, merchant_id, point_of_sale_id,
      amount_requested_cents AS amount_cents, payment_deadline AS due_at
    FROM payment_requests_as_of(instant) WHERE status = 'AWAITING_PAYMENT'
    UNION ALL SELECT id, 'payments', 'validation', merchant_id, point_of_sale_id, amount_paid_cents, validation_deadline
    FROM payment_requests_as_of(instant) WHERE status = 'TO_VALIDATE'
    """,
    reports=(
        Report(
            "payments",
            Text("Demandes de paiement par point de vente", "Payment requests by point of sale"),
            (
                Column("merchant", ColumnKind.TEXT, Text("Commerçant", "Merchant")),
                Column("point_of_sale", ColumnKind.TEXT, Text("Point de vente", "Point of sale")),
                Column("flow", ColumnKind.TEXT, Text("Type", "Type"), words=words.VARIANTS),
                Column("status", ColumnKind.TEXT, Text("Statut", "Status"), words=words.STATUSES),
                Column("requests", ColumnKind.COUNT, Text("Demandes", "Requests")),
                Column("requested", ColumnKind.MONEY, Text("Montant demandé", "Amount requested")),
                Column("paid", ColumnKind.MONEY, Text("Montant payé", "Amount paid")),
                Column("validated", ColumnKind.MONEY, Text("Montant validé", "Amount validated")),
            ),
            """
            SELECT m.name AS merchant, p.name AS point_of_sale, r.flow, r.status, count(*) AS requests,
              sum(r.amount_requested_cents)::BIGINT AS requested,
              coalesce(sum(r.amount_paid_cents), 0)::BIGINT AS paid,
              coalesce(sum(r.amount_validated_cents), 0)::BIGINT AS validated
            FROM payment_requests_as_of($as_of) r JOIN merchants m ON m.id = r.merchant_id
            JOIN points_of_sale p ON p.id = r.point_of_sale_id
            WHERE ($merchant IS NULL OR r.merchant_id = $merchant)
              AND ($point_of_sale IS NULL OR r.point_of_sale_id = $point_of_sale)
              AND ($since IS NULL OR (r.created_at AT TIME ZONE 'Europe/Paris')::DATE >= $since)
              AND ($until IS NULL OR (r.created_at AT TIME ZONE 'Europe/Paris')::DATE <= $until)
            GROUP BY m.id, m.name, p.id, p.name, r.flow, r.status ORDER BY 1, 2, 3, 4, m.id, p.id
            """,
            for_merchants=True,
            chart=("point_of_sale", "requested"),
        ),
    ),
)
