"""What an account asks of those who show its keys: their address, their signature; and when a key was last shown."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE account
            ADD COLUMN ip_allow_list text[] NOT NULL DEFAULT '{}',
            ADD COLUMN require_signature boolean NOT NULL DEFAULT false,
            ADD COLUMN former_signing_secret bytea,
            ADD COLUMN former_secret_until timestamptz
        """
    )
    op.execute("ALTER TABLE api_key ADD COLUMN last_used_at timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE api_key DROP COLUMN last_used_at")
    op.execute(
        """
        ALTER TABLE account
            DROP COLUMN ip_allow_list,
            DROP COLUMN require_signature,
            DROP COLUMN former_signing_secret,
            DROP COLUMN former_secret_until
        """
    )
