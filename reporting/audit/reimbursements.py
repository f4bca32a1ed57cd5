"""Reimbursements, their lines, the files for the bank, and where they go."""

from typing import Final

from reporting.audit.check import Check

REIMBURSEMENTS: Final = (
    Check(
        "reimbursements have what their status says, and nothing else",
        "reimbursements",
        """
        SELECT format('tenant %s, reimbursement %s', r.tenant, r.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'reference', r.reference, 'period_start',
                 r.period_start, 'period_end', r.period_end, 'gross', r.gross, 'commission', r.commission, 'net', r.net,
                 'due_on', r.due_on, 'created_at', r.created_at, 'file', r.file_id, 'sent_at', r.sent_at, 'settled_at',
                 r.settled_at, 'bank_reference', r.bank_reference, 'rejected_at', r.rejected_at, 'rejection_code',
                 r.rejection_code, 'rejection_reason', r.rejection_reason, 'job', j.kind))::text AS found
        FROM reimbursements r LEFT JOIN jobs j ON j.tenant = r.tenant AND j.id = r.job_id
        CROSS JOIN LATERAL (SELECT (r.created_at AT TIME ZONE 'Europe/Paris')::date AS day,
          num_nonnulls(r.file_id, r.sent_at, r.iban, r.account_holder) AS sent,
          num_nonnulls(r.street, r.postcode, r.town, r.country) AS address) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status', r.status IN ('PENDING', 'SENT', 'SETTLED', 'REJECTED')),
          ('a file, sent_at and an account once it is sent, and not before',
            x.sent = CASE r.status WHEN 'PENDING' THEN 0 ELSE 4 END AND x.address IN (0, 4)
            AND (r.status <> 'PENDING' OR r.bic IS NULL AND x.address = 0)),
          ('settled_at when SETTLED, and else only when the money came back', CASE r.status
            WHEN 'SETTLED' THEN r.settled_at IS NOT NULL WHEN 'REJECTED' THEN true ELSE r.settled_at IS NULL END),
          ('rejected_at when REJECTED, and only then', (r.rejected_at IS NOT NULL) = (r.status = 'REJECTED')),
          ('the bank''s words only with its answer', (r.bank_reference IS NULL OR r.settled_at IS NOT NULL)
            AND (r.rejected_at IS NOT NULL OR num_nonnulls(r.rejection_code, r.rejection_reason) = 0)),
          ('more than nothing to pay, once the commission is kept',
            r.net = r.gross - r.commission AND r.commission >= 0 AND r.net > 0),
          ('a period that had begun to end when it was made', r.period_start <= r.period_end AND r.period_end <= x.day),
          ('due on a later day than it was made, and on no weekend',
            r.due_on > x.day AND extract(isodow FROM r.due_on) < 6),
          ('a number of the year it was made in',
            r.reference ~ '^R[0-9]{4}-[0-9]{8}$' AND substr(r.reference, 2, 4) = to_char(x.day, 'YYYY')),
          ('made by a run through the end of its period', j.kind = 'RUN_REIMBURSEMENTS'
            AND coalesce(j.given ->> 'through', to_char(r.period_end, 'YYYY-MM-DD'))
                = to_char(r.period_end, 'YYYY-MM-DD'))
        ) AS rule(expected, holds)
        WHERE r.tenant = coalesce($1, r.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "reimbursements are the sums of their lines, and release them when rejected",
        "reimbursements",
        """
        WITH sums AS (
          SELECT l.tenant, l.reimbursement_id, count(*) AS number, sum(l.amount) AS gross,
                 sum(l.commission) AS commission, count(*) FILTER (WHERE l.released) AS released,
                 min((t.at AT TIME ZONE 'Europe/Paris')::date) AS first_day
          FROM reimbursement_lines l LEFT JOIN transfers t ON t.tenant = l.tenant AND t.id = l.transfer_id
          WHERE l.tenant = coalesce($1, l.tenant) GROUP BY l.tenant, l.reimbursement_id
        )
        SELECT format('tenant %s, reimbursement %s', tenant, reimbursement_id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('status', r.status, 'gross', r.gross, 'commission', r.commission,
                 'period_start', r.period_start, 'lines', s.number, 'sum', s.gross, 'commissions', s.commission,
                 'released', s.released, 'first_day', s.first_day))::text AS found
        FROM (SELECT *, id AS reimbursement_id FROM reimbursements WHERE tenant = coalesce($1, tenant)) r
        FULL JOIN sums s USING (tenant, reimbursement_id)
        CROSS JOIN LATERAL (VALUES
          ('a reimbursement that exists', r.id IS NOT NULL),
          ('one line or more', s.number > 0),
          ('as gross the sum of its lines', r.gross = s.gross),
          ('as commission the sum of theirs', r.commission = s.commission),
          ('a period that begins with the first of them', r.period_start = s.first_day),
          ('every line released when REJECTED, and none else',
            s.released = CASE r.status WHEN 'REJECTED' THEN s.number ELSE 0 END)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "what is reimbursed was owed to the merchant, in the period, and is reimbursed once",
        "reimbursement_lines",
        """
        SELECT format('tenant %s, transfer %s in reimbursement %s', l.tenant, l.transfer_id, l.reimbursement_id)
                 AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('amount', l.amount, 'merchant', r.merchant_id, 'owed', o.amount,
                 'day', o.day, 'period_start', r.period_start, 'period_end', r.period_end, 'taken', l.takers))::text
                 AS found
        FROM (
          SELECT *, count(*) FILTER (WHERE NOT released) OVER (PARTITION BY tenant, transfer_id) AS takers
          FROM reimbursement_lines WHERE tenant = coalesce($1, tenant)
        ) l
        LEFT JOIN reimbursements r ON r.tenant = l.tenant AND r.id = l.reimbursement_id
        LEFT JOIN owed o ON o.tenant = l.tenant AND o.transfer_id = l.transfer_id AND o.merchant_id = r.merchant_id
        CROSS JOIN LATERAL (VALUES
          ('something owed to its merchant, from a known source', o.transfer_id IS NOT NULL),
          ('all of it', l.amount = o.amount),
          ('of a day in the period', o.day BETWEEN r.period_start AND r.period_end),
          ('in one reimbursement at most that is not rejected', l.takers <= 1)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "commissions follow the terms of the flow and of the day",
        "reimbursement_lines",
        # Postgres rounds a half away from zero, as commissions are.
        """
        SELECT format('tenant %s, commission on transfer %s in reimbursement %s', l.tenant, l.transfer_id,
                      l.reimbursement_id) AS what,
               format('%s, which is %s %% of %s (%s, %s)', x.commission, y.percent, l.amount, o.flow, o.day)
                 AS expected,
               l.commission::text AS found
        FROM reimbursement_lines l JOIN owed o ON o.tenant = l.tenant AND o.transfer_id = l.transfer_id
        CROSS JOIN LATERAL (SELECT coalesce((
          SELECT t.commission_percent FROM reimbursement_terms t
          WHERE t.tenant = l.tenant AND t.flow = o.flow AND t.valid_from <= o.day ORDER BY t.valid_from DESC LIMIT 1
        ), 0) AS percent) AS y
        CROSS JOIN LATERAL (SELECT round(l.amount * y.percent * 0.01) AS commission) AS x
        WHERE l.tenant = coalesce($1, l.tenant) AND l.commission <> x.commission
        """,
    ),
    Check(
        "reimbursements stand in the ledger, side by side with what the bank has said",
        "reimbursements",
        """
        WITH expected AS (
          SELECT r.tenant, r.id AS subject_id, side.reason, side.account, side.owner_id, side.amount
          FROM reimbursements r LEFT JOIN issuers i ON i.tenant = r.tenant
          CROSS JOIN LATERAL (SELECT r.settled_at IS NOT NULL AS paid, r.commission > 0 AS keeps,
            r.status = 'REJECTED' AND r.settled_at IS NULL AS refused,
            r.status = 'REJECTED' AND r.settled_at IS NOT NULL AS came_back) AS x
          CROSS JOIN LATERAL (VALUES
            ('reimbursement',     'MERCHANT',   r.merchant_id, -r.gross,      true),
            ('reimbursement',     'TRANSIT',    r.merchant_id, r.gross,       true),
            ('settlement',        'TRANSIT',    r.merchant_id, -r.gross,      x.paid),
            ('settlement',        'BANK',       i.id,          r.net,         x.paid),
            ('settlement',        'COMMISSION', i.id,          r.commission,  x.paid AND x.keeps),
            ('rejection',         'TRANSIT',    r.merchant_id, -r.gross,      x.refused),
            ('rejection',         'MERCHANT',   r.merchant_id, r.gross,       x.refused),
            ('return',            'BANK',       i.id,          -r.net,        x.came_back),
            ('return',            'MERCHANT',   r.merchant_id, r.net,         x.came_back),
            ('commission_return', 'COMMISSION', i.id,          -r.commission, x.came_back AND x.keeps),
            ('commission_return', 'MERCHANT',   r.merchant_id, r.commission,  x.came_back AND x.keeps)
          ) AS side(reason, account, owner_id, amount, wanted)
          WHERE r.tenant = coalesce($1, r.tenant) AND side.wanted
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.reason, a.kind AS account, a.owner_id, sum(p.amount) AS amount,
                 count(*) AS postings
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind = 'reim'
          GROUP BY t.tenant, t.subject_id, t.reason, a.kind, a.owner_id
        )
        SELECT format('tenant %s, %s of reimbursement %s, on %s account of %s', tenant, reason, subject_id, account,
                      owner_id) AS what,
               coalesce(e.amount::text, 'nothing') AS expected,
               m.amount || CASE m.postings WHEN 1 THEN '' ELSE format(' in %s postings', m.postings) END AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, reason, account, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR m.postings <> 1
        """,
    ),
    Check(
        "merchants are owed what is in no reimbursement, and what is on its way is in one",
        "accounts",
        """
        WITH expected AS (
          SELECT o.tenant, 'MERCHANT' AS kind, o.merchant_id AS owner_id, sum(o.amount) AS total
          FROM owed o
          WHERE o.tenant = coalesce($1, o.tenant) AND NOT EXISTS (SELECT FROM reimbursement_lines l
            WHERE l.tenant = o.tenant AND l.transfer_id = o.transfer_id AND NOT l.released)
          GROUP BY o.tenant, o.merchant_id
          UNION ALL
          SELECT r.tenant, 'TRANSIT', r.merchant_id, sum(l.amount)
          FROM reimbursements r JOIN reimbursement_lines l ON l.tenant = r.tenant AND l.reimbursement_id = r.id
          WHERE r.tenant = coalesce($1, r.tenant) AND r.status IN ('PENDING', 'SENT') GROUP BY r.tenant, r.merchant_id
        ), found AS (
          SELECT a.tenant, a.kind, a.owner_id, sum(p.amount) AS total
          FROM accounts a JOIN postings p ON p.tenant = a.tenant AND p.account_id = a.id
          WHERE a.tenant = coalesce($1, a.tenant) AND a.kind IN ('MERCHANT', 'TRANSIT')
          GROUP BY a.tenant, a.kind, a.owner_id
        )
        SELECT format('tenant %s, %s account of %s', tenant, kind, owner_id) AS what,
               coalesce(e.total, 0)::text AS expected, coalesce(f.total, 0)::text AS found
        FROM expected e FULL JOIN found f USING (tenant, kind, owner_id)
        WHERE coalesce(e.total, 0) <> coalesce(f.total, 0)
        """,
    ),
    Check(
        "files for the bank have the transfers and the total of their reimbursements",
        "transfer_files",
        """
        WITH sent AS (
          SELECT tenant, file_id, count(*) AS transfers, sum(net) AS total, min(sent_at) AS first, max(sent_at) AS last
          FROM reimbursements WHERE tenant = coalesce($1, tenant) AND file_id IS NOT NULL GROUP BY tenant, file_id
        )
        SELECT format('tenant %s, file %s', coalesce(f.tenant, s.tenant), coalesce(f.id, s.file_id)) AS what,
               rule.expected,
               jsonb_strip_nulls(jsonb_build_object('reference', f.reference, 'transfers', f.transfers, 'total',
                 f.total, 'created_at', f.created_at, 'job', j.kind, 'reimbursements', s.transfers, 'sum', s.total,
                 'first_sent_at', s.first, 'last_sent_at', s.last))::text AS found
        FROM (SELECT *, id AS file_id FROM transfer_files WHERE tenant = coalesce($1, tenant)) f
        FULL JOIN sent s USING (tenant, file_id)
        LEFT JOIN jobs j ON j.tenant = f.tenant AND j.id = f.job_id
        CROSS JOIN LATERAL (VALUES
          ('a file that exists', f.id IS NOT NULL),
          ('as many transfers as reimbursements, one or more', f.transfers = s.transfers AND f.transfers > 0),
          ('as total the sum of what they pay', f.total = s.total),
          ('reimbursements sent when it was made', s.first = f.created_at AND s.last = f.created_at),
          -- Without the issuer's number before it: of a version before.
          ('a number of its issuer and of the year it was made in', f.reference ~ format(
            '^ESCARCELLE-(%s-)?%s-[0-9]{6}$', f.tenant, to_char(f.created_at AT TIME ZONE 'Europe/Paris', 'YYYY'))),
          ('made by a run', j.kind = 'RUN_REIMBURSEMENTS')
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "accounts at banks have numbers that check",
        "bank_accounts",
        # Of a number, no more is shown than to people.
        """
        SELECT format('tenant %s, account of %s %s', a.tenant, a.kind, a.id) AS what,
               'an IBAN whose check digits are right' AS expected, '… ' || right(a.iban, 4) AS found
        FROM (
          SELECT tenant, 'merchant' AS kind, merchant_id AS id, iban FROM bank_accounts
          UNION ALL SELECT tenant, 'merchant before', merchant_id, former_iban FROM bank_accounts
          WHERE former_iban IS NOT NULL
          UNION ALL SELECT p.tenant, 'issuer', i.id, p.iban FROM paying_accounts p LEFT JOIN issuers i USING (tenant)
          UNION ALL SELECT tenant, 'file', id, iban FROM transfer_files
          UNION ALL SELECT tenant, 'reimbursement', id, iban FROM reimbursements WHERE iban IS NOT NULL
        ) a
        CROSS JOIN LATERAL (
          -- The first four behind the rest, and each letter as the two digits from A = 10 to Z = 35.
          SELECT string_agg(CASE WHEN c ~ '[A-Z]' THEN (ascii(c) - 55)::text ELSE c END, '' ORDER BY n) AS digits
          FROM regexp_split_to_table(substr(a.iban, 5) || left(a.iban, 4), '') WITH ORDINALITY AS x(c, n)
        ) AS x
        WHERE a.tenant = coalesce($1, a.tenant)
          AND CASE WHEN a.iban ~ '^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$' THEN x.digits::numeric % 97 = 1 END IS NOT TRUE
        """,
    ),
    Check(
        "merchants' bank accounts are as the journal tells, and held ones are paid nothing",
        "bank_accounts",
        """
        WITH told AS (
          SELECT tenant, subject_id AS merchant_id, (array_agg(at ORDER BY sequence DESC))[1] AS last_at,
                 (array_agg(detail ->> 'moved' ORDER BY sequence DESC))[1] AS moved,
                 count(*) FILTER (WHERE detail ->> 'moved' = 'true') AS moves
          FROM journal WHERE tenant = coalesce($1, tenant) AND kind = 'mrch.update_bank_account'
          GROUP BY tenant, subject_id
        )
        SELECT format('tenant %s, account of merchant %s', tenant, merchant_id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('changed_at', b.changed_at, 'held', b.held, 'told_at', t.last_at,
                 'moved', t.moved, 'moves', t.moves))::text AS found
        FROM (SELECT * FROM bank_accounts WHERE tenant = coalesce($1, tenant)) b
        FULL JOIN told t USING (tenant, merchant_id)
        CROSS JOIN LATERAL (VALUES
          ('an account where the journal tells of one', b.id IS NOT NULL),
          ('the last line about it at changed_at', t.last_at = b.changed_at),
          ('another account before where it was moved, and only then',
            (b.former_iban IS NOT NULL) = (t.moves > 0) AND b.former_iban IS DISTINCT FROM b.iban),
          ('held only once it was moved', NOT b.held OR b.former_iban IS NOT NULL),
          ('nothing sent there while it is held', NOT b.held OR NOT EXISTS (SELECT FROM reimbursements r
            WHERE r.tenant = b.tenant AND r.merchant_id = b.merchant_id AND r.iban = b.iban
              AND r.sent_at > b.changed_at))
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "vouchers are settled when their invoice is reimbursed, and only then",
        "vouchers",
        # Of what the flow has not heard yet, nothing is said.
        """
        WITH paid AS (
          SELECT o.tenant, o.subject_id, bool_or(r.status = 'SETTLED' AND NOT l.released) AS settled,
                 bool_or(d.subject_id IS NOT NULL) AS unheard
          FROM owed o
          JOIN reimbursement_lines l ON l.tenant = o.tenant AND l.transfer_id = o.transfer_id
          JOIN reimbursements r ON r.tenant = l.tenant AND r.id = l.reimbursement_id
          LEFT JOIN deadlines d ON d.tenant = r.tenant AND d.subject_id = r.id AND d.name = 'follow'
          WHERE o.tenant = coalesce($1, o.tenant) GROUP BY o.tenant, o.subject_id
        )
        SELECT format('tenant %s, voucher %s', v.tenant, v.id) AS what,
               CASE WHEN p.settled THEN 'SETTLED' ELSE 'not SETTLED' END AS expected, v.status AS found
        FROM vouchers v LEFT JOIN paid p ON p.tenant = v.tenant AND p.subject_id = v.id
        WHERE v.tenant = coalesce($1, v.tenant) AND p.unheard IS NOT TRUE
          AND (v.status = 'SETTLED') <> coalesce(p.settled, false)
        """,
    ),
)
