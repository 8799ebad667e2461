"""Ways to a batch's messages, to the few that failed or wait, and through the many of one batch, accepted in one moment.

None names the rank, which changes with every event: what is indexed here is set once, so that the other updates of a row
stay on its own page and write no index.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

_INDEXES = {
    "message_account_time": "(account_id, accepted_at, message_id)",
    "message_batch": "(batch_id, accepted_at, message_id) WHERE batch_id IS NOT NULL",
    "message_failed": "(account_id, accepted_at) WHERE failed_at IS NOT NULL",
    "message_deferred": "(account_id, accepted_at) WHERE deferred_until IS NOT NULL",
}


def upgrade() -> None:
    op.execute("DROP INDEX message_account_time")
    for name, on in _INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON message {on}")


def downgrade() -> None:
    for name in _INDEXES:
        op.execute(f"DROP INDEX {name}")
    op.execute("CREATE INDEX message_account_time ON message (account_id, accepted_at)")
