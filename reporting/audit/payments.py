"""Payment requests, and each party's total."""

from typing import Final

from reporting.audit.check import Check

PAYMENTS: Final = (
    Check(
        "requests have what their status says, and nothing else",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'amount_paid', r.amount_paid,
                 'amount_validated', r.amount_validated, 'paid_at', r.paid_at, 'payer_id', r.payer_id,
                 'validation_days', r.validation_days, 'validation_deadline', r.validation_deadline,
                 'reservation_id', r.reservation_id))::text AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (SELECT r.amount_paid IS NOT NULL AS paid, r.validation_days IS NOT NULL AS has_window) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status', r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED', 'CANCELLED', 'EXPIRED')),
          ('unpaid while AWAITING_PAYMENT', r.status <> 'AWAITING_PAYMENT' OR NOT x.paid),
          ('paid when TO_VALIDATE or VALIDATED', r.status NOT IN ('TO_VALIDATE', 'VALIDATED') OR x.paid),
          ('a validation window when TO_VALIDATE, and when paid money went back',
            NOT x.paid OR x.has_window OR r.status = 'VALIDATED'),
          ('paid_at and payer_id when paid, and only then',
            (r.paid_at IS NOT NULL) = x.paid AND (r.payer_id IS NOT NULL) = x.paid),
          ('validation_deadline and reservation_id when paid with a validation window, and only then',
            (r.validation_deadline IS NOT NULL) = (x.paid AND x.has_window)
            AND (r.reservation_id IS NOT NULL) = (x.paid AND x.has_window)),
          ('amount_validated when VALIDATED, and only then',
            (r.amount_validated IS NOT NULL) = (r.status = 'VALIDATED'))
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests' amounts agree with each other and with the flow",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               format('%s, requested %s, paid %s, validated %s', r.flow, r.amount_requested,
                      coalesce(r.amount_paid::text, 'nothing'), coalesce(r.amount_validated::text, 'nothing')) AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (VALUES
          ('more than nothing requested', r.amount_requested > 0),
          ('paid: more than nothing, no more than requested',
            r.amount_paid IS NULL OR r.amount_paid BETWEEN 1 AND r.amount_requested),
          ('validated: more than nothing, no more than paid',
            r.amount_validated IS NULL OR r.amount_validated BETWEEN 1 AND r.amount_paid),
          ('paid in full in flow DEFERRED',
            r.flow <> 'DEFERRED' OR r.amount_paid IS NULL OR r.amount_paid = r.amount_requested),
          ('validated as paid without a validation window',
            r.validation_days IS NOT NULL OR r.amount_validated IS NULL OR r.amount_validated = r.amount_paid)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests' flows and deadlines follow the merchant's two choices",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('flow', r.flow, 'created_at', r.created_at,
                 'payment_due_on', r.payment_due_on, 'payment_deadline', r.payment_deadline, 'paid_at', r.paid_at,
                 'validation_days', r.validation_days, 'validation_deadline', r.validation_deadline))::text AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (VALUES
          ('the flow of its two choices',
            r.flow = CASE WHEN r.payment_due_on IS NULL THEN 'IMMEDIATE' ELSE 'DEFERRED' END
              || CASE WHEN r.validation_days IS NULL THEN '' ELSE '_WITH_VALIDATION' END),
          ('one day or more to validate', r.validation_days IS NULL OR r.validation_days > 0),
          ('validated by itself only with a window', r.validation_days IS NOT NULL OR NOT r.auto_validation),
          ('due on a later day than it was made',
            r.payment_due_on IS NULL OR r.payment_due_on > (r.created_at AT TIME ZONE 'Europe/Paris')::date),
          ('payable until the end of its day in Europe/Paris, or for some time', CASE WHEN r.payment_due_on IS NULL
            THEN r.payment_deadline > r.created_at
            ELSE r.payment_deadline = (r.payment_due_on + 1)::timestamp AT TIME ZONE 'Europe/Paris' END),
          ('to validate until the end of its last day in Europe/Paris', r.validation_deadline IS NULL
            OR r.validation_deadline = ((r.paid_at AT TIME ZONE 'Europe/Paris')::date
                                        + r.validation_days::integer + 1)::timestamp AT TIME ZONE 'Europe/Paris')
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests were acted on before their deadlines, and expired after",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'payment_deadline', r.payment_deadline,
                 'paid_at', r.paid_at, 'validation_deadline', r.validation_deadline,
                 'last_action_at', r.last_action_at))::text AS found
        FROM payment_requests r
        CROSS JOIN LATERAL (SELECT coalesce(r.validation_deadline, r.payment_deadline) AS ends_at) AS x
        CROSS JOIN LATERAL (VALUES
          ('paid before payment_deadline', r.paid_at IS NULL OR r.paid_at < r.payment_deadline),
          ('decided before its deadline',
            r.status NOT IN ('VALIDATED', 'CANCELLED') OR r.last_action_at < x.ends_at
            OR r.status = 'VALIDATED' AND r.auto_validation AND r.amount_validated = r.amount_paid),
          ('expired at its deadline or later', r.status <> 'EXPIRED' OR r.last_action_at >= x.ends_at),
          ('given back at the end of a window only where it does not validate by itself',
            r.status <> 'EXPIRED' OR r.amount_paid IS NULL OR NOT r.auto_validation)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "requests name their own merchant's place, and are paid by the customer named",
        "payment_requests",
        """
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               format('merchant %s, place %s of merchant %s, customer %s, payer %s', r.merchant_id,
                      r.point_of_sale_id, p.merchant_id, r.customer_id, r.payer_id) AS found
        FROM payment_requests r
        LEFT JOIN points_of_sale p ON p.tenant = r.tenant AND p.id = r.point_of_sale_id
        CROSS JOIN LATERAL (VALUES
          ('a place of its merchant', p.merchant_id = r.merchant_id),
          ('the customer as payer', r.customer_id IS NULL OR r.payer_id IS NULL OR r.payer_id = r.customer_id)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "no basket number is held twice at a place",
        "payment_requests",
        """
        SELECT format('tenant %s, basket %s at place %s', r.tenant, r.basket_number, r.point_of_sale_id) AS what,
               'one live request' AS expected, format('%s live requests', count(*)) AS found
        FROM payment_requests r
        WHERE r.tenant = coalesce($1, r.tenant) AND r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE', 'VALIDATED')
        GROUP BY r.tenant, r.point_of_sale_id, r.basket_number HAVING count(*) > 1
        """,
    ),
    Check(
        "payments stand in the ledger, side by side with their requests",
        "payment_requests",
        """
        WITH expected AS (
          SELECT r.tenant, r.id AS subject_id, side.transfer, side.account, side.owner_id, side.amount
          FROM payment_requests r
          CROSS JOIN LATERAL (
            SELECT r.validation_days IS NOT NULL AS has_window, r.status = 'VALIDATED' AS validated,
                   r.status IN ('CANCELLED', 'EXPIRED') AS given_back, r.amount_paid - r.amount_validated AS rest
          ) AS x
          CROSS JOIN LATERAL (VALUES
            ('TRANSFER', 'WALLET',   r.payer_id,    -r.amount_paid,     NOT x.has_window),
            ('TRANSFER', 'MERCHANT', r.merchant_id, r.amount_validated, NOT x.has_window),
            ('RESERVE',  'WALLET',   r.payer_id,    -r.amount_paid,     x.has_window),
            ('RESERVE',  'HELD',     r.merchant_id, r.amount_paid,      x.has_window),
            ('POST',     'HELD',     r.merchant_id, -r.amount_paid,     x.has_window AND x.validated),
            ('POST',     'MERCHANT', r.merchant_id, r.amount_validated, x.has_window AND x.validated),
            ('POST',     'WALLET',   r.payer_id,    x.rest,             x.has_window AND x.validated AND x.rest <> 0),
            ('VOID',     'HELD',     r.merchant_id, -r.amount_paid,     x.has_window AND x.given_back),
            ('VOID',     'WALLET',   r.payer_id,    r.amount_paid,      x.has_window AND x.given_back)
          ) AS side(transfer, account, owner_id, amount, wanted)
          WHERE r.tenant = coalesce($1, r.tenant) AND r.amount_paid IS NOT NULL AND side.wanted
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.kind AS transfer, a.kind AS account, a.owner_id,
                 sum(p.amount) AS amount, count(*) AS postings
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind = 'preq'
          GROUP BY t.tenant, t.subject_id, t.kind, a.kind, a.owner_id
        )
        SELECT format('tenant %s, request %s, %s on %s account of %s', tenant, subject_id, transfer, account, owner_id)
                 AS what,
               coalesce(e.amount::text, 'nothing') AS expected,
               m.amount || CASE m.postings WHEN 1 THEN '' ELSE format(' in %s postings', m.postings) END AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, transfer, account, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR m.postings <> 1
        """,
    ),
    Check(
        "requests, vouchers and reimbursements point to their own reservation",
        "transfers",
        """
        SELECT format('tenant %s, %s %s', r.tenant, r.kind, r.id) AS what, 'a RESERVE about this object' AS expected,
               format('%s %s about %s', coalesce(t.kind, 'missing'), r.reservation_id,
                      coalesce(t.subject_id::text, 'nothing')) AS found
        FROM (
          SELECT tenant, id, 'preq' AS kind, reservation_id FROM payment_requests WHERE reservation_id IS NOT NULL
          UNION ALL SELECT tenant, id, 'vchr', reservation_id FROM vouchers
          UNION ALL SELECT tenant, id, 'reim', reservation_id FROM reimbursements
        ) r LEFT JOIN transfers t ON t.tenant = r.tenant AND t.id = r.reservation_id
        WHERE r.tenant = coalesce($1, r.tenant)
          AND (t.kind, t.subject_kind, t.subject_id) IS DISTINCT FROM ('RESERVE', r.kind, r.id)
        """,
    ),
    Check(
        "each party's total is what its credits, requests, vouchers, invoices and reimbursements add up to",
        "accounts",
        """
        WITH reasons AS (
          SELECT r.tenant, side.kind, side.owner_id, side.amount
          FROM payment_requests r
          CROSS JOIN LATERAL (VALUES
            ('MERCHANT', r.merchant_id, r.amount_validated, r.status = 'VALIDATED'),
            ('WALLET',   r.payer_id,    -r.amount_validated, r.status = 'VALIDATED'),
            ('HELD',     r.merchant_id, r.amount_paid,      r.status = 'TO_VALIDATE'),
            ('WALLET',   r.payer_id,    -r.amount_paid,      r.status = 'TO_VALIDATE')
          ) AS side(kind, owner_id, amount, counts)
          WHERE r.tenant = coalesce($1, r.tenant) AND side.counts
          UNION ALL
          SELECT v.tenant, side.kind, side.owner_id, side.amount
          FROM vouchers v
          CROSS JOIN LATERAL (VALUES ('GUARANTEE', v.holder_id, -v.value), ('HELD', v.supplier_id, v.value))
            AS side(kind, owner_id, amount)
          WHERE v.tenant = coalesce($1, v.tenant) AND v.status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED')
          UNION ALL
          SELECT b.tenant, side.kind, side.owner_id, side.amount
          FROM bills b
          CROSS JOIN LATERAL (SELECT b.paid + CASE b.status WHEN 'EXCESS_PAID' THEN b.excess ELSE 0 END AS owed) AS x
          CROSS JOIN LATERAL (VALUES ('DEBT', b.holder_id, -x.owed), ('MERCHANT', b.supplier_id, x.owed))
            AS side(kind, owner_id, amount)
          WHERE b.tenant = coalesce($1, b.tenant)
          UNION ALL
          SELECT r.tenant, side.kind, side.owner_id, side.amount
          FROM reimbursements r JOIN issuers i ON i.tenant = r.tenant
          CROSS JOIN LATERAL (VALUES
            ('MERCHANT',   r.merchant_id, -r.gross,     r.status <> 'REJECTED'),
            ('TRANSIT',    r.merchant_id, r.gross,      r.status IN ('PENDING', 'SENT')),
            ('BANK',       i.id,          r.net,        r.status = 'SETTLED'),
            ('COMMISSION', i.id,          r.commission, r.status = 'SETTLED')
          ) AS side(kind, owner_id, amount, counts)
          WHERE r.tenant = coalesce($1, r.tenant) AND side.counts
          UNION ALL
          SELECT j.tenant, side.kind, side.owner_id, side.amount
          FROM journal j JOIN issuers i ON i.tenant = j.tenant
          CROSS JOIN LATERAL (VALUES ('WALLET', j.subject_id, j.amount), ('FUNDING', i.id, -j.amount))
            AS side(kind, owner_id, amount)
          WHERE j.tenant = coalesce($1, j.tenant) AND j.kind = 'hold.credit'
        ), expected AS (
          SELECT tenant, kind, owner_id, sum(amount) AS total FROM reasons GROUP BY tenant, kind, owner_id
        ), sums AS (
          SELECT p.tenant, p.account_id, sum(p.amount) AS total FROM postings p
          WHERE p.tenant = coalesce($1, p.tenant) GROUP BY p.tenant, p.account_id
        ), counted AS (
          SELECT a.tenant, a.kind, a.owner_id, sum(s.total) AS total
          FROM accounts a LEFT JOIN sums s ON s.tenant = a.tenant AND s.account_id = a.id
          WHERE a.tenant = coalesce($1, a.tenant) GROUP BY a.tenant, a.kind, a.owner_id
        )
        SELECT format('tenant %s, %s account of %s', tenant, kind, owner_id) AS what,
               coalesce(e.total, 0)::text AS expected, coalesce(c.total, 0)::text AS found
        FROM expected e FULL JOIN counted c USING (tenant, kind, owner_id)
        WHERE coalesce(e.total, 0) <> coalesce(c.total, 0)
        """,
    ),
)
