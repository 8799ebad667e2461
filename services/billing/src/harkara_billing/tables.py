"""The tables of the service's schema, as the migrations leave them."""

from datetime import date, datetime

from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, MetaData, Text, text
from sqlmodel import Field, SQLModel


class Table(SQLModel):
    # Metadata of its own: services share no tables, and several are imported together in tests.
    metadata = MetaData()


class WalletRow(Table, table=True):
    """What an account has: `available_mp` can be spent, `held_mp` is reserved for attempts whose end is open."""

    __tablename__ = "wallet"

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    available_mp: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    held_mp: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))


class HoldRow(Table, table=True):
    """One attempt and where its money is. Partitioned by the day of the message; `planned_on` is a day in IST."""

    __tablename__ = "hold"
    __table_args__ = ({"postgresql_partition_by": "RANGE (day)"},)

    attempt_id: str = Field(sa_column=Column(Text, primary_key=True))
    day: date = Field(primary_key=True)
    account_id: str = Field(sa_column=Column(Text, nullable=False))
    channel: str = Field(sa_column=Column(Text, nullable=False))
    category: str = Field(sa_column=Column(Text, nullable=False))
    units: int = Field(sa_column=Column(Integer, nullable=False))
    price_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    planned_on: date
    state: str = Field(sa_column=Column(Text, nullable=False))
    decided_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class TransferRow(Table, table=True):
    """One movement of money, never changed. The key lets a reference be moved once in each way.

    `reference` is the attempt's id, or the client's own for a top-up; `day` is the message's (or the top-up's), so that
    a repeat meets the same key. Within an account `number` grows in the order of commits.
    """

    __tablename__ = "transfer"
    __table_args__ = (
        Index("transfer_by_account", "account_id", "number"),
        {"postgresql_partition_by": "RANGE (day)"},
    )

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    # Bytewise, so that a message's attempts are one range.
    reference: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    kind: str = Field(sa_column=Column(Text, primary_key=True))
    day: date = Field(primary_key=True)
    number: int = Field(
        sa_column=Column(BigInteger, nullable=False, server_default=text("nextval('transfer_number'::regclass)"))
    )
    debit: str = Field(sa_column=Column(Text, nullable=False))
    credit: str = Field(sa_column=Column(Text, nullable=False))
    amount_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    units: int = Field(sa_column=Column(Integer, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class TopUpRow(Table, table=True):
    """A reference that was topped up, in whatever month: it is not topped up again."""

    __tablename__ = "topup"

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    reference: str = Field(sa_column=Column(Text, primary_key=True))
    amount_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class VolumeRow(Table, table=True):
    """Units reserved in a calendar month (IST); they choose the slab."""

    __tablename__ = "volume"

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    month: date = Field(primary_key=True)
    channel: str = Field(sa_column=Column(Text, primary_key=True))
    units: int = Field(sa_column=Column(BigInteger, nullable=False))


class UsageRow(Table, table=True):
    """Units and money captured, by the day (IST) of the plan."""

    __tablename__ = "usage"

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    day: date = Field(primary_key=True)
    channel: str = Field(sa_column=Column(Text, primary_key=True))
    category: str = Field(sa_column=Column(Text, primary_key=True))
    units: int = Field(sa_column=Column(BigInteger, nullable=False))
    amount_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
