"""Parameters of JSON-RPC methods, decoded to types; anything else is `Invalid params`."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from solders.pubkey import Pubkey

from router.localnet.wire import INVALID_PARAMS, RpcError

__all__ = ["AccountsConfig", "Config", "DataSlice", "Filter", "Memcmp", "Params", "TokenFilter", "WireState"]

T = TypeVar("T")


class DataSlice(msgspec.Struct, frozen=True):
    """A part of an account's data."""

    offset: int
    length: int


class Memcmp(msgspec.Struct, frozen=True):
    """Bytes that must stand at an offset."""

    offset: int
    bytes: str | list[int]
    encoding: str = "base58"


class Filter(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One condition of getProgramAccounts."""

    memcmp: Memcmp | None = None
    data_size: int | None = None


class AccountsConfig(msgspec.Struct, frozen=True):
    """Which accounts a simulation shows."""

    addresses: list[str]
    encoding: str | None = None


class TokenFilter(msgspec.Struct, frozen=True, rename="camel"):
    """By mint or by token program."""

    mint: str | None = None
    program_id: str | None = None


class Config(msgspec.Struct, frozen=True, rename="camel"):
    """The configuration object of any method; each reads what it knows, as real nodes do."""

    commitment: str | None = None
    min_context_slot: int | None = None
    encoding: str | None = None
    data_slice: DataSlice | None = None
    filters: list[Filter] | None = None
    with_context: bool | None = None
    skip_preflight: bool | None = None
    preflight_commitment: str | None = None
    max_retries: int | None = None
    sig_verify: bool | None = None
    replace_recent_blockhash: bool | None = None
    inner_instructions: bool | None = None
    accounts: AccountsConfig | None = None
    before: str | None = None
    until: str | None = None
    limit: int | None = None
    search_transaction_history: bool | None = None
    max_supported_transaction_version: int | None = None


class WireState(msgspec.Struct, frozen=True):
    """What the answering node is like.

    Attributes:
        lag_slots: how far behind it is.
        send_delay_slots: how late a transaction sent here lands.
        unhealthy: whether it knows that it is behind.
    """

    lag_slots: int = 0
    send_delay_slots: int = 0
    unhealthy: bool = False


_CONFIG = msgspec.json.Decoder(Config)
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])
_INTEGER = msgspec.json.Decoder(int)
_DEFAULT = Config()


class Params:
    """The positional parameters of one request."""

    __slots__ = ("_raw",)

    def __init__(self, raw: list[msgspec.Raw]) -> None:
        self._raw = raw

    def has(self, index: int) -> bool:
        """Whether a parameter was given and is not null."""
        return index < len(self._raw) and bytes(self._raw[index]) != b"null"

    def is_text(self, index: int) -> bool:
        """Whether a parameter is a string."""
        return index < len(self._raw) and bytes(self._raw[index]).startswith(b'"')

    def text(self, index: int) -> str:
        """Return a string parameter."""
        return self._decode(index, _TEXT)

    def texts(self, index: int) -> list[str]:
        """Return a list of strings."""
        return self._decode(index, _TEXTS)

    def integer(self, index: int) -> int:
        """Return an integer."""
        return self._decode(index, _INTEGER)

    def struct(self, index: int, kind: type[T]) -> T:
        """Return an object parameter as `kind`."""
        return self._decode(index, msgspec.json.Decoder(kind))

    def pubkey(self, index: int) -> Pubkey:
        """Return an address."""
        return parse_pubkey(self.text(index))

    @staticmethod
    def pubkey_of(text: str) -> Pubkey:
        """Return an address from its text."""
        return parse_pubkey(text)

    def config(self, index: int) -> Config:
        """Return the configuration object; the default when it is left out."""
        return self._decode(index, _CONFIG) if self.has(index) else _DEFAULT

    def encoding_or_config(self, index: int) -> Config:
        """Return the configuration object of a method that also takes a bare encoding."""
        if self.is_text(index):
            return Config(encoding=self.text(index))
        return self.config(index)

    def _decode(self, index: int, decoder: msgspec.json.Decoder[T]) -> T:
        if index >= len(self._raw):
            raise RpcError(INVALID_PARAMS, f"`params` should have at least {index + 1} argument(s)")
        try:
            return decoder.decode(self._raw[index])
        except msgspec.DecodeError as error:
            raise RpcError(INVALID_PARAMS, f"Invalid params: {error}.") from None


def parse_pubkey(text: str) -> Pubkey:
    """Return an address; raises `RpcError`."""
    try:
        return Pubkey.from_string(text)
    except ValueError:
        raise RpcError(INVALID_PARAMS, "Invalid param: Invalid") from None
