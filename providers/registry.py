"""Which providers there are. One line a venue; a provider that is not in the chain costs no import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    # The table is read by settings and help texts, which must not pay for a cluster.
    from providers.base.protocol import Provider
    from providers.solana.cluster import SolanaCluster

__all__ = ["PROVIDERS", "Build", "load"]

# Name -> `module:function`; the function is a `Build`.
PROVIDERS: dict[str, str] = {
    "drift": "providers.drift.provider:build",
    "mango": "providers.mango.provider:build",
    "jupiter": "providers.jupiter.provider:build",
}

# A cluster and the provider's own settings (`program_id`, `sub_account_id`, ...) in, the provider out.
Build: TypeAlias = "Callable[[SolanaCluster, Mapping[str, str]], Provider]"


def load(name: str) -> Build:
    """Return the factory of a provider, importing its module now.

    Raises:
        KeyError: there is no such provider.
    """
    module, _, function = PROVIDERS[name].partition(":")
    build: Build = getattr(import_module(module), function)
    return build
