"""Settings of billing, on top of the chassis's."""

from pathlib import Path

from harkara_billing.price_book import LIST_PRICES
from harkara_chassis import ServiceSettings


class Settings(ServiceSettings):
    prices_file: Path = LIST_PRICES
