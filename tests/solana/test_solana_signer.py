"""Key files: forms, modes, and that nothing but the public key is ever shown."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.signature import Signature

from providers.solana.base58 import encode_base58
from providers.solana.signer import KeyFileError, KeypairSigner

KEY = Keypair.from_seed(bytes(range(32)))
SECRET = bytes(KEY)


def key_file(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    file = path / "key.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(mode)
    return file


@pytest.mark.parametrize(
    "content",
    [json.dumps(list(SECRET)), json.dumps(list(SECRET), indent=2) + "\n", encode_base58(SECRET), str(KEY) + "\n"],
    ids=["numbers", "pretty numbers", "base58", "base58 with a newline"],
)
def test_both_forms_of_a_key_file_sign_as_solders_signs(tmp_path: Path, content: str) -> None:
    """64 numbers or base58 give the key, and its signatures are those of the reference implementation."""
    signer = KeypairSigner.from_file(key_file(tmp_path, content))
    assert signer.public_key == KEY.pubkey()
    signature = asyncio.run(signer.sign(b"message"))
    assert signature == bytes(KEY.sign_message(b"message"))
    assert Signature.from_bytes(signature).verify(KEY.pubkey(), b"message")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o601, 0o777])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any right of group or others is too much, and the message says what to do."""
    with pytest.raises(KeyFileError, match="chmod 600"):
        KeypairSigner.from_file(key_file(tmp_path, json.dumps(list(SECRET)), mode))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[1,2,3]",
        json.dumps([*SECRET[:63], 256]),
        json.dumps([*SECRET[:63], -1]),
        json.dumps([*SECRET, 0]),
        json.dumps(list(SECRET))[:-3],
        json.dumps([*SECRET[:32], *bytes(32)]),
        encode_base58(SECRET[:32]),
        str(KEY)[:-1] + "0",
        b"\xff\xfe",
        "x" * 5000,
    ],
)
def test_what_is_no_key_is_refused_without_being_quoted(tmp_path: Path, content: str | bytes) -> None:
    """Short, long, wrong, halves that do not belong together: an error that has nothing of the content."""
    with pytest.raises(KeyFileError) as raised:
        KeypairSigner.from_file(key_file(tmp_path, content))
    assert raised.value.__cause__ is None
    text = content.decode("latin-1") if isinstance(content, bytes) else content
    for start in range(max(len(text) - 12, 0)):
        assert text[start : start + 12] not in str(raised.value)


def test_a_missing_file_and_a_directory_are_errors(tmp_path: Path) -> None:
    """Both say which path, and raise the same error."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(KeyFileError, match=str(path)):
            KeypairSigner.from_file(path)


def test_only_the_public_key_is_shown() -> None:
    """`repr` and `str` show the public key; the secret can be neither pickled nor copied out."""
    signer = KeypairSigner(SECRET)
    assert repr(signer) == str(signer) == f"KeypairSigner({KEY.pubkey()})"
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(signer)
    assert not hasattr(signer, "__dict__")
