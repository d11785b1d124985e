"""The service on a wall clock that can be set: seconds past the right time stand in a file."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

from providers.base.clock import SystemClock
from router.cli.serve import run_until_signalled
from router.ops.log import configure_logging
from router.service import build_service
from router.settings import Settings


class ShiftedClock(SystemClock):
    """The machine's clock, with the wall time moved."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def now(self) -> datetime:
        """Return the moved wall time."""
        return super().now() + timedelta(seconds=int(self._file.read_text()))


async def serve() -> int:
    """Serve as the command does."""
    settings = Settings.load(os.environ)
    configure_logging(settings.log_level)
    clock = ShiftedClock(Path(os.environ["CLOCK_OFFSET_FILE"]))
    service = await build_service(settings, clock)
    return await run_until_signalled(service, settings, metrics=service.metrics, keys=None, clock=clock)


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
