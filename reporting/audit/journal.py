"""The journal: that it tells each object's life, and says the same as the objects and the ledger."""

from typing import Final

from reporting.audit.check import Check

JOURNAL: Final = (
    Check(
        "the journal has one creation of every object",
        "journal",
        """
        WITH made AS (
          SELECT j.tenant, j.subject_id, j.kind, count(*) AS number FROM journal j
          WHERE j.tenant = coalesce($1, j.tenant)
            AND (j.kind LIKE '%.create' OR j.kind IN ('vchr.request', 'sinv.record', 'mstm.issue'))
          GROUP BY j.tenant, j.subject_id, j.kind
        )
        SELECT format('tenant %s, %s %s', o.tenant, o.kind, o.id) AS what, '1 line' AS expected,
               format('%s lines', coalesce(m.number, 0)) AS found
        FROM objects o LEFT JOIN made m ON m.tenant = o.tenant AND m.subject_id = o.id AND m.kind = CASE o.kind
          WHEN 'vchr' THEN 'vchr.request' WHEN 'sinv' THEN 'sinv.record' WHEN 'mstm' THEN 'mstm.issue'
          ELSE o.kind || '.create' END
        WHERE o.tenant = coalesce($1, o.tenant) AND coalesce(m.number, 0) <> 1
          -- An issuer's row comes a transaction before its line.
          AND NOT (o.kind = 'issr' AND m.number IS NULL)
        """,
    ),
    Check(
        "the journal tells each request's life",
        "journal",
        """
        WITH lives AS (
          SELECT r.tenant, r.id, r.status, r.version,
                 r.amount_paid IS NOT NULL AS paid, r.validation_days IS NOT NULL AS has_window,
                 count(*) FILTER (WHERE j.kind = 'preq.pay') AS payments,
                 count(*) FILTER (WHERE j.kind IN ('preq.validate', 'preq.auto_validate')) AS validations,
                 count(*) FILTER (WHERE j.kind = 'preq.auto_validate' AND (NOT r.auto_validation OR
                   j.at < r.validation_deadline OR j.user_id IS NOT NULL OR r.amount_validated < r.amount_paid)
                   OR j.kind = 'preq.validate' AND j.at >= r.validation_deadline) AS out_of_time,
                 count(*) FILTER (WHERE j.kind = 'preq.cancel') AS cancellations,
                 count(*) FILTER (WHERE j.kind = 'preq.decline') AS declines,
                 count(*) FILTER (WHERE j.kind = 'preq.expire') AS expiries,
                 count(*) FILTER (WHERE j.kind NOT IN ('preq.create', 'preq.warn')) AS changes,
                 min(j.sequence) FILTER (WHERE j.kind = 'preq.create') AS creation, min(j.sequence) AS first,
                 max(j.sequence) FILTER (WHERE j.kind = ANY (x.last_kinds)) AS last_of_status, max(j.sequence) FILTER
                   (WHERE j.kind <> 'preq.warn') AS last,
                 bool_or(j.kind = 'preq.create' AND j.at = r.created_at) AS created_then,
                 bool_or(j.kind = 'preq.pay' AND j.at = r.paid_at) AS paid_then,
                 bool_or(j.kind = ANY (x.last_kinds) AND j.at = r.last_action_at) AS acted_then
          FROM payment_requests r
          CROSS JOIN LATERAL (SELECT CASE r.status
            WHEN 'AWAITING_PAYMENT' THEN ARRAY['preq.create', 'preq.change_collection']
            WHEN 'TO_VALIDATE' THEN ARRAY['preq.pay']
            WHEN 'VALIDATED' THEN CASE WHEN r.validation_days IS NULL THEN ARRAY['preq.pay']
              ELSE ARRAY['preq.validate', 'preq.auto_validate'] END
            WHEN 'CANCELLED' THEN ARRAY['preq.cancel', 'preq.decline']
            WHEN 'EXPIRED' THEN ARRAY['preq.expire'] END AS last_kinds) AS x
          LEFT JOIN journal j ON j.tenant = r.tenant AND j.subject_id = r.id
          WHERE r.tenant = coalesce($1, r.tenant)
          GROUP BY r.tenant, r.id
        )
        SELECT format('tenant %s, request %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_build_object('status', r.status, 'payments', r.payments, 'validations', r.validations,
                 'cancellations', r.cancellations, 'declines', r.declines, 'expiries', r.expiries,
                 'changes', r.changes, 'version', r.version)::text AS found
        FROM lives r
        CROSS JOIN LATERAL (VALUES
          ('its creation first, at created_at', r.creation = r.first AND r.created_then),
          ('one payment if paid, at paid_at', r.payments = r.paid::integer AND (NOT r.paid OR r.paid_then)),
          ('one validation if VALIDATED in a window: before its end, or at it by the clock alone',
            r.validations = (r.has_window AND r.status = 'VALIDATED')::integer AND r.out_of_time = 0),
          ('one cancellation or refusal if CANCELLED',
            r.cancellations + r.declines = (r.status = 'CANCELLED')::integer),
          ('no refusal of what was paid', r.declines = 0 OR NOT r.paid),
          ('one expiry if EXPIRED', r.expiries = (r.status = 'EXPIRED')::integer),
          ('the line of its status last, at last_action_at', r.last_of_status = r.last AND r.acted_then),
          ('a line for each change', r.changes = r.version)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal says the same as the requests",
        "journal",
        """
        SELECT format('tenant %s, line %s (%s) about request %s', j.tenant, j.id, j.kind, r.id) AS what,
               format('a known line, amount %s, place %s, holder %s', coalesce(x.amount::text, 'none'),
                      r.point_of_sale_id, coalesce(r.payer_id::text, 'any')) AS expected,
               format('amount %s, place %s, holder %s', coalesce(j.amount::text, 'none'), j.point_of_sale_id,
                      coalesce(j.holder_id::text, 'none')) AS found
        FROM journal j JOIN payment_requests r ON r.tenant = j.tenant AND r.id = j.subject_id
        CROSS JOIN LATERAL (SELECT CASE j.kind WHEN 'preq.create' THEN r.amount_requested
          WHEN 'preq.pay' THEN r.amount_paid WHEN 'preq.validate' THEN r.amount_validated
          WHEN 'preq.auto_validate' THEN r.amount_validated END AS amount) AS x
        WHERE j.tenant = coalesce($1, j.tenant) AND (
          j.subject_kind = 'preq' AND j.kind IN ('preq.create', 'preq.change_collection', 'preq.pay', 'preq.decline',
            'preq.validate', 'preq.auto_validate', 'preq.cancel', 'preq.expire', 'preq.warn')
          AND j.amount IS NOT DISTINCT FROM x.amount
          AND j.point_of_sale_id = r.point_of_sale_id
          AND (j.kind NOT IN ('preq.pay', 'preq.validate', 'preq.auto_validate') OR j.holder_id = r.payer_id)
        ) IS NOT TRUE
        """,
    ),
    Check(
        "the journal tells each voucher's life",
        "journal",
        """
        WITH lines AS (
          SELECT j.tenant, j.subject_id, j.sequence, j.at, j.user_id, split_part(j.kind, '.', 2) AS verb,
                 j.kind IN ('vchr.request', 'vchr.reveal', 'vchr.deliver', 'vchr.cancel', 'vchr.expire', 'vchr.invoice',
                            'vchr.settle', 'vchr.reopen') AS moves,
                 -- Each right code, and each unblocking, begins the count of the wrong ones anew.
                 count(*) FILTER (WHERE j.kind IN ('vchr.verify', 'vchr.unblock', 'vchr.invoice')) OVER life AS round,
                 lag(j.kind) OVER life AS kind_before
          FROM journal j WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind = 'vchr'
          WINDOW life AS (PARTITION BY j.tenant, j.subject_id ORDER BY j.sequence)
        ), counts AS (
          SELECT tenant, subject_id, round, count(*) FILTER (WHERE verb IN ('wrong_code', 'block')) AS wrong,
                 max(at) FILTER (WHERE verb = 'block') AS blocked_at,
                 count(*) FILTER (WHERE verb IN ('wrong_code', 'block')) > 5
                   OR bool_or((verb = 'block') <> (place = 5)) FILTER (WHERE verb IN ('wrong_code', 'block'))
                   AS blocked_wrongly
          FROM (SELECT *, count(*) FILTER (WHERE verb IN ('wrong_code', 'block')) OVER
                  (PARTITION BY tenant, subject_id, round ORDER BY sequence) AS place FROM lines) AS placed
          GROUP BY tenant, subject_id, round
        ), codes AS (
          SELECT DISTINCT ON (tenant, subject_id) tenant, subject_id, wrong, blocked_at,
                 bool_or(blocked_wrongly) OVER (PARTITION BY tenant, subject_id) AS blocked_wrongly
          FROM counts ORDER BY tenant, subject_id, round DESC
        ), lives AS (
          SELECT tenant, subject_id, string_agg(verb, ' ' ORDER BY sequence) FILTER (WHERE moves) AS told,
                 (array_agg(at ORDER BY sequence DESC) FILTER (WHERE moves))[1] AS moved_at,
                 max(at) FILTER (WHERE verb = 'request') AS requested_at,
                 max(at) FILTER (WHERE verb = 'reveal') AS revealed_at,
                 max(at) FILTER (WHERE verb = 'deliver') AS delivered_at,
                 min(sequence) FILTER (WHERE NOT moves) > coalesce(max(sequence) FILTER (WHERE verb = 'deliver'),
                   9223372036854775807) AS tried_after_delivery,
                 count(*) FILTER (WHERE verb IN ('expire', 'settle', 'reopen') AND user_id IS NOT NULL)
                   AS moved_by_people,
                 -- A right code changes the voucher only when it takes back a wrong one.
                 count(*) FILTER (WHERE verb NOT IN ('request', 'verify')
                   OR verb = 'verify' AND kind_before = 'vchr.wrong_code') AS changes
          FROM lines GROUP BY tenant, subject_id
        )
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', v.status, 'told', l.told, 'wrong_codes', v.wrong_codes,
                 'wrong_codes_told', c.wrong, 'blocked_at', v.blocked_at, 'block_told', c.blocked_at,
                 'last_action_at', v.last_action_at, 'changes', l.changes, 'version', v.version))::text AS found
        FROM vouchers v
        LEFT JOIN lives l ON l.tenant = v.tenant AND l.subject_id = v.id
        LEFT JOIN codes c ON c.tenant = v.tenant AND c.subject_id = v.id
        CROSS JOIN LATERAL (VALUES
          ('the lines that lead to its status, in the order of life', l.told ~ CASE v.status
            WHEN 'ISSUED' THEN '^request$'
            WHEN 'CODE_REVEALED' THEN '^request reveal$'
            WHEN 'DELIVERED' THEN '^request reveal deliver$'
            WHEN 'INVOICED' THEN '^request reveal deliver invoice( settle reopen)*$'
            WHEN 'SETTLED' THEN '^request reveal deliver invoice( settle reopen)* settle$'
            WHEN 'CANCELLED' THEN '^request cancel$'
            WHEN 'EXPIRED' THEN CASE WHEN v.revealed_at IS NULL THEN '^request expire$'
              ELSE '^request reveal expire$' END
          END),
          ('its request at issued_at', l.requested_at = v.issued_at),
          ('its code drawn at revealed_at', l.revealed_at IS NOT DISTINCT FROM v.revealed_at),
          ('its delivery at delivered_at', l.delivered_at IS NOT DISTINCT FROM v.delivered_at),
          ('the line of its status at last_action_at', l.moved_at = v.last_action_at),
          ('expired, settled and reopened by the clock alone', l.moved_by_people = 0),
          ('codes tried only after the delivery', l.tried_after_delivery IS NOT FALSE),
          ('as many wrong codes as told since the last right one', c.wrong = v.wrong_codes),
          ('blocked by the fifth wrong code in a row, then', c.blocked_wrongly IS NOT TRUE
            AND c.blocked_at IS NOT DISTINCT FROM v.blocked_at),
          ('a line for each change', l.changes = v.version)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal tells each invoice's life",
        "journal",
        """
        WITH lives AS (
          SELECT j.tenant, j.subject_id, string_agg(j.kind, ' ' ORDER BY j.sequence) AS told, min(j.at) FILTER
                   (WHERE j.kind = 'sinv.record') AS recorded_at,
                 max(j.at) FILTER (WHERE j.kind IN ('sinv.pay_excess', 'sinv.refuse_excess')) AS decided_at,
                 min(j.xact::text) FILTER (WHERE j.kind = 'sinv.record') AS recorded_in,
                 max(j.at) FILTER (WHERE j.kind = 'sinv.state') AS stated_at,
                 min(j.xact::text) FILTER (WHERE j.kind = 'sinv.state') AS stated_in,
                 count(*) - 1 AS changes
          FROM journal j WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind = 'sinv'
          GROUP BY j.tenant, j.subject_id
        )
        SELECT format('tenant %s, invoice %s', i.tenant, i.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', i.status, 'told', l.told, 'recorded_at', i.recorded_at,
                 'decided_at', i.decided_at, 'version', i.version))::text AS found
        FROM supplier_invoices i LEFT JOIN lives l ON l.tenant = i.tenant AND l.subject_id = i.id
        CROSS JOIN LATERAL (VALUES
          ('the lines that lead to its status, and to its statement', l.told = CASE i.status
            WHEN 'RECORDED' THEN 'sinv.record'
            WHEN 'TO_DECIDE' THEN 'sinv.record'
            WHEN 'EXCESS_PAID' THEN 'sinv.record sinv.pay_excess'
            WHEN 'EXCESS_REFUSED' THEN 'sinv.record sinv.refuse_excess' END
            || CASE WHEN i.statement_id IS NULL THEN '' ELSE ' sinv.state' END),
          ('put on its statement in one transaction with that one''s line', i.statement_id IS NULL
            OR EXISTS (SELECT FROM journal j WHERE j.tenant = i.tenant AND j.subject_id = i.statement_id
              AND j.kind = 'mstm.issue' AND j.at = l.stated_at AND j.xact::text = l.stated_in)),
          ('its recording at recorded_at', l.recorded_at = i.recorded_at),
          ('its decision at decided_at', l.decided_at IS NOT DISTINCT FROM i.decided_at),
          ('recorded in one transaction with its voucher''s line', EXISTS (SELECT FROM journal j
            WHERE j.tenant = i.tenant AND j.subject_id = i.voucher_id AND j.kind = 'vchr.invoice'
              AND j.at = l.recorded_at AND j.xact::text = l.recorded_in)),
          ('a line for each change', l.changes = i.version)
        ) AS rule(expected, holds)
        WHERE i.tenant = coalesce($1, i.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal says the same as the vouchers and invoices",
        "journal",
        """
        WITH said AS (
          SELECT v.tenant, v.id, side.kind, side.amount, v.holder_id
          FROM vouchers v LEFT JOIN bills b ON b.tenant = v.tenant AND b.voucher_id = v.id
          CROSS JOIN LATERAL (VALUES
            ('vchr.request', v.value), ('vchr.deliver', v.value), ('vchr.cancel', v.value), ('vchr.expire', v.value),
            ('vchr.invoice', b.paid), ('vchr.settle', b.paid), ('vchr.reopen', b.paid), ('vchr.reveal', NULL),
            ('vchr.verify', NULL), ('vchr.wrong_code', NULL), ('vchr.block', NULL), ('vchr.unblock', NULL)
          ) AS side(kind, amount)
          WHERE v.tenant = coalesce($1, v.tenant)
          UNION ALL
          SELECT b.tenant, b.id, side.kind, side.amount, b.holder_id
          FROM bills b
          CROSS JOIN LATERAL (VALUES ('sinv.record', b.paid + b.excess), ('sinv.pay_excess', b.excess),
            ('sinv.refuse_excess', b.excess),
            ('sinv.state', b.paid + CASE b.status WHEN 'EXCESS_PAID' THEN b.excess ELSE 0 END)) AS side(kind, amount)
          WHERE b.tenant = coalesce($1, b.tenant)
          UNION ALL
          SELECT tenant, id, 'mstm.issue', total, holder_id FROM member_statements
          WHERE tenant = coalesce($1, tenant)
        )
        SELECT format('tenant %s, line %s (%s) about %s', j.tenant, j.id, j.kind, j.subject_id) AS what,
               CASE WHEN s.id IS NULL THEN 'a known line'
                    ELSE format('amount %s, no place, holder %s', coalesce(s.amount::text, 'none'), s.holder_id) END
                 AS expected,
               format('amount %s, place %s, holder %s', coalesce(j.amount::text, 'none'),
                      coalesce(j.point_of_sale_id::text, 'none'), coalesce(j.holder_id::text, 'none')) AS found
        FROM journal j
        LEFT JOIN said s ON s.tenant = j.tenant AND s.id = j.subject_id AND s.kind = j.kind
        WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind IN ('vchr', 'sinv', 'mstm')
          AND (j.amount IS NOT DISTINCT FROM s.amount AND j.point_of_sale_id IS NULL AND j.holder_id = s.holder_id)
            IS NOT TRUE
        """,
    ),
    Check(
        "the journal tells each reimbursement's life",
        "journal",
        """
        WITH lives AS (
          SELECT j.tenant, j.subject_id, string_agg(split_part(j.kind, '.', 2), ' ' ORDER BY j.sequence) AS told,
                 min(j.at) FILTER (WHERE j.kind = 'reim.create') AS created_at,
                 min(j.at) FILTER (WHERE j.kind = 'reim.send') AS sent_at,
                 min(j.xact::text) FILTER (WHERE j.kind = 'reim.send') AS sent_in,
                 min(j.at) FILTER (WHERE j.kind = 'reim.settle') AS settled_at,
                 min(j.at) FILTER (WHERE j.kind IN ('reim.reject', 'reim.return')) AS rejected_at,
                 count(*) FILTER (WHERE j.kind IN ('reim.create', 'reim.send') AND j.user_id IS NOT NULL) AS by_people,
                 count(*) - 1 AS changes
          FROM journal j WHERE j.tenant = coalesce($1, j.tenant) AND j.subject_kind = 'reim'
          GROUP BY j.tenant, j.subject_id
        )
        SELECT format('tenant %s, reimbursement %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'told', l.told, 'created_at', r.created_at,
                 'sent_at', r.sent_at, 'settled_at', r.settled_at, 'rejected_at', r.rejected_at, 'changes', l.changes,
                 'version', r.version))::text AS found
        FROM reimbursements r LEFT JOIN lives l ON l.tenant = r.tenant AND l.subject_id = r.id
        CROSS JOIN LATERAL (VALUES
          ('the lines that lead to its status, in the order of life', l.told = CASE r.status
            WHEN 'PENDING' THEN 'create'
            WHEN 'SENT' THEN 'create send'
            WHEN 'SETTLED' THEN 'create send settle'
            WHEN 'REJECTED' THEN CASE WHEN r.settled_at IS NULL THEN 'create send reject'
              ELSE 'create send settle return' END END),
          ('each at its instant', l.created_at = r.created_at AND l.sent_at IS NOT DISTINCT FROM r.sent_at
            AND l.settled_at IS NOT DISTINCT FROM r.settled_at AND l.rejected_at IS NOT DISTINCT FROM r.rejected_at),
          ('made and sent by a run alone', l.by_people = 0),
          ('sent in one transaction with its file''s line', r.file_id IS NULL OR EXISTS (SELECT FROM journal j
            WHERE j.tenant = r.tenant AND j.subject_id = r.file_id AND j.kind = 'trfl.create' AND j.at = l.sent_at
              AND j.xact::text = l.sent_in)),
          ('a line for each change', l.changes = r.version)
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the journal says the same as the reimbursements, the files and the bank accounts",
        "journal",
        """
        WITH said AS (
          SELECT r.tenant, r.id, side.kind, r.net AS amount
          FROM reimbursements r CROSS JOIN LATERAL (VALUES ('reim.create'), ('reim.send'), ('reim.settle'),
            ('reim.reject'), ('reim.return')) AS side(kind)
          WHERE r.tenant = coalesce($1, r.tenant)
          UNION ALL SELECT tenant, id, 'trfl.create', total FROM transfer_files WHERE tenant = coalesce($1, tenant)
          UNION ALL SELECT tenant, id, 'mrch.update_bank_account', NULL FROM merchants
          WHERE tenant = coalesce($1, tenant)
        )
        SELECT format('tenant %s, line %s (%s) about %s', j.tenant, j.id, j.kind, j.subject_id) AS what,
               CASE WHEN s.id IS NULL THEN 'a known line'
                    ELSE format('amount %s, no place, no holder', coalesce(s.amount::text, 'none')) END AS expected,
               format('amount %s, place %s, holder %s', coalesce(j.amount::text, 'none'),
                      coalesce(j.point_of_sale_id::text, 'none'), coalesce(j.holder_id::text, 'none')) AS found
        FROM journal j LEFT JOIN said s ON s.tenant = j.tenant AND s.id = j.subject_id AND s.kind = j.kind
        WHERE j.tenant = coalesce($1, j.tenant)
          AND (j.subject_kind IN ('reim', 'trfl') OR j.kind = 'mrch.update_bank_account')
          AND (s.id IS NOT NULL AND j.amount IS NOT DISTINCT FROM s.amount AND j.point_of_sale_id IS NULL
               AND j.holder_id IS NULL) IS NOT TRUE
        """,
    ),
    Check(
        "transfers and the journal's lines are written together",
        "transfers",
        """
        WITH moved AS (
          SELECT t.tenant, t.subject_id, f.line, t.reason, t.xact, t.at, count(*) AS number
          FROM transfers t JOIN forms f USING (kind, subject_kind, reason)
          WHERE t.tenant = coalesce($1, t.tenant) GROUP BY t.tenant, t.subject_id, f.line, t.reason, t.xact, t.at
        ), told AS (
          SELECT j.tenant, j.subject_id, f.line, f.reason, j.xact, j.at, count(*) AS number
          FROM journal j JOIN (SELECT DISTINCT line, reason FROM forms) f ON f.line = j.kind
          WHERE j.tenant = coalesce($1, j.tenant)
          GROUP BY j.tenant, j.subject_id, f.line, f.reason, j.xact, j.at
        )
        SELECT format('tenant %s, %s (%s) of %s at %s', tenant, line, reason, subject_id, at) AS what,
               'as many transfers as lines, of one transaction' AS expected,
               format('%s transfers, %s lines', coalesce(m.number, 0), coalesce(t.number, 0)) AS found
        FROM moved m FULL JOIN told t USING (tenant, subject_id, line, reason, xact, at)
        -- What was never paid is cancelled, or expires, without a transfer; and nothing kept comes back with nothing.
        WHERE m.number IS DISTINCT FROM t.number AND NOT (m.number IS NULL AND (line IN ('preq.cancel', 'preq.expire')
          OR reason = 'commission_return' AND EXISTS (SELECT FROM reimbursements r
            WHERE r.tenant = t.tenant AND r.id = t.subject_id AND r.commission = 0)))
        """,
    ),
    Check(
        "the journal names what exists",
        "journal",
        """
        SELECT format('tenant %s, line %s (%s)', tenant, id, kind) AS what, expected, found
        FROM (
          SELECT j.*, 'the kind of its subject' AS expected, subject_kind AS found
          FROM journal j WHERE split_part(j.kind, '.', 1) <> j.subject_kind
          UNION ALL
          SELECT j.*, 'a subject that exists', concat_ws(' ', subject_kind, subject_id)
          FROM journal j WHERE j.subject_kind <> 'sess' AND NOT EXISTS (SELECT FROM objects o
            WHERE o.tenant = j.tenant AND o.kind = j.subject_kind AND o.id = j.subject_id)
          UNION ALL
          SELECT j.*, 'a user who exists', user_id::text
          FROM journal j WHERE j.user_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM users u WHERE u.tenant = j.tenant AND u.id = j.user_id)
          UNION ALL
          SELECT j.*, 'a place that exists', point_of_sale_id::text
          FROM journal j WHERE j.point_of_sale_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM points_of_sale p WHERE p.tenant = j.tenant AND p.id = j.point_of_sale_id)
          UNION ALL
          SELECT j.*, 'a holder who exists', holder_id::text
          FROM journal j WHERE j.holder_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM holders h WHERE h.tenant = j.tenant AND h.id = j.holder_id)
        ) AS j
        WHERE j.tenant = coalesce($1, j.tenant)
        """,
    ),
)
