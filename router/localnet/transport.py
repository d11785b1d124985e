"""The wire to an embedded cluster without a socket: the same bytes, the same faults, in the clock's time."""

from __future__ import annotations

from providers.base.clock import Clock
from providers.solana.transport import Reply, WireError
from router.localnet.cluster import Cluster
from router.localnet.faults import WireFaults, answer

__all__ = ["InProcessTransport"]


class InProcessTransport:
    """One node of the cluster, as `providers.solana.transport.NodeTransport`.

    Args:
        cluster: the chain.
        clock: what latency and timeouts are measured on.
        name: the node's name, by which faults strike it.
        faults: the faults on the wire; several nodes may share them.
        latency_s: round trip, half of it on the way there.
    """

    def __init__(
        self, cluster: Cluster, clock: Clock, *, name: str, faults: WireFaults, latency_s: float = 0.0
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._faults = faults
        self.name = name
        self.latency_s = latency_s

    @property
    def url(self) -> str:
        """The node's name as an address."""
        return f"localnet://{self.name}"

    async def post(self, body: bytes, *, timeout_s: float) -> Reply:
        """Send one body; raises `WireError` when no whole answer comes in time."""
        begun = self._clock.monotonic()
        one_way = self.latency_s / 2
        if one_way >= timeout_s:
            # Given up on the way there; what was written may still arrive, and here it does.
            await self._clock.sleep(timeout_s)
            try:
                answer(self._cluster, self._faults, self.name, body)
            except WireError as error:
                raise WireError("timeout", maybe_sent=error.maybe_sent, detail="no answer in time") from None
            raise WireError("timeout", maybe_sent=True, detail="no answer in time")
        if one_way > 0:
            await self._clock.sleep(one_way)
        try:
            reply, held_s = answer(self._cluster, self._faults, self.name, body)
        except WireError as error:
            if error.kind == "timeout":
                await self._sleep_until(begun + timeout_s)
            raise
        back = self._clock.monotonic() + held_s + one_way
        if back > begun + timeout_s:
            await self._sleep_until(begun + timeout_s)
            raise WireError("timeout", maybe_sent=True, detail="no answer in time")
        if held_s + one_way > 0:
            await self._sleep_until(back)
        return reply

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _sleep_until(self, when: float) -> None:
        await self._clock.sleep(max(when - self._clock.monotonic(), 0.0))
