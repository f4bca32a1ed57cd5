"""Jobs and their files

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "jobs",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("given", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("file_bytes", sa.BigInteger(), nullable=True),
        sa.Column("file_expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("format IN ('XLSX', 'CSV')", name=op.f("jobs_format_check")),
        sa.CheckConstraint("kind IN ('EXPORT_PAYMENT_REQUESTS')", name=op.f("jobs_kind_check")),
        sa.CheckConstraint("locale IN ('fr', 'en')", name=op.f("jobs_locale_check")),
        sa.CheckConstraint("status IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED')", name=op.f("jobs_status_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], name=op.f("jobs_tenant_user_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("jobs_pkey")),
    )
    op.create_index(
        "jobs_unfinished_idx",
        "jobs",
        ["tenant", "user_id"],
        unique=False,
        postgresql_where=sa.text("status IN ('QUEUED', 'RUNNING')"),
    )
    op.create_table(
        "job_chunks",
        sa.Column("tenant", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("n >= 0", name=op.f("job_chunks_n_check")),
        sa.CheckConstraint("octet_length(content) BETWEEN 1 AND 262144", name=op.f("job_chunks_content_check")),
        sa.ForeignKeyConstraint(
            ["tenant", "job_id"], ["jobs.tenant", "jobs.id"], name=op.f("job_chunks_tenant_job_id_fkey")
        ),
        sa.PrimaryKeyConstraint("tenant", "job_id", "n", name=op.f("job_chunks_pkey")),
    )
    op.execute("ALTER TABLE jobs SET (fillfactor = 80)")
    # Files are compressed already.
    op.execute("ALTER TABLE job_chunks ALTER COLUMN content SET STORAGE EXTERNAL")
    for table in ("outbox", "dead_letters"):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_topic_check")
        op.create_check_constraint(op.f(f"{table}_topic_check"), table, "topic IN ('live', 'mail', 'job')")
    op.bulk_insert(
        sa.table("transitions", sa.column("machine"), sa.column("was"), sa.column("becomes")),
        [{"machine": "jobs", "was": was, "becomes": becomes} for was, becomes in TRANSITIONS],
    )
    op.execute(
        "CREATE TRIGGER lifecycle BEFORE UPDATE OF status ON jobs FOR EACH ROW"
        " WHEN (old.status IS DISTINCT FROM new.status) EXECUTE FUNCTION check_transition()"
    )
    for table, app in GRANTS.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO escarcelle_app USING ({OWN_TENANT}) WITH CHECK ({OWN_TENANT})")
        op.execute(f"GRANT {app} ON {table} TO escarcelle_app")
        op.execute(f"CREATE POLICY reader ON {table} FOR SELECT TO escarcelle_reader USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO escarcelle_reader")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


OWN_TENANT = "tenant = (SELECT nullif(current_setting('app.tenant', true), '')::integer)"

TRANSITIONS = [("QUEUED", "RUNNING"), ("RUNNING", "DONE"), ("RUNNING", "FAILED"), ("RUNNING", "QUEUED")]

GRANTS = {"jobs": "SELECT, INSERT, UPDATE", "job_chunks": "SELECT, INSERT, DELETE"}
