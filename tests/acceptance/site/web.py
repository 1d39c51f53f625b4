"""The web process: ``python -m tests.acceptance.site.web PORT``.

By TLS where ``ACCEPTANCE_CERTIFICATE`` and ``ACCEPTANCE_KEY`` name files.
"""

from __future__ import annotations

import inspect
import os
import signal
import socketserver
import ssl
import sys
import threading
import time
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse


def things(request: HttpRequest) -> HttpResponse:
    """Create a thing and tell of it, in one transaction; ``how`` says what goes wrong."""
    from django_webhooks import events

    from .models import Thing

    how, name = request.GET.get("how", "well"), request.GET["name"]
    began = time.monotonic()
    if how == "killed after commit":
        transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with transaction.atomic():
        thing = Thing.objects.create(name=name)
        events.emit("thing.created", {"id": thing.pk, "name": name}, **_in_order(name))
        if how == "savepoint":
            transaction.set_rollback(True)
    if how == "error":
        raise RuntimeError("after the event was recorded")
    return JsonResponse({"id": thing.pk, "seconds": time.monotonic() - began})


def _in_order(name: str) -> dict[str, Any]:
    """Have things of one name told in order, to subscriptions that want that."""
    from django_webhooks import events

    is_known = "ordering_key" in inspect.signature(events.emit).parameters
    return {"ordering_key": name} if is_known else {}


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """One thread a request; a dozen at once, each with a connection to the database."""

    daemon_threads = True
    request_queue_size = 128
    at_once = threading.Semaphore(12)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a request."""
        with self.at_once:
            super().process_request_thread(request, client_address)
            connections.close_all()

    def speak_tls(self, certificate: str, key: str) -> None:
        """Speak TLS, and say so to the application."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        # Who connects and says nothing must not keep others from being accepted.
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.base_environ["HTTPS"] = "on"


class QuietHandler(WSGIRequestHandler):
    """Say nothing of requests."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.site.settings")
    from django.core.wsgi import get_wsgi_application

    from . import celery  # noqa: F401  # the tasks belong to it

    application = get_wsgi_application()
    port = int(sys.argv[1])
    with make_server("127.0.0.1", port, application, Server, QuietHandler) as server:
        if certificate := os.environ.get("ACCEPTANCE_CERTIFICATE"):
            server.speak_tls(certificate, os.environ["ACCEPTANCE_KEY"])
        print("ready.", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
