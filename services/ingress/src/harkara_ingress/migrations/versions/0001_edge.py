"""Accounts, keys and the read model of messages."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = (
    """
    CREATE TABLE account (
        account_id text PRIMARY KEY,
        name text NOT NULL,
        plan text NOT NULL,
        status text NOT NULL,
        auto_approve boolean NOT NULL,
        requests_per_minute integer,
        messages_per_second integer,
        burst integer,
        signing_secret bytea NOT NULL,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE api_key (
        key_id text PRIMARY KEY,
        account_id text NOT NULL REFERENCES account (account_id),
        key_hash text NOT NULL UNIQUE,
        name text NOT NULL,
        scopes text[] NOT NULL,
        test_only boolean NOT NULL,
        expires_at timestamptz,
        revoked_at timestamptz,
        version bigint NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX api_key_account ON api_key (account_id)",
    # Ids compare byte by byte: no locale's rules are wanted, and none are paid for.
    """
    CREATE TABLE message (
        day date NOT NULL,
        message_id text COLLATE "C" NOT NULL,
        account_id text COLLATE "C" NOT NULL,
        test_mode boolean NOT NULL,
        rank smallint NOT NULL,
        correlation_id text COLLATE "C",
        batch_id text,
        category text,
        channels text,
        accepted_at timestamptz,
        expires_at timestamptz,
        send_at timestamptz,
        deferred_until timestamptz,
        deferred_reason text,
        delivered_at timestamptz,
        failed_at timestamptz,
        read_at timestamptz,
        channel text,
        carrier text,
        error_code text,
        error_description text,
        PRIMARY KEY (day, message_id)
    ) PARTITION BY RANGE (day)
    """,
    "CREATE INDEX message_account_time ON message (account_id, accepted_at)",
    """
    CREATE INDEX message_correlation ON message (account_id, correlation_id)
        WHERE correlation_id IS NOT NULL
    """,
    """
    CREATE TABLE attempt (
        day date NOT NULL,
        message_id text COLLATE "C" NOT NULL,
        number smallint NOT NULL,
        account_id text NOT NULL,
        hop smallint NOT NULL,
        channel text NOT NULL,
        carrier text NOT NULL,
        rank smallint NOT NULL,
        units integer,
        price_mp bigint,
        planned_at timestamptz,
        sent_at timestamptz,
        delivered_at timestamptz,
        read_at timestamptz,
        ended_at timestamptz,
        carrier_code text,
        error_code text,
        error_description text,
        PRIMARY KEY (day, message_id, number)
    ) PARTITION BY RANGE (day)
    """,
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)


def downgrade() -> None:
    for table in ("attempt", "message", "api_key", "account"):
        op.execute(f"DROP TABLE {table}")
