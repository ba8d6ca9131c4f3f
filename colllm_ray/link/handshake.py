"""How the two ends prove to each other that they know the secret, without saying it.

The server says a nonce, the client answers with the mac of both nonces and its own nonce, the server with another mac.
The two macs differ in a word, so that neither end can be made to compute the other's.
"""

from __future__ import annotations

import hmac
import secrets

from colllm_ray.link.fields import DIGEST


def new_nonce() -> bytes:
    return secrets.token_bytes(DIGEST)


def client_mac(secret: bytes, server_nonce: bytes, client_nonce: bytes) -> bytes:
    return hmac.digest(secret, b"client" + server_nonce + client_nonce, "sha256")


def server_mac(secret: bytes, server_nonce: bytes, client_nonce: bytes) -> bytes:
    return hmac.digest(secret, b"server" + client_nonce + server_nonce, "sha256")
