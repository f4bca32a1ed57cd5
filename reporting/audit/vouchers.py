"""Vouchers, the suppliers' invoices that they lead to, and what members are told of them."""

from typing import Final

from reporting.audit.check import Check

VOUCHERS: Final = (
    Check(
        "vouchers have what their status says, and nothing else",
        "vouchers",
        # Neither the salt nor the key's fingerprint is shown: a report is read by many.
        """
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', v.status, 'value', v.value, 'revealed_at', v.revealed_at,
                 'code_salt', octet_length(v.code_salt), 'code_key', octet_length(v.code_key), 'number', v.number,
                 'delivered_at', v.delivered_at, 'wrong_codes', v.wrong_codes, 'blocked_at', v.blocked_at,
                 'invoices', x.invoices))::text AS found
        FROM vouchers v
        CROSS JOIN LATERAL (SELECT v.status IN ('DELIVERED', 'INVOICED', 'SETTLED') AS delivered,
          (SELECT count(*) FROM supplier_invoices i WHERE i.tenant = v.tenant AND i.voucher_id = v.id) AS invoices) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status',
            v.status IN ('ISSUED', 'CODE_REVEALED', 'DELIVERED', 'CANCELLED', 'EXPIRED', 'INVOICED', 'SETTLED')),
          ('whole euros, more than none', v.value > 0 AND v.value % 100 = 0),
          ('a code once revealed, and not before', v.status = 'EXPIRED'
            OR (v.revealed_at IS NOT NULL) = (v.status = 'CODE_REVEALED' OR x.delivered)),
          ('revealed_at, a salt of 16 bytes and a key of 8, or none of them',
            num_nulls(v.revealed_at, v.code_salt, v.code_key) = 3
            OR v.revealed_at IS NOT NULL AND octet_length(v.code_salt) = 16 AND octet_length(v.code_key) = 8),
          ('number and delivered_at when delivered, and only then',
            (v.number IS NOT NULL) = x.delivered AND (v.delivered_at IS NOT NULL) = x.delivered),
          ('a number of the year of its delivery', v.number IS NULL
            OR v.number ~ '^W[0-9]{4}[.][A-Z]{2}[.][0-9]{3}[.][0-9]{8}$'
            AND substr(v.number, 2, 4) IN (to_char(v.delivered_at AT TIME ZONE 'Europe/Paris', 'YYYY'),
              -- The year is chosen before its series is waited for.
              to_char((v.delivered_at - interval '10 seconds') AT TIME ZONE 'Europe/Paris', 'YYYY'))),
          ('wrong codes only once delivered, and blocked by five of them alone',
            v.wrong_codes BETWEEN 0 AND CASE WHEN x.delivered THEN 5 ELSE 0 END
            AND (v.blocked_at IS NOT NULL) = (v.wrong_codes = 5)),
          ('one invoice when INVOICED or SETTLED, and only then',
            x.invoices = (v.status IN ('INVOICED', 'SETTLED'))::integer)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "vouchers are valid until the end of their last day, were used before it, and expired after",
        "vouchers",
        """
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', v.status, 'issued_at', v.issued_at, 'valid_until',
                 v.valid_until, 'expires_at', v.expires_at, 'revealed_at', v.revealed_at, 'delivered_at',
                 v.delivered_at, 'last_action_at', v.last_action_at))::text AS found
        FROM vouchers v
        CROSS JOIN LATERAL (VALUES
          ('valid on the day it was issued, or longer',
            v.valid_until >= (v.issued_at AT TIME ZONE 'Europe/Paris')::date),
          ('expires_at when its last day ends in Europe/Paris',
            v.expires_at = (v.valid_until + 1)::timestamp AT TIME ZONE 'Europe/Paris'),
          ('revealed before expires_at', v.revealed_at IS NULL OR v.revealed_at < v.expires_at),
          ('delivered before expires_at', v.delivered_at IS NULL OR v.delivered_at < v.expires_at),
          ('cancelled before expires_at', v.status <> 'CANCELLED' OR v.last_action_at < v.expires_at),
          ('expired at expires_at or later', v.status <> 'EXPIRED' OR v.last_action_at >= v.expires_at)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "vouchers name a member, a supplier and a kind",
        "vouchers",
        """
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what, rule.expected,
               format('holder %s, supplier %s, kind %s', v.holder_id, v.supplier_id, v.kind_id) AS found
        FROM vouchers v
        LEFT JOIN holders h ON h.tenant = v.tenant AND h.id = v.holder_id
        LEFT JOIN merchants m ON m.tenant = v.tenant AND m.id = v.supplier_id
        LEFT JOIN voucher_kinds k ON k.tenant = v.tenant AND k.id = v.kind_id
        CROSS JOIN LATERAL (VALUES
          ('a member', h.member_since IS NOT NULL),
          ('a supplier that exists', m.id IS NOT NULL),
          ('a kind that exists', k.id IS NOT NULL)
        ) AS rule(expected, holds)
        WHERE v.tenant = coalesce($1, v.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "the numbers of a series and year follow each other without a gap, up to its last",
        "number_series",
        """
        WITH given AS (
          SELECT v.tenant, split_part(v.number, '.', 3) AS name, substr(v.number, 2, 4)::bigint AS year,
                 split_part(v.number, '.', 4)::bigint AS n
          -- What is not in this form is another check's difference.
          FROM (SELECT tenant, CASE WHEN number ~ '^W[0-9]{4}[.][A-Z]{2}[.][0-9]{3}[.][0-9]{8}$' THEN number END
                       AS number FROM vouchers WHERE tenant = coalesce($1, tenant)) v
          WHERE v.number IS NOT NULL
          UNION ALL
          SELECT r.tenant, r.name, n[1]::bigint, n[2]::bigint
          FROM (SELECT tenant, 'reimbursements' AS name, reference, '^R([0-9]{4})-([0-9]{8})$' AS form
                FROM reimbursements
                UNION ALL SELECT tenant, 'transfer files', reference, '^ESCARCELLE-(?:[0-9]+-)?([0-9]{4})-([0-9]{6})$'
                FROM transfer_files) r
          CROSS JOIN LATERAL regexp_matches(r.reference, r.form) AS n
          WHERE r.tenant = coalesce($1, r.tenant)
        ), runs AS (
          SELECT tenant, name, year, min(n) AS lowest, max(n) AS highest, count(*) AS number,
                 count(DISTINCT n) AS distinct_numbers
          FROM given GROUP BY tenant, name, year
        ), series AS (SELECT * FROM number_series WHERE tenant = coalesce($1, tenant))
        SELECT format('tenant %s, series %s of %s', tenant, name, year) AS what,
               coalesce(format('every number from 1 to %s, once', s.last), 'no number') AS expected,
               coalesce(format('%s numbers from %s to %s, %s of them different', r.number, r.lowest, r.highest,
                               r.distinct_numbers), 'no number') AS found
        FROM series s FULL JOIN runs r USING (tenant, name, year)
        WHERE (r.lowest = 1 AND r.highest = s.last AND r.number = s.last AND r.distinct_numbers = s.last) IS NOT TRUE
        """,
    ),
    Check(
        "invoices have what their status says, and exceed by what their voucher does not cover",
        "supplier_invoices",
        """
        SELECT format('tenant %s, invoice %s', i.tenant, i.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', i.status, 'amount', i.amount, 'excess', i.excess,
                 'supplier', i.supplier_id, 'number', i.invoice_number, 'recorded_at', i.recorded_at,
                 'decided_at', i.decided_at, 'voucher', jsonb_build_object('id', i.voucher_id, 'status', v.status,
                 'value', v.value, 'supplier', v.supplier_id, 'last_action_at', v.last_action_at)))::text AS found
        FROM (
          SELECT *, count(*) OVER (PARTITION BY tenant, supplier_id, invoice_number) AS namesakes
          FROM supplier_invoices WHERE tenant = coalesce($1, tenant)
        ) i
        LEFT JOIN vouchers v ON v.tenant = i.tenant AND v.id = i.voucher_id
        CROSS JOIN LATERAL (VALUES
          ('a known status', i.status IN ('RECORDED', 'TO_DECIDE', 'EXCESS_PAID', 'EXCESS_REFUSED')),
          ('more than nothing', i.amount > 0),
          ('as excess what the voucher''s value does not cover', i.excess = i.amount - least(i.amount, v.value)),
          ('RECORDED without excess, and only then', (i.status = 'RECORDED') = (i.excess = 0)),
          ('decided_at when decided, and only then',
            (i.decided_at IS NOT NULL) = (i.status IN ('EXCESS_PAID', 'EXCESS_REFUSED'))),
          ('for a voucher of its supplier', v.supplier_id = i.supplier_id),
          ('recorded when its voucher was INVOICED', v.status IN ('INVOICED', 'SETTLED') AND (
            v.last_action_at = i.recorded_at OR EXISTS (SELECT FROM journal j WHERE j.tenant = v.tenant
              AND j.subject_id = v.id AND j.kind IN ('vchr.settle', 'vchr.reopen') AND j.at = v.last_action_at))),
          ('a number that its supplier used once', i.namesakes = 1)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "guarantees, bills and excesses stand in the ledger, side by side with their vouchers and invoices",
        "vouchers",
        """
        WITH expected AS (
          SELECT v.tenant, v.id AS subject_id, side.transfer, side.account, side.owner_id, side.amount
          FROM vouchers v LEFT JOIN bills b ON b.tenant = v.tenant AND b.voucher_id = v.id
          CROSS JOIN LATERAL (SELECT v.status IN ('INVOICED', 'SETTLED') AS billed,
            v.status IN ('CANCELLED', 'EXPIRED') AS released, v.value - b.paid AS rest) AS x
          CROSS JOIN LATERAL (VALUES
            ('RESERVE',  'GUARANTEE', v.holder_id,   -v.value, true),
            ('RESERVE',  'HELD',      v.supplier_id, v.value,  true),
            ('POST',     'HELD',      v.supplier_id, -v.value, x.billed),
            ('POST',     'MERCHANT',  v.supplier_id, b.paid,   x.billed),
            ('POST',     'GUARANTEE', v.holder_id,   x.rest,   x.billed AND x.rest <> 0),
            ('TRANSFER', 'DEBT',      v.holder_id,   -b.paid,  x.billed),
            ('TRANSFER', 'GUARANTEE', v.holder_id,   b.paid,   x.billed),
            ('VOID',     'HELD',      v.supplier_id, -v.value, x.released),
            ('VOID',     'GUARANTEE', v.holder_id,   v.value,  x.released)
          ) AS side(transfer, account, owner_id, amount, wanted)
          WHERE v.tenant = coalesce($1, v.tenant) AND side.wanted
          UNION ALL
          SELECT b.tenant, b.id, 'TRANSFER', side.account, side.owner_id, side.amount
          FROM bills b
          CROSS JOIN LATERAL (VALUES ('DEBT', b.holder_id, -b.excess), ('MERCHANT', b.supplier_id, b.excess))
            AS side(account, owner_id, amount)
          WHERE b.tenant = coalesce($1, b.tenant) AND b.status = 'EXCESS_PAID'
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.kind AS transfer, a.kind AS account, a.owner_id,
                 sum(p.amount) AS amount, count(*) AS postings
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind IN ('vchr', 'sinv')
          GROUP BY t.tenant, t.subject_id, t.kind, a.kind, a.owner_id
        )
        SELECT format('tenant %s, voucher or invoice %s, %s on %s account of %s', tenant, subject_id, transfer, account,
                      owner_id) AS what,
               coalesce(e.amount::text, 'nothing') AS expected,
               m.amount || CASE m.postings WHEN 1 THEN '' ELSE format(' in %s postings', m.postings) END AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, transfer, account, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR m.postings <> 1
        """,
    ),
    Check(
        "statements have lines of their member alone, billed until the end of their month, and their sum",
        "member_statements",
        """
        WITH lines AS (
          SELECT i.tenant, i.statement_id, count(*) AS number, min(v.holder_id::text) AS first_holder,
                 max(v.holder_id::text) AS last_holder, max(coalesce(i.decided_at, i.recorded_at)) AS last_billed_at,
                 count(*) FILTER (WHERE i.status = 'TO_DECIDE') AS undecided,
                 sum(CASE WHEN i.status = 'EXCESS_PAID' THEN i.amount ELSE i.amount - i.excess END) AS total
          FROM supplier_invoices i LEFT JOIN vouchers v ON v.tenant = i.tenant AND v.id = i.voucher_id
          WHERE i.tenant = coalesce($1, i.tenant) AND i.statement_id IS NOT NULL GROUP BY i.tenant, i.statement_id
        )
        SELECT format('tenant %s, statement %s', coalesce(s.tenant, l.tenant), coalesce(s.id, l.statement_id)) AS what,
               rule.expected,
               jsonb_strip_nulls(jsonb_build_object('period', s.period, 'total', s.total, 'channel', s.channel,
                 'issued_at', s.issued_at, 'holder', s.holder_id, 'job', j.kind, 'lines', l.number, 'sum', l.total,
                 'last_billed_at', l.last_billed_at, 'undecided', l.undecided))::text AS found
        FROM (SELECT *, id AS statement_id FROM member_statements WHERE tenant = coalesce($1, tenant)) s
        FULL JOIN lines l USING (tenant, statement_id)
        LEFT JOIN jobs j ON j.tenant = s.tenant AND j.id = s.job_id
        CROSS JOIN LATERAL (SELECT s.period || '-01' AS first_day WHERE s.period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'
          UNION ALL SELECT NULL WHERE s.period !~ '^[0-9]{4}-(0[1-9]|1[0-2])$' OR s.period IS NULL) AS x
        CROSS JOIN LATERAL (VALUES
          ('a statement that exists', s.id IS NOT NULL),
          ('one line or more', l.number > 0),
          ('lines of its member alone', l.first_holder = s.holder_id::text AND l.last_holder = s.holder_id::text),
          ('as total the sum of its lines', s.total = l.total AND s.total > 0),
          ('every excess decided', l.undecided = 0),
          ('a month that had begun when it was issued',
            x.first_day::timestamp AT TIME ZONE 'Europe/Paris' <= s.issued_at),
          ('billed before the end of its month and its issue', l.last_billed_at <= s.issued_at AND l.last_billed_at
            < (x.first_day::timestamp + interval '1 month') AT TIME ZONE 'Europe/Paris'),
          ('by mail or by post', s.channel IN ('EMAIL', 'POST')),
          ('issued by a job for that, of its month', j.kind = 'ISSUE_MEMBER_STATEMENTS'
            AND coalesce(j.given ->> 'month', s.period) = s.period)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "what statements tell is what their members' debts grew by",
        "member_statements",
        """
        WITH owed AS (
          SELECT b.tenant, b.statement_id, -sum(p.amount) AS total
          FROM bills b
          JOIN transfers t ON t.tenant = b.tenant AND (t.subject_kind = 'vchr' AND t.subject_id = b.voucher_id
                                                       OR t.subject_kind = 'sinv' AND t.subject_id = b.id)
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id AND a.kind = 'DEBT'
                         AND a.owner_id = b.holder_id
          WHERE b.tenant = coalesce($1, b.tenant) AND b.statement_id IS NOT NULL
          GROUP BY b.tenant, b.statement_id
        )
        SELECT format('tenant %s, statement %s', s.tenant, s.id) AS what, coalesce(o.total, 0)::text AS expected,
               s.total::text AS found
        FROM member_statements s LEFT JOIN owed o ON o.tenant = s.tenant AND o.statement_id = s.id
        WHERE s.tenant = coalesce($1, s.tenant) AND o.total IS DISTINCT FROM s.total
        """,
    ),
)
