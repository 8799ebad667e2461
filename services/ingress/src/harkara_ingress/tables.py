"""The tables of the edge, for the migrations' sake: what a migrated schema must look like."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, ForeignKey, Index, MetaData, SmallInteger, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


class Table(SQLModel):
    # Metadata of its own: services share no tables, and several are imported together in tests.
    metadata = MetaData()


def _instant(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(DateTime(timezone=True), nullable=nullable))


def _text(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_column=Column(Text, nullable=nullable))


class Account(Table, table=True):
    """A client. `version` is that of the fact which tells the others about this row; the secrets are sealed."""

    __tablename__ = "account"

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = _text(nullable=False)
    plan: str = _text(nullable=False)
    status: str = _text(nullable=False)
    auto_approve: bool
    requests_per_minute: int | None = None
    messages_per_second: int | None = None
    burst: int | None = None
    ip_allow_list: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    require_signature: bool
    signing_secret: bytes
    former_signing_secret: bytes | None = None
    former_secret_until: datetime | None = _instant()
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = _instant(nullable=False)


class ApiKey(Table, table=True):
    """A key by its hash. A revoked one stays, so that its id is never a riddle in a log."""

    __tablename__ = "api_key"
    __table_args__ = (Index("api_key_account", "account_id"),)

    key_id: str = Field(sa_column=Column(Text, primary_key=True))
    account_id: str = Field(sa_column=Column(Text, ForeignKey("account.account_id"), nullable=False))
    key_hash: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    name: str = _text(nullable=False)
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    test_only: bool
    expires_at: datetime | None = _instant()
    revoked_at: datetime | None = _instant()
    last_used_at: datetime | None = _instant()
    version: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = _instant(nullable=False)


class Message(Table, table=True):
    """What is known of a message by its own events; who it was for and what it said are not kept here."""

    __tablename__ = "message"
    __table_args__ = (
        Index("message_account_time", "account_id", "accepted_at", "message_id"),
        Index("message_correlation", "account_id", "correlation_id", postgresql_where="correlation_id IS NOT NULL"),
        Index("message_batch", "batch_id", "accepted_at", "message_id", postgresql_where="batch_id IS NOT NULL"),
        Index("message_failed", "account_id", "accepted_at", postgresql_where="failed_at IS NOT NULL"),
        Index("message_deferred", "account_id", "accepted_at", postgresql_where="deferred_until IS NOT NULL"),
        {"postgresql_partition_by": "RANGE (day)"},
    )

    day: date = Field(primary_key=True)
    message_id: str = Field(sa_column=Column(Text, primary_key=True))
    account_id: str = _text(nullable=False)
    test_mode: bool
    rank: int = Field(sa_column=Column(SmallInteger, nullable=False))
    correlation_id: str | None = _text()
    batch_id: str | None = _text()
    category: str | None = _text()
    channels: str | None = _text()
    accepted_at: datetime | None = _instant()
    expires_at: datetime | None = _instant()
    send_at: datetime | None = _instant()
    deferred_until: datetime | None = _instant()
    deferred_reason: str | None = _text()
    delivered_at: datetime | None = _instant()
    failed_at: datetime | None = _instant()
    read_at: datetime | None = _instant()
    channel: str | None = _text()
    carrier: str | None = _text()
    error_code: str | None = _text()
    error_description: str | None = _text()


class Batch(Table, table=True):
    """A bulk send, by its own events; how far it is, its messages tell. `counts` are those of its completion."""

    __tablename__ = "batch"
    __table_args__ = (
        Index("batch_account_time", "account_id", "accepted_at", "batch_id"),
        Index("batch_open", "accepted_at", postgresql_where="completed_at IS NULL"),
    )

    batch_id: str = Field(sa_column=Column(Text, primary_key=True))
    account_id: str = _text(nullable=False)
    lane: str = _text(nullable=False)
    test_mode: bool
    correlation_id: str | None = _text()
    category: str | None = _text()
    channels: str | None = _text()
    template_id: str | None = _text()
    sender: str | None = _text()
    total: int | None = None
    rejected: int | None = None
    portions: int | None = None
    estimated_credits: int | None = None
    accepted_at: datetime | None = _instant()
    send_at: datetime | None = _instant()
    cancelled_at: datetime | None = _instant()
    completed_at: datetime | None = _instant()
    counts: dict[str, int] | None = Field(default=None, sa_column=Column(JSONB))


class Attempt(Table, table=True):
    """What is known of one hand-over to one carrier."""

    __tablename__ = "attempt"
    __table_args__ = ({"postgresql_partition_by": "RANGE (day)"},)

    day: date = Field(primary_key=True)
    message_id: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True))
    account_id: str = _text(nullable=False)
    hop: int = Field(sa_column=Column(SmallInteger, nullable=False))
    channel: str = _text(nullable=False)
    carrier: str = _text(nullable=False)
    rank: int = Field(sa_column=Column(SmallInteger, nullable=False))
    units: int | None = None
    price_mp: int | None = Field(default=None, sa_column=Column(BigInteger))
    planned_at: datetime | None = _instant()
    sent_at: datetime | None = _instant()
    delivered_at: datetime | None = _instant()
    read_at: datetime | None = _instant()
    ended_at: datetime | None = _instant()
    carrier_code: str | None = _text()
    error_code: str | None = _text()
    error_description: str | None = _text()
