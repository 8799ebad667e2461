"""Messages that wait for their schedule or the promotional hours, and the batches that were taken back."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE waiting (
        message_id text PRIMARY KEY,
        account_id text NOT NULL,
        batch_id text,
        until timestamptz NOT NULL,
        state text NOT NULL CHECK (state IN ('waiting', 'left', 'cancelled')),
        detail bytea NOT NULL,
        closed_at timestamptz,
        cancelled_by text,
        told boolean NOT NULL DEFAULT false
    )
    """,
    "CREATE INDEX waiting_by_batch ON waiting (batch_id) WHERE state = 'waiting' AND batch_id IS NOT NULL",
    "CREATE INDEX waiting_until ON waiting (until) WHERE state = 'waiting'",
    "CREATE INDEX waiting_untold ON waiting (batch_id) WHERE state = 'cancelled' AND NOT told",
    "CREATE INDEX waiting_closed ON waiting (closed_at) WHERE closed_at IS NOT NULL",
    """
    CREATE TABLE cancelled_batch (
        batch_id text PRIMARY KEY,
        account_id text NOT NULL,
        cancelled_by text NOT NULL,
        cancelled_at timestamptz NOT NULL
    )
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE cancelled_batch, waiting")
