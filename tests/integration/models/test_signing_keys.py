"""Signing keys: rotation without downtime, expiry, public keys, and older styles of signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import shutil
import subprocess
import threading
from datetime import timedelta

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.urls import include, path

from django_webhooks import signing, times
from django_webhooks.exceptions import InvalidSecret
from django_webhooks.models import SigningKey, Subscription
from django_webhooks.models.signing_key import MAX_KEYS
from django_webhooks.sending import wire, worker
from tests import factories, pages
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db
urlpatterns = [path("webhooks/", include("django_webhooks.urls"))]
BODY = b'{"type":"order.paid"}'


def signed(subscription, *, after=0.0):
    """The signature headers of a request at a moment."""
    found = Subscription.objects.get(pk=subscription.pk)
    now = times.now() + timedelta(seconds=after)
    headers = wire.signatures(found, message_id="msg_1", now=now, body=BODY)
    return headers | {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}


def holds(headers, secret):
    try:
        signing.verify(
            secrets=[secret],
            headers=headers,
            body=BODY,
            now=float(headers["webhook-timestamp"]),
        )
    except signing.VerificationFailed:
        return False
    return True


def test_a_new_subscription_has_a_key():
    subscription = Subscription.objects.create(name="CRM")

    assert holds(signed(subscription), subscription.signing_secret)
    assert subscription.signing_keys.get().expires_at is None


def test_while_keys_overlap_receivers_with_either_verify():
    subscription = factories.subscription()
    old = subscription.signing_secret

    new = subscription.rotate_key(overlap=100, by="anna").secret

    headers = signed(subscription)
    assert len(headers["webhook-signature"].split()) == 2
    for verifier in (standardwebhooks.Webhook, svix.webhooks.Webhook):
        for secret in (old, new):
            verifier(secret).verify(BODY, headers)  # or it raises
    assert subscription.signing_secret == new != old
    assert SigningKey.objects.first().created_by == "anna"
    later = signed(subscription, after=101)
    assert (holds(later, old), holds(later, new)) == (False, True)


def test_two_rotations_within_one_overlap_leave_three_that_sign():
    subscription = factories.subscription()
    first = subscription.signing_secret

    second = subscription.rotate_key(overlap=100).secret
    third = subscription.rotate_key(overlap=500).secret

    assert all(holds(signed(subscription), one) for one in (first, second, third))
    later = signed(subscription, after=200)
    assert [holds(later, one) for one in (first, second, third)] == [False, True, True]
    assert [holds(signed(subscription, after=501), one) for one in (second, third)] == [False, True]


def test_a_key_that_leaked_ends_at_once():
    subscription = factories.subscription()
    old = subscription.signing_secret

    subscription.rotate_key(overlap=0)

    assert not holds(signed(subscription), old)


def test_a_secret_of_ones_own_is_brought_by_assigning_it():
    subscription = factories.subscription()
    subscription.signing_secret = new = signing.generate_secret()
    subscription.save()

    assert all(holds(signed(subscription), one) for one in (factories.SECRET, new))


def test_what_cannot_be_a_key_is_refused_and_nothing_changes():
    subscription = factories.subscription()

    with pytest.raises(InvalidSecret):
        subscription.rotate_key(secret="whsec_short")
    with pytest.raises(InvalidSecret):
        Subscription.objects.create(name="bad", signing_secret="x")
    with pytest.raises(ValueError, match="seconds"):
        subscription.rotate_key(overlap=-1)

    assert SigningKey.objects.filter(expires_at=None).count() == 1
    assert not Subscription.objects.filter(name="bad").exists()


def test_keys_are_bounded():
    subscription = factories.subscription()
    for _ in range(MAX_KEYS - 1):
        subscription.rotate_key()

    with pytest.raises(ValueError, match="wait until one expires"):
        subscription.rotate_key()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="writes one at a time anyway")
def test_rotations_at_once_leave_one_key_that_does_not_expire():
    subscription = factories.subscription()
    ready = threading.Barrier(4)

    def rotate():
        try:
            ready.wait(60)
            Subscription.objects.get(pk=subscription.pk).rotate_key(overlap=1000)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert subscription.signing_keys.count() == 5
    assert subscription.signing_keys.filter(expires_at=None).count() == 1


class TestPublicKeys:
    @pytest.fixture
    def subscription(self):
        made = factories.subscription()
        made.rotate_key(kind="v1a", overlap=0)
        return made

    def test_the_published_key_alone_verifies(self, subscription, client, settings):
        settings.ROOT_URLCONF = __name__
        answer = client.get(f"/webhooks/{subscription.pk}/keys.json")

        [key] = answer.json()["keys"]
        raw = base64.urlsafe_b64decode(key["x"] + "=")
        headers = signed(subscription)
        version, _, signature = headers["webhook-signature"].partition(",")
        content = f"msg_1.{headers['webhook-timestamp']}.".encode() + BODY
        Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature), content)
        assert version == "v1a"
        assert holds(headers, key["whpk"])
        assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
        assert "max-age" in answer["Cache-Control"]
        assert "whsk_" not in answer.content.decode()

    def test_a_rotation_keeps_the_kind_and_publishes_both(self, subscription, client, settings):
        settings.ROOT_URLCONF = __name__
        subscription.rotate_key()

        keys = client.get(f"/webhooks/{subscription.pk}/keys.json").json()["keys"]

        assert len({key["kid"] for key in keys}) == 2
        assert all(holds(signed(subscription), key["whpk"]) for key in keys)

    def test_shared_secrets_and_strangers_are_not_found(self, client, settings):
        settings.ROOT_URLCONF = __name__
        hmac_only = factories.subscription()

        for key in (hmac_only.pk, "01a20b51-53a7-7761-a4ec-15a3d8ca9aad"):
            assert client.get(f"/webhooks/{key}/keys.json").status_code == 404
        assert client.post(f"/webhooks/{hmac_only.pk}/keys.json").status_code == 405

    def test_v1_and_v1a_overlap(self):
        subscription = factories.subscription()
        made = subscription.rotate_key(kind="v1a")

        headers = signed(subscription)

        assert [one[:3] for one in headers["webhook-signature"].split()] == ["v1a", "v1,"]
        assert holds(headers, made.public_key)
        assert holds(headers, factories.SECRET)


class TestOlderStyles:
    def test_github_signs_with_the_former_key_until_it_expires(self):
        subscription = factories.subscription(signature_style="github")
        new = subscription.rotate_key(overlap=100).secret

        before, after = signed(subscription), signed(subscription, after=101)

        for headers, secret in ((before, factories.SECRET), (after, new)):
            digest = hmac.new(secret.encode(), BODY, hashlib.sha256).hexdigest()
            assert headers["x-hub-signature-256"] == f"sha256={digest}"
        assert holds(before, new)

    def test_stripe_signs_with_each_key(self):
        subscription = factories.subscription(signature_style="stripe")
        new = subscription.rotate_key().secret

        headers = signed(subscription)

        stamp, *signatures = headers["stripe-signature"].split(",")
        assert stamp == f"t={headers['webhook-timestamp']}"
        content = f"{headers['webhook-timestamp']}.".encode() + BODY
        assert signatures == [
            f"v1={hmac.new(one.encode(), content, hashlib.sha256).hexdigest()}"
            for one in (new, factories.SECRET)
        ]

    def test_a_public_key_has_none(self):
        subscription = factories.subscription(signature_style="stripe")
        subscription.rotate_key(kind="v1a", overlap=0)

        assert "stripe-signature" not in signed(subscription)

    def test_they_are_sent(self):
        with receiving(204) as receiver:
            factories.subscription(url=receiver.url, signature_style="github")
            factories.record()
            worker.drain(clock=Clock())

        assert receiver.requests[0].headers["x-hub-signature-256"].startswith("sha256=")


def test_a_subscription_without_a_key_says_so():
    subscription = factories.subscription()
    SigningKey.objects.all().delete()

    with pytest.raises(InvalidSecret, match="rotate it"):
        signed(subscription)
    assert Subscription.objects.get().signing_secret == ""


class TestAdmin:
    def test_new_keys_are_shown_once(self, admin_client):
        subscription = factories.subscription()
        asked = pages.act(admin_client, "subscription", "rotate_keys", subscription)
        data = {
            "action": "rotate_keys",
            "_selected_action": [subscription.pk],
            "confirmed": "1",
            "overlap": "2",
            "kind": "",
            "token": asked.context["form"]["token"].value(),
        }

        done = admin_client.post(pages.url("subscription"), data)
        page = admin_client.get(pages.url("subscription", "change", subscription.pk))
        again = admin_client.post(pages.url("subscription"), data)

        assert pages.messages_of(again) == [
            "This was done already: the keys were not rotated again."
        ]
        new = Subscription.objects.get().signing_secret
        assert "Overlap in hours" in asked.content.decode()
        assert new.encode() in done.content.replace(b"&#x2B;", b"+").replace(b"&#x3D;", b"=")
        assert "no-store" in done["Cache-Control"]
        text = page.content.decode()
        assert new not in text
        assert f"whsec_…{new[-4:]}".replace("=", "&#x3D;") in text.replace("=", "&#x3D;")
        assert all(holds(signed(subscription), one) for one in (factories.SECRET, new))
        assert not holds(signed(subscription, after=7201), factories.SECRET)
        assert SigningKey.objects.first().created_by == "admin"

    def test_what_is_refused_says_why(self, admin_client):
        subscription = factories.subscription()
        for _ in range(MAX_KEYS - 1):
            subscription.rotate_key()
        asked = pages.act(admin_client, "subscription", "rotate_keys", subscription)
        token = asked.context["form"]["token"].value()
        data = {"action": "rotate_keys", "_selected_action": [subscription.pk], "token": token}

        wrong = admin_client.post(
            pages.url("subscription"), data | {"confirmed": "1", "overlap": "-1"}
        )
        done = admin_client.post(
            pages.url("subscription"), data | {"confirmed": "1", "overlap": "1", "kind": "v1"}
        )

        assert "greater than or equal to 0" in wrong.content.decode()
        assert "wait until one expires" in done.content.decode()

    def test_those_who_may_only_look_do_not_rotate(self, client):
        subscription = factories.subscription()
        pages.staff(client, "view_subscription")

        pages.act(client, "subscription", "rotate_keys", subscription)

        assert SigningKey.objects.count() == 1


class TestCommand:
    def run(self, *arguments, **options):
        out = io.StringIO()
        call_command("webhooks_rotate_signing_key", *arguments, stdout=out, **options)
        return out.getvalue()

    def test_it_prints_the_new_secret(self):
        subscription = factories.subscription()

        said = self.run(str(subscription.pk), overlap=0.0)

        new = Subscription.objects.get().signing_secret
        assert said.splitlines() == [
            f"{subscription.pk} CRM: {new}",
            "1 signing key rotated.",
        ]

    def test_it_takes_a_name_and_rotates_once_what_is_named_twice(self):
        subscription = factories.subscription()

        said = self.run("CRM", str(subscription.pk))

        assert said.endswith("1 signing key rotated.\n")
        assert SigningKey.objects.count() == 2

    def test_a_name_of_several_is_refused_before_anything_is_done(self):
        factories.subscription(name="other")
        factories.subscription()
        factories.subscription()

        with pytest.raises(CommandError, match="Several subscriptions are named"):
            self.run("other", "CRM")
        assert SigningKey.objects.count() == 3

    def test_it_rotates_all_and_prints_public_keys(self):
        factories.subscription()
        factories.subscription()

        said = self.run(all=True, kind="v1a")

        assert said.count("whpk_") == 2
        assert "whsk_" not in said
        assert "2 signing keys rotated." in said

    def test_a_dry_run_changes_nothing(self):
        factories.subscription()

        assert "1 signing key would be rotated." in self.run(all=True, dry_run=True)
        assert SigningKey.objects.count() == 1

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            ([], "use --all"),
            (["x"], "no subscription 'x'"),
            (["01a20b51-53a7-7761-a4ec-15a3d8ca9aad"], "There is no subscription"),
        ],
    )
    def test_what_it_cannot_do_it_says(self, arguments, why):
        with pytest.raises(CommandError, match=why):
            self.run(*arguments)

    def test_what_is_refused_is_told(self):
        subscription = factories.subscription()
        for _ in range(MAX_KEYS - 1):
            subscription.rotate_key()

        with pytest.raises(CommandError, match="wait until one expires"):
            self.run(str(subscription.pk))


@pytest.mark.timeout(330)
@pytest.mark.skipif(
    connection.vendor != "sqlite" or not shutil.which("npm"), reason="needs npm, once"
)
def test_the_npm_package_verifies(tmp_path):
    subscription = factories.subscription()
    old, new = subscription.signing_secret, subscription.rotate_key().secret
    headers = signed(subscription)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", "standardwebhooks@1"],
        cwd=tmp_path,
        capture_output=True,
        timeout=240,
    )
    if installed.returncode:
        pytest.skip("npm cannot install standardwebhooks")
    script = (
        "const {Webhook} = require('standardwebhooks');"
        f"for (const secret of {json.dumps([old, new])})"
        f" new Webhook(secret).verify({json.dumps(BODY.decode())}, {json.dumps(headers)});"
        "console.log('verified');"
    )

    ran = subprocess.run(
        ["node", "-e", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert ran.stdout.strip() == "verified", ran.stderr
