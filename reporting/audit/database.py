"""What the database itself refuses: moves, triggers, constraints, the tenant wall, roles."""

from typing import Final

from reporting.audit.check import Check

DATABASE: Final = (
    Check(
        "the moves that the database allows are the known ones",
        "transitions",
        """
        SELECT format('%s from %s to %s', machine, was, becomes) AS what,
               CASE WHEN e.known IS NULL THEN 'refused' ELSE 'allowed' END AS expected,
               CASE WHEN t.found IS NULL THEN 'refused' ELSE 'allowed' END AS found
        FROM (VALUES
          ('payment_requests', 'AWAITING_PAYMENT', 'CANCELLED', true),
          ('payment_requests', 'AWAITING_PAYMENT', 'EXPIRED', true),
          ('payment_requests', 'AWAITING_PAYMENT', 'TO_VALIDATE', true),
          ('payment_requests', 'AWAITING_PAYMENT', 'VALIDATED', true),
          ('payment_requests', 'TO_VALIDATE', 'CANCELLED', true),
          ('payment_requests', 'TO_VALIDATE', 'EXPIRED', true),
          ('payment_requests', 'TO_VALIDATE', 'VALIDATED', true),
          ('sessions', 'OPEN', 'ENDED', true),
          ('password_resets', 'SENT', 'USED', true),
          ('jobs', 'QUEUED', 'RUNNING', true),
          ('jobs', 'RUNNING', 'QUEUED', true),
          ('jobs', 'RUNNING', 'DONE', true),
          ('jobs', 'RUNNING', 'FAILED', true),
          ('vouchers', 'ISSUED', 'CODE_REVEALED', true),
          ('vouchers', 'ISSUED', 'CANCELLED', true),
          ('vouchers', 'ISSUED', 'EXPIRED', true),
          ('vouchers', 'CODE_REVEALED', 'DELIVERED', true),
          ('vouchers', 'CODE_REVEALED', 'EXPIRED', true),
          ('vouchers', 'DELIVERED', 'INVOICED', true),
          ('vouchers', 'INVOICED', 'SETTLED', true),
          ('vouchers', 'SETTLED', 'INVOICED', true),
          ('reimbursements', 'PENDING', 'SENT', true),
          ('reimbursements', 'SENT', 'SETTLED', true),
          ('reimbursements', 'SENT', 'REJECTED', true),
          ('reimbursements', 'SETTLED', 'REJECTED', true),
          ('supplier_invoices', 'TO_DECIDE', 'EXCESS_PAID', true),
          ('supplier_invoices', 'TO_DECIDE', 'EXCESS_REFUSED', true)
        ) AS e(machine, was, becomes, known)
        FULL JOIN (SELECT *, true AS found FROM transitions) t USING (machine, was, becomes)
        WHERE e.known IS NULL OR t.found IS NULL
        """,
    ),
    Check(
        "the database's triggers stand and are on",
        "pg_trigger",
        """
        SELECT format('trigger %s on %s', e.name, e.at) AS what, format('on, calling %s', e.calls) AS expected,
               CASE WHEN g.tgenabled IN ('O', 'A') THEN format('on, calling %s', g.tgfoid::regproc)
                    WHEN g.oid IS NOT NULL THEN 'off' END AS found
        FROM (VALUES
          ('transfers', 'append_only', 'refuse_change'), ('postings', 'append_only', 'refuse_change'),
          ('journal', 'append_only', 'refuse_change'), ('transfers', 'sum_to_zero', 'check_transfer'),
          ('postings', 'seal', 'seal_postings'), ('payment_requests', 'lifecycle', 'check_transition'),
          ('sessions', 'lifecycle', 'check_transition'),
          ('password_resets', 'lifecycle', 'check_transition'), ('jobs', 'lifecycle', 'check_transition'),
          ('vouchers', 'lifecycle', 'check_transition'), ('supplier_invoices', 'lifecycle', 'check_transition'),
          ('reimbursements', 'lifecycle', 'check_transition')
        ) AS e(at, name, calls)
        LEFT JOIN pg_trigger g ON g.tgrelid = to_regclass(e.at) AND g.tgname = e.name AND NOT g.tgisinternal
        WHERE g.oid IS NULL OR g.tgenabled NOT IN ('O', 'A') OR g.tgfoid::regproc::text <> e.calls
        UNION ALL
        SELECT format('trigger %s on %s', g.tgname, c.relname), 'on', 'off'
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
        WHERE c.relnamespace = 'public'::regnamespace AND g.tgisinternal AND g.tgenabled NOT IN ('O', 'A')
        """,
    ),
    Check(
        "the database's constraints stand and are checked",
        "pg_constraint",
        """
        SELECT format('constraint %s', e.name) AS what, 'in force' AS expected, 'missing' AS found
        FROM unnest(ARRAY[
          'balances_floor_check', 'balances_tenant_account_id_fkey', 'idempotency_keys_pkey', 'payment_requests_pkey',
          'bank_accounts_tenant_merchant_id_key',
          'postings_account_fkey', 'postings_amount_check', 'postings_pkey', 'postings_tenant_transfer_id_fkey',
          'reimbursement_lines_pkey', 'reimbursement_lines_tenant_reimbursement_id_fkey',
          'reimbursement_lines_tenant_transfer_id_fkey', 'reimbursements_net_check',
          'reimbursements_tenant_file_id_fkey', 'reimbursements_tenant_reference_key',
          'supplier_invoices_tenant_document_id_key', 'supplier_invoices_tenant_supplier_id_invoice_number_key',
          'supplier_invoices_tenant_voucher_id_key',
          'transfer_files_tenant_job_id_key', 'transfer_files_tenant_reference_key',
          'transfers_pkey', 'transfers_settles_check', 'transfers_tenant_settles_fkey', 'transfers_tenant_settles_key',
          'vouchers_pkey', 'vouchers_tenant_number_key'
        ]) AS e(name)
        WHERE NOT EXISTS (
          SELECT FROM pg_constraint c WHERE c.conname = e.name AND c.connamespace = 'public'::regnamespace)
        UNION ALL
        SELECT format('constraint %s', c.conname), 'in force', 'not validated'
        FROM pg_constraint c WHERE c.connamespace = 'public'::regnamespace AND NOT c.convalidated
        UNION ALL
        SELECT format('index %s', e.name), 'unique', coalesce(pg_get_indexdef(i.indexrelid), 'missing')
        FROM unnest(ARRAY['payment_requests_basket_key', 'reimbursement_lines_once_idx']) AS e(name)
        LEFT JOIN pg_index i ON i.indexrelid = to_regclass(e.name) WHERE (i.indisunique AND i.indisvalid) IS NOT TRUE
        """,
    ),
    Check(
        "the tenant wall stands around every table",
        "pg_policy",
        """
        WITH walled AS (
          SELECT c.oid, c.relname, c.relrowsecurity
          FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped
          WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        )
        SELECT format('table %s', w.relname) AS what, 'row-level security' AS expected, 'none' AS found
        FROM walled w WHERE NOT w.relrowsecurity
        UNION ALL
        SELECT format('policy %s on %s', p.polname, w.relname), 'one tenant''s rows only',
               concat_ws(' / ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM walled w JOIN pg_policy p ON p.polrelid = w.oid
        WHERE EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE r = 0 OR r = to_regrole('escarcelle_app'))
          AND (pg_get_expr(p.polqual, p.polrelid) NOT LIKE '%app.tenant%'
            OR pg_get_expr(p.polwithcheck, p.polrelid) NOT LIKE '%app.tenant%')
        """,
    ),
    Check(
        "the program's roles may do no more than they need",
        "pg_roles",
        """
        SELECT format('role %s', e.name) AS what, 'neither superuser, owner nor above the wall' AS expected,
               CASE WHEN r.oid IS NULL THEN 'missing' WHEN r.rolsuper THEN 'superuser'
                    WHEN r.rolbypassrls THEN 'above the wall' ELSE 'owner' END AS found
        FROM unnest(ARRAY['escarcelle_app', 'escarcelle_relay', 'escarcelle_reader']) AS e(name)
        LEFT JOIN pg_roles r ON r.rolname = e.name
        WHERE r.oid IS NULL OR r.rolsuper OR r.rolbypassrls
           OR EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
                      AND pg_has_role(r.oid, c.relowner, 'MEMBER'))
        UNION ALL
        SELECT format('role %s on %s', r.rolname, e.name), 'not allowed', e.right_
        FROM (VALUES
          ('escarcelle_app', 'transfers', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),
          ('escarcelle_app', 'postings', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),
          ('escarcelle_app', 'journal', 'UPDATE, DELETE, TRUNCATE, TRIGGER'),
          ('escarcelle_app', 'transitions', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'voucher_kinds', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'paying_accounts', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'issuer_appearances', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'reimbursement_terms', 'INSERT, UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'bank_accounts', 'DELETE, TRUNCATE'),
          ('escarcelle_app', 'reimbursements', 'DELETE, TRUNCATE'),
          ('escarcelle_app', 'reimbursement_lines', 'DELETE, TRUNCATE'),
          ('escarcelle_app', 'transfer_files', 'UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'documents', 'UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_app', 'document_chunks', 'UPDATE, DELETE, TRUNCATE'),
          ('escarcelle_reader', 'passwords', 'SELECT'), ('escarcelle_reader', 'sessions', 'SELECT')
        ) AS e(role, name, right_) JOIN pg_roles r ON r.rolname = e.role JOIN pg_class c ON c.oid = to_regclass(e.name)
        WHERE has_table_privilege(r.oid, c.oid, e.right_)
        """,
    ),
)
