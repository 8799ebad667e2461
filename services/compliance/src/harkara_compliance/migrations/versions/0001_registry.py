"""The registry (entities, senders, templates, whitelist), its approvals and its audit log."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE entity (
        account_id text NOT NULL,
        entity_id text NOT NULL,
        name text NOT NULL,
        telemarketer_chain text[] NOT NULL,
        chain_hash text NOT NULL,
        version bigint NOT NULL,
        PRIMARY KEY (account_id, entity_id)
    )
    """,
    """
    CREATE TABLE sender (
        account_id text NOT NULL,
        sender text NOT NULL,
        entity_id text NOT NULL,
        kind text NOT NULL,
        status text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'suspended')),
        reason text,
        created_at timestamptz NOT NULL,
        version bigint NOT NULL,
        PRIMARY KEY (account_id, sender),
        FOREIGN KEY (account_id, entity_id) REFERENCES entity (account_id, entity_id)
    )
    """,
    """
    CREATE TABLE template (
        account_id text NOT NULL,
        template_id text NOT NULL,
        channel text NOT NULL,
        dlt_template_id text,
        category text NOT NULL,
        senders text[] NOT NULL,
        body text NOT NULL,
        variables jsonb NOT NULL,
        language text NOT NULL,
        subject_line text,
        status text NOT NULL CHECK (status IN ('pending', 'approved', 'rejected', 'suspended')),
        reason text,
        created_at timestamptz NOT NULL,
        version bigint NOT NULL,
        PRIMARY KEY (account_id, template_id)
    )
    """,
    "CREATE UNIQUE INDEX template_by_dlt_id ON template (account_id, dlt_template_id)",
    """
    CREATE TABLE url (
        account_id text NOT NULL,
        url_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('url_prefix', 'domain', 'phone', 'email')),
        value text NOT NULL,
        deleted boolean NOT NULL DEFAULT false,
        version bigint NOT NULL,
        PRIMARY KEY (account_id, url_id)
    )
    """,
    "CREATE UNIQUE INDEX url_by_value ON url (account_id, kind, value) WHERE NOT deleted",
    """
    CREATE TABLE status_history (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account_id text NOT NULL,
        kind text NOT NULL,
        name text NOT NULL,
        status text NOT NULL,
        reason text,
        actor text,
        at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX status_history_by_name ON status_history (account_id, kind, name, number)",
    """
    CREATE TABLE audit (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account_id text NOT NULL,
        actor text,
        command_id text NOT NULL,
        command text NOT NULL,
        kind text NOT NULL,
        name text NOT NULL,
        change jsonb NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX audit_by_account ON audit (account_id, number)",
    # The log is only ever added to, by whatever code.
    "CREATE RULE audit_is_not_changed AS ON UPDATE TO audit DO INSTEAD NOTHING",
    "CREATE RULE audit_is_not_deleted AS ON DELETE TO audit DO INSTEAD NOTHING",
)


def upgrade() -> None:
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE audit, status_history, url, template, sender, entity")
