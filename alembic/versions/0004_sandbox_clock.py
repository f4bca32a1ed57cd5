"""A sandbox's clock moves forward

Revision: 0004, after 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A change that cannot get its lock soon fails, instead of holding up everyone behind it.
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ADVANCE_SANDBOX_CLOCK)
    op.execute("REVOKE EXECUTE ON FUNCTION advance_sandbox_clock(integer, interval) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION advance_sandbox_clock(integer, interval) TO escarcelle_app")


def downgrade() -> None:
    raise NotImplementedError("forward only: restore a backup instead")


# The application may not change issuers. Here it may do one thing to one: forward, and never without what is pending,
# whose instants are real time. In seconds, since an interval's days have 23 to 25 hours where clocks are changed.
ADVANCE_SANDBOX_CLOCK = """
    CREATE FUNCTION advance_sandbox_clock(of_tenant integer, by interval) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
      step interval := make_interval(secs => extract(epoch FROM by)::double precision);
    BEGIN
      IF of_tenant IS DISTINCT FROM nullif(current_setting('app.tenant', true), '')::integer THEN
        RAISE EXCEPTION 'tenant % is beyond the wall', of_tenant USING errcode = '42501';
      END IF;
      IF (step > interval '0') IS NOT TRUE THEN
        RAISE EXCEPTION 'a clock goes forward, not by %', by USING errcode = '22023';
      END IF;
      UPDATE issuers SET clock_offset = clock_offset + step, frozen_at = frozen_at + step
      WHERE tenant = of_tenant AND sandbox;
      IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % is no sandbox', of_tenant USING errcode = '42501';
      END IF;
      UPDATE deadlines SET due_at = due_at - step, claim_at = claim_at - step WHERE tenant = of_tenant;
    END $$
"""
