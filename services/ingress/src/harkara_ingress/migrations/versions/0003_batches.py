"""Bulk sends."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # What only one of a batch's events tells is NULL until that event was read: they come in any order.
    op.execute(
        """
        CREATE TABLE batch (
            batch_id text COLLATE "C" PRIMARY KEY,
            account_id text COLLATE "C" NOT NULL,
            lane text NOT NULL,
            test_mode boolean NOT NULL,
            correlation_id text,
            category text,
            channels text,
            template_id text,
            sender text,
            total integer,
            rejected integer,
            portions integer,
            estimated_credits integer,
            accepted_at timestamptz,
            send_at timestamptz,
            cancelled_at timestamptz,
            completed_at timestamptz,
            counts jsonb
        )
        """
    )
    op.execute("CREATE INDEX batch_account_time ON batch (account_id, accepted_at, batch_id)")
    op.execute("CREATE INDEX batch_open ON batch (accepted_at) WHERE completed_at IS NULL")


def downgrade() -> None:
    op.execute("DROP TABLE batch")
