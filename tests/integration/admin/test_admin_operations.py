"""What staff do to one subscription: each verb by its page, for those who may, and nobody else."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from django_webhooks import audit_log, catalog, times, wakeups
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import BulkReplay, Delivery, Endpoint, Probe, SigningKey, Subscription
from django_webhooks.sending import replays, worker
from django_webhooks.sending.replays import Selection
from tests import factories, pages
from tests.factories import Clock
from tests.receivers import receiving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _event_types():
    catalog.declare("order.paid", example={"id": 7})
    catalog.declare("order.sent")
    yield
    catalog.forget("order.paid")
    catalog.forget("order.sent")


def page(subscription, verb):
    return pages.url("subscription", "operate", subscription.pk, verb)


def audited():
    """What people did."""
    entries = AuditEntry.objects.exclude(by="").order_by("pk")
    return list(entries.values_list("action", "by"))


def test_a_test_event_goes_to_the_one_subscription_and_shows_its_way(
    admin_client, monkeypatch, django_capture_on_commit_callbacks
):
    woken = []
    monkeypatch.setattr(wakeups, "wake", woken.extend)
    factories.subscription(name="other")
    with receiving(204) as receiver:
        subscription = factories.subscription(event_types=["user.*"], url=receiver.url)
        asked = admin_client.get(page(subscription, "test") + "?event_type=order.paid")
        with django_capture_on_commit_callbacks(execute=True):
            sent = admin_client.post(
                page(subscription, "test"), {"event_type": "order.paid", "payload": '{"id": 8}'}
            )
        worker.drain(clock=Clock())

    [delivery] = Delivery.objects.all()
    assert "&quot;id&quot;: 7" in asked.content.decode()
    assert woken == [str(delivery.pk)]
    assert sent["Location"] == pages.url("delivery", "change", delivery.pk)
    assert json.loads(receiver.requests[0].body)["data"] == {"id": 8}
    assert "Arrived at" in admin_client.get(sent["Location"]).content.decode()
    assert audited() == [("subscription.tested", "admin")]


@pytest.mark.parametrize(
    ("payload", "says"),
    [("{", "Enter a valid JSON"), ('"' + "x" * 300_000 + '"', "WEBHOOKS_MAX_PAYLOAD_BYTES")],
)
def test_a_test_event_that_cannot_be_sent_says_why(admin_client, payload, says):
    subscription = factories.subscription()

    response = admin_client.post(
        page(subscription, "test"), {"event_type": "order.paid", "payload": payload}
    )

    assert says in response.content.decode()
    assert Delivery.objects.count() == 0


def test_pause_and_resume(admin_client):
    subscription = factories.subscription()

    admin_client.post(page(subscription, "pause"), {"reason": "they are moving"})
    subscription.refresh_from_db()
    assert (subscription.status, subscription.status_reason, subscription.status_by) == (
        "paused",
        "they are moving",
        "admin",
    )
    again = admin_client.get(page(subscription, "pause"), follow=True)
    assert pages.messages_of(again)[-1] == "There is nothing to do."
    admin_client.post(page(subscription, "resume"))

    subscription.refresh_from_db()
    assert subscription.is_active
    assert audited() == [("subscription.paused", "admin"), ("subscription.resumed", "admin")]
    assert LogEntry.objects.filter(change_message="subscription.paused").exists()


def test_pin_and_lift(admin_client):
    subscription = factories.subscription()
    backup = Endpoint.objects.create(
        subscription=subscription, url="http://127.0.0.1:8/hook", position=1
    )

    admin_client.post(page(subscription, "pin"), {"endpoint": backup.pk, "reason": "move"})
    backup.refresh_from_db()
    assert (backup.pin_reason, backup.pinned_by) == ("move", "admin")
    admin_client.post(page(subscription, "unpin"))

    backup.refresh_from_db()
    assert not backup.is_pinned
    assert audited() == [("endpoint.pinned", "admin"), ("endpoint.unpinned", "admin")]


@pytest.mark.django_db(transaction=True)
def test_probe_now_says_how_each_endpoint_fares(admin_client):
    with receiving(204) as receiver:
        subscription = factories.subscription(url=receiver.url)
        Endpoint.objects.create(
            subscription=subscription, url="http://127.0.0.1:9/hook", position=1
        )

        response = admin_client.post(page(subscription, "probe"), follow=True)

    well, bad, count = pages.messages_of(response)
    assert ": well, " in well
    assert "failed (connection)" in bad
    assert count == "2 endpoints probed."
    assert Probe.objects.count() == 2


def test_replay_failed_since_counts_what_failed_then_whenever_it_was_recorded(admin_client):
    """A delivery is given up after days of retries: its event is older than the outage."""
    now = times.now()
    subscription = factories.subscription()
    for finished in (now - timedelta(minutes=10), now - timedelta(days=2)):
        factories.over(subscription, recorded=now - timedelta(days=4), finished=finished)

    response = admin_client.get(page(subscription, "replay"), follow=True)

    assert f"subscription={subscription.pk}" in response.request["QUERY_STRING"]
    initial = response.context["form"].initial
    assert initial["status"] == "given_up"
    assert initial["since"] is None
    assert now - timedelta(hours=25) <= initial["finished_since"] <= now - timedelta(hours=23)
    assert response.context["count"] == 1


def test_a_verb_that_there_is_not(admin_client):
    subscription = factories.subscription()

    assert admin_client.get(page(subscription, "explode")).status_code == 404


class TestEventTypes:
    def add(self, client, **changed):
        address = pages.url("subscription", "add")
        data = pages.form_of(client.get(address)) | {
            "name": "CRM",
            "endpoints-0-url": "https://example.com/hook",
        }
        return client.post(address, data | changed)

    def test_names_are_chosen_and_patterns_written(self, admin_client):
        self.add(admin_client, declared_types=["order.paid"], event_types="user.*")

        assert Subscription.objects.get().event_types == ["order.paid", "user.*"]

    def test_a_name_that_nobody_declared_is_refused(self, admin_client):
        response = self.add(admin_client, event_types="order.payed")

        text = response.content.decode()
        assert "did you mean" in text
        assert "order.paid" in text

    def test_a_name_that_was_dropped_from_the_catalog_may_stay(self, admin_client):
        subscription = factories.subscription(event_types=["order.old"])
        address = pages.url("subscription", "change", subscription.pk)
        data = pages.form_of(admin_client.get(address))

        response = admin_client.post(address, data | {"name": "ERP"})

        assert response.status_code == 302
        assert Subscription.objects.get().event_types == ["order.old"]

    def test_none_at_all_is_refused(self, admin_client):
        assert "Choose at least one" in self.add(admin_client).content.decode()

    def test_an_owner_is_named_and_must_exist(self, admin_client, admin_user):
        wrong = self.add(admin_client, event_types="*", owner="auth.user:999")
        nonsense = self.add(admin_client, event_types="*", owner="nonsense")
        assert "There is no auth.user:999" in wrong.content.decode()
        assert "There is no nonsense" in nonsense.content.decode()

        self.add(admin_client, event_types="*", owner=f"auth.User:{admin_user.pk}")

        assert Subscription.objects.get().owner == admin_user


#: Each verb, the permission it takes, and how it is asked for directly.
VERBS = {
    "test": ("send_test", {"event_type": "order.paid", "payload": "{}"}),
    "probe": ("probe_endpoint", {}),
    "pin": ("pin_endpoint", {"reason": "x"}),
    "pause": ("pause_subscription", {"reason": "x"}),
    "rotate": ("rotate_key", {"confirmed": "1", "overlap": "1", "kind": "v1a"}),
    "replay": ("replay_delivery", {}),
    "unpin": ("pin_endpoint", {}),
    "resume": ("pause_subscription", {}),
}
#: What must be so before a verb makes sense.
FIRST = {
    "unpin": lambda row: row.endpoints.get().pin("x", by="x"),
    "resume": lambda row: row.pause("x"),
}
ALL = {one for one, _ in VERBS.values()} | {
    "cancel_delivery",
    "change_subscription",
    "change_endpoint",
    "see_hosts",
    "see_secret",
    "view_payload",
}
LOOKS = {"view_subscription", "view_endpoint", "view_delivery", "view_attempt", "view_event"}


def state():
    """Everything that a verb could change."""
    return [
        Subscription.objects.values_list("status", flat=True)[0],
        Endpoint.objects.filter(pinned_at__isnull=False).count(),
        SigningKey.objects.count(),
        Delivery.objects.count(),
        BulkReplay.objects.count(),
        Probe.objects.count(),
        set(Delivery.objects.values_list("status", flat=True)),
    ]


class TestPermissions:
    @pytest.mark.parametrize("verb", VERBS)
    def test_without_its_permission_there_is_neither_button_nor_way_round(self, client, verb):
        wanted, data = VERBS[verb]
        subscription = factories.subscription()
        FIRST.get(verb, str)(subscription)
        pages.staff(client, *(LOOKS | ALL) - {wanted})
        data = {"endpoint": str(subscription.endpoints.get().pk)} | data
        before = state()

        text = client.get(pages.url("subscription", "change", subscription.pk)).content.decode()
        answers = [
            client.get(page(subscription, verb)),
            client.post(page(subscription, verb), data),
        ]

        assert page(subscription, verb) not in text
        assert [one.status_code for one in answers] == [403, 403]
        assert state() == before

    @pytest.mark.parametrize("verb", VERBS)
    def test_with_it_and_the_right_to_look_it_is_there(self, client, verb):
        wanted, _ = VERBS[verb]
        subscription = factories.subscription()
        FIRST.get(verb, str)(subscription)
        pages.staff(client, *LOOKS, wanted)

        text = client.get(pages.url("subscription", "change", subscription.pk)).content.decode()

        assert page(subscription, verb) in text
        assert client.get(page(subscription, verb)).status_code in (200, 302)

    def test_actions_of_lists(self, client):
        subscription = factories.subscription()
        [waiting] = factories.record()
        endpoint = subscription.endpoints.get()
        pages.staff(client, *LOOKS)
        before = state()

        for model, action, row in [
            ("subscription", "pause", subscription),
            ("subscription", "rotate_keys", subscription),
            ("subscription", "fail_back", subscription),
            ("endpoint", "pin", endpoint),
            ("endpoint", "probe_now", endpoint),
            ("endpoint", "disable", endpoint),
            ("delivery", "cancel_deliveries", waiting),
            ("delivery", "try_now", waiting),
            ("delivery", "replay_deliveries", waiting),
        ]:
            pages.act(client, model, action, row)
            data = {"action": action, "_selected_action": [row.pk], "confirmed": "1", "reason": "x"}
            client.post(pages.url(model), data)

        assert state() == before
        assert client.get(pages.url("bulkreplay", "add") + "?everything=1").status_code == 403

    @pytest.mark.parametrize("verb", ["add", "change", "delete"])
    def test_forms_of_subscriptions(self, client, verb):
        subscription = factories.subscription()
        pages.staff(client, *(LOOKS | ALL) - {"change_subscription"})
        keys = [] if verb == "add" else [subscription.pk]
        address = pages.url("subscription", verb, *keys)
        before = list(Subscription.objects.values_list("pk", "name"))

        text = client.get(pages.url("subscription", "change", subscription.pk)).content.decode()
        answer = client.post(address, {"name": "taken", "post": "yes", "event_types": "*"})

        assert address.removesuffix("change/") + "delete/" not in text
        assert 'name="_save"' not in text
        assert answer.status_code == 403
        assert list(Subscription.objects.values_list("pk", "name")) == before

    @pytest.mark.parametrize("model", ["delivery", "attempt", "event", "endpoint", "switch"])
    def test_pages_of_a_model_are_for_those_who_may_look_at_it(self, client, model):
        pages.staff(client, *(LOOKS | ALL | {"view_switch"}) - {f"view_{model}", "change_endpoint"})

        index = client.get("/admin/").content.decode()
        listed = client.get(pages.url(model))
        acted = client.post(pages.url(model), {"action": "pin", "_selected_action": ["1"]})

        assert f'href="{pages.url(model)}"' not in index
        assert [listed.status_code, acted.status_code] == [403, 403]

    def test_a_bulk_replay_is_not_stopped_by_those_who_look(self, client):
        factories.delivery()
        Delivery.objects.update(status="given_up", due_at=None, finished_at=times.now())
        made = replays.start(Selection(status="given_up"), reason="x")
        pages.staff(client, *LOOKS)

        answer = client.post(pages.url("bulkreplay", "stop", made.pk))

        made.refresh_from_db()
        assert answer.status_code == 403
        assert made.status == "running"
        assert client.get(pages.url("bulkreplay", "change", made.pk)).status_code == 200

    def test_payloads_answers_and_curl_are_for_those_who_may_see_them(self, client):
        with receiving(503) as receiver:
            delivery = factories.delivery(receiver.url)
            worker.drain(clock=Clock())
        attempt = delivery.attempts.get()
        delivery.attempts.update(response_body="planted-answer")
        addresses = [
            pages.url("delivery", "change", delivery.pk),
            pages.url("event", "change", delivery.event_id),
            pages.url("attempt", "change", attempt.pk),
        ]

        pages.staff(client, *LOOKS, "replay_delivery")
        without = "".join(client.get(one).content.decode() for one in addresses)
        user = User.objects.get()
        user.delete()
        pages.staff(client, *LOOKS, "replay_delivery", "view_payload")
        with_it = [client.get(one).content.decode() for one in addresses]

        assert "planted-answer" not in without
        assert "&quot;data&quot;" not in without
        assert "curl" not in without
        assert "planted-answer" in with_it[0]
        assert "planted-answer" in with_it[2]
        assert "&quot;data&quot;" in with_it[1]
        assert "curl" in with_it[0]
        # The URL may hold a secret.
        assert "&quot;$URL&quot;" in with_it[0]

    def test_without_the_permission_to_see_secrets_none_is_shown(self, client):
        subscription = factories.subscription()
        pages.staff(client, *LOOKS, "rotate_key", "add_subscription", "add_endpoint")
        address = page(subscription, "rotate")
        token = client.get(address).context["form"]["token"].value()
        data = {"confirmed": "1", "overlap": "1", "token": token}

        refused = client.post(address, data | {"kind": "v1"})
        token = client.get(address).context["form"]["token"].value()
        public = client.post(address, data | {"kind": "v1a", "token": token})
        form = client.get(pages.url("subscription", "add")).content.decode()

        assert "whsec_" not in refused.content.decode()
        assert SigningKey.objects.count() == 2
        assert "whpk_" in public.content.decode()
        assert "signing_secret" not in form


class TestScope:
    """Staff of one tenant see that tenant's rows, and reach no others by any address."""

    @pytest.fixture
    def tenants(self, settings, admin_user):
        other = User.objects.create_user("other")
        settings.WEBHOOKS_ADMIN_SCOPE = lambda request: [admin_user]
        mine = factories.subscription(name="mine", owner=admin_user)
        theirs = factories.subscription(name="theirs", owner=other)
        made = [
            factories.record(owner=admin_user)[0],
            factories.record(owner=other)[0],
        ]
        return mine, theirs, made

    @pytest.mark.parametrize("model", ["subscription", "endpoint", "delivery", "event"])
    def test_lists_and_pages(self, admin_client, tenants, model):
        mine, theirs, (own, foreign) = tenants
        rows = {
            "subscription": (mine, theirs),
            "endpoint": (mine.endpoints.get(), theirs.endpoints.get()),
            "delivery": (own, foreign),
            "event": (own.event, foreign.event),
        }[model]

        listed = admin_client.get(pages.url(model))
        answers = [admin_client.get(pages.url(model, "change", row.pk)) for row in rows]

        assert [row.pk for row in listed.context["cl"].queryset] == [rows[0].pk]
        assert [one.status_code for one in answers] == [200, 302]

    def test_verbs_and_replays(self, admin_client, tenants):
        _mine, theirs, made = tenants
        Delivery.objects.update(status="given_up", due_at=None, finished_at=times.now())

        verb = admin_client.post(page(theirs, "pause"), {"reason": "x"})
        counted = admin_client.get(pages.url("bulkreplay", "add") + "?everything=1")
        named = admin_client.get(f"{pages.url('bulkreplay', 'add')}?ids={made[1].pk}")
        pages.act(admin_client, "delivery", "cancel_deliveries", made[1])

        theirs.refresh_from_db()
        assert verb.status_code == 404
        assert theirs.is_active
        assert counted.context["count"] == 1
        assert named.context["count"] == 0
        assert audited() == []

    def test_the_overview_counts_their_own(self, admin_client, tenants):
        mine, theirs, _ = tenants
        listed = admin_client.get(pages.url("overviewpage")).context["subscriptions"]
        other = admin_client.get(f"{pages.url('overviewpage')}?subscription={theirs.pk}")

        assert [name for _, name in listed] == ["mine"]
        assert other.context["chosen"] is None
        assert mine.name in other.content.decode()

    def test_they_add_subscriptions_of_their_own_alone(self, admin_client, tenants, admin_user):
        address = pages.url("subscription", "add")
        form = admin_client.get(address).context["adminform"].form
        assert "is_global" not in form.fields
        data = pages.form_of(admin_client.get(address)) | {
            "name": "new",
            "event_types": "*",
            "endpoints-0-url": "https://example.com/hook",
        }
        other = User.objects.get(username="other")

        refused = admin_client.post(
            address, data | {"owner": f"auth.user:{other.pk}", "is_global": "on"}
        )
        admin_client.post(address, data | {"owner": f"auth.user:{admin_user.pk}"})

        assert "Select a valid choice" in refused.content.decode()
        made = Subscription.objects.get(name="new")
        assert (made.owner, made.is_global) == (admin_user, False)

    def test_all_rows_where_it_says_none(self, admin_client, tenants, settings):
        settings.WEBHOOKS_ADMIN_SCOPE = "tests.integration.admin.test_admin_operations.everybody"

        listed = admin_client.get(pages.url("subscription"))

        assert len(listed.context["cl"].queryset) == 2


def everybody(request):
    """A scope that limits nobody."""
    return


HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b[0m",
    "\u202emoc.live",
    "😀" * 5,
    "a\u0000b",
    '"><img src=x onerror=alert(1)>',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_content_is_shown_inert(admin_client, text):
    stored = text.replace("\x00", "\ufffd")
    with receiving(503) as receiver:
        subscription = factories.subscription(name=stored, url=receiver.url)
        subscription.rotate_key()
        [delivery] = factories.record(data={"note": text})
        worker.drain(clock=Clock())
    Delivery.objects.update(status="given_up", due_at=None, finished_at=times.now())
    delivery.attempts.update(
        response_body=stored, response_headers={"x-note": stored}, detail=stored
    )
    attempt = delivery.attempts.get()
    endpoint = subscription.endpoints.get()
    endpoint.pin(stored, by=stored[:20])
    made = replays.start(Selection(status="given_up"), reason=stored, by=stored)
    switch = subscription.switches.create(cause="manual", to_host=stored, reason=stored, by=stored)
    audit_log.log("endpoint.pinned", endpoint, by=stored, reason=stored)
    addresses = [
        pages.url("subscription"),
        pages.url("subscription", "change", subscription.pk),
        pages.url("endpoint"),
        pages.url("endpoint", "change", endpoint.pk),
        pages.url("switch"),
        pages.url("switch", "change", switch.pk),
        pages.url("bulkreplay"),
        pages.url("bulkreplay", "change", made.pk),
        pages.url("auditentry"),
        pages.url("event"),
        pages.url("attempt"),
        page(subscription, "rotate"),
        page(subscription, "pin"),
        pages.url("delivery"),
        pages.url("delivery", "change", delivery.pk),
        pages.url("event", "change", delivery.event_id),
        pages.url("attempt", "change", attempt.pk),
        pages.url("overviewpage"),
        page(subscription, "test"),
        pages.url("bulkreplay", "add") + f"?subscription={subscription.pk}",
    ]

    for address in addresses:
        answer = admin_client.get(address)
        assert answer.status_code == 200, address
        assert "<script>alert" not in answer.content.decode(), address
        assert "<img src=x" not in answer.content.decode(), address
        assert "&lt;time" not in answer.content.decode(), address
