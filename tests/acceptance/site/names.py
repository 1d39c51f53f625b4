"""Names and authorities that the tests make.

``*.webhooks.test`` is looked up in a file that a test may change; ``ACCEPTANCE_AUTHORITIES`` names
the certificates that are trusted.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import certifi

SUFFIX = ".webhooks.test"


def install() -> None:
    """Look our names up in the file, all others as ever."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if isinstance(host, str) and host.endswith(SUFFIX):
            known = json.loads(Path(os.environ["ACCEPTANCE_FOLDER"], "names.json").read_text())
            if host not in known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = known[host]
        return real(host, *args, **options)

    socket.getaddrinfo = getaddrinfo
    if authorities := os.environ.get("ACCEPTANCE_AUTHORITIES"):
        certifi.where = lambda: authorities
