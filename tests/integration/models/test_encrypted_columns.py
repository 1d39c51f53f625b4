"""What the database keeps: ciphertext that waits for its key, moves nowhere, and is rotated."""

from __future__ import annotations

import copy
import io
import json
import pickle
from datetime import timedelta

import pytest
from django.core import serializers
from django.core.exceptions import FieldError, ValidationError
from django.core.management import CommandError, call_command
from django.db import connection

from django_webhooks import encryption, tasks, times
from django_webhooks.exceptions import NotDecrypted
from django_webhooks.fields import Undecryptable
from django_webhooks.models import (
    Delivery,
    Endpoint,
    EndpointHealth,
    Probe,
    SigningKey,
    Subscription,
)
from django_webhooks.models.reencryption import MODELS, reencrypt
from django_webhooks.sending import health_checks, maintenance, worker
from django_webhooks.sending.claims import routing
from tests import certificates, factories, pages
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
OLD, NEW = encryption.generate_key(), encryption.generate_key()
URL = "http://127.0.0.1:9/planted-path"
PLANTED = {
    "authorization": "Bearer planted-token",
    "headers": {"x-key": "planted-header"},
    "health_url": "http://127.0.0.1:9/planted-health",
    "client_certificate": "planted-certificate",
}


@pytest.fixture(autouse=True)
def _old_key(settings):
    settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD]


def planted(url=URL):
    subscription = factories.subscription(url=None)
    return Endpoint.objects.create(subscription=subscription, url=url, **PLANTED)


def everything(*, trail: bool = True):
    """Every value of every table of ours, as the database has it."""
    found = []
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        for table in tables:
            if not trail and table.startswith("django_webhooks_audit"):
                continue
            if table.startswith(("django_webhooks", "django_admin_log")):
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                found += cursor.fetchall()
    return str(found)


def lose_the_key(settings):
    settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW]


def test_nothing_secret_is_in_the_database_in_clear():
    planted()

    dump = everything()

    assert "CRM" in dump
    for secret in ("planted", factories.SECRET, factories.SECRET[6:]):
        assert secret not in dump


def test_it_is_read_as_it_was_written():
    made = planted()

    found = Endpoint.objects.get(pk=made.pk)

    assert found.url == URL
    assert {name: getattr(found, name) for name in PLANTED} == PLANTED
    assert found.subscription.signing_secret == factories.SECRET


def test_what_is_empty_is_kept_empty():
    factories.subscription()

    found = Endpoint.objects.get()

    assert (found.authorization, found.headers, found.client_certificate) == ("", {}, "")


def test_a_fixture_holds_ciphertext_and_is_loaded_again():
    made = planted()
    rows = [made.subscription, made, *SigningKey.objects.all()]

    dumped = serializers.serialize("json", rows)
    for row in rows:
        type(row).objects.filter(pk=row.pk).delete()
    for loaded in serializers.deserialize("json", dumped):
        loaded.save()

    assert "planted" not in dumped
    assert factories.SECRET not in dumped
    found = Endpoint.objects.get()
    assert (found.url, found.headers) == (URL, PLANTED["headers"])
    assert found.subscription.signing_secret == factories.SECRET


@pytest.mark.parametrize(
    "look_up",
    [
        {"url": URL},
        {"url__contains": "planted"},
        {"headers__x-key": "x"},
        {"authorization__in": []},
    ],
)
def test_a_look_up_is_refused_with_what_to_do(look_up):
    with pytest.raises(FieldError, match="with_url"):
        Endpoint.objects.filter(**look_up).exists()


def test_a_url_is_found_by_its_index(settings):
    made = planted()
    other = planted("http://127.0.0.1:9/other")

    assert Endpoint.objects.with_url("HTTP://127.0.0.1:9/planted-path").get() == made
    assert not Endpoint.objects.with_url(URL + "x").exists()
    settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]
    assert Endpoint.objects.with_url(URL).get() == made
    Endpoint.objects.filter(pk=other.pk).update(url="HTTP://127.0.0.1:9/moved")
    assert Endpoint.objects.with_url("http://127.0.0.1:9/moved").get() == other


def test_the_index_follows_where_the_url_alone_is_saved():
    made = planted()
    made.url = "http://127.0.0.1:9/moved"
    made.save(update_fields=["url"])

    assert Endpoint.objects.with_url("http://127.0.0.1:9/moved").exists()
    assert not Endpoint.objects.with_url(URL).exists()


def test_people_cannot_enter_ciphertext():
    made = planted()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT url FROM {Endpoint._meta.db_table}")
        [ciphertext] = cursor.fetchone()
    made.authorization = ciphertext

    with pytest.raises(ValidationError, match="not its ciphertext"):
        made.clean_fields()


def test_a_ciphertext_that_was_moved_does_not_open():
    made = planted()
    table = Endpoint._meta.db_table
    with connection.cursor() as cursor:
        column = connection.ops.quote_name("authorization")
        cursor.execute(f"UPDATE {table} SET {column} = url")

    found = Endpoint.objects.get(pk=made.pk)

    assert isinstance(found.authorization, Undecryptable)
    assert "another place" in found.authorization.why
    assert not found.is_readable


class TestLostKey:
    def test_rows_open_and_say_so_and_are_saved_as_they_are(self, settings):
        made = planted()
        before = everything()
        lose_the_key(settings)

        found = Endpoint.objects.get(pk=made.pk)
        found.full_clean()
        found.save()

        assert (found.label, found.url, found.headers) == ("cannot be read (primary)", "", {})
        for ciphertext in (found.url.ciphertext, found.headers.ciphertext):
            assert ciphertext in before
            assert ciphertext in everything()
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]
        assert Endpoint.objects.get(pk=made.pk).url == URL

    def test_deliveries_wait_with_the_reason_and_flow_when_it_is_back(self, settings, caplog):
        clock = Clock()
        with receiving(204) as receiver:
            delivery = factories.delivery(receiver.url)
            lose_the_key(settings)
            other = factories.subscription(url=receiver.url, event_types=["user.*"])
            [readable] = factories.record("user.joined")
            for _ in range(3):
                worker.drain(clock=clock)
                maintenance.release_readable()
                maintenance.release_forgotten()
                maintenance.nudge()
            sent = len(receiver.requests)
            delivery.refresh_from_db()
            readable.refresh_from_db()
            waits = (delivery.due_at, delivery.attempts_made, delivery.explain())
            settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]
            released = maintenance.release_readable()
            worker.drain(clock=clock)

        assert sent == 1
        assert (readable.status, readable.subscription) == ("succeeded", other)
        assert waits[:2] == (None, 0)
        assert "WEBHOOKS_ENCRYPTION_KEYS" in waits[2]
        assert released == 1
        delivery.refresh_from_db()
        assert delivery.status == "succeeded"
        assert not Subscription.objects.filter(unreadable_since__isnull=False).exists()
        assert sum("cannot be decrypted" in one for one in caplog.messages) == 1
        assert EndpointHealth.objects.get(subscription=delivery.subscription).state == "healthy"

    def test_a_signing_key_that_does_not_open_holds_too(self, settings):
        with receiving(204) as receiver:
            delivery = factories.delivery(receiver.url)
            lose_the_key(settings)
            Endpoint.objects.update(url=receiver.url)
            worker.drain(clock=Clock())

        delivery.refresh_from_db()
        assert (delivery.due_at, receiver.requests) == (None, [])
        assert maintenance.release_readable() == 0

    def test_a_sweep_releases(self, settings, monkeypatch):
        monkeypatch.setattr(tasks, "hint", lambda task: None)
        delivery = factories.delivery()
        routing.note_unreadable([delivery.subscription_id], using="default")
        Delivery.objects.update(due_at=None)

        tasks.sweep()

        delivery.refresh_from_db()
        assert delivery.due_at is not None

    def test_what_is_paused_meanwhile_stays_held(self, settings):
        delivery = factories.delivery()
        delivery.subscription.pause()
        routing.note_unreadable([delivery.subscription_id], using="default")
        Delivery.objects.update(due_at=None)

        assert maintenance.release_readable() == 0
        assert not Delivery.objects.filter(due_at__isnull=False).exists()

    @pytest.mark.django_db(transaction=True)
    def test_a_probe_says_nothing_of_the_endpoint(self, settings):
        planted()
        lose_the_key(settings)

        health_checks.check_all(endpoints=list(Endpoint.objects.values_list("pk", flat=True)))

        assert EndpointHealth.objects.get().state == "healthy"
        assert "WEBHOOKS_ENCRYPTION_KEYS" in Probe.objects.get().detail

    def test_pages_of_the_admin_open_say_so_and_keep_what_is_there(self, settings, admin_client):
        made = planted()
        factories.record()
        routing.note_unreadable([made.subscription_id], using="default")
        lose_the_key(settings)
        for page in (
            pages.url("subscription"),
            pages.url("endpoint"),
            pages.url("endpoint", "change", made.pk),
            pages.url("delivery"),
            pages.url("delivery", "change", Delivery.objects.get().pk),
        ):
            assert admin_client.get(page).status_code == 200
        page = pages.url("subscription", "change", made.subscription_id)
        response = admin_client.get(page)
        saved = admin_client.post(page, pages.form_of(response) | {"name": "renamed"})

        assert "cannot be read" in admin_client.get(pages.url("subscription")).content.decode()
        assert any("cannot be read" in one for one in pages.messages_of(response))
        assert saved.status_code == 302
        settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD]
        found = Endpoint.objects.get()
        assert found.subscription.name == "renamed"
        assert (found.url, found.authorization, found.headers) == (
            URL, PLANTED["authorization"], PLANTED["headers"],
        )  # fmt: skip
        assert found.client_certificate == PLANTED["client_certificate"]


class TestReencryption:
    def test_it_rewrites_what_is_under_another_key_and_says_how_far_it_is(self, settings):
        made = planted()
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]
        told, out = io.StringIO(), io.StringIO()

        call_command("webhooks_reencrypt", dry_run=True, stdout=out, stderr=told)
        call_command("webhooks_reencrypt", stdout=out, stderr=told)
        call_command("webhooks_reencrypt", stdout=out, stderr=told)

        assert out.getvalue().splitlines() == [
            "6 to re-encrypt, 0 under the current key already.",
            "6 re-encrypted, 0 under the current key already.",
            "0 re-encrypted, 6 under the current key already.",
        ]
        assert "endpoint.url: 1 values" in told.getvalue()
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW]
        found = Endpoint.objects.with_url(URL).get(pk=made.pk)
        assert {name: getattr(found, name) for name in PLANTED} == PLANTED
        assert found.subscription.signing_secret == factories.SECRET

    def test_what_cannot_be_read_is_left_and_named(self, settings):
        planted()
        with_old = everything(trail=False)
        missing = encryption.keys()[0].id
        lose_the_key(settings)

        with pytest.raises(CommandError, match=f"6 cannot be read .* Missing keys: {missing}"):
            call_command("webhooks_reencrypt", stderr=io.StringIO())

        assert everything(trail=False) == with_old

    def test_it_goes_on_where_it_was_stopped(self, settings, monkeypatch):
        for number in range(5):
            planted(f"http://127.0.0.1:9/{number}")
        monkeypatch.setattr("django_webhooks.models.reencryption.BATCH", 2)
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]

        def stop(context, found):
            if found.rewritten >= 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            reencrypt(using="default", tell=stop)
        found = reencrypt(using="default")

        assert found.current >= 3
        assert found.current + found.rewritten == 30

    def test_what_somebody_changes_meanwhile_is_theirs(self, settings, monkeypatch):
        made = planted()
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]
        real = encryption.decrypt

        def decrypt(ciphertext, *, context):
            text = real(ciphertext, context=context)
            if text == URL:
                monkeypatch.setattr(encryption, "decrypt", real)
                Endpoint.objects.filter(pk=made.pk).update(url="http://127.0.0.1:9/theirs")
            return text

        monkeypatch.setattr(encryption, "decrypt", decrypt)
        reencrypt(using="default")
        monkeypatch.undo()

        assert Endpoint.objects.get().url == "http://127.0.0.1:9/theirs"

    def test_it_knows_every_model_that_encrypts(self):
        from django.apps import apps

        from django_webhooks.fields import encrypted_fields

        ours = apps.get_app_config("django_webhooks").get_models()
        assert {one for one in ours if encrypted_fields(one)} == set(MODELS)


def test_a_key_is_generated():
    out = io.StringIO()
    call_command("webhooks_generate_key", stdout=out)

    assert len(encryption.key_bytes(out.getvalue().strip())) == 32


def test_neither_repr_nor_history_tells_a_secret(admin_client):
    made = planted()
    Endpoint.objects.update(client_certificate="")
    page = pages.url("subscription", "change", made.subscription_id)
    data = pages.form_of(admin_client.get(page))

    admin_client.post(page, data | {"endpoints-0-authorization": "Bearer planted-again"})

    assert Endpoint.objects.get().authorization == "Bearer planted-again"
    assert "planted" not in everything()
    assert "planted" not in f"{made!r} {made} {made.subscription!r}"
    assert json.dumps(list(Delivery.objects.values())) == "[]"


def test_expired_keys_are_removed_after_a_while():
    subscription = factories.subscription()
    now = times.now()
    SigningKey.objects.create(
        subscription=subscription, secret=factories.SECRET, expires_at=now - timedelta(days=31)
    )
    kept = SigningKey.objects.create(
        subscription=subscription, secret=factories.SECRET, expires_at=now - timedelta(days=29)
    )

    maintenance.prune(now=now)

    assert set(SigningKey.objects.values_list("expires_at", flat=True)) == {None, kept.expires_at}


class TestClientCertificateInTheAdmin:
    @pytest.fixture
    def page(self, admin_client):
        made = factories.subscription()
        return pages.url("subscription", "change", made.pk)

    @pytest.fixture
    def pem(self, tmp_path):
        made = certificates.make(tmp_path)
        return made.certificate.read_text() + made.key.read_text()

    def test_it_is_entered_kept_without_being_shown_and_removed(self, admin_client, page, pem):
        def save(**changed):
            response = admin_client.get(page)
            data = pages.form_of(response) | {"endpoints-0-client_certificate": ""}
            assert admin_client.post(page, data | changed).status_code == 302
            return Endpoint.objects.get().client_certificate, response.content.decode()

        entered, _ = save(**{"endpoints-0-client_certificate": pem})
        kept, shown = save()
        removed, _ = save(**{"endpoints-0-remove_client_certificate": "on"})

        assert "PRIVATE KEY" in entered
        assert kept == entered
        assert "PRIVATE KEY" not in shown
        assert "There is one, which is not shown" in shown
        assert removed == ""

    def test_what_is_none_is_refused(self, admin_client, page):
        data = pages.form_of(admin_client.get(page))

        answer = admin_client.post(page, data | {"endpoints-0-client_certificate": "x"})

        assert "both as PEM" in answer.content.decode()
        assert Endpoint.objects.get().client_certificate == ""


def test_what_does_not_open_is_copied_and_pickled_with_its_ciphertext(settings):
    made = planted()
    lose_the_key(settings)
    found = Endpoint.objects.get(pk=made.pk)

    for value in (found.url, found.headers):
        for copied in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert (copied.ciphertext, copied.why) == (value.ciphertext, value.why)


def test_a_json_object_is_asked_for():
    made = planted()
    made.headers = "{broken"

    with pytest.raises(ValidationError) as caught:
        made.clean_fields()

    assert "Enter a JSON object." in caught.value.message_dict["headers"]


@pytest.mark.parametrize("harm", ["lost", "changed", "not a ciphertext"])
def test_a_signing_secret_that_cannot_be_read_is_an_error_and_not_empty(settings, harm):
    subscription = factories.subscription()
    match harm:
        case "lost":
            lose_the_key(settings)
        case "changed":
            text = raw(SigningKey, "secret")
            write(SigningKey, "secret", text[:-8] + text[-8:].swapcase())
        case _:
            write(SigningKey, "secret", "whsec_in_the_clear")

    with pytest.raises(NotDecrypted, match="cannot be read") as raised:
        print(Subscription.objects.get(pk=subscription.pk).signing_secret)
    assert raised.value.is_key_missing == (harm == "lost")
    assert "in_the_clear" not in str(raised.value)


def test_a_secret_that_was_just_set_is_read_whatever_is_stored(settings):
    subscription = factories.subscription()
    lose_the_key(settings)

    subscription = Subscription.objects.get(pk=subscription.pk)
    subscription.signing_secret = factories.SECRET

    assert subscription.signing_secret == factories.SECRET


def raw(model, column):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {model._meta.db_table}")
        return cursor.fetchone()[0]


def write(model, column, text):
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {model._meta.db_table} SET {column} = %s", [text])
