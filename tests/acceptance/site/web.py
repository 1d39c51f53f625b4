"""The web process: ``python -m tests.acceptance.site.web PORT``."""

from __future__ import annotations

import os
import signal
import socketserver
import sys
import time
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path


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
        events.emit("thing.created", {"id": thing.pk, "name": name})
        if how == "savepoint":
            transaction.set_rollback(True)
    if how == "error":
        raise RuntimeError("after the event was recorded")
    return JsonResponse({"id": thing.pk, "seconds": time.monotonic() - began})


urlpatterns = [path("things/", things)]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    """One thread a request."""

    daemon_threads = True


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
        print("ready.", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
