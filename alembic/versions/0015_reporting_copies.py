"""Copies for analysts: what was copied, when the next is due, and how old the oldest is

Revision: 0015, after 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "reporting_copies",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("copied_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("cluster", sa.Text(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("watermark_since", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("waiting", sa.BigInteger(), nullable=False),
        sa.Column("ledger_lines", sa.BigInteger(), nullable=False),
        sa.Column("operations", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("reporting_copies_pkey")),
    )
    op.create_index("reporting_copies_copied_at_idx", "reporting_copies", ["tenant", "copied_at"])
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reporting_copies"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute("ALTER TABLE reporting_copies ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant ON reporting_copies TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})"
    )
    op.execute("GRANT SELECT, INSERT ON reporting_copies TO escarcelle_app")
    op.execute("CREATE POLICY reader ON reporting_copies FOR SELECT TO escarcelle_reader USING (true)")
    op.execute("GRANT SELECT ON reporting_copies TO escarcelle_reader")
    for table in ("outbox", "dead_letters"):
        op.drop_constraint(op.f(f"{table}_topic_check"), table, type_="check")
        op.create_check_constraint(
            op.f(f"{table}_topic_check"), table, "topic IN ('live', 'mail', 'push', 'job', 'copy')"
        )
    for function, signature, callers in (
        (ASK_FOR_COPIES, "ask_for_copies(integer)", "escarcelle_relay"),
        (REPORTING_STATE, "reporting_state()", "escarcelle_app, escarcelle_relay"),
    ):
        op.execute(function)
        op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {callers}")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

# A message for each issuer and night, whose identifier follows from both: however often and by however many it is asked
# for, there is one; and none once its worker has finished with it, which the inbox remembers for longer than a night.
ASK_FOR_COPIES = """
    CREATE FUNCTION ask_for_copies(from_hour integer) RETURNS integer LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
      night date := ((statement_timestamp() AT TIME ZONE 'Europe/Paris') - make_interval(hours => from_hour))::date;
      asked integer;
    BEGIN
      INSERT INTO outbox (tenant, id, topic, payload)
      SELECT i.tenant, c.id, 'copy', jsonb_build_object('kind', 'issr', 'id', i.id, 'night', night)
      FROM issuers i, LATERAL (SELECT md5('copy ' || i.id || ' ' || night)::uuid AS id) c
      WHERE i.created_at < ((night + make_interval(hours => from_hour)) AT TIME ZONE 'Europe/Paris')
        AND NOT EXISTS (SELECT FROM inbox b WHERE b.tenant = i.tenant AND b.message_id = c.id)
        AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.tenant = i.tenant AND d.id = c.id)
      ON CONFLICT DO NOTHING;
      GET DIAGNOSTICS asked = ROW_COUNT;
      RETURN asked;
    END $$
"""

# The issuer whose copy is oldest speaks for all that have one; and the longest time that a watermark has stood still
# although there was something beyond it. Nothing of anybody.
REPORTING_STATE = """
    CREATE FUNCTION reporting_state() RETURNS TABLE (
      copied_at timestamptz, watermark bigint, age_seconds double precision, still_seconds double precision
    )
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
      WITH newest AS (
        SELECT l.* FROM issuers i, LATERAL (
          SELECT r.copied_at, r.watermark, r.watermark_since, r.waiting FROM reporting_copies r
          WHERE r.tenant = i.tenant ORDER BY r.copied_at DESC LIMIT 1
        ) l
      )
      SELECT n.copied_at, n.watermark, extract(epoch FROM statement_timestamp() - n.copied_at)::double precision,
        coalesce((
          SELECT max(extract(epoch FROM s.copied_at - s.watermark_since)) FROM newest s WHERE s.waiting > 0
        ), 0)::double precision
      FROM newest n ORDER BY n.copied_at LIMIT 1
    $$
"""
