"""The site that receives webhooks under real servers: each view by kind, scheme and handshake."""

from __future__ import annotations

KINDS: dict[str, dict[str, bool]] = {
    "plain": {"once": False},
    "once": {},
    "background": {"background": True},
}
VERIFY_TOKEN = "verify-with-this"
