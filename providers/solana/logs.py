"""What a transaction's log lines say: which program printed what, and which one failed.

A line printed by a program always begins `Program log: ` or `Program data: `, so it cannot imitate the runtime's own
`Program <id> invoke [n]`, `... success` and `... failed: ...`, which are matched whole.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence

import msgspec
import pybase64

from providers.base.errors import BadAnswer

__all__ = ["LogTrace", "data_of", "printed_by", "trace"]

_RUNTIME = re.compile(r"Program ([1-9A-HJ-NP-Za-km-z]{32,44}) (?:(invoke) \[(\d+)\]|(success)|(failed): .*)", re.DOTALL)
_DATA = "Program data: "
_TEXT = "Program log: "
_TRUNCATED = "Log truncated"
# Precompiles run outside the machine that writes logs.
_SILENT = frozenset(
    {
        "Ed25519SigVerify111111111111111111111111111",
        "KeccakSecp256k11111111111111111111111111111",
        "Secp256r1SigVerify1111111111111111111111111",
    }
)


class LogTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of a transaction's logs.

    Attributes:
        complete: every top-level instruction that ran has its first and last line, and nothing was truncated.
        failed_program: the innermost program that failed (it prints its line first); null when none did.
    """

    complete: bool
    failed_program: str | None


def trace(lines: Sequence[str], programs: Sequence[str], failed_index: int | None) -> LogTrace:
    """Follow the invoke stack of `lines`.

    Args:
        lines: of the whole transaction.
        programs: the program of each top-level instruction, in order.
        failed_index: of the top-level instruction that failed; null when none did.
    """
    stack: list[str] = []
    finished: list[str] = []
    failed: str | None = None
    sound = True
    for line in lines:
        if line == _TRUNCATED:
            sound = False
        match = _RUNTIME.fullmatch(line)
        if match is None:
            continue
        program = match[1]
        if match[2]:
            stack.append(program)
            sound = sound and int(match[3]) == len(stack)
            continue
        if not stack or stack[-1] != program:
            sound = False
            continue
        stack.pop()
        if match[5] is not None and failed is None:
            failed = program
        if not stack:
            finished.append(program)
    last = len(programs) if failed_index is None else failed_index + 1
    expected = [program for program in programs[:last] if program not in _SILENT]
    complete = sound and not stack and finished == expected and (failed_index is None) == (failed is None)
    return LogTrace(complete=complete, failed_program=failed)


def data_of(lines: Sequence[str], program_id: str) -> tuple[bytes, ...]:
    """Return the payloads of the `Program data:` lines that `program_id` itself printed, in order.

    Raises:
        BadAnswer: a payload is not base64.
    """
    stack: list[str] = []
    payloads: list[bytes] = []
    for line in lines:
        if line.startswith(_DATA):
            if stack and stack[-1] == program_id:
                payloads.extend(_decode(field) for field in line.removeprefix(_DATA).split())
            continue
        match = _RUNTIME.fullmatch(line)
        if match is None:
            continue
        if match[2]:
            stack.append(match[1])
        elif stack and stack[-1] == match[1]:
            stack.pop()
    return tuple(payloads)


def printed_by(lines: Sequence[str], program_id: str) -> tuple[str, ...]:
    """Return the lines that `program_id` itself printed, in order, without saying whether as text or as data.

    Some programs print their events as base64 text (`Program log: `) rather than as data; both prefixes are taken off.
    """
    stack: list[str] = []
    printed: list[str] = []
    for line in lines:
        prefix = next((each for each in (_DATA, _TEXT) if line.startswith(each)), None)
        if prefix is not None:
            if stack and stack[-1] == program_id:
                printed.append(line.removeprefix(prefix))
            continue
        match = _RUNTIME.fullmatch(line)
        if match is None:
            continue
        if match[2]:
            stack.append(match[1])
        elif stack and stack[-1] == match[1]:
            stack.pop()
    return tuple(printed)


def _decode(field: str) -> bytes:
    try:
        return pybase64.b64decode(field, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadAnswer("a log line's data is not base64") from error
