"""The views: ``<kind>/<scheme>/``, and one for each handshake.

What a handler was given is a line of a file; what is stored for a worker is a row of the inbox.
"""

from __future__ import annotations

import base64
import json
import os

from django.conf import settings
from django.http import HttpRequest
from django.urls import path

from django_webhooks.receiving import (
    CloudEventsHandshake,
    DropboxHandshake,
    GitHub,
    GraphHandshake,
    Message,
    MetaHandshake,
    OktaHandshake,
    Slack,
    Square,
    StandardWebhooks,
    Token,
    webhook,
)
from tests.senders import SECRET

from . import KINDS, VERIFY_TOKEN

TYPES = ("application/json", "application/x-www-form-urlencoded")
SCHEMES = {
    "standard": StandardWebhooks(content_types=TYPES),
    "github": GitHub(),
    "token": Token(content_types=TYPES),
}


def take(request: HttpRequest, message: Message, kind: str = "") -> None:
    """Write down what came."""
    is_empty = not message.body
    found = {
        "path": request.path,
        "body": base64.b64encode(message.body).decode(),
        "is_the_request_s": request.body == message.body,
        "payload": None if is_empty else message.payload,
    }
    line = json.dumps(found).encode() + b"\n"
    # In one write, so that lines of several threads stay whole.
    file = os.open(settings.FOLDER / "handled", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line)
    os.close(file)


HANDSHAKES = {
    "meta": (GitHub(id_from_body=True), MetaHandshake(verify_token=VERIFY_TOKEN)),
    "graph": (Token(), GraphHandshake()),
    "okta": (Token(), OktaHandshake()),
    "dropbox": (Token(), DropboxHandshake()),
    "cloudevents": (Token(), CloudEventsHandshake(allowed_origins=["events.example.com"])),
    "slack": (Slack(), None),
}
urlpatterns = [
    *(
        path(
            f"{kind}/{scheme}/",
            webhook(name=f"{kind}/{scheme}", scheme=SCHEMES[scheme], secrets=SECRET, **options)(
                take
            ),
        )
        for kind, options in KINDS.items()
        for scheme in SCHEMES
    ),
    *(
        path(
            f"{name}/",
            webhook(name=name, scheme=scheme, secrets=SECRET, handshake=handshake, background=True)(
                take
            ),
        )
        for name, (scheme, handshake) in HANDSHAKES.items()
    ),
    *(
        path(
            f"plain/{scheme}-any/",
            webhook(name=f"{scheme}-any", scheme=SCHEMES[scheme], secrets=SECRET, once=False)(take),
        )
        for scheme in ("standard", "token")
    ),
    path(
        "url/<path:rest>",
        webhook(name="url", scheme=Square(), secrets=SECRET)(
            lambda request, message, rest: take(request, message)
        ),
    ),
]
