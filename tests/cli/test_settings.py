"""Settings: one table, every problem at once, nothing secret shown."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from providers.registry import PROVIDERS
from router.settings import FIELDS, KNOWN_PROVIDERS, Network, Settings, SettingsError, websocket_url

DEVNET = {"ROUTER_NETWORK": "devnet", "ROUTER_RPC_URLS": "https://node.example"}


def problems_of(environ: dict[str, str]) -> str:
    """Return what is wrong with an environment."""
    with pytest.raises(SettingsError) as refused:
        Settings.load(environ)
    return str(refused.value)


def test_nothing_set_is_a_localnet_on_this_machine_alone() -> None:
    """The first run needs no setting, and nobody else can reach it."""
    settings = Settings.load({"PATH": "/bin", "ROUTERS": "x"})

    assert settings.network is Network.LOCALNET
    assert settings.embedded_cluster
    assert (settings.host, settings.port, settings.chain) == ("127.0.0.1", 8080, ("drift", "mango", "jupiter"))
    assert settings.ledger_url == "sqlite:///var/localnet/ledger.db"
    assert settings.max_order_usd is None
    assert dict(settings.sources) == {}


def test_the_table_and_the_struct_are_the_same() -> None:
    """Every field has a row with a default that its own parser takes, and every provider is one of the registry."""
    assert [field.name for field in FIELDS] == list(Settings.__struct_fields__[: len(FIELDS)])
    assert tuple(PROVIDERS) == KNOWN_PROVIDERS
    assert len({row.name for row in Settings.load({}).describe()}) == len(Settings.load({}).describe())


def test_every_problem_is_named_at_once() -> None:
    """An operator fixes a deployment once, not five times."""
    text = problems_of(
        {
            "ROUTER_PROT": "1",
            "ROUTER_PORT": "http",
            "ROUTER_NETWORK": "mainnet",
            "ROUTER_HOST": "0.0.0.0",  # noqa: S104 - what is tested
            "ROUTER_CHAIN": "drift,binance",
        }
    )

    assert "ROUTER_PROT is not a setting; did you mean ROUTER_PORT?" in text
    assert "ROUTER_PORT='http' must be a whole number from 0 to 65535" in text
    assert "ROUTER_RPC_URLS must be set when ROUTER_NETWORK is mainnet" in text
    assert "ROUTER_API_KEYS_FILE must be set" in text
    assert "binance, which is not a provider" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NETWORK", "testnet"),
        ("LIVE_TRADING", "true"),
        ("RPC_URLS", "node.example"),
        ("RPC_URLS", "ftp://node.example"),
        ("RPC_URLS", "http://node.example:99999"),
        ("WS_URLS", "ws://a.example,ws://b.example"),
        ("CHAIN", ","),
        ("CHAIN", "drift,drift"),
        ("LEDGER_URL", "mysql://x"),
        ("LEDGER_URL", "sqlite:///"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "８０"),  # noqa: RUF001 - other scripts have digits too
        ("MAX_ORDER_USD", "0"),
        ("MAX_DAY_USD", "0"),
        ("MAX_MARKET_USD", "-1"),
        ("MAX_LEVERAGE", "0"),
        ("MAX_OPEN_POSITIONS", "0"),
        ("MAX_OPEN_POSITIONS", "1.5"),
        ("MAX_QUOTE_DEVIATION_BPS", "0"),
        ("MAX_ORACLE_DEVIATION_BPS", "1%"),
        ("DRIFT_MAX_USD", "none"),
        ("PYTH_URL", "hermes.example"),
        ("PYTH_URL", "https://hermes.example/?key=1"),
        ("PYTH_FEEDS", "SOL-PERP"),
        ("PYTH_FEEDS", "SOL-PERP=ef0d"),
        ("PYTH_FEEDS", f"SOL-PERP={'a' * 64},SOL-PERP={'b' * 64}"),
        ("PYTH_MAX_AGE_S", "0"),
        ("PYTH_REQUIRED", "maybe"),
        ("RATE_OPENS_PER_S", "-1"),
        ("RATE_BURST_S", "0"),
        ("MAX_ORDER_USD", "1e3"),
        ("MAX_ORDER_USD", "NaN"),
        ("SOL_RESERVE", "-1"),
        ("PRIORITY_FEE_FLOOR", "3000000"),
        ("SLOT_PATIENCE", "0"),
        ("PROOF_COMMITMENT", "processed"),
        ("LOG_LEVEL", "trace"),
        ("LOCALNET_SLOT_MS", "0"),
        ("DRIFT_SUB_ACCOUNT_ID", "one"),
        ("DRIFT_RPC_URLS", "x"),
        ("DRIFT_COLOUR", "red"),
        ("HOST", "::"),
        ("HOST", "router.example"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    """The service does not start on a guess."""
    assert f"ROUTER_{name}" in problems_of({f"ROUTER_{name}": value})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    """Only this machine can reach it."""
    assert Settings.load({"ROUTER_HOST": host}).host == host


def test_a_variable_that_is_empty_is_not_set() -> None:
    """Compose files pass every variable on, set or not."""
    assert Settings.load({"ROUTER_PORT": "", "ROUTER_CHAIN": "", "ROUTER_KEYPAIR": ""}) == Settings.load({})


def test_a_flag_goes_before_the_environment() -> None:
    """And the source says so."""
    settings = Settings.load({"ROUTER_PORT": "1", "ROUTER_HOST": "::1"}, {"ROUTER_PORT": "2"})

    assert settings.port == 2
    sources = {row.name: row.source for row in settings.describe()}
    assert (sources["ROUTER_PORT"], sources["ROUTER_HOST"], sources["ROUTER_CHAIN"]) == ("flag", "env", "default")


def test_mainnet_needs_a_second_switch() -> None:
    """Without it the service may not sign, and orders are capped unless the operator says otherwise."""
    mainnet = {"ROUTER_NETWORK": "mainnet", "ROUTER_RPC_URLS": "https://node.example"}

    assert not Settings.load(mainnet).may_sign
    assert Settings.load({**mainnet, "ROUTER_LIVE_TRADING": "yes"}).may_sign
    assert Settings.load(mainnet).max_order_usd == Decimal(10_000)
    assert Settings.load(DEVNET).may_sign


def test_one_provider_may_have_nodes_and_a_program_of_its_own() -> None:
    """They are passed on as they are, under the provider's name."""
    settings = Settings.load({"ROUTER_DRIFT_PROGRAM_ID": "abc", "ROUTER_DRIFT_RPC_URLS": "http://a:1,http://b:2"})

    assert settings.providers == {"drift": {"program_id": "abc", "rpc_urls": "http://a:1,http://b:2"}}


@pytest.mark.parametrize(
    ("rpc", "websocket"),
    [
        ("http://127.0.0.1:8899", "ws://127.0.0.1:8900"),
        ("https://api.devnet.solana.com", "wss://api.devnet.solana.com"),
        ("https://u:p@node.example:443/v2/key?a=1", "wss://u:p@node.example:444/v2/key?a=1"),
        ("http://[::1]:8899/", "ws://[::1]:8900/"),
    ],
)
def test_the_websocket_address_follows_by_convention(rpc: str, websocket: str) -> None:
    """The next port where one is named, the same host where none is."""
    assert websocket_url(rpc) == websocket


def test_what_is_shown_has_no_secret() -> None:
    """Node vendors put keys into user names, paths and queries; a key pasted for a path is not repeated."""
    url = "https://bob:hunter2@node.example/v2/AbCdEf0123456789AbCdEf?api-key=deadbeef"
    settings = Settings.load({**DEVNET, "ROUTER_RPC_URLS": url, "ROUTER_DRIFT_RPC_URLS": url})

    shown = msgspec.json.encode(settings.describe()).decode()

    assert "node.example" in shown
    for secret in ("bob", "hunter2", "AbCdEf0123456789AbCdEf", "deadbeef"):
        assert secret not in shown
    numbers = str(list(range(64)))
    text = problems_of({"ROUTER_KEYPAIR": numbers, "ROUTER_RPC_URLS": "hTtps//bob:hunter2@x"})
    assert "not the key itself" in text
    assert numbers not in text


def test_limits_are_off_but_for_three_on_mainnet() -> None:
    """Nobody is surprised on a localnet; on mainnet an order, a day and a quote have bounds that a name can lift."""
    settings = Settings.load({})
    mainnet = Settings.load({"ROUTER_NETWORK": "mainnet", "ROUTER_RPC_URLS": "https://node.example"})

    for limit in ("max_order_usd", "max_day_usd", "max_quote_deviation_bps"):
        assert getattr(settings, limit) is None
        assert getattr(mainnet, limit) > 0
    for limit in ("max_market_usd", "max_leverage", "max_open_positions", "max_oracle_deviation_bps"):
        assert getattr(settings, limit) is getattr(mainnet, limit) is None
    assert settings.pyth_required


def test_a_providers_limit_is_the_routers_business() -> None:
    """By provider, in dollars; those without one are not there."""
    settings = Settings.load({"ROUTER_DRIFT_MAX_USD": "5000.50", "ROUTER_MANGO_GROUP": "x"})

    assert settings.max_provider_usd() == {"drift": Decimal("5000.50")}


def test_feeds_of_pyth_are_by_market() -> None:
    """Those of the three large markets are known; an operator names others, with or without 0x."""
    known = Settings.load({}).pyth_feeds
    assert [feed.partition("=")[0] for feed in known] == ["SOL-PERP", "BTC-PERP", "ETH-PERP"]
    more = Settings.load({"ROUTER_PYTH_FEEDS": f"{known[0]}, 1MBONK-PERP=0x{'a' * 64}"}).pyth_feeds
    assert more == (known[0], f"1MBONK-PERP=0x{'a' * 64}")
