"""What others did on our account: outside fills, the foreign part beside our lots, and its adoption.

Signed amounts are positive for a long. One slot of a venue holds the lots and the foreign part; an outside fill takes
the foreign part first, then the oldest lot, and what is left of it makes or grows the foreign part.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime
from decimal import Decimal

import msgspec

from providers.base.types import HoldingKey, Side, VenueEvent
from router.ledger import audit, findings
from router.ledger.booking import EXACT, tidy
from router.ledger.codec import decimal_text, optional, parse_decimal, parse_time, time_text
from router.ledger.lots import write_lot
from router.ledger.protocol import EntryUnknown, Explain, LedgerError, NothingForeign
from router.ledger.records import ForeignPart, OutsideBooked, Watermark

__all__ = [
    "adopt",
    "attempt_of_handle",
    "book",
    "booked_slots",
    "busy_markets",
    "first_fill_signature",
    "foreign_part",
    "foreign_parts",
    "is_booked",
    "lot_sizes",
    "set_foreign_part",
    "set_watermark",
    "take_back",
    "watermark",
]

_ZERO = Decimal(0)
RECENT_FILLS = 200
"""Fills looked at for the newest booked slot: they are booked nearly in the order of slots."""


# --- outside fills ---------------------------------------------------------------------------------------------------


def book(
    connection: sqlite3.Connection, provider: str, event: VenueEvent, at: datetime, explain: Explain | None = None
) -> OutsideBooked:
    """Book a change that no attempt of ours made, once; what an attempt has booked is not booked again.

    What `explain` finds in it is written with it, so that a crash leaves both or neither.
    """
    if not event.base_delta.is_finite() or event.base_delta == 0 or not event.price.is_finite() or event.price <= 0:
        raise LedgerError(f"outside fill {event.venue_fill_id} gave nothing")
    if is_booked(connection, provider, event.venue_fill_id):
        return OutsideBooked(new=False, reduced={})
    before = _signed_foreign(connection, provider, event.holding)
    left, foreign_delta = event.base_delta, _ZERO
    if before and (before > 0) != (left > 0):
        foreign_delta = _toward_zero(before, left)
        left -= foreign_delta
    reductions = _reductions(connection, provider, event, left)
    left = _less(left, sum((size for _, size in reductions), _ZERO))
    # What is left of a reduction that took every lot is of rounding: the venue holds nothing that it could be.
    if not (reductions and abs(left) <= event.size_tolerance):
        foreign_delta += left
    seq = connection.execute(
        """
        INSERT INTO outside_fills (
            provider, venue_fill_id, kind, market, base_delta, price, fee_usd, foreign_delta, signature, slot, at,
            booked_at, holding_side)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        RETURNING seq
        """,
        (
            provider,
            event.venue_fill_id,
            event.kind.value,
            event.market,
            decimal_text(event.base_delta),
            decimal_text(event.price),
            decimal_text(event.fee_usd),
            decimal_text(foreign_delta),
            event.signature,
            event.slot,
            time_text(event.at),
            time_text(at),
            _side_text(event.side),
        ),
    ).fetchone()["seq"]
    audit.append(
        connection,
        "outside_fill",
        at,
        provider=provider,
        market=event.market,
        venue_fill_id=event.venue_fill_id,
        reason=event.kind.value,
        base_delta=decimal_text(event.base_delta),
        price=decimal_text(event.price),
        signature=event.signature,
        slot=event.slot,
    )
    for position_id, size in reductions:
        _reduce(connection, position_id, size, event, seq=seq, at=at)
    _move_foreign(
        connection, provider, event.holding, foreign_delta, price=event.price, at=at, because=event.venue_fill_id
    )
    after = before + foreign_delta
    booked = OutsideBooked(new=True, reduced=dict(reductions), foreign_before=before, foreign_after=after)
    finding = None if explain is None else explain(booked)
    if finding is None:
        return booked
    return msgspec.structs.replace(booked, finding=findings.find(connection, finding, at))


def _toward_zero(held: Decimal, delta: Decimal) -> Decimal:
    """Return as much of `delta`, which is against `held`, as `held` can take."""
    return max(delta, -held) if held > 0 else min(delta, -held)


def _less(signed: Decimal, size: Decimal) -> Decimal:
    """Return a signed amount less a size, without passing zero."""
    left = max(abs(signed) - size, _ZERO)
    return left if signed > 0 else -left


def _reductions(
    connection: sqlite3.Connection, provider: str, event: VenueEvent, delta: Decimal
) -> list[tuple[str, Decimal]]:
    """Share a signed change out over the lots that it reduces, oldest first."""
    side = Side.SHORT if delta > 0 else Side.LONG
    if event.side not in {None, side}:
        return []
    rows = connection.execute(
        """
        SELECT position_id, size FROM positions
        WHERE status = 'open' AND provider = ? AND market = ? AND side = ? ORDER BY seq
        """,
        (provider, event.market, side.value),
    )
    left = abs(delta)
    taken: list[tuple[str, Decimal]] = []
    for row in rows:
        size = parse_decimal(row["size"])
        take = size if left and size - left <= event.size_tolerance else min(left, size)
        if take > 0:
            taken.append((row["position_id"], take))
            left = max(left - take, _ZERO)
    return taken


def _reduce(
    connection: sqlite3.Connection, position_id: str, size: Decimal, event: VenueEvent, *, seq: int, at: datetime
) -> None:
    fee = tidy(EXACT.divide(EXACT.multiply(event.fee_usd, size), abs(event.base_delta)))
    size_usd = EXACT.multiply(size, event.price)
    connection.execute(
        """
        INSERT INTO lot_entries (position_id, outside_seq, effect, size, size_usd, fee_usd, at)
        VALUES (?, ?, 'reduce', ?, ?, ?, ?)
        """,
        (position_id, seq, decimal_text(size), decimal_text(size_usd), decimal_text(fee), time_text(at)),
    )
    write_lot(connection, position_id, at)


def is_booked(connection: sqlite3.Connection, provider: str, venue_fill_id: str) -> bool:
    """Whether a fill counts already, as an attempt's or as an outside one."""
    query = """
        SELECT 1 FROM fills WHERE provider = ?1 AND venue_fill_id = ?2 AND taken_back_at IS NULL
        UNION ALL SELECT 1 FROM outside_fills WHERE provider = ?1 AND venue_fill_id = ?2 AND taken_back_at IS NULL
        LIMIT 1
    """
    return connection.execute(query, (provider, venue_fill_id)).fetchone() is not None


def take_back(connection: sqlite3.Connection, provider: str, venue_fill_id: str, at: datetime) -> None:
    """Reverse an outside fill that turns out to be an attempt's; nothing where there is none of that id."""
    row = connection.execute(
        "SELECT * FROM outside_fills WHERE provider = ? AND venue_fill_id = ? AND taken_back_at IS NULL",
        (provider, venue_fill_id),
    ).fetchone()
    if row is None:
        return
    connection.execute("UPDATE outside_fills SET taken_back_at = ? WHERE seq = ?", (time_text(at), row["seq"]))
    audit.append(connection, "outside_fill_taken_back", at, provider=provider, venue_fill_id=venue_fill_id)
    entries = connection.execute(
        "SELECT * FROM lot_entries WHERE outside_seq = ? AND reverses IS NULL", (row["seq"],)
    ).fetchall()
    for entry in entries:
        connection.execute(
            """
            INSERT INTO lot_entries (position_id, outside_seq, effect, size, size_usd, fee_usd, reverses, at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            (
                entry["position_id"],
                row["seq"],
                entry["effect"],
                entry["size"],
                entry["size_usd"],
                entry["fee_usd"],
                entry["seq"],
                time_text(at),
            ),
        )
        write_lot(connection, entry["position_id"], at)
    delta = -parse_decimal(row["foreign_delta"])
    price = parse_decimal(row["price"])
    holding = HoldingKey(market=row["market"], side=_side(row["holding_side"]))
    _move_foreign(connection, provider, holding, delta, price=price, at=at, because=venue_fill_id)


# --- the foreign part ------------------------------------------------------------------------------------------------


def foreign_part(connection: sqlite3.Connection, provider: str, holding: HoldingKey) -> ForeignPart | None:
    """Return what is held beside the lots; null when nothing is."""
    row = connection.execute(
        "SELECT * FROM foreign_parts WHERE provider = ? AND market = ? AND holding_side = ?",
        (provider, holding.market, _side_text(holding.side)),
    ).fetchone()
    return None if row is None else _foreign(row)


def foreign_parts(connection: sqlite3.Connection, provider: str) -> tuple[ForeignPart, ...]:
    """Return the foreign parts on a provider, by market."""
    rows = connection.execute(
        "SELECT * FROM foreign_parts WHERE provider = ? ORDER BY market, holding_side", (provider,)
    )
    return tuple(_foreign(row) for row in rows)


def _foreign(row: sqlite3.Row) -> ForeignPart:
    return ForeignPart(
        provider=row["provider"],
        market=row["market"],
        side=Side(row["side"]),
        size=parse_decimal(row["size"]),
        entry_price=None if row["entry_price"] is None else parse_decimal(row["entry_price"]),
        since=parse_time(row["since"]),
        updated_at=parse_time(row["updated_at"]),
        holding=HoldingKey(market=row["market"], side=_side(row["holding_side"])),
    )


def _side_text(side: Side | None) -> str:
    return "" if side is None else side.value


def _side(text: str) -> Side | None:
    return Side(text) if text else None


def _signed_foreign(connection: sqlite3.Connection, provider: str, holding: HoldingKey) -> Decimal:
    part = foreign_part(connection, provider, holding)
    return _ZERO if part is None else part.signed_size


def _move_foreign(
    connection: sqlite3.Connection,
    provider: str,
    holding: HoldingKey,
    delta: Decimal,
    *,
    price: Decimal,
    at: datetime,
    because: str,
) -> None:
    """Add a signed change to the foreign part; growth is weighed into its entry price, a flip starts anew."""
    if not delta:
        return
    part = foreign_part(connection, provider, holding)
    before = _ZERO if part is None else part.signed_size
    after = before + delta
    if part is None or before * after < 0:
        entry: Decimal | None = price
    elif abs(after) <= abs(before) or part.entry_price is None:
        entry = part.entry_price
    else:
        paid = EXACT.add(EXACT.multiply(part.size, part.entry_price), EXACT.multiply(abs(delta), price))
        entry = tidy(EXACT.divide(paid, abs(after)))
    set_foreign_part(connection, provider, holding, after, entry_price=entry, at=at, because=because)


def set_foreign_part(
    connection: sqlite3.Connection,
    provider: str,
    holding: HoldingKey,
    signed_size: Decimal,
    *,
    entry_price: Decimal | None,
    at: datetime,
    because: str,
) -> None:
    """Write the foreign part as a whole, with an event that says why; zero takes it away."""
    before = foreign_part(connection, provider, holding)
    had = _ZERO if before is None else before.signed_size
    if had == signed_size and (before is None or before.entry_price == entry_price):
        return
    since = at if before is None or had * signed_size < 0 else before.since
    connection.execute(
        "DELETE FROM foreign_parts WHERE provider = ? AND market = ? AND holding_side = ?",
        (provider, holding.market, _side_text(holding.side)),
    )
    if signed_size:
        side = Side.LONG if signed_size > 0 else Side.SHORT
        connection.execute(
            "INSERT INTO foreign_parts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                provider,
                holding.market,
                _side_text(holding.side),
                side.value,
                decimal_text(abs(signed_size)),
                optional(entry_price),
                time_text(since),
                time_text(at),
            ),
        )
    audit.append(
        connection,
        "foreign_part",
        at,
        provider=provider,
        market=holding.market,
        holding_side=_side_text(holding.side) or None,
        before=decimal_text(had),
        after=decimal_text(signed_size),
        entry_price=optional(entry_price),
        because=because,
    )


def adopt(
    connection: sqlite3.Connection,
    provider: str,
    holding: HoldingKey,
    *,
    entry_price: Decimal | None,
    caller: str,
    position_id: str,
    at: datetime,
) -> str:
    """Make a lot of the foreign part and return its id; `entry_price` serves where the part has none of its own.

    Raises:
        NothingForeign: there is no foreign part.
        EntryUnknown: nothing tells at what price it was entered.
    """
    part = foreign_part(connection, provider, holding)
    if part is None:
        raise NothingForeign(provider, str(holding))
    price = part.entry_price or entry_price
    if price is None or price <= 0:
        raise EntryUnknown(provider, str(holding))
    connection.execute(
        """
        INSERT INTO positions (
            position_id, provider, market, side, status, size, opened_size, entry_price, leverage, opened_by_order,
            caller, realized_pnl_usd, fees_usd, opened_at, closed_at)
        VALUES (?, ?, ?, ?, 'closed', '0', '0', '0', '1', NULL, ?, '0', '0', ?, NULL)
        """,
        (position_id, provider, holding.market, part.side.value, caller, time_text(part.since)),
    )
    connection.execute(
        "INSERT INTO lot_entries (position_id, effect, size, size_usd, fee_usd, at) VALUES (?, 'open', ?, ?, '0', ?)",
        (position_id, decimal_text(part.size), decimal_text(EXACT.multiply(part.size, price)), time_text(at)),
    )
    audit.append(
        connection,
        "position_adopted",
        at,
        position_id=position_id,
        provider=provider,
        market=holding.market,
        side=part.side,
        size=decimal_text(part.size),
        entry_price=decimal_text(price),
        caller=caller,
    )
    set_foreign_part(connection, provider, holding, _ZERO, entry_price=None, at=at, because=position_id)
    write_lot(connection, position_id, at)
    return position_id


# --- what reconciliation reads ---------------------------------------------------------------------------------------


def lot_sizes(connection: sqlite3.Connection, provider: str, *, netting: bool) -> dict[HoldingKey, Decimal]:
    """Return the signed sum of the open lots of each holding."""
    sizes: dict[HoldingKey, Decimal] = {}
    rows = connection.execute(
        "SELECT market, side, size FROM positions WHERE status = 'open' AND provider = ?", (provider,)
    )
    for row in rows:
        side, size = Side(row["side"]), parse_decimal(row["size"])
        key = HoldingKey(market=row["market"], side=None if netting else side)
        sizes[key] = sizes.get(key, _ZERO) + (size if side is Side.LONG else -size)
    return sizes


def booked_slots(connection: sqlite3.Connection, provider: str) -> dict[str, int]:
    """Return the newest slot of a booked fill, ours or not, by market."""
    slots: dict[str, int] = {}
    rows = connection.execute(
        """
        SELECT market, CAST(json_extract(CAST(fill AS TEXT), '$.slot') AS INTEGER) AS slot
        FROM (SELECT order_id, fill FROM fills WHERE provider = ?1 ORDER BY seq DESC LIMIT ?2)
        JOIN orders USING (order_id)
        UNION ALL
        SELECT market, slot FROM (SELECT market, slot FROM outside_fills WHERE provider = ?1 ORDER BY seq DESC LIMIT ?2)
        """,
        (provider, RECENT_FILLS),
    )
    for row in rows:
        slots[row["market"]] = max(slots.get(row["market"], 0), row["slot"])
    return slots


def first_fill_signature(connection: sqlite3.Connection, provider: str) -> str | None:
    """Return the transaction of a provider's first fill, by its slot (it may be booked late); null without any."""
    row = connection.execute(
        """
        SELECT json_extract(CAST(fill AS TEXT), '$.signature') AS signature FROM fills
        WHERE provider = ? AND taken_back_at IS NULL
        ORDER BY CAST(json_extract(CAST(fill AS TEXT), '$.slot') AS INTEGER), seq LIMIT 1
        """,
        (provider,),
    ).fetchone()
    return None if row is None else str(row["signature"])


def busy_markets(connection: sqlite3.Connection, provider: str) -> frozenset[str]:
    """Return the markets in which an attempt at the provider may still change something.

    A trigger that rests may do so for weeks: it makes no market busy, and is asked about when something has happened.
    """
    rows = connection.execute(
        """
        SELECT DISTINCT market FROM attempts JOIN orders USING (order_id)
        WHERE attempts.state IN ('journaled', 'sent', 'unknown') AND attempts.provider = ?
            AND NOT (trigger_terms IS NOT NULL AND attempts.resting = 1 AND cancel_requested_at IS NULL)
        """,
        (provider,),
    )
    return frozenset(row["market"] for row in rows)


def attempt_of_handle(connection: sqlite3.Connection, handle: str) -> tuple[str, str] | None:
    """Return order id and attempt id of the attempt that has a signature; null where none has."""
    row = connection.execute("SELECT order_id, attempt_id FROM attempts WHERE handle = ? LIMIT 1", (handle,)).fetchone()
    return None if row is None else (row["order_id"], row["attempt_id"])


def watermark(connection: sqlite3.Connection, name: str) -> Watermark | None:
    """Return how far a history was read; null before the first reading."""
    row = connection.execute("SELECT signature, slot FROM watermarks WHERE name = ?", (name,)).fetchone()
    return None if row is None else Watermark(signature=row["signature"], slot=row["slot"])


def set_watermark(connection: sqlite3.Connection, name: str, mark: Watermark, at: datetime) -> None:
    """Note how far a history was read: after everything that it showed is durable."""
    connection.execute(
        "INSERT OR REPLACE INTO watermarks (name, signature, slot, updated_at) VALUES (?, ?, ?, ?)",
        (name, mark.signature, mark.slot, time_text(at)),
    )
