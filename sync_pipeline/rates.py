"""The fees, taxes and rates that a tenant's figures are computed with, by day."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final, Protocol

from sync_pipeline.dated_values import DatedNumber, value_on
from sync_pipeline.rules import fingerprint

ZERO: Final = Decimal(0)
DEFAULT_RETURN_RATE: Final = Decimal("0.20")


@dataclass(frozen=True, slots=True)
class Rates:
    """What the figures of a day are computed with; fees in the tenant's currency, multipliers of spend by ad account.

    `per_order` is the outbound fee of an order: shipping, fulfilment and packaging. `return_fee` is that of a returned
    one, `cod_percent` is of collected cash, `lost_share` is the share of returned goods that cannot be sold again,
    `ad_tax_percent` is VAT and other taxes on ads, and `return_rate` the assumed rate of returns.
    """

    per_order: Decimal = ZERO
    cod_percent: Decimal = ZERO
    spend_multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    return_fee: Decimal = ZERO
    lost_share: Decimal = ZERO
    ad_tax_percent: Decimal = ZERO
    return_rate: Decimal = DEFAULT_RETURN_RATE

    def on(self, day: date) -> "Rates":  # noqa: ARG002 (a schedule that is the same on every day)
        """Return the rates of a day, which are these."""
        return self

    @property
    def fingerprint(self) -> str:
        """The fingerprint of rows that are computed with these rates."""
        numbers = (
            self.per_order,
            self.cod_percent,
            self.return_fee,
            self.lost_share,
            self.ad_tax_percent,
            self.return_rate,
        )
        multipliers = sorted((account, _plain(value)) for account, value in self.spend_multipliers.items())
        return fingerprint(*map(_plain, numbers), multipliers)


class RateSchedule(Protocol):
    """Rates that may differ from day to day."""

    def on(self, day: date) -> Rates:
        """Return the rates of a day."""


@dataclass(frozen=True, slots=True)
class DatedRates:
    """The rates of a tenant file, each with the days on which it holds. On a day without one, a fee or tax is 0."""

    outbound_fees: tuple[DatedNumber, ...]
    return_fee: DatedNumber
    cod_percent: DatedNumber
    ad_taxes: tuple[DatedNumber, ...]
    spend_multipliers: Mapping[str, DatedNumber]
    lost_share: Decimal
    return_rate: Decimal

    def on(self, day: date) -> Rates:
        """Return the rates of a day; an account without a multiplier on that day has none."""
        multipliers = {account: value_on(setting, day) for account, setting in self.spend_multipliers.items()}
        return Rates(
            per_order=_sum_on(self.outbound_fees, day),
            cod_percent=_sum_on((self.cod_percent,), day),
            spend_multipliers={account: value for account, value in multipliers.items() if value is not None},
            return_fee=_sum_on((self.return_fee,), day),
            lost_share=self.lost_share,
            ad_tax_percent=_sum_on(self.ad_taxes, day),
            return_rate=self.return_rate,
        )


def _sum_on(settings: tuple[DatedNumber, ...], day: date) -> Decimal:
    return sum((value_on(setting, day) or ZERO for setting in settings), ZERO)


def _plain(value: Decimal) -> str:
    # 2.5 and 2.50 are the same setting.
    return f"{value.normalize():f}"
