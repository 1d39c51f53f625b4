"""The admin under attack: by staff of a tenant or with few permissions, by what is stored."""

from __future__ import annotations

import html
import re
import subprocess
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from django_webhooks import catalog, times
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import (
    Attempt,
    BulkReplay,
    Delivery,
    Endpoint,
    EndpointHealth,
    Probe,
    SigningKey,
    Subscription,
    Switch,
)
from django_webhooks.sending import replays
from django_webhooks.sending.replays import Selection
from tests import factories, pages

pytestmark = pytest.mark.django_db

HOST = "hooks.planted.example"


@pytest.fixture(autouse=True)
def _event_types():
    catalog.declare("order.paid")
    yield
    catalog.forget("order.paid")


def given_up(**fields):
    Delivery.objects.filter(**fields).update(
        status="given_up", reason="http_503", due_at=None, finished_at=times.now()
    )


def attempted(delivery, *, host=HOST):
    return Attempt.objects.create(
        delivery=delivery,
        endpoint=delivery.subscription.endpoints.get(),
        endpoint_host=host,
        number=1,
        outcome="retry",
        reason="http_503",
        status_code=503,
    )


class TestTenants:
    """Staff of one tenant with every permission reach no row of another by any address."""

    @pytest.fixture
    def tenants(self, settings, client):
        mine, other = User.objects.create_user("mine"), User.objects.create_user("other")
        settings.WEBHOOKS_ADMIN_SCOPE = lambda request: [mine]
        rows = {}
        for owner in (mine, other):
            own = factories.subscription(name=f"of {owner}", owner=owner)
            [delivery] = factories.record(owner=owner, idempotency_key=f"key of {owner}")
            host = f"{owner}.planted.example"
            attempted(delivery, host=host)
            rows[owner.username] = (own, delivery)
            Switch.objects.create(subscription=own, cause="manual", to_host=host, reason="x")
        given_up()
        user = User.objects.create_superuser("staff")
        client.force_login(user)
        return rows

    @pytest.mark.parametrize(
        "model", ["subscription", "endpoint", "delivery", "event", "attempt", "switch"]
    )
    def test_no_list_page_or_history_shows_it(self, client, tenants, model):
        _, theirs = tenants["other"]
        subscription = theirs.subscription
        row = {
            "subscription": subscription,
            "endpoint": subscription.endpoints.get(),
            "delivery": theirs,
            "event": theirs.event,
            "attempt": theirs.attempts.get(),
            "switch": Switch.objects.get(subscription=subscription),
        }[model]

        listed = client.get(pages.url(model))

        assert len(listed.context["cl"].queryset) == 1
        assert str(row.pk) not in listed.content.decode()
        assert "of other" not in listed.content.decode()
        for page in ("change", "history", "delete"):
            answer = client.get(pages.url(model, page, row.pk))
            assert answer.status_code in (302, 403), page
            assert client.post(pages.url(model, page, row.pk), {}).status_code in (302, 403), page

    @pytest.mark.parametrize(
        "query",
        ["subscription={subscription}", "endpoint={endpoint}", "host=other.planted.example"],
    )
    def test_no_filter_finds_it(self, client, tenants, query):
        _, theirs = tenants["other"]
        subscription = theirs.subscription
        query = query.format(subscription=subscription.pk, endpoint=subscription.endpoints.get().pk)

        listed = client.get(f"{pages.url('delivery')}?{query}")

        assert not listed.context["cl"].result_list
        assert "of other" not in listed.content.decode()

    def test_completion_offers_their_own(self, client, tenants):
        query = {
            "app_label": "django_webhooks",
            "model_name": "endpoint",
            "field_name": "subscription",
            "term": "of",
        }

        found = client.get("/admin/autocomplete/", query).json()["results"]

        assert [one["text"] for one in found] == ["of mine"]

    @pytest.mark.parametrize("term", ["key of other", "other.planted.example"])
    def test_a_search_does_not_tell_what_others_have(self, client, tenants, term):
        mine, delivery = tenants["mine"]
        Subscription.objects.filter(pk=mine.pk).update(name=term)

        found = client.get(pages.url("delivery"), {"q": term}).context["cl"].result_list

        # As if nobody had it: the search goes on to names.
        assert list(found) == [delivery]

    @pytest.mark.parametrize(
        ("model", "action"),
        [
            ("subscription", "pause"),
            ("subscription", "resume"),
            ("subscription", "fail_back"),
            ("subscription", "rotate_keys"),
            ("subscription", "delete_selected"),
            ("endpoint", "probe_now"),
            ("endpoint", "pin"),
            ("endpoint", "unpin"),
            ("endpoint", "enable"),
            ("endpoint", "disable"),
            ("delivery", "try_now"),
            ("delivery", "cancel_deliveries"),
        ],
    )
    def test_no_action_reaches_it(self, client, tenants, model, action):
        subscription, _ = tenants["other"]
        waits = factories.record(owner=User.objects.get(username="other"))[0]
        endpoint = subscription.endpoints.get()
        row = {"subscription": subscription, "endpoint": endpoint, "delivery": waits}[model]
        before = _all_of(subscription)
        data = {
            "action": action,
            "_selected_action": [row.pk],
            "confirmed": "1",
            "post": "yes",
            "reason": "x",
            "overlap": "1",
            "kind": "",
        }

        noted = AuditEntry.objects.count()

        client.post(pages.url(model), data)

        assert _all_of(subscription) == before
        assert AuditEntry.objects.count() == noted

    @pytest.mark.parametrize("verb", ["test", "probe", "pin", "unpin", "pause", "resume", "rotate"])
    def test_no_verb_reaches_it(self, client, tenants, verb):
        subscription, _ = tenants["other"]
        before = _all_of(subscription)
        address = pages.url("subscription", "operate", subscription.pk, verb)

        answers = [client.get(address), client.post(address, {"confirmed": "1", "reason": "x"})]

        assert [one.status_code for one in answers] == [404, 404]
        assert _all_of(subscription) == before

    def test_no_replay_counts_names_or_sends_it(self, client, tenants):
        subscription, delivery = tenants["other"]
        endpoint = subscription.endpoints.get()
        address = pages.url("bulkreplay", "add")

        for query in (
            f"subscription={subscription.pk}",
            f"ids={delivery.pk}",
            f"endpoint={endpoint.pk}",
            "host=other.planted.example",
        ):
            page = client.get(f"{address}?{query}")
            assert page.context["count"] == 0, query
            assert "of other" not in page.content.decode(), query
            data = {"token": page.context["form"]["token"].value(), "rate": "5", "reason": "x"}
            client.post(f"{address}?{query}", data | {"begin": "1", "status": "given_up"})
            data |= {"endpoint": str(endpoint.pk)}
            client.post(f"{address}?{query}", data | {"begin": "1", "status": "given_up"})
        assert not BulkReplay.objects.exists()

    def test_what_others_began_is_not_seen_or_stopped(self, client, tenants):
        made = replays.start(Selection(status="given_up"), reason="of other", by="somebody")

        listed = client.get(pages.url("bulkreplay"))
        shown = client.get(pages.url("bulkreplay", "change", made.pk))
        stopped = client.post(pages.url("bulkreplay", "stop", made.pk))

        made.refresh_from_db()
        assert "of other" not in listed.content.decode()
        assert [shown.status_code, stopped.status_code] == [302, 403]
        assert made.status == "running"

    def test_no_endpoint_is_taken_over_by_a_form(self, client, tenants):
        mine, _ = tenants["mine"]
        theirs = tenants["other"][0].endpoints.get()
        page = client.get(pages.url("subscription", "change", mine.pk))
        data = pages.form_of(page) | {
            "endpoints-0-id": str(theirs.pk),
            "endpoints-0-url": "https://attacker.example/",
            "owner": f"auth.user:{User.objects.get(username='other').pk}",
            "owner_type": "auth.user",
            "owner_id": "999",
            "is_global": "on",
        }
        before = (theirs.url, mine.owner_key)

        client.post(pages.url("subscription", "change", mine.pk), data)

        theirs.refresh_from_db()
        mine.refresh_from_db()
        assert (theirs.url, mine.owner_key) == before
        assert not mine.is_global

    def test_the_overview_tells_nothing_of_it(self, client, tenants):
        health = tenants["other"][0].endpoints.get().health
        health.state, health.failing_since = "unhealthy", times.now()
        health.save()

        page = client.get(pages.url("overviewpage"))

        assert page.context["backlog"].due == 0
        assert not page.context["unhealthy"]
        assert "of other" not in page.content.decode()


def _all_of(subscription):
    """Everything that somebody could do to a subscription."""
    rows = Subscription.objects.filter(pk=subscription.pk)
    return [
        list(rows.values_list("status", "name")),
        list(rows.values_list("endpoints__pinned_at", "endpoints__disabled_at")),
        SigningKey.objects.filter(subscription=subscription).count(),
        list(
            Delivery.objects.filter(subscription=subscription)
            .order_by("pk")
            .values_list("status", "due_at")
        ),
        Probe.objects.filter(endpoint__subscription=subscription).count(),
    ]


class TestHosts:
    """Who may not see hosts is not told them beside the columns that are masked."""

    @pytest.fixture
    def candidate(self):
        found = factories.subscription(url=f"https://{HOST}/hook").endpoints.get()
        Probe.objects.create(
            endpoint=found, kind="connect", succeeded=False, reason="dns",
            detail=f"{HOST} has no address.", started_at=times.now(), duration_ms=3,
        )  # fmt: skip
        return found

    LOOKS = ("view_endpoint", "view_subscription", "view_delivery")

    def test_pages_of_an_endpoint_do_not_quote_it(self, client, candidate):
        pages.staff(client, *self.LOOKS, "pin_endpoint")

        shown = client.get(pages.url("endpoint", "change", candidate.pk)).content.decode()
        asked = pages.act(client, "endpoint", "pin", candidate).content.decode()

        assert HOST not in shown
        assert HOST not in asked
        assert "ho….example" in asked

    def test_those_who_may_see_them_do(self, client, candidate):
        pages.staff(client, *self.LOOKS, "pin_endpoint", "see_hosts")

        shown = client.get(pages.url("endpoint", "change", candidate.pk)).content.decode()
        asked = pages.act(client, "endpoint", "pin", candidate).content.decode()

        assert f"{HOST} has no address." in shown
        assert HOST in asked

    def test_the_count_of_a_replay_does_not_tell(self, client, candidate):
        [delivery] = factories.record()
        attempted(delivery)
        given_up()
        pages.staff(client, *self.LOOKS, "replay_delivery")

        asked = [
            client.get(f"{pages.url('bulkreplay', 'add')}?host={host}", follow=True).context
            for host in (HOST, "nowhere.example")
        ]

        assert asked[0].get("count") == asked[1].get("count")


class TestCurl:
    def test_names_of_headers_run_nothing_in_a_shell(self, admin_client, tmp_path):
        ran = tmp_path / "ran"
        endpoint = factories.subscription(url=f"https://{HOST}/hook").endpoints.get()
        name = "x-`touch$IFS$RAN`"
        endpoint.headers = {name: "secret", "x-'quoted'": "secret", "x-a$b": "secret"}
        endpoint.full_clean()
        endpoint.save()
        [delivery] = factories.record()

        page = admin_client.get(pages.url("delivery", "change", delivery.pk)).content.decode()
        shown = re.search(r'<pre id="webhooks-curl"[^>]*>(.*?)</pre>', page, re.S)[1]
        said = subprocess.run(
            ["sh", "-c", f'curl() {{ printf "%s\\n" "$@"; }}\n{html.unescape(shown)}'],
            env={"RAN": str(ran), "X__TOUCH_IFS_RAN_": "value", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert not ran.exists()
        assert said.stderr == ""
        assert f"{name}: value" in said.stdout.splitlines()
        assert "secret" not in page


ESCAPE = "\x1b]0;owned\x07\u202ename\x9b31m"


class TestTerminals:
    """What a tenant named is printed by commands without what a terminal would obey."""

    @pytest.mark.parametrize(
        ("command", "options"),
        [
            ("webhooks_replay", {"dry_run": True}),
            ("webhooks_replay", {}),
            ("webhooks_ping", {"dry_run": True}),
            ("webhooks_pause", {"dry_run": True}),
            ("webhooks_pause", {}),
            ("webhooks_rotate_signing_key", {"dry_run": True}),
            ("webhooks_health", {}),
        ],
    )
    def test_names_are_inert(self, command, options):
        one = factories.subscription()
        Subscription.objects.filter(pk=one.pk).update(name=ESCAPE)
        named = [] if command == "webhooks_health" else [str(one.pk)]
        out = StringIO()

        call_command(command, *named, stdout=out, **options)

        assert not set("\x1b\x07\u202e\x9b") & set(out.getvalue())
        assert "name" in out.getvalue()


@pytest.mark.parametrize(
    "query",
    [
        "host=%00", "reason=a%00b", "event_type=%00", "status=%00", "since=0001-01-01T00:00",
        "until=9999-12-31T23:59", "status_code=99999999999999999999", "status_code=-1", "q=%00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("page", ["delivery", "event", "bulkreplay/add"])
def test_nonsense_in_an_address_is_no_error(admin_client, page, query):
    factories.delivery()
    given_up()

    answer = admin_client.get(f"/admin/django_webhooks/{page}/?{query}", follow=True)

    assert answer.status_code == 200


def test_names_do_not_turn_the_text_around_them(admin_client):
    """A right-to-left override ends with what it came from."""
    one = factories.subscription()
    Subscription.objects.filter(pk=one.pk).update(name="\u202eevil")
    endpoint = Endpoint.objects.get()
    EndpointHealth.objects.update(state="unhealthy", failing_since=times.now())

    for page in (
        pages.act(admin_client, "endpoint", "pin", endpoint),
        pages.act(admin_client, "subscription", "rotate_keys", one),
        admin_client.get(pages.url("subscription", "operate", one.pk, "pause")),
        admin_client.get(pages.url("overviewpage")),
    ):
        assert "<bdi>\u202eevil</bdi>" in page.content.decode()
