"""Celery's broker in files, with messages that appear whole.

Kombu's own transport creates a message's file and then writes into it, so that a worker that looks
in between reads half a message and dies of it. This one writes elsewhere and renames.
"""

from __future__ import annotations

import os
import uuid
from json import dumps
from time import monotonic
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem

#: Scheme of the broker's URL.
SCHEME = "files"


class Channel(filesystem.Channel):
    """Puts each message into its folder in one step."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        unfinished = os.path.join(self.data_folder_out, f".{name}.unfinished")
        with open(unfinished, "w", encoding="utf-8") as file:
            file.write(dumps(payload))
        os.replace(unfinished, os.path.join(self.data_folder_out, name))


class Transport(filesystem.Transport):
    """The transport of ``files://``."""

    Channel = Channel


def install() -> None:
    """Let Celery know the scheme."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


def options(folder: str) -> dict[str, Any]:
    """Return the ``broker_transport_options`` that keep everything in a folder."""
    return {
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": f"{folder}/control",
        "polling_interval": 0.05,
    }
