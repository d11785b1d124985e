"""Having a provider build what an order needs; a provider that fails in a way of its own is a refusal too."""

from __future__ import annotations

import logging
from typing import cast

from providers.base.errors import ErrorInfo, InvalidTrigger, Phase, RequestRejected
from providers.base.protocol import Protector, Provider
from providers.base.types import OrderKind, OrderTerms, Submission

__all__ = ["adapter_fault", "prepared_by"]

log = logging.getLogger(__name__)


async def prepared_by(provider: Provider, terms: OrderTerms) -> Submission:
    """Return an open, a close or a trigger, built and signed.

    Raises:
        InvalidTrigger: the venue holds no triggers.
        ProviderError: as the provider's own methods.
    """
    if terms.kind is OrderKind.OPEN:
        return await provider.prepare_open(terms)
    if terms.trigger is None:
        return await provider.prepare_close(terms)
    if not provider.capabilities.native_triggers:
        raise InvalidTrigger(f"{provider.name} holds no triggers")
    return await cast("Protector", provider).prepare_trigger(terms)


def adapter_fault(event: str, order_id: str, provider: str) -> ErrorInfo:
    """Log an exception that an adapter should not have let out, and return it as a refusal; nothing was sent."""
    log.exception(event, extra={"order_id": order_id, "provider": provider})  # noqa: LOG004 - called from handlers only
    return RequestRejected(f"{provider}'s adapter failed; see the log", phase=Phase.NOT_SENT).info()
