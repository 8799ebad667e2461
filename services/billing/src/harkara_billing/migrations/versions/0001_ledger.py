"""The ledger: wallets, holds, transfers, top-ups, volumes and usage."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE wallet (
        account_id text PRIMARY KEY,
        available_mp bigint NOT NULL DEFAULT 0 CHECK (available_mp >= 0),
        held_mp bigint NOT NULL DEFAULT 0 CHECK (held_mp >= 0)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE hold (
        attempt_id text NOT NULL,
        day date NOT NULL,
        account_id text NOT NULL,
        channel text NOT NULL,
        category text NOT NULL,
        units integer NOT NULL,
        price_mp bigint NOT NULL CHECK (price_mp >= 0),
        planned_on date NOT NULL,
        state text NOT NULL,
        decided_at timestamptz NOT NULL,
        PRIMARY KEY (attempt_id, day)
    ) PARTITION BY RANGE (day)
    """,
    # A message kept back until its day has no partition any more must still be paid for.
    "CREATE TABLE hold_default PARTITION OF hold DEFAULT",
    "CREATE SEQUENCE transfer_number",
    """
    CREATE TABLE transfer (
        account_id text NOT NULL,
        reference text COLLATE "C" NOT NULL,
        kind text NOT NULL,
        day date NOT NULL,
        number bigint NOT NULL DEFAULT nextval('transfer_number'),
        debit text NOT NULL,
        credit text NOT NULL,
        amount_mp bigint NOT NULL CHECK (amount_mp > 0),
        units integer NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, reference, kind, day),
        CHECK (debit <> credit)
    ) PARTITION BY RANGE (day)
    """,
    "CREATE INDEX transfer_by_account ON transfer (account_id, number)",
    "CREATE TABLE transfer_default PARTITION OF transfer DEFAULT",
    """
    CREATE TABLE topup (
        account_id text NOT NULL,
        reference text NOT NULL,
        amount_mp bigint NOT NULL CHECK (amount_mp > 0),
        created_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, reference)
    )
    """,
    """
    CREATE TABLE volume (
        account_id text NOT NULL,
        month date NOT NULL,
        channel text NOT NULL,
        units bigint NOT NULL,
        PRIMARY KEY (account_id, month, channel)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE usage (
        account_id text NOT NULL,
        day date NOT NULL,
        channel text NOT NULL,
        category text NOT NULL,
        units bigint NOT NULL,
        amount_mp bigint NOT NULL,
        PRIMARY KEY (account_id, day, channel, category)
    ) WITH (fillfactor = 50)
    """,
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    for table in ("usage", "volume", "topup", "transfer", "hold", "wallet"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE transfer_number")
