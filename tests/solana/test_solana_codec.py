"""Layouts, borsh and base58, held against anchorpy's coder with the IDL that driftpy ships."""

from __future__ import annotations

import json
import random
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import driftpy
import msgspec
import pytest
from anchorpy import AccountsCoder, EventCoder, InstructionCoder
from anchorpy.program.common import NamedInstruction
from anchorpy_core.idl import Idl as AnchorIdl
from hypothesis import given
from hypothesis import strategies as st
from pyheck import snake
from solders.instruction import AccountMeta
from solders.pubkey import Pubkey

from providers.base.errors import BadAnswer
from providers.solana.base58 import decode_base58, encode_base58
from providers.solana.codec import (
    AccountLayout,
    EventDecoder,
    LayoutError,
    build_instruction,
    encode_instruction,
)
from providers.solana.idl import Idl, discriminator, snake_case

PATH = Path(driftpy.__file__).parent / "idl" / "drift.json"
SIZES = {"User": 4376, "PerpMarket": 1216, "SpotMarket": 776}
WIDTHS = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}


@cache
def idl() -> Idl:
    return Idl.parse(PATH.read_bytes())


@cache
def raw_idl() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(PATH.read_text())
    return loaded


@cache
def anchor_idl() -> AnchorIdl:
    return AnchorIdl.from_json(PATH.read_text())


@cache
def coder(kind: type) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return kind(anchor_idl())


def definition(name: str) -> dict[str, Any]:
    return next(each["type"] for each in (*raw_idl()["types"], *raw_idl()["accounts"]) if each["name"] == name)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - tests repeat from their seed


def random_bytes(kind: Any, rng: random.Random, path: str, leaves: list[str]) -> bytes:
    """Return a random value of an IDL type, and note the path of every scalar in it."""
    if isinstance(kind, dict) and "defined" in kind:
        body = definition(kind["defined"])
        if body["kind"] == "enum":
            leaves.append(path)
            return bytes([rng.randrange(len(body["variants"]))])
        return b"".join(
            random_bytes(field["type"], rng, f"{path}.{snake_case(field['name'])}".lstrip("."), leaves)
            for field in body["fields"]
        )
    if isinstance(kind, dict) and "array" in kind:
        element, count = kind["array"]
        if isinstance(element, str):
            leaves.append(path)
            return b"".join(random_bytes(element, rng, "", []) for _ in range(count))
        return b"".join(random_bytes(element, rng, f"{path}.{index}", leaves) for index in range(count))
    leaves.append(path)
    if kind == "bool":
        return bytes([rng.randrange(2)])
    return rng.randbytes(32 if kind == "publicKey" else WIDTHS[kind[1:]])


def anchor_value(decoded: Any, path: str) -> Any:
    """Return what anchorpy decoded at a path, in our terms."""
    for part in path.split("."):
        decoded = decoded[int(part)] if part.isdecimal() else getattr(decoded, part)
    if isinstance(decoded, list):
        return tuple(decoded)
    # Enums are of a class of their own per variant.
    return decoded if isinstance(decoded, int | Pubkey | bytes | tuple) else type(decoded).__name__


@pytest.mark.parametrize("name", sorted(SIZES))
@pytest.mark.parametrize("seed", [1, 2])
def test_every_field_of_every_hot_account_reads_as_anchorpy_reads_it(name: str, seed: int) -> None:
    """All scalars of User, PerpMarket and SpotMarket, by path and offset, equal the IDL coder's."""
    leaves: list[str] = []
    layout = AccountLayout(idl(), name, size=SIZES[name])
    body = random_bytes({"defined": name}, seeded(seed), "", leaves)
    data = layout.discriminator + body
    assert len(data) == SIZES[name]
    decoded = coder(AccountsCoder).decode(data)
    names = {path: f"field_{index}" for index, path in enumerate(leaves)}
    into = msgspec.defstruct("All", [(each, Any) for each in names.values()], frozen=True, kw_only=True)
    values = layout.reader(names, into)(data)
    enums = 0
    for path, field in names.items():
        ours, theirs = getattr(values, field), anchor_value(decoded, path)
        if isinstance(theirs, str):
            assert isinstance(ours, int)
            enums += 1
            continue
        if isinstance(ours, bytes):
            ours = tuple(ours)
        if isinstance(theirs, bytes):
            theirs = tuple(theirs)
        assert ours == theirs, path
    assert len(leaves) - enums > 60


def test_enums_read_as_the_number_of_their_variant() -> None:
    """A fieldless enum is one byte, and its name is found by number."""
    layout = AccountLayout(idl(), "PerpMarket")
    data = bytearray(layout.size)
    data[:8] = layout.discriminator
    data[layout.offset("status")] = 2
    into = msgspec.defstruct("Status", [("status", int)], frozen=True, kw_only=True)
    read = layout.reader({"status": "status"}, into)(bytes(data))
    status: int = getattr(read, "status")  # noqa: B009 - the struct was made at run time
    assert status == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = type(coder(AccountsCoder).decode(bytes(data)).status).__name__
    assert idl().variants("MarketStatus")[status] == theirs


class Position(msgspec.Struct, frozen=True, kw_only=True):
    base: int
    market_index: int


def test_arrays_of_structs_are_read_element_by_element() -> None:
    """The eight perp positions of a User, two fields of each, as anchorpy has them."""
    layout = AccountLayout(idl(), "User", size=4376)
    data = layout.discriminator + random_bytes({"defined": "User"}, seeded(5), "", [])
    read = layout.array_reader(
        "perp_positions", {"base_asset_amount": "base", "market_index": "market_index"}, Position
    )
    theirs = coder(AccountsCoder).decode(data).perp_positions
    assert [(each.base, each.market_index) for each in read(data)] == [
        (each.base_asset_amount, each.market_index) for each in theirs
    ]


def test_bytes_that_are_not_the_account_are_refused() -> None:
    """Another account's discriminator, a short account, an empty one: `bad_answer`, never a misread."""
    layout = AccountLayout(idl(), "User")
    read = layout.array_reader(
        "perp_positions", {"base_asset_amount": "base", "market_index": "market_index"}, Position
    )
    one = layout.reader(
        {"perp_positions.1.base_asset_amount": "base", "perp_positions.1.market_index": "market_index"}, Position
    )
    whole = layout.discriminator + bytes(layout.size - 8)
    assert one(whole) == Position(base=0, market_index=0)
    assert one(whole + b"appended by a newer version") == one(whole)
    for wrong in (b"", whole[:-1], bytes(layout.size), AccountLayout(idl(), "PerpMarket").discriminator + whole[8:]):
        for reader in (read, one):
            with pytest.raises(BadAnswer):
                reader(wrong)


def test_layouts_that_cannot_be_are_errors_at_once() -> None:
    """A wrong size, an unknown account or field, a vector: known when the adapter is loaded, not when it trades."""
    with pytest.raises(LayoutError):
        AccountLayout(idl(), "User", size=4375)
    with pytest.raises(LayoutError):
        AccountLayout(idl(), "NoSuchAccount")
    with pytest.raises(LayoutError):
        AccountLayout(idl(), "SignedMsgUserOrders")
    layout = AccountLayout(idl(), "User")
    for path in ("no_such", "perp_positions.8", "perp_positions.0.no_such", "authority.deeper", "perp_positions.x"):
        with pytest.raises(LayoutError):
            layout.offset(path)
    with pytest.raises(LayoutError):
        layout.reader({"perp_positions.0": "base"}, Position)


def build_event(name: str, seed: int) -> tuple[bytes, list[str]]:
    """Return the payload of a random event, encoded here from the raw IDL (options included)."""
    rng = seeded(seed)

    def encode(kind: Any) -> bytes:
        if isinstance(kind, dict) and "option" in kind:
            return b"\1" + encode(kind["option"]) if rng.randrange(2) else b"\0"
        if isinstance(kind, dict) and "vec" in kind:
            count = rng.randrange(4)
            return count.to_bytes(4, "little") + b"".join(encode(kind["vec"]) for _ in range(count))
        if isinstance(kind, dict) and "defined" in kind and definition(kind["defined"])["kind"] == "struct":
            return b"".join(encode(field["type"]) for field in definition(kind["defined"])["fields"])
        return random_bytes(kind, rng, "", [])

    event = next(each for each in raw_idl()["events"] if each["name"] == name)
    payload = discriminator("event", name) + b"".join(encode(field["type"]) for field in event["fields"])
    return payload, [snake_case(field["name"]) for field in event["fields"]]


@pytest.mark.parametrize("name", ["OrderActionRecord", "OrderRecord", "DepositRecord", "LiquidationRecord"])
@pytest.mark.parametrize("seed", range(5))
def test_events_decode_as_anchorpy_decodes_them(name: str, seed: int) -> None:
    """Options, enums and nested structs of logged events equal the IDL coder's, field by field."""
    payload, fields = build_event(name, seed)
    decoder = EventDecoder(idl())
    assert decoder.name_of(payload) == name
    ours = decoder.decode(payload)
    theirs = coder(EventCoder).parse(payload)
    assert theirs.name == name
    assert list(ours) == fields
    for field in fields:
        compare(ours[field], getattr(theirs.data, field), field)


def compare(ours: Any, theirs: Any, path: str) -> None:
    """Hold a value of ours against anchorpy's of it."""
    if isinstance(ours, dict):
        for name, value in ours.items():
            compare(value, getattr(theirs, name), f"{path}.{name}")
    elif isinstance(ours, str):
        assert ours == type(theirs).__name__, path
    elif isinstance(ours, tuple | bytes):
        assert tuple(ours) == tuple(theirs), path
    else:
        assert ours == theirs, path


class Action(msgspec.Struct, frozen=True, kw_only=True):
    action: str
    market_index: int
    taker: Pubkey | None


def test_an_event_fills_a_struct_and_broken_ones_are_bad_answers() -> None:
    """Some fields into a struct; a foreign payload, a truncated one and a flag of 2 are refused."""
    payload, _ = build_event("OrderActionRecord", 3)
    decoder = EventDecoder(idl())
    values = decoder.decode(payload)
    action = decoder.decode_as(payload, Action)
    assert (action.action, action.market_index, action.taker) == (
        values["action"],
        values["market_index"],
        values["taker"],
    )
    # A newer version of the program appends fields.
    assert decoder.decode(payload + b"\1\2\3") == values
    for cut in range(len(payload)):
        with pytest.raises(BadAnswer):
            decoder.decode(payload[:cut])
    assert decoder.name_of(b"") is None
    with pytest.raises(BadAnswer):
        decoder.decode(bytes(200))


def test_instructions_encode_as_anchorpy_encodes_them() -> None:
    """Discriminator and arguments of a place-and-take, a deposit and a liquidation equal the IDL coder's bytes."""
    amounts = {"market_index": 3, "amount": 10**12, "reduce_only": True}
    theirs = coder(InstructionCoder).build(NamedInstruction(name="deposit", data=amounts))
    assert encode_instruction(idl(), "deposit", amounts) == theirs
    name: Any = tuple(b"Main Account".ljust(32))
    theirs = coder(InstructionCoder).build(
        NamedInstruction(name="initialize_user", data={"sub_account_id": 1, "name": list(name)})
    )
    assert encode_instruction(idl(), "initializeUser", {"sub_account_id": 1, "name": name}) == theirs
    assert encode_instruction(idl(), "initialize_user", {"sub_account_id": 1, "name": bytes(name)}) == theirs


def test_an_instruction_has_the_idls_accounts_and_flags() -> None:
    """Accounts in the IDL's order with its flags, remaining ones after them."""
    deposit = next(each for each in raw_idl()["instructions"] if each["name"] == "deposit")
    names = [snake_case(each["name"]) for each in deposit["accounts"]]
    keys = {name: Pubkey.new_unique() for name in names}
    extra = AccountMeta(Pubkey.new_unique(), is_signer=False, is_writable=True)
    instruction = build_instruction(
        idl(),
        Pubkey.new_unique(),
        "deposit",
        keys,
        {"market_index": 0, "amount": 1, "reduce_only": False},
        remaining=[extra],
    )
    assert [meta.pubkey for meta in instruction.accounts] == [*keys.values(), extra.pubkey]
    flags = {name: (meta.is_signer, meta.is_writable) for name, meta in zip(names, instruction.accounts, strict=False)}
    assert flags["authority"] == (True, False)
    assert flags["state"] == (False, False)
    assert flags["user"] == (False, True)


@pytest.mark.parametrize(
    "args",
    [
        {"market_index": 2**16, "amount": 1, "reduce_only": False},
        {"market_index": -1, "amount": 1, "reduce_only": False},
        {"market_index": True, "amount": 1, "reduce_only": False},
        {"market_index": 0, "amount": 1, "reduce_only": 1},
        {"market_index": 0, "amount": "1", "reduce_only": False},
        {"market_index": 0, "amount": 1, "reduce_only": False, "extra": 1},
        {"market_index": 0, "amount": 1},
    ],
)
def test_arguments_that_do_not_fit_are_refused(args: dict[str, Any]) -> None:
    """Too wide, negative, of another type, unknown or missing: an error and no bytes."""
    with pytest.raises((ValueError, KeyError)):
        encode_instruction(idl(), "deposit", args)


def test_enum_arguments_go_by_name() -> None:
    """Fieldless variants by name, others with their fields, unknown names not at all."""
    data = encode_instruction(idl(), "update_perp_market_status", {"status": "Active"})
    assert data[8:] == bytes([idl().variants("MarketStatus").index("Active")])
    with pytest.raises(ValueError, match="variant"):
        encode_instruction(idl(), "update_perp_market_status", {"status": "NoSuch"})


@given(st.binary(max_size=80))
def test_base58_goes_both_ways(data: bytes) -> None:
    """Any bytes come back; 32 bytes are written as solders writes a key."""
    assert decode_base58(encode_base58(data)) == data
    if len(data) >= 32:
        assert encode_base58(data[:32]) == str(Pubkey.from_bytes(data[:32]))


@pytest.mark.parametrize("text", ["0", "O", "I", "l", "a b", "é", "\n1"])
def test_text_that_is_not_base58_is_refused(text: str) -> None:
    """The four look-alikes, spaces and foreign characters."""
    with pytest.raises(ValueError, match="base58"):
        decode_base58(text)


def test_names_are_the_ones_that_anchorpy_has() -> None:
    """Camel to snake case over every field and instruction name of the IDL, and snake case stays as it is."""
    bodies = [each["type"] for each in (*raw_idl()["types"], *raw_idl()["accounts"])]
    fields = [field["name"] for body in bodies for field in body.get("fields", [])]
    for name in {*fields, *(each["name"] for each in raw_idl()["instructions"])}:
        assert snake_case(name) == snake(name)
        assert snake_case(snake_case(name)) == snake_case(name)
