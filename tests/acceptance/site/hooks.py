"""What the site does with the webhooks that it receives: at ``/hooks/`` at once, and later."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from django_webhooks.receiving import webhook
from tests.acceptance.harness import SIGNING_SECRET

from .models import Effect


def take(request: HttpRequest, message) -> None:
    """Leave an effect, and then fail as the data asks in ``how``.

    Files in the folder of the harness tell and are told: ``began`` that the one that hangs has,
    ``mended`` that nothing fails any more, and ``held`` that answers wait while it is there.
    """
    data = message.payload["data"]
    folder = Path(os.environ["ACCEPTANCE_FOLDER"])
    Effect.objects.create(message_id=message.id, data=data)
    # Who dies between commit and answer is sent the same again.
    transaction.on_commit(lambda: wait(folder / "held"))
    match data.get("how"):
        case "slow":
            time.sleep(0.5)
        case "hangs once" if not (folder / "began").exists():
            (folder / "began").touch()
            time.sleep(600)
        case "fails" if not (folder / "mended").exists():
            raise RuntimeError("after the effect")
        case "kills":
            os.kill(os.getpid(), signal.SIGKILL)


def wait(held: Path) -> None:
    """Wait for as long as the settings say, and until the file is gone."""
    time.sleep(settings.SECONDS_UNTIL_ANSWER)
    while held.exists():
        time.sleep(0.05)


now = webhook(secrets=SIGNING_SECRET, name="now")(take)
later = webhook(secrets=SIGNING_SECRET, name="later", background=True)(take)
