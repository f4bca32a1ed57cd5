"""What is still to be done, or was: deadlines, messages, jobs; and the files that come of them."""

from typing import Final

from reporting.audit.check import Check

DEADLINES: Final = (
    Check(
        "requests, vouchers, reimbursements and files have the deadlines of their status pending, and no others",
        "deadlines",
        """
        WITH wanted AS (
          SELECT r.tenant, r.id AS subject_id, x.name, x.needed, 'preq' AS kind
          FROM payment_requests r
          CROSS JOIN LATERAL (VALUES
            ('expire', true, r.status IN ('AWAITING_PAYMENT', 'TO_VALIDATE')),
            ('warn', false, r.status = 'TO_VALIDATE')
          ) AS x(name, needed, allowed)
          WHERE r.tenant = coalesce($1, r.tenant) AND x.allowed
          UNION ALL
          SELECT v.tenant, v.id, 'expire', true, 'vchr' FROM vouchers v
          WHERE v.tenant = coalesce($1, v.tenant) AND v.status IN ('ISSUED', 'CODE_REVEALED')
          UNION ALL
          SELECT j.tenant, j.id, 'expire_file', true, 'jobs' FROM jobs j
          WHERE j.tenant = coalesce($1, j.tenant) AND j.file_bytes IS NOT NULL
          UNION ALL
          -- Flows hear of it at once; how far they are is the vouchers' own check.
          SELECT r.tenant, r.id, 'follow', false, 'reim' FROM reimbursements r
          WHERE r.tenant = coalesce($1, r.tenant) AND r.settled_at IS NOT NULL
          UNION ALL
          SELECT s.tenant, s.id, 'run', true, 'rsch' FROM reimbursement_schedules s
          WHERE s.tenant = coalesce($1, s.tenant) AND s.active
        ), pending AS (
          SELECT tenant, subject_id, name, subject_kind FROM deadlines WHERE tenant = coalesce($1, tenant)
        )
        SELECT format('tenant %s, deadline %s of %s %s', tenant, name, coalesce(p.subject_kind, w.kind), subject_id)
                 AS what,
               coalesce('one pending, of a ' || w.kind, 'nothing pending') AS expected,
               CASE WHEN p.subject_kind IS NULL THEN 'nothing pending' ELSE 'one pending' END AS found
        FROM wanted w FULL JOIN pending p USING (tenant, subject_id, name)
        WHERE w.needed IS NULL OR w.needed AND p.subject_kind IS NULL OR p.subject_kind <> w.kind
        """,
    ),
    Check(
        "deadlines fall when their requests, vouchers and reimbursements say",
        "deadlines",
        # In a sandbox, where the clock may be moved, the instants are apart by that much. The tenant's clock and the
        # real one are read one after the other, so that a deadline may come a moment late, and never early.
        """
        SELECT format('tenant %s, deadline %s of request %s', d.tenant, d.name, r.id) AS what,
               x.due_at::text AS expected,
               d.due_at::text AS found
        FROM deadlines d
        JOIN issuers i ON i.tenant = d.tenant AND NOT i.sandbox
        JOIN payment_requests r ON r.tenant = d.tenant AND r.id = d.subject_id
        CROSS JOIN LATERAL (SELECT CASE
          WHEN d.name = 'warn' THEN greatest(r.paid_at, r.validation_deadline - interval '24 hours')
          WHEN r.status = 'AWAITING_PAYMENT' THEN r.payment_deadline
          ELSE r.validation_deadline END AS due_at) AS x
        WHERE d.tenant = coalesce($1, d.tenant)
          AND (d.due_at BETWEEN x.due_at AND x.due_at + interval '10 seconds') IS NOT TRUE
          -- A warning may wait for the hour that the issuer had chosen then, while there is something to warn of.
          AND (d.name = 'warn' AND d.due_at > x.due_at AND d.due_at < r.validation_deadline
               AND d.due_at < date_trunc('hour', d.due_at, 'Europe/Paris') + interval '10 seconds') IS NOT TRUE
        UNION ALL
        SELECT format('tenant %s, deadline %s of voucher %s', d.tenant, d.name, v.id), v.expires_at::text,
               d.due_at::text
        FROM deadlines d
        JOIN issuers i ON i.tenant = d.tenant AND NOT i.sandbox
        JOIN vouchers v ON v.tenant = d.tenant AND v.id = d.subject_id
        WHERE d.tenant = coalesce($1, d.tenant)
          AND (d.due_at BETWEEN v.expires_at AND v.expires_at + interval '10 seconds') IS NOT TRUE
        UNION ALL
        SELECT format('tenant %s, deadline %s of reimbursement %s', d.tenant, d.name, r.id),
               format('at once after %s', coalesce(r.rejected_at, r.settled_at)), d.due_at::text
        FROM deadlines d
        JOIN issuers i ON i.tenant = d.tenant AND NOT i.sandbox
        JOIN reimbursements r ON r.tenant = d.tenant AND r.id = d.subject_id
        WHERE d.tenant = coalesce($1, d.tenant) AND (d.due_at BETWEEN coalesce(r.rejected_at, r.settled_at)
          AND statement_timestamp() + interval '10 seconds') IS NOT TRUE
        UNION ALL
        SELECT format('tenant %s, deadline %s of schedule %s', d.tenant, d.name, s.id), x.due_at::text, d.due_at::text
        FROM deadlines d
        JOIN issuers i ON i.tenant = d.tenant AND NOT i.sandbox
        JOIN reimbursement_schedules s ON s.tenant = d.tenant AND s.id = d.subject_id
        CROSS JOIN LATERAL (SELECT (s.next_run_on + interval '5 hours') AT TIME ZONE 'Europe/Paris' AS due_at) AS x
        WHERE d.tenant = coalesce($1, d.tenant)
          AND (d.due_at BETWEEN x.due_at AND x.due_at + interval '10 seconds') IS NOT TRUE
        """,
    ),
)

MESSAGES: Final = (
    Check(
        "idempotency keys lead to what exists",
        "idempotency_keys",
        """
        SELECT format('tenant %s, key %s of %s', k.tenant, k.key, k.scope_id) AS what,
               'an object that exists' AS expected, format('%s %s', k.result_kind, k.result_id) AS found
        FROM idempotency_keys k
        LEFT JOIN objects o ON o.tenant = k.tenant AND o.kind = k.result_kind AND o.id = k.result_id
        WHERE k.tenant = coalesce($1, k.tenant) AND o.id IS NULL
        """,
    ),
    Check(
        "a message waits, is done, or was given up: one of these",
        "outbox",
        """
        SELECT format('tenant %s, message %s', m.tenant, m.id) AS what, 'in one place' AS expected,
               string_agg(m.place, ', ' ORDER BY m.place) AS found
        FROM (
          SELECT tenant, id, 'outbox' AS place FROM outbox UNION ALL SELECT tenant, message_id, 'inbox' FROM inbox
          UNION ALL SELECT tenant, id, 'dead_letters' FROM dead_letters
        ) m
        WHERE m.tenant = coalesce($1, m.tenant) GROUP BY m.tenant, m.id HAVING count(*) > 1
        """,
    ),
    Check(
        "messages are about what exists",
        "outbox",
        """
        SELECT format('tenant %s, message %s', m.tenant, m.id) AS what,
               'an object that exists, of that version or later' AS expected, m.payload::text AS found
        FROM outbox m
        LEFT JOIN objects o ON o.tenant = m.tenant AND o.kind = m.payload ->> 'kind' AND o.id::text = m.payload ->> 'id'
        LEFT JOIN payment_requests r ON r.tenant = o.tenant AND r.id = o.id
        LEFT JOIN vouchers v ON v.tenant = o.tenant AND v.id = o.id
        LEFT JOIN supplier_invoices i ON i.tenant = o.tenant AND i.id = o.id
        LEFT JOIN reimbursements b ON b.tenant = o.tenant AND b.id = o.id
        WHERE m.tenant = coalesce($1, m.tenant) AND m.payload ->> 'kind' IS DISTINCT FROM 'sess'
          AND (o.id IS NULL
            OR (m.payload -> 'version') > to_jsonb(coalesce(r.version, v.version, i.version, b.version)))
        """,
    ),
)

JOBS: Final = (
    Check(
        "jobs have what their status says, and whole files",
        "jobs",
        """
        WITH kept AS (
          SELECT tenant, job_id, count(*) AS pieces, max(n) + 1 AS counted, sum(octet_length(content)) AS bytes
          FROM job_chunks WHERE tenant = coalesce($1, tenant) GROUP BY tenant, job_id
        )
        SELECT format('tenant %s, job %s', j.tenant, j.id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('kind', j.kind, 'format', j.format, 'status', j.status,
                 'done', j.done, 'total', j.total, 'ended_at', j.ended_at, 'file_name', j.file_name, 'file_bytes',
                 j.file_bytes, 'file_expires_at', j.file_expires_at, 'given', j.given, 'problems', j.problems,
                 'pieces', k.pieces, 'bytes', k.bytes))::text AS found
        FROM jobs j LEFT JOIN kept k ON k.tenant = j.tenant AND k.job_id = j.id
        CROSS JOIN LATERAL (SELECT CASE j.kind
          WHEN 'ISSUE_MEMBER_STATEMENTS' THEN EXISTS (SELECT FROM member_statements s
            WHERE s.tenant = j.tenant AND s.channel = 'POST'
              AND (s.job_id = j.id OR s.issued_at <= j.ended_at AND j.file_name LIKE '%-' || s.period || '-%'))
          WHEN 'RUN_REIMBURSEMENTS' THEN j.user_id IS NOT NULL AND EXISTS (SELECT FROM transfer_files f
            WHERE f.tenant = j.tenant AND f.job_id = j.id)
          ELSE j.kind LIKE 'EXPORT\\_%' END AS makes_a_file,
          j.kind IN ('IMPORT_HOLDERS', 'IMPORT_BANK_ANSWER') AS is_handed_in) AS h
        CROSS JOIN LATERAL (SELECT h.makes_a_file,
          h.is_handed_in AND j.status IN ('QUEUED', 'RUNNING') AS is_given_one) AS x
        CROSS JOIN LATERAL (VALUES
          ('a known status', j.status IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED')),
          ('a known kind, with a format of its own', (j.kind LIKE 'EXPORT\\_%'
            AND j.format IN ('XLSX', 'CSV', 'PARQUET')) OR (j.kind, j.format) IN (
            ('ISSUE_MEMBER_STATEMENTS', 'PDF'), ('RUN_REIMBURSEMENTS', 'XML'), ('IMPORT_BANK_ANSWER', 'XML'),
            ('IMPORT_HOLDERS', 'XLSX'), ('IMPORT_HOLDERS', 'XLS'))),
          ('ended_at when over, and only then', (j.ended_at IS NOT NULL) = (j.status IN ('DONE', 'FAILED'))),
          ('file_name and file_expires_at when DONE, and only then; neither where there is nothing to print',
            (j.file_name IS NOT NULL) = (j.status = 'DONE' AND x.makes_a_file)
            AND (j.file_expires_at IS NOT NULL) = (j.status = 'DONE' AND x.makes_a_file)),
          ('every row done when DONE', j.status <> 'DONE' OR j.done = j.total),
          ('every piece of its file, and none without one',
            (j.status = 'RUNNING' AND NOT x.is_given_one)
            OR (coalesce(k.bytes, 0) = CASE WHEN x.is_given_one THEN (j.given ->> 'bytes')::bigint
                                            ELSE coalesce(j.file_bytes, 0) END
                AND k.pieces IS NOT DISTINCT FROM k.counted)),
          ('nothing left of what was handed in, once it is over',
            NOT h.is_handed_in OR x.is_given_one OR j.given = '{}'),
          ('problems of rows where something handed in is over; members and reports that FAILED only; statements that'
            ' are DONE',
            j.problems IS NULL OR (h.is_handed_in AND (j.status = 'FAILED'
              OR (j.status = 'DONE' AND j.kind <> 'IMPORT_HOLDERS')))
            OR (j.kind, j.status) IN (('ISSUE_MEMBER_STATEMENTS', 'DONE'), ('EXPORT_REPORT', 'FAILED')))
        ) AS rule(expected, holds)
        WHERE j.tenant = coalesce($1, j.tenant) AND rule.holds IS NOT TRUE
        """,
    ),
)

DOCUMENTS: Final = (
    Check(
        "documents are whole, and each is of one invoice",
        "documents",
        """
        WITH kept AS (
          SELECT tenant, document_id, count(*) AS pieces, max(n) + 1 AS counted, sum(octet_length(content)) AS bytes
          FROM document_chunks WHERE tenant = coalesce($1, tenant) GROUP BY tenant, document_id
        ), used AS (
          SELECT tenant, document_id, count(*) AS invoices, min(recorded_at) AS recorded_at
          FROM supplier_invoices WHERE tenant = coalesce($1, tenant) AND document_id IS NOT NULL
          GROUP BY tenant, document_id
        )
        SELECT format('tenant %s, document %s', tenant, document_id) AS what, rule.expected,
               jsonb_strip_nulls(jsonb_build_object('size', d.size, 'created_at', d.created_at, 'pieces', k.pieces,
                 'counted', k.counted, 'bytes', k.bytes, 'invoices', u.invoices, 'recorded_at', u.recorded_at))::text
                 AS found
        FROM (SELECT *, id AS document_id FROM documents WHERE tenant = coalesce($1, tenant)) d
        FULL JOIN kept k USING (tenant, document_id) FULL JOIN used u USING (tenant, document_id)
        CROSS JOIN LATERAL (VALUES
          ('a document where pieces or an invoice name one', d.id IS NOT NULL),
          ('every piece of it, one after the other', k.pieces = k.counted),
          ('pieces that add up to its size', k.bytes = d.size),
          ('one invoice, recorded when it was kept', u.invoices = 1 AND u.recorded_at = d.created_at)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
)
