"""A transfer stays sealed in a restored database

Revision: 0008, after 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(SEAL_POSTINGS)


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


# A restored row keeps the number of a transaction of its old cluster, which the new cluster may come to again. Its xmin
# is the restore's own: only rows that one statement has written share xmin and cmin.
SEAL_POSTINGS = """
    CREATE OR REPLACE FUNCTION seal_postings() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
    BEGIN
      IF EXISTS (
        SELECT FROM fresh f
        JOIN postings p ON p.tenant = f.tenant AND p.transfer_id = f.transfer_id AND p.account_id = f.account_id
        LEFT JOIN transfers t ON t.tenant = f.tenant AND t.id = f.transfer_id
        WHERE t.xact IS DISTINCT FROM pg_current_xact_id() OR NOT (t.xmin = p.xmin AND t.cmin = p.cmin)
      ) THEN
        RAISE EXCEPTION 'a transfer is sealed with its statement' USING errcode = '23514', constraint = 'seal';
      END IF;
      RETURN NULL;
    END $$
"""
