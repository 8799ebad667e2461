"""Endpoints and their deliveries."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE endpoint (
            webhook_id text PRIMARY KEY,
            account_id text NOT NULL,
            url text NOT NULL,
            events text[] NOT NULL,
            description text NOT NULL,
            status text NOT NULL,
            reason text,
            secret bytea NOT NULL,
            previous_secret bytea,
            overlap_ends_at timestamptz,
            failing_since timestamptz,
            created_by text NOT NULL UNIQUE,
            rotated_by text,
            created_at timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX ix_endpoint_account_id ON endpoint (account_id)")
    # Bodies and logs are sealed, so compressing them again is wasted work: EXTERNAL stores them as they are.
    op.execute(
        """
        CREATE TABLE delivery (
            day date NOT NULL,
            delivery_id text NOT NULL,
            account_id text NOT NULL,
            webhook_id text NOT NULL,
            event text NOT NULL,
            message_id text NOT NULL,
            lane text NOT NULL,
            state text NOT NULL,
            tries smallint NOT NULL,
            body bytea STORAGE EXTERNAL NOT NULL,
            attempts bytea STORAGE EXTERNAL NOT NULL,
            next_attempt_at timestamptz,
            created_at timestamptz NOT NULL,
            PRIMARY KEY (day, delivery_id)
        ) PARTITION BY RANGE (day)
        """
    )
    op.execute("CREATE INDEX ix_delivery_webhook_id_created_at ON delivery (webhook_id, created_at, delivery_id)")
    op.execute("CREATE INDEX ix_delivery_message_id ON delivery (message_id)")
    op.execute("CREATE INDEX ix_delivery_pending ON delivery (webhook_id, next_attempt_at) WHERE state = 'pending'")


def downgrade() -> None:
    op.execute("DROP TABLE delivery")
    op.execute("DROP TABLE endpoint")
