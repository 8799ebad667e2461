"""The saga of each message, in daily partitions."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_PLANS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}


def upgrade() -> None:
    op.execute("""
        CREATE TABLE saga (
            day date NOT NULL,
            message_id text NOT NULL,
            version integer NOT NULL,
            state text NOT NULL,
            attempt integer NOT NULL,
            carrier text NOT NULL,
            tried text[] NOT NULL,
            ended_by text,
            expiry timestamptz NOT NULL,
            lane text NOT NULL,
            cleared bytea NOT NULL,
            PRIMARY KEY (day, message_id)
        ) PARTITION BY RANGE (day)
    """)
    # Looked for when a validity ends. Of columns that never change, so that a change of state stays on the row's own page
    # and touches no index.
    op.execute("CREATE INDEX saga_expiry ON saga (expiry, lane)")
    # Every statement here is one that its index serves whatever its arguments are. Left to itself the server plans most of
    # them anew each time (a plan for one day's partition looks cheaper than one for all), which takes as long as doing it.
    for setting, value in _PLANS.items():
        op.execute(f"ALTER ROLE CURRENT_USER SET {setting} = {value}")


def downgrade() -> None:
    for setting in _PLANS:
        op.execute(f"ALTER ROLE CURRENT_USER RESET {setting}")
    op.execute("DROP TABLE saga")
