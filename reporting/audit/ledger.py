"""The ledger by itself: transfers, accounts, balances, reservations."""

from typing import Final

from reporting.audit.check import Check

LEDGER: Final = (
    Check(
        "transfers have two sides or more and sum to zero",
        "transfers",
        """
        SELECT format('tenant %s, transfer %s', t.tenant, t.id) AS what,
               'two postings or more that sum to 0' AS expected,
               format('%s postings in %s, sum %s', count(p.amount), coalesce(p.unit, 'no unit'), sum(p.amount)) AS found
        FROM transfers t LEFT JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
        WHERE t.tenant = coalesce($1, t.tenant)
        GROUP BY t.tenant, t.id, p.unit HAVING count(p.amount) < 2 OR sum(p.amount) <> 0
        """,
    ),
    Check(
        "postings belong to a transfer and to an account of their unit",
        "postings",
        """
        SELECT format('tenant %s, posting of transfer %s on account %s', p.tenant, p.transfer_id, p.account_id) AS what,
               format('a transfer, an account in %s, an amount', p.unit) AS expected,
               format('transfer %s, account in %s, %s', coalesce(t.id::text, 'missing'), coalesce(a.unit, 'nothing'),
                      p.amount) AS found
        FROM postings p
        LEFT JOIN transfers t ON t.tenant = p.tenant AND t.id = p.transfer_id
        LEFT JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
        WHERE p.tenant = coalesce($1, p.tenant) AND (t.id IS NULL OR a.unit IS DISTINCT FROM p.unit OR p.amount = 0)
        """,
    ),
    Check(
        "the ledger sums to zero",
        "postings",
        """
        SELECT format('tenant %s, all accounts in %s', p.tenant, p.unit) AS what, '0' AS expected,
               sum(p.amount)::text AS found
        FROM postings p WHERE p.tenant = coalesce($1, p.tenant) GROUP BY p.tenant, p.unit HAVING sum(p.amount) <> 0
        """,
    ),
    Check(
        "transfers have a known form",
        "transfers",
        """
        SELECT format('tenant %s, transfer %s', t.tenant, t.id) AS what, 'a known kind, subject and reason' AS expected,
               concat_ws(' ', t.kind, t.subject_kind, t.reason) AS found
        FROM transfers t WHERE t.tenant = coalesce($1, t.tenant)
          AND (t.kind, t.subject_kind, t.reason) NOT IN (SELECT f.kind, f.subject_kind, f.reason FROM forms f)
        """,
    ),
    Check(
        "parties have their accounts, and nobody else has one",
        "accounts",
        """
        WITH expected AS (
          SELECT tenant, 'WALLET' AS kind, id AS owner_id FROM holders
          UNION ALL SELECT tenant, unnest(ARRAY['GUARANTEE', 'DEBT']), id FROM holders WHERE member_since IS NOT NULL
          UNION ALL SELECT tenant, unnest(ARRAY['MERCHANT', 'HELD', 'TRANSIT']), id FROM merchants
          -- An issuer's row comes a transaction before its accounts and its line in the journal.
          UNION ALL SELECT tenant, unnest(ARRAY['FUNDING', 'BANK', 'COMMISSION']), subject_id FROM journal
          WHERE kind = 'issr.create'
        ), parties AS (SELECT * FROM expected e WHERE e.tenant = coalesce($1, e.tenant)
        ), opened AS (
          SELECT a.tenant, a.kind, a.owner_id, count(*) AS number FROM accounts a
          WHERE a.tenant = coalesce($1, a.tenant) AND a.unit = 'EUR' GROUP BY a.tenant, a.kind, a.owner_id
        )
        SELECT format('tenant %s, %s account of %s', tenant, kind, owner_id) AS what,
               CASE WHEN e.owner_id IS NULL THEN 'none' ELSE '1' END AS expected, coalesce(o.number, 0)::text AS found
        FROM parties e FULL JOIN opened o USING (tenant, kind, owner_id)
        WHERE e.owner_id IS NULL OR o.number IS DISTINCT FROM 1
        """,
    ),
    Check(
        "wallets and guarantees, and nothing else, keep a balance",
        "accounts",
        """
        SELECT format('tenant %s, %s account %s', tenant, coalesce(a.kind, 'no'), account_id) AS what,
               coalesce('a balance with floor ' || k.floor, 'no balance') AS expected,
               coalesce('a balance with floor ' || b.floor, 'no balance') AS found
        FROM (SELECT tenant, id AS account_id, kind FROM accounts WHERE tenant = coalesce($1, tenant)) a
        FULL JOIN (SELECT * FROM balances WHERE tenant = coalesce($1, tenant)) b USING (tenant, account_id)
        LEFT JOIN (VALUES ('WALLET', 0), ('GUARANTEE', -999999999999)) AS k(kind, floor) ON k.kind = a.kind
        WHERE a.kind IS NULL OR b.floor IS DISTINCT FROM k.floor
        """,
    ),
    Check(
        "kept balances are the sum of their postings",
        "balances",
        """
        WITH sums AS (
          SELECT p.tenant, p.account_id, sum(p.amount) AS total FROM postings p
          WHERE p.tenant = coalesce($1, p.tenant) GROUP BY p.tenant, p.account_id
        )
        SELECT format('tenant %s, balance of account %s', b.tenant, b.account_id) AS what,
               coalesce(s.total, 0)::text AS expected, b.amount::text AS found
        FROM balances b LEFT JOIN sums s USING (tenant, account_id)
        WHERE b.tenant = coalesce($1, b.tenant) AND b.amount <> coalesce(s.total, 0)
        """,
    ),
    Check(
        "no balance is below its floor",
        "balances",
        """
        SELECT format('tenant %s, balance of account %s', b.tenant, b.account_id) AS what,
               format('%s or more', b.floor) AS expected, b.amount::text AS found
        FROM balances b WHERE b.tenant = coalesce($1, b.tenant) AND b.amount < b.floor
        """,
    ),
    Check(
        "a settlement ends one reservation, and no reservation ends twice",
        "transfers",
        """
        SELECT format('tenant %s, %s %s', s.tenant, s.kind, s.id) AS what, rule.expected,
               format('settles %s (%s)', coalesce(s.settles::text, 'nothing'), coalesce(r.kind, 'missing')) AS found
        FROM (
          SELECT *, count(*) OVER (PARTITION BY tenant, settles) AS settlements
          FROM transfers WHERE tenant = coalesce($1, tenant) AND (settles IS NOT NULL OR kind IN ('POST', 'VOID'))
        ) s
        LEFT JOIN transfers r ON r.tenant = s.tenant AND r.id = s.settles
        CROSS JOIN LATERAL (VALUES
          ('POST or VOID of a RESERVE', s.kind IN ('POST', 'VOID') AND r.kind = 'RESERVE'),
          ('about what was reserved', r.subject_kind = s.subject_kind AND r.subject_id = s.subject_id),
          ('the only settlement', s.settlements = 1)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "a settlement empties what was held, and gives back to whom it came from",
        "transfers",
        """
        WITH sides AS (
          SELECT t.tenant, coalesce(t.settles, t.id) AS reservation_id, p.account_id, a.kind,
                 coalesce(sum(p.amount) FILTER (WHERE t.kind = 'RESERVE'), 0) AS reserved,
                 coalesce(sum(p.amount) FILTER (WHERE t.kind <> 'RESERVE'), 0) AS settled
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.kind <> 'TRANSFER'
          GROUP BY t.tenant, coalesce(t.settles, t.id), p.account_id, a.kind
        )
        SELECT format('tenant %s, reservation %s on %s account %s', l.tenant, l.reservation_id, l.kind, l.account_id)
                 AS what, rule.expected,
               format('reserved %s, then %s %s', l.reserved, coalesce(s.kind, 'not settled'), l.settled) AS found
        FROM sides l LEFT JOIN transfers s ON s.tenant = l.tenant AND s.settles = l.reservation_id
        CROSS JOIN LATERAL (SELECT l.kind IN ('HELD', 'TRANSIT') AS parks) AS x
        CROSS JOIN LATERAL (VALUES
          ('reserved onto HELD or TRANSIT, and from elsewhere',
            CASE WHEN x.parks THEN l.reserved > 0 ELSE l.reserved <= 0 END),
          ('HELD or TRANSIT emptied to the cent', NOT x.parks OR s.id IS NULL OR l.settled = -l.reserved),
          ('all given back by a VOID', s.kind IS DISTINCT FROM 'VOID' OR l.settled = -l.reserved),
          ('no more than was taken given back', x.parks OR l.reserved = 0 OR l.settled BETWEEN 0 AND -l.reserved),
          ('something for the others', x.parks OR l.reserved <> 0 OR l.settled > 0)
        ) AS rule(expected, holds)
        WHERE rule.holds IS NOT TRUE
        """,
    ),
    Check(
        "held accounts, and those of what is on its way, hold the open reservations",
        "accounts",
        """
        SELECT format('tenant %s, %s account %s', a.tenant, a.kind, a.id) AS what,
               coalesce(sum(p.amount) FILTER (WHERE t.kind = 'RESERVE' AND s.id IS NULL), 0)::text AS expected,
               sum(p.amount)::text AS found
        FROM accounts a
        JOIN postings p ON p.tenant = a.tenant AND p.account_id = a.id
        LEFT JOIN transfers t ON t.tenant = p.tenant AND t.id = p.transfer_id
        LEFT JOIN transfers s ON s.tenant = t.tenant AND s.settles = t.id
        WHERE a.tenant = coalesce($1, a.tenant) AND a.kind IN ('HELD', 'TRANSIT')
        GROUP BY a.tenant, a.id, a.kind
        HAVING sum(p.amount) <> coalesce(sum(p.amount) FILTER (WHERE t.kind = 'RESERVE' AND s.id IS NULL), 0)
        """,
    ),
    Check(
        "credits go from the issuer to the holder, as the journal says",
        "journal",
        """
        WITH told AS (
          SELECT j.tenant, j.subject_id, j.xact, sum(j.amount) AS amount FROM journal j
          WHERE j.tenant = coalesce($1, j.tenant) AND j.kind = 'hold.credit' GROUP BY j.tenant, j.subject_id, j.xact
        ), expected AS (
          SELECT e.tenant, e.subject_id, e.xact, side.kind, side.owner_id, side.amount
          FROM told e JOIN issuers i ON i.tenant = e.tenant
          CROSS JOIN LATERAL (VALUES ('FUNDING', i.id, -e.amount), ('WALLET', e.subject_id, e.amount))
            AS side(kind, owner_id, amount)
        ), moved AS (
          SELECT t.tenant, t.subject_id, t.xact, a.kind, a.owner_id, sum(p.amount) AS amount
          FROM transfers t
          JOIN postings p ON p.tenant = t.tenant AND p.transfer_id = t.id
          JOIN accounts a ON a.tenant = p.tenant AND a.id = p.account_id
          WHERE t.tenant = coalesce($1, t.tenant) AND t.subject_kind = 'hold'
          GROUP BY t.tenant, t.subject_id, t.xact, a.kind, a.owner_id
        )
        SELECT format('tenant %s, credit of holder %s, on %s account of %s', tenant, subject_id, kind, owner_id)
                 AS what, coalesce(e.amount::text, 'nothing') AS expected, m.amount::text AS found
        FROM expected e FULL JOIN moved m USING (tenant, subject_id, xact, kind, owner_id)
        WHERE e.amount IS DISTINCT FROM m.amount OR e.amount = 0
        """,
    ),
)
