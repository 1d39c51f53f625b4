"""Records in the admin: lists that are filtered and searched, and what their pages tell."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.html import escape

from django_webhooks import audit_log, catalog, replays, times
from django_webhooks.admin import charts, filters, overview
from django_webhooks.admin import times as admin_times
from django_webhooks.admin.delivery import DeliveryAdmin
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import Delivery, Endpoint, Event, Subscription
from django_webhooks.models.figures.rollup import Rollup
from django_webhooks.replays import Selection
from django_webhooks.sending import worker
from tests import factories, pages
from tests.factories import Clock
from tests.receivers import Answer, receiving

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _event_types():
    catalog.declare("order.paid")
    catalog.declare("order.sent")
    yield
    catalog.forget("order.paid")
    catalog.forget("order.sent")


def listed(client, query):
    found = client.get(pages.url("delivery") + query)
    assert found.status_code == 200, query
    return set(found.context["cl"].queryset.values_list("pk", flat=True))


@pytest.fixture
def two():
    """A delivery that failed with 503, and one that arrived, of two subscriptions."""
    with receiving(Answer(503)) as bad, receiving(204) as good:
        factories.subscription(name="CRM", event_types=["order.paid"], url=bad.url)
        factories.subscription(name="ERP", event_types=["order.sent"], url=good.url)
        [failed] = factories.record("order.paid", idempotency_key="paid-7")
        [arrived] = factories.record("order.sent")
        worker.drain(clock=Clock())
    for one in (failed, arrived):
        one.refresh_from_db()
    return failed, arrived


class TestList:
    def test_each_filter_keeps_what_it_names(self, admin_client, two):
        failed, arrived = two
        endpoint = failed.subscription.endpoints.get()
        hour = timezone.localtime(times.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
        for query, found in [
            ("?status=waiting", {failed.pk}),
            ("?status=succeeded", {arrived.pk}),
            ("?event_type=order.sent", {arrived.pk}),
            (f"?subscription={failed.subscription_id}", {failed.pk}),
            (f"?endpoint={endpoint.pk}", {failed.pk}),
            (f"?host={endpoint.host}", {failed.pk}),
            ("?reason=http_503", {failed.pk}),
            ("?status_code=503", {failed.pk}),
            ("?status_code=204", {arrived.pk}),
            ("?recent=1h", {failed.pk, arrived.pk}),
            ("?recent=never", {failed.pk, arrived.pk}),
            ("?finished=1h", {arrived.pk}),
            ("?finished=never", {failed.pk, arrived.pk}),
            (f"?finished_since={hour}", set()),
            (f"?finished_until={hour}", {arrived.pk}),
            (f"?since={hour}", set()),
            (f"?until={hour}&status=succeeded", {arrived.pk}),
        ]:
            assert listed(admin_client, query) == found, query

    def test_a_replay_of_all_of_the_list_knows_each_of_its_filters(self):
        """One that it does not know would replay what the list does not show."""
        known = {*filters.FIELDS, *filters.RECENT}

        assert {one.parameter_name for one in DeliveryAdmin.list_filter} <= known

    @pytest.mark.parametrize("name", [*filters.FIELDS, *filters.RECENT])
    def test_each_filter_of_the_list_has_its_words_before_and_after_the_replay(
        self, admin_client, two, name
    ):
        failed, _ = two
        failed.status, failed.due_at, failed.finished_at = "given_up", None, times.now()
        failed.save()
        made = replays.start(Selection(status="given_up"), reason="x")
        endpoint = failed.subscription.endpoints.get()
        value = {
            "status": "given_up", "event_type": "order.paid", "reason": "http_503",
            "subscription": failed.subscription_id, "endpoint": endpoint.pk, "host": endpoint.host,
            "bulk_replay": made.pk, "replayed": "no", "status_code": 503,
            "since": "2026-01-01", "finished_since": "2026-01-01",
            "until": "2999-01-01", "finished_until": "2999-01-01",
        }.get(name, "1h")  # fmt: skip

        page = admin_client.get(pages.url("bulkreplay", "add"), {name: value})

        assert page.status_code == 200
        made.selection = filters.selection({name: str(value)}).stored
        made.save()
        assert admin_client.get(pages.url("bulkreplay", "change", made.pk)).status_code == 200

    @pytest.mark.parametrize("asked", ["finished=1h", "recent=1h"])
    def test_a_replay_of_all_of_the_list_is_of_what_the_list_shows(self, admin_client, two, asked):
        _, arrived = two
        old = times.now() - timedelta(days=2)
        factories.over(arrived.subscription, recorded=old, finished=old, status="succeeded")
        query = f"?status=succeeded&{asked}"
        chosen = {
            "action": "replay_deliveries", "select_across": "1", "index": "0",
            "_selected_action": [str(arrived.pk)],
        }  # fmt: skip

        page = admin_client.post(pages.url("delivery") + query, chosen, follow=True)

        assert listed(admin_client, query) == {arrived.pk}
        assert page.context["count"] == 1

    def test_each_search_finds_what_it_says(self, admin_client, two):
        failed, arrived = two
        endpoint = failed.subscription.endpoints.get()
        for query, found in [
            (f"?q={failed.message_id}", {failed.pk}),
            (f"?q={failed.pk}", {failed.pk}),
            ("?q=paid-7", {failed.pk}),
            (f"?q={endpoint.host}", {failed.pk}),
            ("?q=er", {arrived.pk}),
            ("?q=nothing", set()),
            ("?q=+", {failed.pk, arrived.pk}),
        ]:
            assert listed(admin_client, query) == found, query

    def test_a_message_id_of_its_own_is_found(self, admin_client, two):
        _, arrived = two
        replay_options = replays.ReplayOptions(has_new_message_id=True)
        [again] = replays.replay([arrived], replay_options=replay_options)

        assert again.message_id != arrived.message_id
        assert listed(admin_client, f"?q={again.message_id}") == {again.pk}

    @pytest.mark.parametrize("query", ["?since=never", "?subscription=7", "?status_code=x"])
    def test_malformed_filters_are_refused(self, admin_client, query):
        factories.subscription()

        answer = admin_client.get(pages.url("delivery") + query)

        assert answer.status_code == 302
        assert "e=1" in answer["Location"]

    def test_no_other_tables_are_looked_into(self, admin_client):
        answer = admin_client.get(
            pages.url("delivery") + "?subscription__signing_keys__secret__startswith=w"
        )

        assert answer.status_code == 400

    def test_a_filter_that_is_entered_keeps_the_others(self, admin_client, two):
        text = admin_client.get(
            pages.url("delivery") + "?status=waiting&status_code=503"
        ).content.decode()

        assert '<input type="hidden" name="status" value="waiting">' in text
        assert 'name="status_code" value="503"' in text

    def test_a_subscription_beyond_those_that_are_offered_is_shown(
        self, admin_client, two, monkeypatch
    ):
        monkeypatch.setattr(filters, "OFFERED", 1)
        _, arrived = two

        text = admin_client.get(
            f"{pages.url('delivery')}?subscription={arrived.subscription_id}"
        ).content.decode()

        assert ">ERP</a>" in text

    def test_hosts_are_for_those_who_may_see_them(self, client, two):
        failed, arrived = two
        host = failed.subscription.endpoints.get().host
        pages.staff(client, "view_delivery", "view_attempt")

        page = client.get(pages.url("delivery", "change", failed.pk)).content.decode()

        assert host not in page
        assert listed(client, f"?q={host}") == set()
        # Not a filter for them: it is not heeded.
        answer = client.get(pages.url("delivery") + f"?host={host}")
        assert answer.status_code in (302, 400) or {failed.pk, arrived.pk} == set(
            answer.context["cl"].queryset.values_list("pk", flat=True)
        )

    def test_too_many_to_be_named(self, admin_client, two, monkeypatch):
        from django_webhooks.admin import delivery

        monkeypatch.setattr(delivery, "NAMED", 1)

        answer = pages.act(admin_client, "delivery", "replay_deliveries", *two)

        assert "too many" in pages.messages_of(answer)[0]

    def test_everything_is_said_where_nothing_is_filtered(self, admin_client, two):
        data = {
            "action": "replay_deliveries",
            "_selected_action": [two[0].pk],
            "select_across": "1",
        }

        answer = admin_client.post(pages.url("delivery"), data)

        assert answer["Location"].endswith("?everything=1")


class TestPages:
    def test_a_delivery_links_to_what_it_belongs_to(self, admin_client, two):
        failed, arrived = two
        endpoint = arrived.subscription.endpoints.get()
        [again] = replays.replay(
            [arrived], replay_options=replays.ReplayOptions(endpoint=endpoint.pk)
        )

        page = admin_client.get(pages.url("delivery", "change", again.pk)).content.decode()
        waits = admin_client.get(pages.url("delivery", "change", failed.pk)).content.decode()

        assert pages.url("endpoint", "change", endpoint.pk) in page
        assert pages.url("event", "change", again.event_id) in page
        assert "Try now" in waits
        assert "Cancel the delivery" in waits
        assert 'data-webhooks-live="2000"' in waits

    def test_a_body_that_is_no_json_is_shown_as_it_is(self, admin_client):
        event = factories.event(body=b"\xff plain")

        page = admin_client.get(pages.url("event", "change", event.pk)).content.decode()

        assert "\ufffd plain" in page

    def test_without_an_endpoint_there_is_no_curl(self, admin_client):
        delivery = factories.delivery(url=None)

        page = admin_client.get(pages.url("delivery", "change", delivery.pk)).content.decode()

        assert "curl" not in page

    def test_credentials_are_left_out_of_curl_and_masked_in_headers(self, admin_client, two):
        failed, _ = two
        Endpoint.objects.filter(subscription=failed.subscription).update(
            authorization="Bearer planted", headers={"x-team": "planted"}
        )

        page = admin_client.get(pages.url("delivery", "change", failed.pk)).content.decode()

        assert "planted" not in page
        assert "&#x27;authorization: &#x27;&quot;$AUTHORIZATION&quot;" in page
        assert "&#x27;x-team: &#x27;&quot;$X_TEAM&quot;" in page

    def test_the_signature_of_curl_holds(self, admin_client, two):
        import html
        import re

        from django_webhooks import signing

        failed, _ = two
        page = admin_client.get(pages.url("delivery", "change", failed.pk)).content.decode()
        command = html.unescape(
            re.search(r'<pre id="webhooks-curl"[^>]*>(.*?)</pre>', page, re.S)[1]
        )
        headers = dict(line.split(": ", 1) for line in re.findall(r"--header '([^']+)'", command))
        body = re.search(r"--data-raw '(.*)'", command, re.S)[1]

        signing.verify(
            secrets=[failed.subscription.signing_secret], headers=headers, body=body.encode()
        )

    def test_an_endpoint_links_to_its_deliveries(self, admin_client, two):
        endpoint = two[0].subscription.endpoints.get()

        page = admin_client.get(pages.url("endpoint", "change", endpoint.pk)).content.decode()

        assert f"{pages.url('delivery')}?endpoint={endpoint.pk}" in page

    def test_an_entry_of_the_audit_trail(self, admin_client):
        subscription = factories.subscription()
        audit_log.log("x.done", subscription, by="ada", note="<b>")
        entry = AuditEntry.objects.get(action="x.done")

        page = admin_client.get(pages.url("auditentry", "change", entry.pk)).content.decode()
        found = admin_client.get(pages.url("auditentry") + "?q=x.d").context["cl"].queryset

        assert "&lt;b&gt;" in page
        assert str(entry) == "x.done CRM"
        assert list(found) == [entry]

    def test_what_is_added_changed_and_deleted_is_audited(self, admin_client):
        subscription = factories.subscription(event_types=["order.paid"])
        address = pages.url("subscription", "change", subscription.pk)
        data = pages.form_of(admin_client.get(address))

        admin_client.post(address, data | {"name": "ERP"})
        admin_client.post(pages.url("subscription", "delete", subscription.pk), {"post": "yes"})

        entries = AuditEntry.objects.filter(by="admin").order_by("pk")
        assert list(entries.values_list("action", "subject", "detail")) == [
            ("subscription.changed", "ERP", {"fields": ["name"]}),
            ("subscription.deleted", "ERP", {}),
        ]

    def test_staff_of_a_tenant_see_what_they_did_themselves(
        self, admin_client, settings, admin_user
    ):
        settings.WEBHOOKS_ADMIN_SCOPE = lambda request: [admin_user]
        audit_log.log("x.done", by="admin")
        audit_log.log("x.done", by="other")
        for by in ("admin", "other"):
            factories.delivery(name=by)
            Delivery.objects.update(
                status="given_up", due_at=None, finished_at=times.now(), lease_token=None
            )
            replays.start(Selection(status="given_up"), reason="x", by=by)

        for model in ("auditentry", "bulkreplay"):
            rows = admin_client.get(pages.url(model)).context["cl"].queryset
            assert {row.by for row in rows} == {"admin"}

    def test_a_replay_page_names_the_selection(self, admin_client, two):
        failed, arrived = two
        host = failed.subscription.endpoints.get().host
        made = replays.start(
            Selection(status="succeeded", subscription=str(arrived.subscription_id)), reason="x"
        )

        counted = admin_client.get(pages.url("bulkreplay", "add") + f"?host={host}&reason=x")
        page = admin_client.get(pages.url("bulkreplay", "change", made.pk)).content.decode()

        assert host in counted.content.decode()
        assert "status: Succeeded; subscription: ERP" in page

    def test_a_replay_that_cannot_begin_says_why(self, admin_client, two):
        _, arrived = two
        address = f"{pages.url('bulkreplay', 'add')}?ids={arrived.pk}"
        form = admin_client.get(address).context["form"]
        data = {one.html_name: one.value() for one in form if one.value() is not None}
        data |= {"reason": "x", "begin": "1"}
        endpoint = arrived.subscription.endpoints.get()

        endpoint.disable("gone")
        gone = admin_client.post(address, data | {"endpoint": str(endpoint.pk)})
        nothing = admin_client.post(address, data | {"status": "cancelled"})

        assert "Select a valid choice" in gone.content.decode()
        assert "what waits is sent by itself" in nothing.content.decode()


class TestCharts:
    def test_a_chart_has_a_bar_for_each_number_and_words_for_each_label(self):
        series = [
            charts.Series(kind="succeeded", name="Arrived", values=[1, 0]),
            charts.Series(kind="given_up", name="Given up", values=[3, 0]),
        ]

        drawn = charts.bars(series, labels=["a<b", "c"], title="Two")

        assert drawn.count('class="webhooks-fill-succeeded"') == 1
        assert "<title>a&lt;b – Arrived: 1, Given up: 3</title>" in drawn
        assert 'role="img" aria-label="Two"' in drawn

    def test_a_sparkline_shows_what_failed_above_what_arrived(self):
        drawn = charts.sparkline([3, 0], [1, 0], title="Day")

        assert 'class="webhooks-fill-succeeded" x="0.0" y="10.0"' in drawn
        assert 'class="webhooks-fill-given_up" x="0.0" y="0.0"' in drawn

    @pytest.mark.parametrize(("value", "found"), [(0, 1), (1, 1), (3, 5), (11, 20), (501, 1000)])
    def test_the_top_is_a_round_number(self, value, found):
        assert charts.nice(value) == found

    @pytest.mark.parametrize(
        ("ms", "words"),
        [(None, "-"), (12.4, "12 ms"), (1500, "1.5 s"), (90_000, "1.5 min"), (2e8, "2.3 d")],
    )
    def test_times_are_written_as_people_say_them(self, ms, words):
        assert overview.written(ms) == words


def test_rows_say_what_they_are():
    rollup = Rollup(period_start=times.now(), kind="attempt", result="retry", count=3)

    assert str(rollup).endswith("attempt retry: 3")
    assert Subscription.objects.count() == 0


class TestMoments:
    """Moments are entered by the clock of the reader, and told by that of the server."""

    def test_a_filter_takes_a_zone_and_tells_it_again(self, admin_client, two, settings):
        settings.TIME_ZONE = "Europe/Berlin"

        page = admin_client.get(pages.url("delivery"), {"since": "2026-01-31T11:00:00.000Z"})

        text = page.content.decode()
        assert 'value="2026-01-31T12:00:00"' in text
        assert 'data-webhooks-utc="2026-01-31T11:00:00+00:00"' in text
        assert '<span class="webhooks-zone">Europe/Berlin</span>' in text

    def test_a_replay_takes_them_likewise(self, admin_client, two):
        address = f"{pages.url('bulkreplay', 'add')}?since=2998-01-31T11:00"
        form = admin_client.get(address).context["form"]
        data = {"token": form["token"].value(), "rate": "5", "reason": "x"}

        later = admin_client.post(address, data | {"since": "2999-01-31T11:00:00.000Z"})
        without = admin_client.post(address, data)

        assert later.context["count"] == 0
        assert 'data-webhooks-utc="2999-01-31T11:00:00+00:00"' in later.content.decode()
        # What the form leaves empty limits nothing.
        assert without.context["count"] == 1

    def test_a_range_and_a_moment_both_limit_a_replay(self, admin_client, two):
        chosen = filters.selection({"recent": "1h", "since": "2020-01-31T11:00"})

        assert chosen.since > times.now() - timedelta(hours=2)

    def test_what_is_no_moment_is_shown_empty(self):
        assert (admin_times.written("nonsense"), admin_times.exactly(None)) == ("", "")


class TestEmptyLists:
    @pytest.mark.parametrize(
        ("model", "says"),
        [
            ("subscription", "Add the first one."),
            ("endpoint", "Endpoints are added on the page of their subscription."),
            ("event", "once the project emits them"),
            ("delivery", "a test event is sent from the page of a subscription"),
            ("attempt", "Each request to an endpoint appears here."),
            ("switch", "No traffic moved"),
            ("bulkreplay", "Select deliveries in their list"),
        ],
    )
    def test_they_say_what_to_do(self, admin_client, model, says):
        assert says in admin_client.get(pages.url(model)).content.decode()

    def test_a_filter_that_matches_nothing_is_taken_away(self, admin_client, two):
        text = admin_client.get(pages.url("delivery"), {"host": "nowhere"}).content.decode()

        assert "Nothing matches" in text
        assert "Nothing was sent yet" not in text


class TestEventsThatAreNotFannedOut:
    """Events whose deliveries are missing: shown, filtered, and fanned out again."""

    @pytest.fixture
    def events(self):
        states = [*Event.FanOut.values, None]
        return {state: factories.event(fan_out=state) for state in states}

    def test_they_are_listed_by_a_filter(self, admin_client, events):
        address = pages.url("event")
        for state in Event.FanOut.values:
            shown = admin_client.get(address, {"fan_out": state}).content.decode()
            found = {one for one, event in events.items() if event.message_id in shown}
            assert found == {state}
        shown = admin_client.get(address, {"fan_out": "x"}).content.decode()
        assert events[None].message_id in shown

    def test_their_pages_say_why(self, admin_client, events):
        for event in events.values():
            page = admin_client.get(pages.url("event", "change", event.pk)).content.decode()
            assert escape(event.explain()) in page

    def test_the_action_takes_those_that_failed_and_the_unheard(self, admin_client, events):
        chosen = {"action": "fan_out_again", "_selected_action": [e.pk for e in events.values()]}

        answer = admin_client.post(pages.url("event"), chosen, follow=True)

        assert "2 events are fanned out again." in answer.content.decode()
        assert Event.objects.waiting().count() == 3
        answer = admin_client.post(pages.url("event"), chosen, follow=True)
        assert "0 events are fanned out again." in answer.content.decode()
