"""How late relay and deadlines are, for whoever asks; the relay counts dead letters and clears away what is old

Revision: 0009, after 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index("inbox_done_at_idx", "inbox", ["done_at"])
    op.create_index("dead_letters_given_up_at_idx", "dead_letters", ["given_up_at"])
    for table in ("inbox", "dead_letters"):
        op.execute(f"CREATE POLICY relay ON {table} TO escarcelle_relay USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT, DELETE ON {table} TO escarcelle_relay")
    # Nobody changes one, but whoever sends it again locks it first.
    op.execute("GRANT UPDATE ON dead_letters TO escarcelle_app")
    op.execute(LATENESS)
    op.execute("REVOKE EXECUTE ON FUNCTION lateness() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION lateness() TO escarcelle_app, escarcelle_relay")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


# Two numbers and nothing of anybody. A deadline is looked at again within five minutes, for ever: those that are overdue
# stand at the front of the index. On a clock that stands still nothing is late.
LATENESS = """
    CREATE FUNCTION lateness() RETURNS TABLE (relay_seconds double precision, deadline_seconds double precision)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      SELECT
        coalesce(extract(epoch FROM statement_timestamp() - (
          SELECT min(claim_at) FROM outbox WHERE claim_at <= statement_timestamp()
        ))::double precision, 0),
        coalesce(extract(epoch FROM statement_timestamp() - (
          SELECT min(d.due_at) FROM deadlines d JOIN issuers i ON i.tenant = d.tenant
          WHERE d.claim_at <= statement_timestamp() + interval '5 minutes' AND d.due_at <= statement_timestamp()
            AND i.frozen_at IS NULL
        ))::double precision, 0)
    $$
"""
