"""API keys: read where the application is started, known to the ingress as hashes alone."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable

from colllm_ray.errors import ColllmError
from colllm_ray.storage import location

VARIABLE = "COLLLM_API_KEYS"  # of the environment: keys with commas between them
SHORTEST = 8  # characters

KeyHashes = frozenset[bytes]


def take_keys(file: str | None) -> KeyHashes:
    """Hashes of the keys in the environment and in a file with one a line, where `#` begins a remark.

    Those of the environment are taken out of it: no process that is started from now on inherits them. Raises
    ColllmError, which never quotes a key.
    """
    hashes = _hashes(os.environ.pop(VARIABLE, "").split(","), f"${VARIABLE}")
    if file is not None:
        try:
            lines = location(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ColllmError(f"{file}: the API keys cannot be read: {type(error).__name__}") from None
        from_file = _hashes((line.partition("#")[0] for line in lines), file)
        if not from_file:
            raise ColllmError(f"{file}: holds no API key; one on each line is right")
        hashes |= from_file
    return hashes


def is_known(key: str, hashes: KeyHashes) -> bool:
    """Whether it is one of the keys; takes as long whichever it is."""
    given = _hash(key)
    return sum(hmac.compare_digest(given, known) for known in hashes) > 0


def _hashes(keys: Iterable[str], where: str) -> KeyHashes:
    stripped = [key.strip() for key in keys if key.strip()]
    for key in stripped:
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise ColllmError(f"{where}: an API key has at least {SHORTEST} printable ASCII characters, and no space")
    return frozenset(map(_hash, stripped))


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
