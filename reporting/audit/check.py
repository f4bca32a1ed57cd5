"""What a question of the audit is, and what stands before each of them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the database. `looks_at` is the table whose rows it goes through; `sql` returns the columns what,
    expected and found of every difference, for the issuer of tenant $1, or for all where $1 is null."""

    name: str
    looks_at: str
    sql: str


# `t.tenant = coalesce($1, t.tenant)` is one issuer, or all. A rule beside a row holds only when it is true: one that
# cannot be decided, because something is null, does not hold.

KNOWN: Final = """
WITH forms(kind, subject_kind, reason, line) AS (VALUES
  ('TRANSFER', 'hold', 'credit',     'hold.credit'),
  ('TRANSFER', 'preq', 'payment',    'preq.pay'),
  ('RESERVE',  'preq', 'payment',    'preq.pay'),
  ('POST',     'preq', 'validation', 'preq.validate'),
  ('POST',     'preq', 'auto_validation', 'preq.auto_validate'),
  ('VOID',     'preq', 'cancel',     'preq.cancel'),
  ('VOID',     'preq', 'expire',     'preq.expire'),
  ('RESERVE',  'vchr', 'guarantee',  'vchr.request'),
  ('POST',     'vchr', 'invoice',    'vchr.invoice'),
  ('TRANSFER', 'vchr', 'bill',       'vchr.invoice'),
  ('VOID',     'vchr', 'cancel',     'vchr.cancel'),
  ('VOID',     'vchr', 'expire',     'vchr.expire'),
  ('TRANSFER', 'sinv', 'excess',     'sinv.pay_excess'),
  ('RESERVE',  'reim', 'reimbursement', 'reim.create'),
  ('POST',     'reim', 'settlement', 'reim.settle'),
  ('VOID',     'reim', 'rejection',  'reim.reject'),
  ('TRANSFER', 'reim', 'return',     'reim.return'),
  ('TRANSFER', 'reim', 'commission_return', 'reim.return')
), sources(subject_kind, reason, flow) AS (VALUES
  ('preq', 'payment', 'PAYMENT_REQUESTS'), ('preq', 'validation', 'PAYMENT_REQUESTS'),
  ('preq', 'auto_validation', 'PAYMENT_REQUESTS'), ('vchr', 'invoice', 'VOUCHERS'), ('sinv', 'excess', 'VOUCHERS')
), objects(tenant, kind, id) AS (
  SELECT tenant, 'preq', id FROM payment_requests UNION ALL SELECT tenant, 'hold', id FROM holders
  UNION ALL SELECT tenant, 'pwrs', id FROM password_resets
  UNION ALL SELECT tenant, 'mrch', id FROM merchants UNION ALL SELECT tenant, 'posl', id FROM points_of_sale
  UNION ALL SELECT tenant, 'user', id FROM users UNION ALL SELECT tenant, 'issr', id FROM issuers
  UNION ALL SELECT tenant, 'jobs', id FROM jobs UNION ALL SELECT tenant, 'docm', id FROM documents
  UNION ALL SELECT tenant, 'vchr', id FROM vouchers UNION ALL SELECT tenant, 'sinv', id FROM supplier_invoices
  UNION ALL SELECT tenant, 'mstm', id FROM member_statements
  UNION ALL SELECT tenant, 'reim', id FROM reimbursements UNION ALL SELECT tenant, 'trfl', id FROM transfer_files
  UNION ALL SELECT tenant, 'rsch', id FROM reimbursement_schedules
  UNION ALL SELECT tenant, 'news', id FROM news UNION ALL SELECT tenant, 'pdoc', id FROM published_documents
  UNION ALL SELECT tenant, 'smsg', id FROM support_messages
), bills(tenant, id, voucher_id, supplier_id, holder_id, status, paid, excess, statement_id) AS (
  SELECT i.tenant, i.id, i.voucher_id, i.supplier_id, v.holder_id, i.status, least(i.amount, v.value), i.excess,
         i.statement_id
  FROM supplier_invoices i JOIN vouchers v ON v.tenant = i.tenant AND v.id = i.voucher_id
), owed(tenant, merchant_id, transfer_id, amount, day, flow, subject_id) AS (
  SELECT p.tenant, a.owner_id, t.id, p.amount, (t.at AT TIME ZONE 'Europe/Paris')::date, s.flow, t.subject_id
  FROM accounts a
  JOIN postings p ON p.tenant = a.tenant AND p.account_id = a.id AND p.amount > 0
  JOIN transfers t ON t.tenant = p.tenant AND t.id = p.transfer_id
  JOIN sources s ON s.subject_kind = t.subject_kind AND s.reason = t.reason
  WHERE a.kind = 'MERCHANT'
)"""
"""Stands before every check: the forms that a transfer may have, each with the journal line that is written with it (a
line goes with one transfer for each of its reasons); where what merchants are reimbursed comes from; every object that
others point to; what each invoice has the issuer pay for a voucher, and its member owe; and every transfer by which
something came to be owed to a merchant. Sessions are missing, because they are not for the reader's eyes."""
