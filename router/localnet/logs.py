"""Program logs: split by top-level instruction, nested one level deeper, cut at the node's limit."""

from __future__ import annotations

from collections.abc import Sequence

from solders.pubkey import Pubkey

__all__ = ["LOG_LIMIT_BYTES", "consumed", "limited", "nested", "split"]

LOG_LIMIT_BYTES = 10_000  # LogCollector's limit for one transaction (Agave)
_BUILTIN_UNITS = 150  # what the system and compute budget programs use for one instruction


def split(lines: Sequence[str], programs: Sequence[Pubkey]) -> list[list[str]]:
    """Return the lines of each top-level instruction, in order; fewer when the transaction stopped early.

    Args:
        lines: the whole transaction's log, not truncated.
        programs: the program of each top-level instruction; one that prints nothing (a precompile) gets no lines.
    """
    groups: list[list[str]] = []
    position = 0
    for program in programs:
        group: list[str] = []
        if position < len(lines) and lines[position] == f"Program {program} invoke [1]":
            ends = (f"Program {program} success", f"Program {program} failed")
            depth = 0
            while position < len(lines):
                line = lines[position]
                group.append(line)
                position += 1
                depth += _depth_change(line)
                if depth == 0 and line.startswith(ends):
                    break
        groups.append(group)
    return groups


def _depth_change(line: str) -> int:
    words = line.split(" ", 3)
    if words[0] != "Program" or len(words) < 3 or words[1].endswith(":"):  # noqa: PLR2004 - Program, id, verb
        return 0
    if words[2] == "invoke":
        return 1
    return -1 if words[2] in {"success", "failed:"} else 0


def nested(lines: Sequence[str]) -> list[str]:
    """Return `lines` as they read when their program is called by another one."""
    result: list[str] = []
    for line in lines:
        words = line.split(" ")
        if len(words) == 4 and words[0] == "Program" and words[2] == "invoke":  # noqa: PLR2004 - Program, id, verb, [n]
            result.append(f"Program {words[1]} invoke [{int(words[3].strip('[]')) + 1}]")
        else:
            result.append(line)
    return result


def consumed(group: Sequence[str]) -> int:
    """Return the compute units that a top-level instruction used, by its log."""
    if not group:
        return 0
    program = group[0].split(" ")[1]
    for line in reversed(group):
        words = line.split(" ")
        if words[0] == "Program" and words[1] == program and words[2] == "consumed":
            return int(words[3])
    return _BUILTIN_UNITS


def limited(lines: Sequence[str]) -> list[str]:
    """Return the lines that fit into the node's limit, with its mark where some were left out."""
    kept: list[str] = []
    used = 0
    for line in lines:
        used += len(line)
        if used >= LOG_LIMIT_BYTES:
            kept.append("Log truncated")
            break
        kept.append(line)
    return kept
