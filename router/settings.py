"""Settings: every `ROUTER_` variable of the environment, what it means, and what it is when nobody sets it.

`FIELDS` is the one table. `Settings.load` reads it and names every problem at once; `Settings.describe` prints it.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec

from providers.registry import PROVIDERS
from router.ops.redaction import REDACTED, is_secret_name, redact_text

__all__ = [
    "FIELDS",
    "KNOWN_PROVIDERS",
    "PREFIX",
    "PROVIDER_FIELDS",
    "Field",
    "Network",
    "Row",
    "Settings",
    "SettingsError",
    "websocket_url",
]

PREFIX: Final = "ROUTER_"
KNOWN_PROVIDERS: Final = tuple(PROVIDERS)


class Network(StrEnum):
    """The cluster: an embedded one, or Solana's."""

    LOCALNET = "localnet"
    DEVNET = "devnet"
    MAINNET = "mainnet"


class SettingsError(Exception):
    """The settings cannot be used; `problems` has one sentence for each thing that is wrong."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Field(msgspec.Struct, frozen=True):
    """One setting. `default` is what the environment would say, or makes it from the network; empty means none."""

    name: str
    parse: Callable[[str], object]
    default: str | Callable[[str], str]
    doc: str

    @property
    def env(self) -> str:
        """The variable's name."""
        return PREFIX + self.name.upper()


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `config show`: the effective value, without secrets, and where it came from."""

    name: str
    value: str
    source: Literal["env", "flag", "default"]
    doc: str


# --- parsers: text to value, ValueError with the end of a sentence ---------------------------------------------------

_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_FEED = re.compile(r"[A-Z0-9]{1,20}-PERP=(0x)?[0-9a-fA-F]{64}")
_PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _text(text: str) -> str:
    return text


def _choice(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text

    return parse


def _network(text: str) -> Network:
    return Network(_choice(*Network)(text))


def _yes(text: str) -> bool:
    return _choice("yes", "no")(text) == "yes"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _amount(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("must be a plain decimal number, such as 0.05")
    return Decimal(text)


def _positive_amount(text: str) -> Decimal:
    amount = _amount(text)
    if amount == 0:
        raise ValueError("must be above zero")
    return amount


def _feeds(text: str) -> tuple[str, ...]:
    feeds = tuple(item.strip() for item in text.split(",") if item.strip())
    if not all(_FEED.fullmatch(feed) for feed in feeds):
        raise ValueError("must be MARKET=ID, comma separated; an id has 64 hexadecimal digits")
    if len({feed.partition("=")[0] for feed in feeds}) < len(feeds):
        raise ValueError("names a market twice")
    return feeds


def _one_url(text: str) -> str:
    _check_url(text, ("http", "https"))
    if urlsplit(text).query or urlsplit(text).fragment:
        raise ValueError("must be an address without a query")
    return text


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _key_path(text: str) -> Path:
    if text.lstrip().startswith("[") or redact_text(text) != text:
        raise ValueError("must be the path of a key file, not the key itself")
    return _path(text)


def _urls(*schemes: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        urls = tuple(url.strip() for url in text.split(",") if url.strip())
        for url in urls:
            _check_url(url, schemes)
        if len(set(urls)) < len(urls):
            raise ValueError("must not name an address twice: a node is no second witness of itself")
        return urls

    return parse


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    expected = f"must be addresses that begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in schemes or not parts.hostname or parts.port == 0
    except ValueError:
        bad = True
    if bad:
        raise ValueError(expected)


def _chain(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in KNOWN_PROVIDERS]
    if not names:
        raise ValueError("must name at least one provider")
    if unknown:
        raise ValueError(f"names {', '.join(unknown)}, which is not a provider; there are {', '.join(KNOWN_PROVIDERS)}")
    if len(set(names)) < len(names):
        raise ValueError("names a provider twice")
    return names


def _ledger_url(text: str) -> str:
    if not re.fullmatch(r"sqlite:///.+", text):
        raise ValueError("must be sqlite:///path (relative) or sqlite:////path (absolute)")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,255}", text):
        raise ValueError("must be an address or a host name")
    return text


# Pyth's own ids of the dollar prices of SOL, BTC and ETH, the same on every chain (https://pyth.network/developers).
PYTH_FEEDS: Final = (
    "SOL-PERP=ef0d8b6fda2ceba41da15d4095d1da392a0d2f8ed0c6c7bc0f4cfac8c280b56d,"
    "BTC-PERP=e62df6c8b4a85fe1a67db44dc12de5db330f7ac66b72dc658afedf0f4a415b43,"
    "ETH-PERP=ff61491a931112ddf1bd8147cd1b641375f79f5825126d665480874634fd0ace"
)


# --- the table -------------------------------------------------------------------------------------------------------

FIELDS: Final = (
    Field("network", _network, "localnet", "Cluster to trade on: localnet, devnet or mainnet."),
    Field("live_trading", _yes, "no", "Mainnet only: yes lets the service sign. Without it, it quotes."),
    Field(
        "rpc_urls", _urls("http", "https"), "", "Nodes, comma separated. Localnet starts its own cluster if not set."
    ),
    Field("ws_urls", _urls("ws", "wss"), "", "Websocket addresses of the nodes, if they do not follow the convention."),
    Field("keypair", _key_path, "", "Key file: 64 numbers as the Solana CLI writes them, or base58."),
    Field("chain", _chain, "drift,mango,jupiter", "Providers in the order in which they are asked."),
    Field("ledger_url", _ledger_url, lambda network: f"sqlite:///var/{network}/ledger.db", "Where the ledger is."),
    Field("host", _host, "127.0.0.1", "Address to listen on. Anything but loopback needs API keys."),
    Field("port", _integer(0, 65_535), "8080", "Port to listen on; 0 takes a free one."),
    Field("api_keys_file", _path, "", "Callers: name:sha256-of-key, with :scopes or without. None: all are 'local'."),
    Field("drain_seconds", _integer(0, 600), "8", "How long a SIGTERM waits for orders before what is left is left."),
    Field("log_level", _choice("debug", "info", "warning", "error"), "info", "Least level that is logged."),
    Field(
        "max_order_usd",
        _positive_amount,
        lambda network: "10000" if network == Network.MAINNET else "",
        "Largest open in dollars; none if empty.",
    ),
    Field(
        "max_day_usd",
        _positive_amount,
        lambda network: "100000" if network == Network.MAINNET else "",
        "Most that opens of any 24 hours may come to in dollars; none if empty.",
    ),
    Field("max_market_usd", _positive_amount, "", "Most that may be held in one market in dollars; none if empty."),
    Field("max_leverage", _positive_amount, "", "Highest leverage that a caller may ask for; none of ours if empty."),
    Field("max_open_positions", _integer(1, 10**6), "", "Most positions that may be open at once; none if empty."),
    Field(
        "max_quote_deviation_bps",
        _positive_amount,
        lambda network: "500" if network == Network.MAINNET else "",
        "Furthest that a quote may be from the venue's own oracle, hundredths of a percent; not checked if empty.",
    ),
    Field(
        "max_oracle_deviation_bps",
        _positive_amount,
        "",
        "Furthest that a venue's oracle may be from Pyth's price, hundredths of a percent; not checked if empty.",
    ),
    Field("pyth_url", _one_url, "https://hermes.pyth.network", "Hermes server that gives Pyth's prices."),
    Field("pyth_feeds", _feeds, PYTH_FEEDS, "Pyth's feed of each market: MARKET=ID, comma separated."),
    Field("pyth_max_age_s", _integer(1, 3_600), "15", "Oldest price of Pyth that is believed, seconds."),
    Field(
        "pyth_max_confidence_bps",
        _positive_amount,
        "50",
        "Widest confidence of Pyth's price that is believed, hundredths of a percent.",
    ),
    Field("pyth_required", _yes, "yes", "Whether opens are refused while Pyth's price cannot be had: yes or no."),
    Field("rate_opens_per_s", _integer(0, 10**6), "50", "Opens a second that one API key may ask for; 0 for any."),
    Field("rate_reads_per_s", _integer(0, 10**6), "200", "Reads and quotes a second of one API key; 0 for any."),
    Field("rate_burst_s", _integer(1, 3_600), "4", "Seconds' worth of requests that may come at once."),
    Field("sol_reserve", _amount, "0.05", "SOL kept for closing, cancelling and fencing; opens stop first."),
    Field("priority_fee_floor", _integer(0, 10**9), "10000", "Least priority fee, micro-lamports per compute unit."),
    Field("priority_fee_cap", _integer(0, 10**9), "2000000", "Highest priority fee, micro-lamports per compute unit."),
    Field("slot_patience", _integer(1, 1_000), "12", "Slots without proof before a sibling or a fence is sent."),
    Field("proof_commitment", _choice("confirmed", "finalized"), "confirmed", "Commitment at which proofs are read."),
    Field("reconcile_s", _integer(1, 86_400), "30", "Seconds between two comparisons of the books with the venues."),
    Field(
        "protection_slippage_bps",
        _integer(1, 10_000),
        "500",
        "How far from its price a stop loss or take profit may fill, in hundredths of a percent.",
    ),
    Field("localnet_dir", _path, "var/localnet", "State of the embedded cluster."),
    Field(
        "localnet_port", _integer(0, 65_535), "8899", "Port of the embedded cluster's JSON-RPC; websocket one above."
    ),
    Field("localnet_slot_ms", _integer(1, 10_000), "100", "Slot time of the embedded cluster, milliseconds."),
    Field("drift_so", _path, "", "The real Drift program for the embedded cluster, in place of the model."),
)

# Of each provider, as ROUTER_<PROVIDER>_<NAME>; passed on as they are, but for the check.
PROVIDER_FIELDS: Final = (
    Field("rpc_urls", _urls("http", "https"), "", "Nodes of this provider alone."),
    Field("program_id", _text, "", "Address of the program, for a private deployment."),
    Field("sub_account_id", _integer(0, 65_535), "", "Sub-account that trades."),
    Field("authority", _text, "", "Owner of the account, where the key is only its delegate."),
    Field("makers", _text, "", "User accounts whose resting orders may be taken, comma separated."),
    Field("lookup_tables", _text, "", "Address lookup tables for its transactions, comma separated."),
    Field("auction_slots", _integer(1, 255), "", "Length of an auction that the router asks for."),
    Field("pool", _text, "", "Pool that is traded against, where the venue has several."),
    Field("group", _text, "", "Group of markets that is traded, where the venue has several."),
    Field("account_num", _integer(0, 2**32 - 1), "", "Number of the owner's account that trades."),
    Field("match_limit", _integer(1, 255), "", "Resting orders that one order may match."),
    Field("max_usd", _positive_amount, "", "Most that may be held there in dollars; none if empty."),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The effective settings; `FIELDS` says what each means.

    Attributes:
        providers: what was set for one provider, by name: `{"drift": {"program_id": "..."}}`.
        sources: of each variable that is not at its default, `env` or `flag`.
    """

    network: Network
    live_trading: bool
    rpc_urls: tuple[str, ...]
    ws_urls: tuple[str, ...]
    keypair: Path | None
    chain: tuple[str, ...]
    ledger_url: str
    host: str
    port: int
    api_keys_file: Path | None
    drain_seconds: int
    log_level: str
    max_order_usd: Decimal | None
    max_day_usd: Decimal | None
    max_market_usd: Decimal | None
    max_leverage: Decimal | None
    max_open_positions: int | None
    max_quote_deviation_bps: Decimal | None
    max_oracle_deviation_bps: Decimal | None
    pyth_url: str
    pyth_feeds: tuple[str, ...]
    pyth_max_age_s: int
    pyth_max_confidence_bps: Decimal
    pyth_required: bool
    rate_opens_per_s: int
    rate_reads_per_s: int
    rate_burst_s: int
    sol_reserve: Decimal
    priority_fee_floor: int
    priority_fee_cap: int
    slot_patience: int
    proof_commitment: Literal["confirmed", "finalized"]
    reconcile_s: int
    protection_slippage_bps: int
    localnet_dir: Path
    localnet_port: int
    localnet_slot_ms: int
    drift_so: Path | None
    providers: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, Literal["env", "flag"]]

    @classmethod
    def load(cls, environ: Mapping[str, str], flags: Mapping[str, str] | None = None) -> Settings:
        """Read the variables of `environ`, `flags` (of the command line, by variable name) going first.

        A variable that is empty counts as not set.

        Raises:
            SettingsError: naming every unknown name, bad value and contradiction.
        """
        flags = flags or {}
        given = {name: value for name, value in {**environ, **flags}.items() if name.startswith(PREFIX) and value}
        problems: list[str] = []
        values = _parse_all(given, problems)
        providers = _parse_providers(given, problems)
        problems.extend(_unknown_names(given))
        problems.extend(_contradictions(values))
        if problems:
            raise SettingsError(tuple(problems))
        sources = {name: "flag" if flags.get(name) else "env" for name in sorted(given)}
        return msgspec.convert({**values, "providers": providers, "sources": sources}, cls, strict=True)

    def max_provider_usd(self) -> dict[str, Decimal]:
        """Return the most that may be held at each provider that has such a limit."""
        own = {name: fields.get("max_usd") for name, fields in self.providers.items()}
        return {name: Decimal(text) for name, text in own.items() if text is not None}

    @property
    def may_sign(self) -> bool:
        """Whether anything may be signed: on mainnet only with the second switch."""
        return self.network is not Network.MAINNET or self.live_trading

    @property
    def embedded_cluster(self) -> bool:
        """Whether the service starts its own cluster."""
        return self.network is Network.LOCALNET and not self.rpc_urls

    @property
    def websocket_urls(self) -> tuple[str, ...]:
        """`ws_urls`, or what Solana's convention makes of `rpc_urls`."""
        return self.ws_urls or tuple(websocket_url(url) for url in self.rpc_urls)

    def describe(self) -> tuple[Row, ...]:
        """Return every setting with its effective value, secrets replaced, and where it came from."""
        rows = [self._row(field.env, getattr(self, field.name), field) for field in FIELDS]
        for provider in KNOWN_PROVIDERS:
            own = self.providers.get(provider, {})
            rows += [self._row(env, own.get(field.name), field) for env, field in _provider_fields(provider)]
        return tuple(rows)

    def _row(self, env: str, value: object, field: Field) -> Row:
        return Row(name=env, value=_shown(field.name, value), source=self.sources.get(env, "default"), doc=field.doc)


def websocket_url(rpc_url: str) -> str:
    """Return a node's websocket address by Solana's convention: the same host, and the next port where one is named."""
    parts = urlsplit(rpc_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    netloc = parts.netloc
    if parts.port is not None:
        netloc = f"{netloc.rpartition(':')[0]}:{parts.port + 1}"
    return urlunsplit((scheme, netloc, parts.path, parts.query, ""))


def _provider_fields(provider: str) -> Iterator[tuple[str, Field]]:
    for field in PROVIDER_FIELDS:
        yield f"{PREFIX}{provider.upper()}_{field.name.upper()}", field


def _known_names() -> tuple[str, ...]:
    of_providers = [env for provider in KNOWN_PROVIDERS for env, _ in _provider_fields(provider)]
    return (*(field.env for field in FIELDS), *of_providers)


def _parse_all(given: Mapping[str, str], problems: list[str]) -> dict[str, object]:
    network = given.get(PREFIX + "NETWORK", Network.LOCALNET)
    values: dict[str, object] = {}
    for field in FIELDS:
        default = field.default if isinstance(field.default, str) else field.default(network)
        text = given.get(field.env, default)
        try:
            # No text and no default: nothing, which is an empty tuple where there may be several.
            values[field.name] = field.parse(text) if text or field.name.endswith("urls") else None
        except ValueError as error:
            problems.append(f"{field.env}={redact_text(text)!r} {error}")
    return values


def _parse_providers(given: Mapping[str, str], problems: list[str]) -> dict[str, dict[str, str]]:
    providers: dict[str, dict[str, str]] = {}
    for provider in KNOWN_PROVIDERS:
        for env, field in _provider_fields(provider):
            if env not in given:
                continue
            try:
                field.parse(given[env])
            except ValueError as error:
                problems.append(f"{env}={redact_text(given[env])!r} {error}")
            providers.setdefault(provider, {})[field.name] = given[env]
    return providers


def _unknown_names(given: Mapping[str, str]) -> Iterator[str]:
    known = _known_names()
    for name in sorted(set(given) - set(known)):
        nearest = difflib.get_close_matches(name, known, n=1)
        yield f"{name} is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _contradictions(values: Mapping[str, object]) -> Iterator[str]:
    network = values.get("network")
    if network in {Network.DEVNET, Network.MAINNET} and values.get("rpc_urls") == ():
        yield f"ROUTER_RPC_URLS must be set when ROUTER_NETWORK is {network}"
    host = values.get("host")
    if isinstance(host, str) and not _is_loopback(host) and values.get("api_keys_file") is None:
        yield f"ROUTER_HOST is {host}, which others can reach: ROUTER_API_KEYS_FILE must be set"
    floor, cap = values.get("priority_fee_floor"), values.get("priority_fee_cap")
    if isinstance(floor, int) and isinstance(cap, int) and floor > cap:
        yield "ROUTER_PRIORITY_FEE_FLOOR is above ROUTER_PRIORITY_FEE_CAP"
    rpc_urls = cast("tuple[str, ...]", values.get("rpc_urls", ()))
    ws_urls = cast("tuple[str, ...]", values.get("ws_urls", ()))
    if ws_urls and len(ws_urls) != len(rpc_urls):
        yield "ROUTER_WS_URLS must have one address for each of ROUTER_RPC_URLS"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(name: str, value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(redact_text(item) for item in cast("tuple[str, ...]", value))
    # The path of a key file is no secret; its content never comes here.
    if is_secret_name(name) and not isinstance(value, Path):
        return REDACTED
    return redact_text(str(value))
