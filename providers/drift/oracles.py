"""Price accounts that Drift's markets stand on: reading them, and whether the program would trade on them now.

Layouts: legacy Pyth price accounts (pyth-client version 2), Pyth's pull accounts (`PriceUpdateV2`), and Drift's own
`PythLazerOracle`. Rules: `state/oracle.rs` (get_pyth_price, get_pyth_stable_coin_price) and `math/oracle.rs`
(oracle_validity, is_oracle_valid_for_action) of the program, version 2.84. A market on any other source is not offered.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec

from providers.base.errors import BadAnswer, NotListed, OracleStale, ProviderError
from providers.drift.constants import PERCENTAGE_PRECISION, PRICE_PRECISION, ContractTier, OracleSource
from providers.drift.layouts import GuardRails

__all__ = [
    "OraclePrice",
    "OracleValidity",
    "confidence_multiplier",
    "is_supported",
    "oracle_delay",
    "oracle_error",
    "oracle_validity",
    "read_oracle",
    "too_far_from_twap",
]


class OraclePrice(msgspec.Struct, frozen=True):
    """What a price account says.

    Attributes:
        price, confidence: price precision (1e6).
        slot: when it was published; null for the quote asset, which is never stale.
        sufficient: enough publishers stand behind it.
    """

    price: int
    confidence: int
    slot: int | None
    sufficient: bool = True


class OracleValidity(IntEnum):
    """From the worst to the best, as the program ranks them."""

    NON_POSITIVE = 0
    TOO_VOLATILE = 1
    TOO_UNCERTAIN = 2
    STALE_FOR_MARGIN = 3
    INSUFFICIENT_DATA_POINTS = 4
    STALE_FOR_AMM = 5
    VALID = 6


_QUOTE_ASSET: Final = OraclePrice(PRICE_PRECISION, 1, None)
_STABLE_BAND: Final = 500  # 5 bps of a dollar

# Exponent, publishers, publishers that count, slot of the last valid aggregate; then its price and confidence.
_PYTH_HEAD: Final = struct.Struct("<20xiII8xQ")
_PYTH_AGGREGATE: Final = struct.Struct("<qQ")
_PYTH_AGGREGATE_OFFSET: Final = 208
_PYTH_PUBLISHERS_NEEDED: Final = 3
# After the verification level: feed id, price, confidence, exponent, times and averages, slot.
_PULL_LEVEL_OFFSET: Final = 40
_PULL_BODY: Final = struct.Struct("<32xqQi32xQ")
_LAZER: Final = struct.Struct("<8xq8xQi4xQ")

_MULTIPLE: Final = {
    OracleSource.PYTH_1K: 1_000,
    OracleSource.PYTH_1M: 1_000_000,
    OracleSource.PYTH_1K_PULL: 1_000,
    OracleSource.PYTH_1M_PULL: 1_000_000,
    OracleSource.PYTH_LAZER_1K: 1_000,
    OracleSource.PYTH_LAZER_1M: 1_000_000,
}
_STABLE: Final = frozenset(
    {OracleSource.PYTH_STABLE_COIN, OracleSource.PYTH_STABLE_COIN_PULL, OracleSource.PYTH_LAZER_STABLE_COIN}
)

Raw = tuple[int, int, int, int, bool]  # price, confidence, exponent, slot, sufficient


def _legacy(data: bytes) -> Raw:
    exponent, publishers, counted, slot = _PYTH_HEAD.unpack_from(data)
    price, confidence = _PYTH_AGGREGATE.unpack_from(data, _PYTH_AGGREGATE_OFFSET)
    return price, confidence, exponent, slot, counted >= min(publishers, _PYTH_PUBLISHERS_NEEDED)


def _pull(data: bytes) -> Raw:
    # The level is one byte when full; partial carries the number of signatures behind it.
    offset = _PULL_LEVEL_OFFSET + (1 if data[_PULL_LEVEL_OFFSET] & 1 else 2)
    price, confidence, exponent, slot = _PULL_BODY.unpack_from(data, offset)
    return price, confidence, exponent, slot, True


def _lazer(data: bytes) -> Raw:
    price, slot, exponent, confidence = _LAZER.unpack_from(data)
    return price, confidence, exponent, slot, True


_READERS: Final[dict[OracleSource, Callable[[bytes], Raw]]] = {
    OracleSource.PYTH: _legacy,
    OracleSource.PYTH_1K: _legacy,
    OracleSource.PYTH_1M: _legacy,
    OracleSource.PYTH_STABLE_COIN: _legacy,
    OracleSource.PYTH_PULL: _pull,
    OracleSource.PYTH_1K_PULL: _pull,
    OracleSource.PYTH_1M_PULL: _pull,
    OracleSource.PYTH_STABLE_COIN_PULL: _pull,
    OracleSource.PYTH_LAZER: _lazer,
    OracleSource.PYTH_LAZER_1K: _lazer,
    OracleSource.PYTH_LAZER_1M: _lazer,
    OracleSource.PYTH_LAZER_STABLE_COIN: _lazer,
}


def is_supported(source: int) -> bool:
    """Whether the adapter can read prices of this source."""
    return source == OracleSource.QUOTE_ASSET or source in _READERS


def read_oracle(source: int, data: bytes | None) -> OraclePrice:
    """Read a price account, scaled to price precision with the program's truncation.

    Raises:
        NotListed: a source that the adapter does not read.
        BadAnswer: the account is missing, or shorter than its layout.
    """
    if source == OracleSource.QUOTE_ASSET:
        return _QUOTE_ASSET
    if not is_supported(source):
        known = {each.value for each in OracleSource}
        name = OracleSource(source).name.lower() if source in known else str(source)
        raise NotListed(f"prices of source {name} are not supported")
    kind = OracleSource(source)
    if data is None:
        raise BadAnswer("the market's price account is missing")
    try:
        price, confidence, exponent, slot, sufficient = _READERS[kind](data)
    except (struct.error, IndexError) as error:
        raise BadAnswer(f"a price account of {len(data)} bytes is too short") from error
    precision, multiple = 10 ** abs(exponent), _MULTIPLE.get(kind, 1)
    if precision <= multiple:
        raise BadAnswer(f"a price with exponent {exponent} is too coarse for its scale")
    precision //= multiple
    if precision > PRICE_PRECISION:
        divisor = precision // PRICE_PRECISION
        # Truncated toward zero: a negative price stays negative.
        price = price // divisor if price >= 0 else -(-price // divisor)
        confidence //= divisor
    else:
        price, confidence = price * (PRICE_PRECISION // precision), confidence * (PRICE_PRECISION // precision)
    if kind in _STABLE and abs(price - PRICE_PRECISION) <= min(_STABLE_BAND, confidence):
        price = PRICE_PRECISION
    return OraclePrice(price, confidence, slot, sufficient)


def oracle_delay(oracle: OraclePrice, slot: int) -> int:
    """Return how many slots old the price is at `slot`; negative when it is newer."""
    return 0 if oracle.slot is None else slot - oracle.slot


def confidence_multiplier(tier: int) -> int:
    """Return how much wider than the guard rail a price may be in a market of this tier."""
    if tier <= ContractTier.B:
        return 1
    return {ContractTier.C: 2, ContractTier.SPECULATIVE: 10}.get(ContractTier(tier), 50)


def oracle_validity(oracle: OraclePrice, *, slot: int, twap: int, rails: GuardRails, multiplier: int) -> OracleValidity:
    """Return the program's verdict on a price at `slot`.

    Args:
        oracle: as read.
        slot: of the chain.
        twap: the market's last oracle average, price precision.
        rails: of the exchange.
        multiplier: see `confidence_multiplier`.
    """
    price, delay = oracle.price, oracle_delay(oracle, slot)
    if price <= 0:
        return OracleValidity.NON_POSITIVE
    if max(price, twap) // max(min(twap, price), 1) > rails.too_volatile_ratio:
        return OracleValidity.TOO_VOLATILE
    width = max(1, oracle.confidence) * PERCENTAGE_PRECISION // price
    if width > rails.confidence_interval_max_size * multiplier:
        return OracleValidity.TOO_UNCERTAIN
    if delay > rails.slots_before_stale_for_margin:
        return OracleValidity.STALE_FOR_MARGIN
    if not oracle.sufficient:
        return OracleValidity.INSUFFICIENT_DATA_POINTS
    return OracleValidity.STALE_FOR_AMM if delay > rails.slots_before_stale_for_amm else OracleValidity.VALID


def too_far_from_twap(price: int, twap: int, rails: GuardRails) -> bool:
    """Whether the price has left its five minute average by so much that the program lets nothing fill."""
    if twap == 0:
        return True
    return abs(price - twap) * PERCENTAGE_PRECISION // abs(twap) >= rails.max_twap_divergence


_RAW_NAME: Final = {
    OracleValidity.NON_POSITIVE: (6261, "OracleNonPositive"),
    OracleValidity.TOO_VOLATILE: (6262, "OracleTooVolatile"),
    OracleValidity.TOO_UNCERTAIN: (6263, "OracleTooUncertain"),
    OracleValidity.STALE_FOR_MARGIN: (6264, "OracleStaleForMargin"),
    OracleValidity.INSUFFICIENT_DATA_POINTS: (6265, "OracleInsufficientDataPoints"),
    OracleValidity.STALE_FOR_AMM: (6266, "OracleStaleForAMM"),
}


def oracle_error(validity: OracleValidity, oracle: OraclePrice, slot: int) -> ProviderError | None:
    """Return why the AMM would not fill on this price; null when it would.

    The program itself never answers these for an order: it lets the order rest (or die) without a fill.
    """
    if validity is OracleValidity.VALID:
        return None
    code, name = _RAW_NAME[validity]
    detail = f"price {oracle.price}, confidence {oracle.confidence}, {oracle_delay(oracle, slot)} slots old"
    return OracleStale(detail, raw_code=code, raw_name=name)
