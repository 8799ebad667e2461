"""Submissions by day, parked receipts, parts of inbound messages."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_WHOLE_TABLE_PLANS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE submission (
            day date NOT NULL,
            attempt_id varchar NOT NULL,
            part smallint NOT NULL,
            parts smallint NOT NULL,
            carrier varchar NOT NULL,
            lane varchar NOT NULL,
            sender varchar NOT NULL,
            recipient varchar NOT NULL,
            trail varchar NOT NULL,
            state varchar NOT NULL,
            owner varchar NOT NULL,
            tries smallint NOT NULL,
            intended_at timestamptz NOT NULL,
            carrier_message_id varchar,
            receipt_key varchar,
            error_code varchar,
            error_description varchar,
            carrier_code varchar,
            retriable boolean NOT NULL DEFAULT false,
            answered_at timestamptz,
            final_at timestamptz,
            PRIMARY KEY (day, attempt_id, part)
        ) PARTITION BY RANGE (day)
        """
    )
    op.execute("CREATE INDEX submission_by_receipt ON submission (carrier, receipt_key)")
    op.execute("CREATE INDEX submission_open ON submission (carrier, recipient) WHERE receipt_key IS NULL")
    op.execute(
        """
        CREATE TABLE parked_receipt (
            carrier varchar NOT NULL,
            receipt_key varchar NOT NULL,
            state varchar NOT NULL,
            error_code varchar,
            error_description varchar,
            carrier_code varchar,
            retriable boolean NOT NULL,
            parked_at timestamptz NOT NULL,
            PRIMARY KEY (carrier, receipt_key)
        )
        """
    )
    op.execute("CREATE INDEX parked_receipt_by_age ON parked_receipt (parked_at)")
    op.execute(
        """
        CREATE TABLE inbound_part (
            carrier varchar NOT NULL,
            sender varchar NOT NULL,
            recipient varchar NOT NULL,
            reference integer NOT NULL,
            total smallint NOT NULL,
            number smallint NOT NULL,
            body varchar NOT NULL,
            received_at timestamptz NOT NULL,
            PRIMARY KEY (carrier, sender, recipient, reference, total, number)
        )
        """
    )
    op.execute("CREATE INDEX inbound_part_by_age ON inbound_part (received_at)")
    # Every statement of this service finds its rows by key. A plan made while a day's partition is small would read all
    # of it, and stay in use while it grows to millions of rows; so the role never prefers to read a whole table.
    for plan in _WHOLE_TABLE_PLANS:
        op.execute(f"ALTER ROLE CURRENT_USER SET {plan} = off")


def downgrade() -> None:
    for plan in _WHOLE_TABLE_PLANS:
        op.execute(f"ALTER ROLE CURRENT_USER RESET {plan}")
    for table in ("inbound_part", "parked_receipt", "submission"):
        op.execute(f"DROP TABLE {table}")
