"""Mailed links die with the password or address they were sent for; users are found by name whatever its accents

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(
        "passwords",
        sa.Column("links_since", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.alter_column("passwords", "links_since", server_default=None)
    op.add_column("users", sa.Column("sort_key", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE users SET sort_key = lower(name)")
    op.alter_column("users", "sort_key", server_default=None)


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")
