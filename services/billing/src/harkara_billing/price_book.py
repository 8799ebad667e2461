"""Prices and the rules of charging, read from a data file (`prices.toml` explains its form). Pure.

Slabs are graduated: the n-th unit of the month costs what the slab it falls in says, so more volume never makes the
sum smaller. With the cost of everything below each slab's start computed once, a price is the difference of two totals,
exact across any number of edges.
"""

import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from harkara_contracts.errors import ConfigurationError, ErrorCode
from harkara_contracts.money import PAISA_MP, MilliPaise
from harkara_contracts.subjects import Category, Channel

IST = timezone(timedelta(hours=5, minutes=30), "IST")
LIST_PRICES = Path(__file__).with_name("prices.toml")


class NoPriceError(LookupError):
    """The account may not use this channel for this category: neither list nor agreement names a rate."""


def ist_day(moment: datetime) -> date:
    return moment.astimezone(IST).date()


@lru_cache(maxsize=1_024)
def first_of_month(day: date) -> date:
    return day.replace(day=1)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of rates. `starts[i]` units come before slab i, and cost `totals_mp[i]` together."""

    name: str
    starts: tuple[int, ...]
    rates_mp: tuple[int, ...]
    totals_mp: tuple[int, ...]

    @classmethod
    def of(cls, name: str, edges: list[int], rates_mp: list[int]) -> "Column":
        starts = (0, *edges)
        totals = [0]
        for index in range(len(edges)):
            totals.append(totals[index] + (starts[index + 1] - starts[index]) * rates_mp[index])
        return cls(name, starts, tuple(rates_mp), tuple(totals))

    def total_mp(self, units: int) -> int:
        """Return what the month's first `units` units cost together."""
        slab = bisect_right(self.starts, units) - 1
        return self.totals_mp[slab] + (units - self.starts[slab]) * self.rates_mp[slab]

    def price_mp(self, units_before: int, units: int) -> MilliPaise:
        """Return what `units` more cost when the month has seen `units_before`."""
        return MilliPaise(self.total_mp(units_before + units) - self.total_mp(units_before))


class _Strict(BaseModel):
    # A misspelt key in a price book must be told, not ignored.
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ChannelPrices(_Strict):
    unit: str
    included_dlt_paise: Decimal | None = None
    edges: list[int]
    columns: dict[Category, str]
    rates: dict[str, list[Decimal]]
    range: dict[str, tuple[Decimal, Decimal]] = {}
    costs: dict[str, Decimal] = {}

    @model_validator(mode="after")
    def _is_whole(self) -> "_ChannelPrices":
        if self.edges != sorted(set(self.edges)) or any(edge <= 0 for edge in self.edges):
            raise ValueError("edges must be positive and rise")
        for column in self.rates:
            self.rates_mp(column, self.rates)
        return self

    def rates_mp(self, column: str, rates: Mapping[str, list[Decimal]]) -> list[int]:
        """Return one rate a slab in milli-paise.

        Raises:
            ValueError: a rate is missing, negative, finer than a milli-paisa or outside the column's range.
        """
        if len(rates[column]) != len(self.edges) + 1:
            raise ValueError(f"{column} needs {len(self.edges) + 1} rates, one for each slab")
        low, high = self.range.get(column, (Decimal(0), Decimal("Infinity")))
        for rate in rates[column]:
            if not low <= rate <= high:
                raise ValueError(f"{column}: {rate} is not between {low} and {high}")
            if rate * PAISA_MP % 1:
                raise ValueError(f"{column}: {rate} has more than three decimals")
        return [int(rate * PAISA_MP) for rate in rates[column]]


class _Failures(_Strict):
    default: bool
    billed: dict[ErrorCode, bool]


class _BookFile(_Strict):
    currency: str
    tax_included: bool
    sms: _ChannelPrices
    whatsapp: _ChannelPrices
    rcs: _ChannelPrices
    voice: _ChannelPrices
    email: _ChannelPrices
    failures: _Failures
    accounts: dict[str, dict[Channel, dict[str, list[Decimal]]]] = {}

    def channel(self, channel: Channel) -> _ChannelPrices:
        prices: _ChannelPrices = getattr(self, channel.value)
        return prices


@dataclass(frozen=True, slots=True)
class PriceBook:
    """List prices and agreed ones by (account, channel, column), and which failures are charged."""

    column_names: Mapping[tuple[Channel, Category], str]
    listed: Mapping[tuple[Channel, str], Column]
    agreed: Mapping[tuple[str, Channel, str], Column]
    billed_failures: Mapping[str, bool]
    unlisted_failure_is_billed: bool
    below_cost: Sequence[str] = ()
    """Rates that are less than their carrier takes, in words for the operator."""

    def column(self, channel: Channel, category: Category, account_id: str) -> Column:
        """Return the column that prices a category for an account.

        Raises:
            NoPriceError: there is none.
        """
        name = self.column_names.get((channel, category), "")
        column = self.agreed.get((account_id, channel, name)) or self.listed.get((channel, name))
        if column is None:
            raise NoPriceError(f"no price for {category.value} by {channel.value}")
        return column

    def bills_failure(self, error_code: str) -> bool:
        """Tell whether an attempt that the carrier took, and that then failed so, is charged."""
        return self.billed_failures.get(error_code, self.unlisted_failure_is_billed)

    def unit_prices_mp(self, account_id: str, volumes: Mapping[Channel, int]) -> dict[str, int]:
        """Return what the next unit costs an account in every column, by `<channel>.<column>`."""
        columns = {column.name: (channel, column) for (channel, _), column in self.listed.items()}
        columns |= {
            column.name: (channel, column)
            for (account, channel, _), column in self.agreed.items()
            if account == account_id
        }
        return {name: column.price_mp(volumes.get(channel, 0), 1) for name, (channel, column) in columns.items()}


def price(
    book: PriceBook, channel: Channel, category: Category, units_before: int, units: int, account_id: str = ""
) -> MilliPaise:
    """Return the price of `units` more units after `units_before` of the same account, month (IST) and channel.

    Raises:
        NoPriceError: the account has no rate for this channel and category.
    """
    return book.column(channel, category, account_id).price_mp(units_before, units)


def load_price_book(path: Path = LIST_PRICES) -> PriceBook:
    """Read a price book.

    Raises:
        ConfigurationError: the file is missing or wrong; the text says where and how.
    """
    try:
        parsed = _BookFile.model_validate(tomllib.loads(path.read_text(), parse_float=Decimal))
        return _compile(parsed)
    except OSError as error:
        raise ConfigurationError(f"the price book {path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the price book {path} is not valid TOML: {error}") from error
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigurationError(f"the price book {path} is wrong at {places}") from error
    except KeyError as error:
        raise ConfigurationError(f"the price book {path} agrees on a column that no channel has: {error}") from error


def _compile(parsed: _BookFile) -> PriceBook:
    names: dict[tuple[Channel, Category], str] = {}
    listed: dict[tuple[Channel, str], Column] = {}
    for channel in Channel:
        prices = parsed.channel(channel)
        names |= {(channel, category): name for category, name in prices.columns.items()}
        for name in prices.rates:
            column = Column.of(f"{channel.value}.{name}", prices.edges, prices.rates_mp(name, prices.rates))
            listed[channel, name] = column
    agreed: dict[tuple[str, Channel, str], Column] = {}
    for account_id, channels in parsed.accounts.items():
        for channel, rates in channels.items():
            prices = parsed.channel(channel)
            for name in rates:
                if name not in {*prices.rates, *prices.columns.values()}:
                    raise KeyError(f"{account_id}.{channel.value}.{name}")
                column = Column.of(f"{channel.value}.{name}", prices.edges, prices.rates_mp(name, rates))
                agreed[account_id, channel, name] = column
    return PriceBook(
        column_names=names,
        listed=listed,
        agreed=agreed,
        billed_failures={code.value: billed for code, billed in parsed.failures.billed.items()},
        unlisted_failure_is_billed=parsed.failures.default,
        below_cost=list(_below_cost(parsed)),
    )


def _below_cost(parsed: _BookFile) -> Iterator[str]:
    for channel in Channel:
        prices = parsed.channel(channel)
        sold = [("the list price", prices.rates)]
        sold += [
            (f"the price of {account}", rates[channel])
            for account, rates in parsed.accounts.items()
            if channel in rates
        ]
        for whose, rates in sold:
            for name, cost in prices.costs.items():
                least = min(rates.get(name, [cost]))
                if least < cost:
                    yield f"{whose} of {channel.value}.{name} is {least} paise, and the carrier takes {cost}"
