"""The only issuer

Revision: 0018, after 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(TENANT_OF_SLUG)


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


TENANT_OF_SLUG = """
CREATE OR REPLACE FUNCTION tenant_of_slug(of_slug text) RETURNS integer LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = public, pg_temp AS $$
  SELECT tenant FROM issuers WHERE slug = of_slug OR (of_slug IS NULL AND (SELECT count(*) FROM issuers) = 1)
$$
"""
