"""The tables of the service's schema, as the migrations leave them."""

from datetime import date, datetime

from sqlalchemy import ARRAY, BigInteger, Column, DateTime, Integer, MetaData, Text
from sqlmodel import Field, SQLModel


class Table(SQLModel):
    # Metadata of its own: services share no tables, and several are imported together in tests.
    metadata = MetaData()


class WalletRow(Table, table=True):
    """What an account has: `available_mp` can be spent, `held_mp` is reserved for attempts whose end is open.

    `lines` is how many lines its ledger has; `version` grows with every write of anything that belongs to the account.
    """

    __tablename__ = "wallet"

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    available_mp: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    held_mp: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    lines: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))
    version: int = Field(sa_column=Column(BigInteger, nullable=False, server_default="0"))


class HoldRow(Table, table=True):
    """One attempt and where its money is. Partitioned by the day of the message; `planned_on` is a day in IST.

    The lines are the numbers of its transfers in the account's ledger.
    """

    __tablename__ = "hold"
    __table_args__ = ({"postgresql_partition_by": "RANGE (day)"},)

    # Bytewise, so that a message's attempts are one range.
    attempt_id: str = Field(sa_column=Column(Text(collation="C"), primary_key=True))
    day: date = Field(primary_key=True)
    account_id: str = Field(sa_column=Column(Text, nullable=False))
    channel: str = Field(sa_column=Column(Text, nullable=False))
    category: str = Field(sa_column=Column(Text, nullable=False))
    units: int = Field(sa_column=Column(Integer, nullable=False))
    price_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    planned_on: date
    state: str = Field(sa_column=Column(Text, nullable=False))
    decided_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    held_line: int | None = Field(sa_column=Column(BigInteger))
    ended_line: int | None = Field(sa_column=Column(BigInteger))
    refunded_line: int | None = Field(sa_column=Column(BigInteger))


class TransferRow(Table, table=True):
    """What one batch moved for one account, never changed: a sum for each ledger account, together zero, and its lines.

    Of a line, `reference` is the attempt's id, or the client's own for a top-up. `number` is that of the first line: within
    an account lines are numbered 1, 2, … in the order of commits. The view `ledger_line` has a row for each.
    """

    __tablename__ = "transfer"
    __table_args__ = ({"postgresql_partition_by": "RANGE (day)"},)

    account_id: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(BigInteger, primary_key=True))
    day: date = Field(primary_key=True)
    wallet_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    held_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    revenue_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    topups_mp: int = Field(sa_column=Column(BigInteger, nullable=False))
    kind: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    reference: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    amount_mp: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))
    units: list[int] = Field(sa_column=Column(ARRAY(Integer), nullable=False))
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
