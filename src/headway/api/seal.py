"""What binds the entries of the audit trail: a key, and the last entry that was bound. Both stand
outside of the database, so that whoever can change rows there can neither forge one nor cut off the
end unseen.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from headway.files import write_whole

PLAIN = ""  # the key of entries from before there were keys: a hash alone
MAC = "sha256"

T = TypeVar("T")
StoredKeys = Annotated[dict[str, str], msgspec.Meta(min_length=1)]


class Head(msgspec.Struct, frozen=True):
    """The last entry that this server bound; since: the first one that it bound by a key. lost:
    what was missing when a later entry was written; empty for nothing.
    """

    number: int
    hash: str
    since: int
    lost: str = ""


class Seal:
    """`DATA/audit.key` and `DATA/audit.head`, of this user's own.

    secret: binds in place of the file's key; the same for several servers. Raises ValueError for a
    damaged file.
    """

    def __init__(self, folder: Path, secret: str = "") -> None:
        self._key_path = folder / "audit.key"
        self._head_path = folder / "audit.head"
        self._given = _derived(secret) if secret else {}
        self._stored = dict[str, bytes]()
        if self._key_path.exists():
            remedy = "Put it back from a copy."
            found: dict[str, str] = _decoded(self._key_path, StoredKeys, remedy)
            self._stored = {name: bytes.fromhex(key) for name, key in found.items()}

    def bind(self, text: str) -> tuple[str, str]:
        """(name of the key, what binds the text). The first call makes the key."""
        if not self._given and not self._stored:
            self._stored = {secrets.token_hex(4): secrets.token_bytes(32)}
            stored = {name: key.hex() for name, key in self._stored.items()}
            write_whole(self._key_path, msgspec.json.encode(stored))
        name, key = list((self._stored | self._given).items())[-1]
        return name, hmac.new(key, text.encode(), MAC).hexdigest()

    def fault(self, name: str, text: str, bound: str) -> str:
        """What is wrong with a text that was bound by a key; empty for nothing."""
        if name == PLAIN:
            is_it = hmac.compare_digest(hashlib.sha256(text.encode()).hexdigest(), bound)
            return "" if is_it else "was changed"
        key = (self._stored | self._given).get(name)
        if key is None:
            return f"was bound by another key ({name}): give its DATA/audit.key, or its SECRET_KEY"
        is_it = hmac.compare_digest(hmac.new(key, text.encode(), MAC).hexdigest(), bound)
        return "" if is_it else "was changed"

    def head(self) -> Head | None:
        """None before the first entry. Raises ValueError for a damaged file."""
        if not self._head_path.exists():
            return None
        return _decoded(self._head_path, Head, "Move it away: the next entry makes a new one.")

    def keep_head(self, number: int, bound: str, lost: str | None) -> None:
        """lost: beside what is known of that; None: what was is in order. Raises OSError."""
        before = self.head() or Head(number, bound, number)
        told = "" if lost is None else before.lost or lost
        found = Head(number, bound, min(before.since, number), told)
        write_whole(self._head_path, msgspec.json.encode(found))


def _derived(secret: str) -> dict[str, bytes]:
    key = hmac.new(secret.encode(), b"headway audit trail", MAC).digest()
    return {hashlib.sha256(b"name of " + key).hexdigest()[:8]: key}


def _decoded(path: Path, kind: type[T], remedy: str) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: is damaged ({error}). {remedy}") from error
