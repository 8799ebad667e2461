"""The tables of the service's schema, as the migrations leave them.

The columns of the registry's tables have the names of the facts' fields: a row is the last value of its fact.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


def _text(*, key: bool = False, optional: bool = False) -> Any:
    return Field(sa_column=Column(Text, primary_key=key, nullable=optional))


def _texts() -> Any:
    return Field(sa_column=Column(ARRAY(Text), nullable=False))


def _version() -> Any:
    return Field(sa_column=Column(BigInteger, nullable=False))


def _instant(*, default: bool = False, optional: bool = False) -> Any:
    return Field(
        sa_column=Column(DateTime(timezone=True), nullable=optional, server_default=func.now() if default else None)
    )


def _flag() -> Any:
    return Field(sa_column=Column(Boolean, nullable=False, server_default=text("false")))


def _identity() -> Any:
    return Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))


class Table(SQLModel):
    # Metadata of its own: services share no tables, and several are imported together in tests.
    metadata = MetaData()


class EntityRow(Table, table=True):
    __tablename__ = "entity"

    account_id: str = _text(key=True)
    entity_id: str = _text(key=True)
    name: str = _text()
    telemarketer_chain: list[str] = _texts()
    chain_hash: str = _text()
    version: int = _version()


class SenderRow(Table, table=True):
    __tablename__ = "sender"
    __table_args__ = (ForeignKeyConstraint(["account_id", "entity_id"], ["entity.account_id", "entity.entity_id"]),)

    account_id: str = _text(key=True)
    sender: str = _text(key=True)
    entity_id: str = _text()
    kind: str = _text()
    status: str = _text()
    reason: str | None = _text(optional=True)
    created_at: datetime = _instant()
    version: int = _version()


class TemplateRow(Table, table=True):
    """One DLT template has one name in an account: with two, a body could be sent under the other's id."""

    __tablename__ = "template"
    __table_args__ = (Index("template_by_dlt_id", "account_id", "dlt_template_id", unique=True),)

    account_id: str = _text(key=True)
    template_id: str = _text(key=True)
    channel: str = _text()
    dlt_template_id: str | None = _text(optional=True)
    category: str = _text()
    senders: list[str] = _texts()
    body: str = _text()
    variables: list[dict[str, str]] = Field(sa_column=Column(JSONB, nullable=False))
    language: str = _text()
    subject_line: str | None = _text(optional=True)
    status: str = _text()
    reason: str | None = _text(optional=True)
    created_at: datetime = _instant()
    version: int = _version()


class UrlRow(Table, table=True):
    """A removed entry stays as a tombstone, so that a removal that was not told everybody can be told again."""

    __tablename__ = "url"
    __table_args__ = (
        Index("url_by_value", "account_id", "kind", "value", unique=True, postgresql_where=text("NOT deleted")),
    )

    account_id: str = _text(key=True)
    url_id: str = _text(key=True)
    kind: str = _text()
    value: str = _text()
    deleted: bool = _flag()
    version: int = _version()


class StatusRow(Table, table=True):
    """The history of approvals: every status a sender or template has had, from its registration on."""

    __tablename__ = "status_history"
    __table_args__ = (Index("status_history_by_name", "account_id", "kind", "name", "number"),)

    number: int | None = _identity()
    account_id: str = _text()
    kind: str = _text()
    name: str = _text()
    status: str = _text()
    reason: str | None = _text(optional=True)
    actor: str | None = _text(optional=True)
    at: datetime = _instant(default=True)


class AuditRow(Table, table=True):
    """Who changed what, when: `change` holds the fields that changed, each with its value before and after."""

    __tablename__ = "audit"
    __table_args__ = (Index("audit_by_account", "account_id", "number"),)

    number: int | None = _identity()
    account_id: str = _text()
    actor: str | None = _text(optional=True)
    command_id: str = _text()
    command: str = _text()
    kind: str = _text()
    name: str = _text()
    change: dict[str, list[Any]] = Field(sa_column=Column(JSONB, nullable=False))
    at: datetime = _instant(default=True)


class WaitingRow(Table, table=True):
    """A message that waited or waits. `detail` is sealed: what only a cancellation tells, the number among it.

    `until` names the timer that may let it leave. `told` says that the cancellation was published.
    """

    __tablename__ = "waiting"
    __table_args__ = (
        Index("waiting_by_batch", "batch_id", postgresql_where=text("state = 'waiting' AND batch_id IS NOT NULL")),
        Index("waiting_until", "until", postgresql_where=text("state = 'waiting'")),
        Index("waiting_untold", "batch_id", postgresql_where=text("state = 'cancelled' AND NOT told")),
        Index("waiting_closed", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
    )

    message_id: str = _text(key=True)
    account_id: str = _text()
    batch_id: str | None = _text(optional=True)
    until: datetime = _instant()
    state: str = _text()
    detail: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    closed_at: datetime | None = _instant(optional=True)
    cancelled_by: str | None = _text(optional=True)
    told: bool = _flag()


class CancelledBatchRow(Table, table=True):
    """A batch that was taken back: its messages that come to wait later are cancelled as they come."""

    __tablename__ = "cancelled_batch"

    batch_id: str = _text(key=True)
    account_id: str = _text()
    cancelled_by: str = _text()
    cancelled_at: datetime = _instant()
