"""The body of a Solana submission: all that sending and settling need after a restart."""

from __future__ import annotations

import msgspec

from providers.base.types import Submission

__all__ = ["BLOCKHASH_LIFE_BLOCKS", "SolanaBody", "decode_body"]

# A blockhash is valid for 150 blocks (MAX_PROCESSING_AGE).
BLOCKHASH_LIFE_BLOCKS = 150


class SolanaBody(msgspec.Struct, frozen=True, kw_only=True):
    """What is journaled.

    Attributes:
        signed: the complete signed transaction; the same bytes are sent every time.
        last_valid_block_height: what the node said that gave the blockhash.
        height_at_signing: highest block height that any node had spoken of when it was signed.
        slot_at_signing: lowest slot that a node spoke of when it was signed; it cannot have landed before that.
        lock_instruction_index: of the order lock in the message; null when it carries none.
        signer: the fee payer's key.
        venue: the venue's own part, JSON.
    """

    signed: bytes
    blockhash: str
    last_valid_block_height: int
    height_at_signing: int
    slot_at_signing: int
    genesis_hash: str
    lock_instruction_index: int | None
    signer: str
    venue: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def expiry_height(self) -> int:
        """The last block height that may still hold it, if a node gave a wrong last valid height too (DESIGN 6.4)."""
        return max(self.last_valid_block_height, self.height_at_signing + BLOCKHASH_LIFE_BLOCKS)


_BODY = msgspec.json.Decoder(SolanaBody)


def decode_body(submission: Submission) -> SolanaBody:
    """Return the body of a Solana submission, whatever venue it is for."""
    return _BODY.decode(submission.body)
