"""The tables as SQLModel classes: a test compares them with what the migrations make."""

from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

_TIME = sa.DateTime(timezone=True)


class Table(SQLModel, registry=registry()):
    """Base of this schema's tables: metadata of its own, apart from other services'."""


class EndpointRow(Table, table=True):
    """`secret` and `previous_secret` are sealed; the command ids make a repeated command known."""

    __tablename__ = "endpoint"

    webhook_id: str = Field(sa_column=sa.Column(sa.Text, primary_key=True))
    account_id: str = Field(sa_column=sa.Column(sa.Text, nullable=False, index=True))
    url: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    events: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    description: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    status: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    reason: str | None = Field(sa_column=sa.Column(sa.Text))
    secret: bytes = Field(sa_column=sa.Column(sa.LargeBinary, nullable=False))
    previous_secret: bytes | None = Field(sa_column=sa.Column(sa.LargeBinary))
    overlap_ends_at: datetime | None = Field(sa_column=sa.Column(_TIME))
    failing_since: datetime | None = Field(sa_column=sa.Column(_TIME))
    created_by: str = Field(sa_column=sa.Column(sa.Text, nullable=False, unique=True))
    rotated_by: str | None = Field(sa_column=sa.Column(sa.Text))
    created_at: datetime = Field(sa_column=sa.Column(_TIME, nullable=False))


class DeliveryRow(Table, table=True):
    """`body` and `attempts` are sealed. A pending row always has a `next_attempt_at`: its due time or its lease's end."""

    __tablename__ = "delivery"
    __table_args__ = (
        sa.Index("ix_delivery_webhook_id_created_at", "webhook_id", "created_at", "delivery_id"),
        sa.Index("ix_delivery_message_id", "message_id"),
        sa.Index(
            "ix_delivery_pending",
            "webhook_id",
            "next_attempt_at",
            postgresql_where=sa.text("state = 'pending'"),
        ),
        {"postgresql_partition_by": "RANGE (day)"},
    )

    day: date = Field(sa_column=sa.Column(sa.Date, primary_key=True))
    delivery_id: str = Field(sa_column=sa.Column(sa.Text, primary_key=True))
    account_id: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    webhook_id: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    event: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    message_id: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    lane: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    state: str = Field(sa_column=sa.Column(sa.Text, nullable=False))
    tries: int = Field(sa_column=sa.Column(sa.SmallInteger, nullable=False))
    body: bytes = Field(sa_column=sa.Column(sa.LargeBinary, nullable=False))
    attempts: bytes = Field(sa_column=sa.Column(sa.LargeBinary, nullable=False))
    next_attempt_at: datetime | None = Field(sa_column=sa.Column(_TIME))
    created_at: datetime = Field(sa_column=sa.Column(_TIME, nullable=False))
