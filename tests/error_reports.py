"""Run with a real SDK of Sentry: plant a fault at a place, do a thing, and tell which secrets left.

``python -m tests.error_reports '{"traces_sample_rate": 1.0}'`` prints a JSON object: for each fault
how many reports there were, and the secrets found in the bytes that would have been sent. The SDK
replaces parts of Django, Celery and the standard library, so that it has a process of its own.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import logging
import os
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import sentry_sdk
from sentry_sdk.transport import Transport

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
KEYS = [base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in (7, 8)]


class Secrets:
    """What may be in no report; never in a variable of a frame."""

    secret = "whsec_" + base64.b64encode(b"planted-signing-secret-0123456789").decode()
    other = "whsec_" + base64.b64encode(b"planted-another-secret-9876543210").decode()
    token = "planted-token-of-a-receiver"
    path, query = "/planted-path-7f3a", "key=planted-query-91"
    authorization = "Bearer planted-authorization"
    header = "planted-custom-header"
    url = ""

    @classmethod
    def all(cls) -> list[str]:
        plain = [cls.path, cls.query, "planted-authorization", cls.header, cls.token, *KEYS]
        plain += [cls.secret.removeprefix("whsec_"), cls.other.removeprefix("whsec_")]
        plain += [base64.b64decode(one).decode() for one in plain[-2:]]
        return plain


class Capturing(Transport):
    """Keeps what would be sent."""

    sent: list[bytes] = []

    def capture_envelope(self, envelope: Any) -> None:
        """Keep the bytes."""
        self.sent.append(envelope.serialize())


def fault(*args: Any, **kwargs: Any) -> Any:
    """Fail, as a bug would."""
    raise RuntimeError("planted fault")


def soft_limit(*args: Any, **kwargs: Any) -> Any:
    """Fail as Celery's soft time limit does, which the transport passes on."""
    from billiard.exceptions import SoftTimeLimitExceeded

    raise SoftTimeLimitExceeded("planted fault")


class AuditContext:
    """Rows, a receiver, and things to do with them."""

    def __init__(self) -> None:
        from tests.receivers import Answer, Receiver

        self.receiver = Receiver([Answer(204)])
        Secrets.url = self.receiver.url.replace("/hook", f"{Secrets.path}?{Secrets.query}")

    def reset(self) -> None:
        """Begin with one subscription."""
        from django_webhooks.models import Delivery, Endpoint, Event, Subscription
        from tests import factories

        Delivery.objects.all().delete()
        Event.objects.all().delete()
        Subscription.objects.all().delete()
        made = factories.subscription(url=None, signing_secret=Secrets.secret)
        Endpoint.objects.create(
            subscription=made,
            url=Secrets.url,
            authorization=Secrets.authorization,
            headers={"X-Key": Secrets.header},
            probe="ping",
        )

    def emit(self) -> None:
        from tests import factories

        factories.record()

    def send(self) -> None:
        from django_webhooks.sending import worker
        from tests import factories

        if not self._due():
            factories.record()
        worker.drain(clock=factories.Clock())

    def _due(self) -> bool:
        from django_webhooks.models import Delivery

        return Delivery.objects.exists()

    def probe(self) -> None:
        from django_webhooks.models import Endpoint
        from django_webhooks.sending import health_checks

        health_checks.check_all(endpoints=[Endpoint.objects.get().pk])

    def create(self) -> None:
        from django_webhooks.models import Endpoint, Subscription

        Endpoint.objects.create(
            subscription=Subscription.objects.get(),
            position=1,
            url=Secrets.url + "&backup",
            authorization=Secrets.authorization,
            headers={"X-Key": Secrets.header},
        )

    def save(self) -> None:
        from django_webhooks.models import Endpoint

        Endpoint.objects.get().save()

    def clean(self) -> None:
        from django_webhooks.models import Endpoint

        Endpoint.objects.get().full_clean()

    def update(self) -> None:
        from django_webhooks.models import Endpoint

        Endpoint.objects.update(authorization=Secrets.authorization, url=Secrets.url)

    def rotate(self) -> None:
        from django_webhooks.models import Subscription

        Subscription.objects.get().rotate_key(secret=Secrets.other)

    def admin(self) -> None:
        from django.contrib.auth.models import User
        from django.test import Client

        from tests import pages

        client = Client(raise_request_exception=False)
        client.force_login(
            User.objects.get_or_create(username="ann", is_superuser=True, is_staff=True)[0]
        )
        page = pages.url("subscription", "add")
        with mock.patch.dict(os.environ):
            client.post(page, _form(client, page))

    def receive(self) -> None:

        from django_webhooks import receiving

        @receiving.webhook(
            secrets=Secrets.token,
            scheme=receiving.Token(header="X-Gitlab-Token", prefix=""),
            require_https=False,
        )
        def view(request: Any, message: Any) -> None:
            importlib.import_module("tests.error_reports").hook()

        _ask(view, HTTP_X_GITLAB_TOKEN=Secrets.token)

    def receive_signed(self) -> None:
        from django_webhooks import receiving

        @receiving.webhook(secrets=[Secrets.secret], require_https=False)
        def view(request: Any, message: Any) -> None:
            importlib.import_module("tests.error_reports").hook()

        _ask(view, **_signature())

    def command(self, *arguments: str) -> None:
        from django.core.management import execute_from_command_line

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            before, sys.argv = sys.argv, ["manage.py"]
            sys.argv += [one.replace("SECRET", Secrets.secret) for one in arguments]
            try:
                execute_from_command_line(sys.argv)
            except SystemExit:
                pass
            finally:
                sys.argv = before


def hook() -> None:
    """Stand in for what a project's handler does."""


def _form(client: Any, page: str) -> dict[str, str]:
    from tests import pages

    return pages.form_of(client.get(page)) | {
        "name": "CRM 2",
        "event_types": "order.*",
        "signing_secret": Secrets.other,
        "endpoints-0-url": Secrets.url + "&admin",
        "endpoints-0-authorization": Secrets.authorization,
        "endpoints-0-headers": json.dumps({"X-Key": Secrets.header}),
    }


def _ask(view: Any, **headers: str) -> None:
    """Ask a view as a server does: through a handler whose requests the SDK knows."""
    from django.test import Client, override_settings
    from django.urls import path

    urls = type(sys)("tests.error_reports_urls")
    urls.urlpatterns = [path("in/", view)]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    with override_settings(ROOT_URLCONF=urls.__name__):
        Client(raise_request_exception=False).post(
            "/in/", b'{"id": 1}', content_type="application/json", **headers
        )


def _signature() -> dict[str, str]:
    import time

    from django_webhooks import signing

    moment = int(time.time())
    value = signing.sign(
        secret=Secrets.secret, message_id="msg_1", timestamp=moment, body=b'{"id": 1}'
    )
    return {
        "HTTP_WEBHOOK_ID": "msg_1",
        "HTTP_WEBHOOK_TIMESTAMP": str(moment),
        "HTTP_WEBHOOK_SIGNATURE": value,
    }


#: What is done, and where a fault is planted meanwhile.
PLANTS: dict[str, tuple[str, ...]] = {
    "send": (
        "django_webhooks.signing.sign",
        "django_webhooks.signing.key_bytes",
        "django_webhooks.signing._signed",
        "django_webhooks.encryption.keys",
        "django_webhooks.encryption.decrypt",
        "django_webhooks.encryption._bound_to",
        "django_webhooks.fields.Encrypted.load",
        "django_webhooks.sending.wire.headers.signatures",
        "django_webhooks.sending.wire.request_headers",
        "django_webhooks.sending.wire.headers.authorization",
        "django_webhooks.sending.attempts.attempt.validate_headers",
        "django_webhooks.sending.attempts.attempt._outcome",
        "django_webhooks.sending.wire.tracing.headers",
        "django_webhooks.sending.http.post",
        "django_webhooks.sending.http.transport.request",
        "django_webhooks.sending.http.transport._send",
        "soft limit in django_webhooks.sending.http.transport._send",
        "soft limit in django_webhooks.sending.http.channels.Channel.send",
        "soft limit in django_webhooks.signing.sign",
        "soft limit in django_webhooks.sending.database.compiled_sql.insert_all",
        "django_webhooks.sending.http.transport._explain",
        "django_webhooks.sending.http.transport._target",
        "django_webhooks.policies.urls._judge",
        "django_webhooks.policies.urls._parse",
        "django_webhooks.sending.http.transport._message",
        "django_webhooks.sending.http.pools.borrow",
        "django_webhooks.sending.http.channels.Channel.send",
        "socket.socket.connect",
        "django_webhooks.sending.attempts.masking.masker",
        "django_webhooks.sending.attempts.masking._mask",
        "django_webhooks.sending.attempts.masking._forms",
        "django_webhooks.sending.attempts.masking.clean_line",
        "django_webhooks.sending.results.recorder._store",
        "django_webhooks.sending.database.compiled_sql.insert_all",
        "django_webhooks.models.endpoint.Endpoint.host",
    ),
    "emit": (
        "django_webhooks.sending.wire.serialise",
        "django_webhooks.encryption.decrypt",
    ),
    "probe": (
        "django_webhooks.signing.sign",
        "django_webhooks.sending.http.post",
        "django_webhooks.sending.http.transport._send",
        "django_webhooks.sending.attempts.masking.clean_line",
        "django_webhooks.sending.health_checks.probe.row",
        "django_webhooks.sending.health_checks.probes._weigh",
    ),
    "create": (
        "django_webhooks.encryption.encrypt",
        "django_webhooks.encryption._digest",
        "django_webhooks.encryption._bound_to",
        "django_webhooks.models.endpoint.normalise_url",
        "django_webhooks.models.endpoint.EndpointQuerySet.create",
        "django_webhooks.models.switch.SwitchQuerySet.reconsider",
        "django_webhooks.auditing.changes.record",
        "django.db.models.sql.compiler.SQLInsertCompiler.execute_sql",
        "django.db.models.base.Model.save_base",
        "django.db.models.fields.Field.pre_save",
    ),
    "save": (
        "django_webhooks.encryption.encrypt",
        "django_webhooks.fields.Encrypted.dump",
        "django_webhooks.models.switch.SwitchQuerySet.reconsider",
        "django.db.models.sql.compiler.SQLUpdateCompiler.execute_sql",
        "django.db.backends.sqlite3.base.SQLiteCursorWrapper.execute",
    ),
    "clean": (
        "django_webhooks.validators.urls.parse",
        "django_webhooks.models.endpoint.Endpoint.clean",
        "django_webhooks.models.endpoint.EndpointQuerySet.with_url",
    ),
    "update": (
        "django_webhooks.encryption.encrypt",
        "django.db.models.sql.compiler.SQLUpdateCompiler.execute_sql",
    ),
    "rotate": (
        "django_webhooks.signing.check_secret",
        "django_webhooks.signing.key_bytes",
        "django_webhooks.encryption.encrypt",
        "django.db.models.sql.compiler.SQLInsertCompiler.execute_sql",
    ),
    "admin": (
        "django_webhooks.validators.urls.parse",
        "django_webhooks.models.endpoint.Endpoint.clean",
        "django_webhooks.models.endpoint.Endpoint.save",
        "django_webhooks.models.subscription.Subscription.save",
        "django_webhooks.models.subscription.Subscription.store_secret",
        "django_webhooks.encryption.encrypt",
        "django_webhooks.fields.Encrypted.clean",
        "django.forms.models.BaseModelForm._post_clean",
        "django.forms.fields.CharField.clean",
        "django.db.models.sql.compiler.SQLInsertCompiler.execute_sql",
        "django.contrib.admin.options.ModelAdmin.log_addition",
        "django_webhooks.auditing.changes.record",
    ),
    "receive": (
        "tests.error_reports.hook",
        "hmac.compare_digest",
        "django_webhooks.receiving.schemes.Token.verify",
        "django_webhooks.receiving.guard.replace",
        "django_webhooks.receiving.views._take",
    ),
    "receive_signed": (
        "tests.error_reports.hook",
        "django_webhooks.signing.verify",
        "django_webhooks.signing._digest",
        "django_webhooks.receiving.guard.Guard._secrets",
    ),
    "command webhooks_rotate_signing_key --all": (
        "django_webhooks.signing.generate",
        "django_webhooks.encryption.encrypt",
        "django_webhooks.management.commands.webhooks_rotate_signing_key.plain",
    ),
    "command webhooks_reencrypt": (
        "django_webhooks.encryption.is_current",
        "django_webhooks.encryption.decrypt",
        "django_webhooks.encryption.keys",
    ),
    "command webhooks_listen --secret SECRET --port 0 --seconds 1": (
        "django_webhooks.receiving.listener.Listener.start",
        "django_webhooks.signing.check_verifier",
    ),
    "command webhooks_listen --secret=SECRET --port 0 --seconds 1": (
        "django_webhooks.management.commands.webhooks_listen._plan",
    ),
    "command webhooks_listen --subscription CRM --port 0 --seconds 1": (
        "django_webhooks.receiving.listener.Listener.start",
    ),
    "command webhooks_ping CRM --here": ("django_webhooks.sending.http.transport._send",),
    "command webhooks_health": ("django_webhooks.encryption.decrypt",),
    "command check": ("django_webhooks.encryption.key_bytes",),
}


def plants() -> Iterator[tuple[str, str]]:
    """Yield what is done, and where a fault is planted."""
    for what, places in PLANTS.items():
        for place in places:
            yield what, place


@contextlib.contextmanager
def planted(place: str) -> Iterator[None]:
    """Let a function fail."""
    failing = soft_limit if place.startswith("soft limit in ") else fault
    owner, _, name = place.removeprefix("soft limit in ").rpartition(".")
    try:
        target: Any = importlib.import_module(owner)
    except ImportError:
        module, _, cls = owner.rpartition(".")
        try:
            target = getattr(importlib.import_module(module), cls)
        except ImportError:
            module, _, outer = module.rpartition(".")
            target = getattr(getattr(importlib.import_module(module), outer), cls)
    value = property(failing) if isinstance(getattr(target, name, None), property) else failing
    with mock.patch.object(target, name, value):
        yield


def try_it(context: AuditContext, what: str, place: str) -> tuple[int, list[str]]:
    """Return how many reports a planted fault led to, and the secrets in what was sent."""
    context.reset()
    Capturing.sent.clear()
    verb, *arguments = what.split()
    with sentry_sdk.start_transaction(name="thing"), planted(place):
        try:
            getattr(context, verb)(*arguments)
        except Exception:
            sentry_sdk.capture_exception()
    sentry_sdk.flush()
    sent = b"\n".join(Capturing.sent).decode("utf-8", "replace")
    forms: list[Callable[[str], str]] = [
        str, urllib.parse.quote, lambda text: base64.b64encode(text.encode()).decode(),
    ]  # fmt: skip
    found = [one for one in Secrets.all() if any(form(one) in sent for form in forms)]
    return len(re.findall('"value":"[^"]*planted fault', sent)), found


def main(options: dict[str, Any]) -> dict[str, Any]:
    """Try all plants."""
    import django
    from django.db import connection

    sentry_sdk.init(
        dsn="http://public@127.0.0.1:9/1", transport=Capturing, release="shop@1.2.3", **options
    )
    django.setup()
    from django_webhooks import catalog
    from tests import celery  # noqa: F401

    catalog.declare("order.paid")
    logging.getLogger("django").addHandler(logging.NullHandler())
    logging.lastResort = None
    from django.conf import settings
    from django.test.utils import setup_test_environment

    settings.WEBHOOKS_ENCRYPTION_KEYS = KEYS
    setup_test_environment()
    connection.creation.create_test_db(verbosity=0)
    context = AuditContext()
    try:
        return {f"{what} | {place}": try_it(context, what, place) for what, place in plants()}
    finally:
        context.receiver.close()
        connection.creation.destroy_test_db(verbosity=0)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
