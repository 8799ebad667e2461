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
        held_mp bigint NOT NULL DEFAULT 0 CHECK (held_mp >= 0),
        lines bigint NOT NULL DEFAULT 0,
        version bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE hold (
        attempt_id text COLLATE "C" NOT NULL,
        day date NOT NULL,
        account_id text NOT NULL,
        channel text NOT NULL,
        category text NOT NULL,
        units integer NOT NULL,
        price_mp bigint NOT NULL CHECK (price_mp >= 0),
        planned_on date NOT NULL,
        state text NOT NULL,
        decided_at timestamptz NOT NULL,
        held_line bigint,
        ended_line bigint,
        refunded_line bigint,
        PRIMARY KEY (attempt_id, day)
    ) PARTITION BY RANGE (day)
    """,
    # A message kept back until its day has no partition any more must still be paid for.
    "CREATE TABLE hold_default PARTITION OF hold DEFAULT",
    """
    CREATE TABLE transfer (
        account_id text NOT NULL,
        number bigint NOT NULL,
        day date NOT NULL,
        wallet_mp bigint NOT NULL,
        held_mp bigint NOT NULL,
        revenue_mp bigint NOT NULL,
        topups_mp bigint NOT NULL,
        kind text[] NOT NULL,
        reference text[] NOT NULL,
        amount_mp bigint[] NOT NULL CHECK (0 < ALL (amount_mp)),
        units integer[] NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (account_id, number, day),
        CHECK (wallet_mp + held_mp + revenue_mp + topups_mp = 0),
        CHECK (cardinality(kind) = cardinality(reference) AND cardinality(kind) = cardinality(amount_mp)
            AND cardinality(kind) = cardinality(units))
    ) PARTITION BY RANGE (day)
    """,
    "CREATE TABLE transfer_default PARTITION OF transfer DEFAULT",
    """
    CREATE VIEW ledger_line AS
    SELECT account_id, number + place - 1 AS number, line.kind, debit, credit, line.reference, line.amount_mp, line.units,
        created_at
    FROM transfer CROSS JOIN LATERAL unnest(kind, reference, amount_mp, units) WITH ORDINALITY
        AS line (kind, reference, amount_mp, units, place)
    JOIN (VALUES
        ('topup', 'topups', 'wallet'),
        ('hold', 'wallet', 'held'),
        ('capture', 'held', 'revenue'),
        ('release', 'held', 'wallet'),
        ('refund', 'revenue', 'wallet')
    ) AS posting (kind, debit, credit) ON posting.kind = line.kind
    """,
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
    op.execute("DROP VIEW ledger_line")
    for table in ("usage", "volume", "topup", "transfer", "hold", "wallet"):
        op.execute(f"DROP TABLE {table}")
