"""Anchor IDLs (the legacy JSON that most programs publish): names, types, discriminators, errors."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property, lru_cache
from importlib import resources

import msgspec

__all__ = ["Idl", "IdlDefinition", "IdlField", "IdlInstruction", "IdlType", "TypeExpression", "snake_case"]

_ACRONYM = re.compile(r"([A-Z\d]+)([A-Z][a-z])")
_HUMP = re.compile(r"([a-z\d])([A-Z])")


def snake_case(name: str) -> str:
    """Return `lastOracleReservePriceSpreadPct` as `last_oracle_reserve_price_spread_pct`; snake case stays."""
    return _HUMP.sub(r"\1_\2", _ACRONYM.sub(r"\1_\2", name)).lower()


class Defined(msgspec.Struct, frozen=True):
    """A reference to a named type, as newer IDLs write it."""

    name: str


class TypeExpression(msgspec.Struct, frozen=True, omit_defaults=True):
    """A type that is not a primitive: exactly one of these is set."""

    defined: str | Defined | None = None
    option: IdlType | None = None
    vec: IdlType | None = None
    array: tuple[IdlType, int] | None = None

    @property
    def defined_name(self) -> str | None:
        """The name of the type that is referred to."""
        return self.defined.name if isinstance(self.defined, Defined) else self.defined


# A primitive by name (`u64`, `publicKey`) or an expression.
IdlType = str | TypeExpression


class IdlField(msgspec.Struct, frozen=True):
    """A field of a struct, an enum variant, an event, or an argument."""

    name: str
    type: IdlType


class _VariantField(TypeExpression, frozen=True):
    """A field of a variant as it is written: with name and type, or a bare type expression."""

    name: str = ""
    type: IdlType = ""


class IdlVariant(msgspec.Struct, frozen=True):
    """A variant of an enum."""

    name: str
    raw_fields: tuple[str | _VariantField, ...] = msgspec.field(default=(), name="fields")

    @property
    def fields(self) -> tuple[IdlField, ...]:
        """Its fields; those of a tuple variant are called `_0`, `_1`, ..."""
        return tuple(
            IdlField(f"_{index}", raw) if isinstance(raw, str) else IdlField(raw.name or f"_{index}", raw.type or raw)
            for index, raw in enumerate(self.raw_fields)
        )


class IdlBody(msgspec.Struct, frozen=True):
    """What a defined type is: a struct with fields, or an enum with variants."""

    kind: str
    fields: tuple[IdlField, ...] = ()
    variants: tuple[IdlVariant, ...] = ()


class IdlDefinition(msgspec.Struct, frozen=True):
    """A named type or account."""

    name: str
    type: IdlBody


class IdlAccount(msgspec.Struct, frozen=True, rename="camel"):
    """An account of an instruction."""

    name: str
    is_mut: bool = False
    is_signer: bool = False


class IdlInstruction(msgspec.Struct, frozen=True):
    """An instruction: accounts in order, and arguments."""

    name: str
    accounts: tuple[IdlAccount, ...]
    args: tuple[IdlField, ...]


class IdlEvent(msgspec.Struct, frozen=True):
    """An event that the program logs."""

    name: str
    fields: tuple[IdlField, ...]


class IdlError(msgspec.Struct, frozen=True):
    """A custom error of the program."""

    code: int
    name: str
    msg: str = ""


class Idl(msgspec.Struct, frozen=True, dict=True):
    """A program's interface. Lookups by name take snake case or the IDL's own spelling."""

    version: str
    name: str
    instructions: tuple[IdlInstruction, ...] = ()
    accounts: tuple[IdlDefinition, ...] = ()
    types: tuple[IdlDefinition, ...] = ()
    events: tuple[IdlEvent, ...] = ()
    errors: tuple[IdlError, ...] = ()

    @staticmethod
    def load(name: str) -> Idl:
        """Return the IDL that the project ships as `idl/<name>.json`; raise `FileNotFoundError` when it ships none."""
        return _load(name)

    @staticmethod
    def parse(content: bytes) -> Idl:
        """Return an IDL from its JSON; raise `msgspec.ValidationError` when it is none."""
        return msgspec.json.decode(content, type=Idl)

    @cached_property
    def definitions(self) -> dict[str, IdlBody]:
        """Types and accounts by name."""
        return {each.name: each.type for each in (*self.types, *self.accounts)}

    def instruction(self, name: str) -> IdlInstruction:
        """Return one instruction; raise `KeyError` when there is none."""
        return self._instructions[snake_case(name)]

    def event(self, name: str) -> IdlEvent:
        """Return one event; raise `KeyError` when there is none."""
        return self._events[name]

    def variants(self, enum: str) -> tuple[str, ...]:
        """Return the names of an enum's variants, in order of their number."""
        return tuple(variant.name for variant in self.definitions[enum].variants)

    @cached_property
    def _instructions(self) -> dict[str, IdlInstruction]:
        return {snake_case(each.name): each for each in self.instructions}

    @cached_property
    def _events(self) -> dict[str, IdlEvent]:
        return {each.name: each for each in self.events}


def discriminator(namespace: str, name: str) -> bytes:
    """Return the first 8 bytes of sha256 of `namespace:name`, by which Anchor tells things apart.

    `namespace` is `account`, `event` or `global` (instructions, whose names are in snake case).
    """
    return hashlib.sha256(f"{namespace}:{name}".encode()).digest()[:8]


@lru_cache(maxsize=16)
def _load(name: str) -> Idl:
    return Idl.parse(resources.files("idl").joinpath(f"{name}.json").read_bytes())
