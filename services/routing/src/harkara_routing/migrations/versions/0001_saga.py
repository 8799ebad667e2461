"""The saga of each message, in daily partitions."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE saga (
            day date NOT NULL,
            message_id text NOT NULL,
            state text NOT NULL,
            attempt integer NOT NULL,
            carrier text NOT NULL,
            tried text[] NOT NULL,
            ended_by text,
            expiry timestamptz NOT NULL,
            cleared bytea NOT NULL,
            PRIMARY KEY (day, message_id)
        ) PARTITION BY RANGE (day)
    """)
    # Looked for when a validity ends; what was delivered or failed leaves the index.
    op.execute("""
        CREATE INDEX saga_open ON saga (expiry, message_id)
        WHERE state IN ('planned', 'waiting', 'unknown', 'expired')
    """)


def downgrade() -> None:
    op.execute("DROP TABLE saga")
