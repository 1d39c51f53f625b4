"""The admin: what staff see, what they may do, and how many queries it takes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from django_webhooks import catalog, times, wakeups
from django_webhooks.auditing.models import AuditEntry
from django_webhooks.models import Attempt, BulkReplay, Delivery
from django_webhooks.sending import replays
from django_webhooks.sending.replays import Selection
from tests import factories, pages

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _event_types():
    for name in ("order.paid", "order.sent"):
        catalog.declare(name)
    yield
    for name in ("order.paid", "order.sent"):
        catalog.forget(name)


def attempted(delivery: Delivery, **fields: object) -> Attempt:
    fields = {"number": 1, "outcome": "retry", "reason": "http_503", "status_code": 503} | fields
    return Attempt.objects.create(delivery=delivery, endpoint_host="127.0.0.1:9", **fields)


def given_up(**fields: object) -> Delivery:
    delivery = factories.delivery(**fields)
    delivery.status, delivery.reason, delivery.due_at = "given_up", "http_410", None
    delivery.finished_at = times.now()
    delivery.save()
    return delivery


def test_a_delivery_explains_itself_above_its_attempts(admin_client):
    delivery = given_up()
    attempted(delivery, detail="Try <later>")

    text = admin_client.get(pages.url("delivery", "change", delivery.pk)).content.decode()

    assert "Given up at" in text
    assert "Try &lt;later&gt;" in text
    assert text.index("Given up at") < text.index("127.0.0.1:9")


@pytest.mark.parametrize("model", ["event", "delivery", "attempt"])
def test_what_happened_is_looked_at_only(admin_client, model):
    attempt = attempted(given_up())
    row = {"event": attempt.delivery.event, "delivery": attempt.delivery, "attempt": attempt}[model]

    assert admin_client.get(pages.url(model)).status_code == 200
    assert admin_client.get(pages.url(model, "change", row.pk)).status_code == 200
    assert admin_client.get(pages.url(model, "add")).status_code == 403
    assert admin_client.post(pages.url(model, "change", row.pk), {}).status_code == 403
    assert admin_client.post(pages.url(model, "delete", row.pk), {}).status_code == 403


def test_an_answer_is_shown_as_text(admin_client):
    attempt = attempted(
        given_up(),
        response_body="<script>alert(1)</script>",
        response_headers={"x-evil": "<img src=x>"},
    )

    text = admin_client.get(pages.url("attempt", "change", attempt.pk)).content.decode()

    assert "<script>alert" not in text
    assert "<img src=x>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_an_event_is_shown_with_its_body(admin_client):
    event = factories.event(
        body=b'{"type":"order.paid","data":{"name":"<b>"}}', owner_type="shop.shop", owner_id="7"
    )

    text = admin_client.get(pages.url("event", "change", event.pk)).content.decode()

    assert "&quot;name&quot;: &quot;&lt;b&gt;&quot;" in text
    assert "shop.shop 7" in text


@pytest.mark.parametrize("model", ["event", "delivery", "attempt"])
def test_rows_are_found_by_message_id(admin_client, model):
    wanted, other = given_up(), given_up()
    attempted(wanted)
    attempted(other)

    by_message = admin_client.get(pages.url(model), {"q": wanted.event.message_id})
    by_nonsense = admin_client.get(pages.url(model), {"q": "msg_nonsense"})

    [found] = by_message.context["cl"].result_list
    assert getattr(found, "delivery", found).pk in {wanted.pk, wanted.event.pk}
    assert not by_nonsense.context["cl"].result_list


def test_a_delivery_is_found_by_its_own_id(admin_client):
    wanted, _ = given_up(), given_up()

    response = admin_client.get(pages.url("delivery"), {"q": str(wanted.pk)})

    assert list(response.context["cl"].result_list) == [wanted]


def test_rows_are_filtered_by_event_type(admin_client):
    delivery = given_up()
    page = {"event_type": "order.sent"}

    for model in ("event", "delivery"):
        assert not admin_client.get(pages.url(model), page).context["cl"].result_list
        found = (
            admin_client.get(pages.url(model), {"event_type": "order.paid"})
            .context["cl"]
            .result_list
        )
        assert found[0].pk in {delivery.pk, delivery.event.pk}


def replay_page(client, *rows, **changed):
    """Follow the action to the page that asks, and answer it."""
    asked = pages.act(client, "delivery", "replay_deliveries", *rows)
    form = asked.context["form"]
    data = {one.html_name: one.value() for one in form if one.value() is not None}
    data |= {"reason": "an outage", "begin": "1"} | changed
    address = f"{asked.request['PATH_INFO']}?{asked.request['QUERY_STRING']}"
    return asked, client.post(address, {k: v for k, v in data.items() if v is not None})


def test_selected_deliveries_are_replayed(
    admin_client, monkeypatch, django_capture_on_commit_callbacks
):
    begun = []
    monkeypatch.setattr(wakeups, "begin_replay", begun.append)
    over, waits = given_up(), factories.delivery()

    with django_capture_on_commit_callbacks(execute=True):
        asked, response = replay_page(admin_client, over, waits)

    made = BulkReplay.objects.get()
    assert asked.context["count"] == 1
    assert begun == [str(made.pk)]
    assert response.status_code == 302
    assert response["Location"] == pages.url("bulkreplay", "change", made.pk)
    assert (made.by, made.reason, made.total) == ("admin", "an outage", 1)
    replays.go_on(made.pk)
    assert Delivery.objects.get(replay_of=over).bulk_replay == made


def test_a_second_click_begins_nothing(admin_client, monkeypatch):
    monkeypatch.setattr(wakeups, "begin_replay", lambda key: None)
    over = given_up()

    _, first = replay_page(admin_client, over)
    token = str(BulkReplay.objects.get().token)
    _, second = replay_page(admin_client, over, token=token)

    assert first["Location"] == second["Location"]
    assert BulkReplay.objects.count() == 1


def test_all_of_a_filter_are_replayed_by_the_filter(admin_client):
    over, other = given_up(), given_up(name="other")
    address = f"{pages.url('delivery')}?subscription={over.subscription_id}&status=given_up"

    response = admin_client.post(
        address,
        {
            "action": "replay_deliveries",
            "_selected_action": [over.pk],
            "select_across": "1",
        },
        follow=True,
    )

    assert f"subscription={over.subscription_id}" in response.request["QUERY_STRING"]
    assert response.context["count"] == 1
    assert other.subscription_id != over.subscription_id


def test_a_replay_asks_for_a_reason_and_counts_again(admin_client):
    over = given_up()

    _, response = replay_page(admin_client, over, reason="")
    _, counted = replay_page(admin_client, over, begin=None, count="1", status="succeeded")

    assert "reason" in response.context["form"].errors
    assert counted.context["count"] == 0
    assert BulkReplay.objects.count() == 0


@pytest.mark.parametrize("query", ["", "?ids=nonsense", "?since=never", "?subscription=7"])
def test_a_replay_of_nothing_in_particular_is_refused(admin_client, query):
    response = admin_client.get(pages.url("bulkreplay", "add") + query, follow=True)

    assert response.request["PATH_INFO"] == pages.url("delivery")
    assert len(pages.messages_of(response)) == 1


def test_a_bulk_replay_shows_how_far_it_is_and_is_stopped(admin_client):
    given_up()
    made = replays.start(Selection(status="given_up"), reason="outage", by="admin")
    replays.go_on(made.pk)
    page = pages.url("bulkreplay", "change", made.pk)

    text = admin_client.get(page).content.decode()
    stopped = admin_client.post(pages.url("bulkreplay", "stop", made.pk), follow=True)

    assert "1 of 1 done: 1 replayed, 0 skipped." in text
    assert "Waiting</span> 1" in text
    assert stopped.status_code == 200
    assert admin_client.get(pages.url("bulkreplay")).status_code == 200


def test_what_waits_is_tried_now_or_cancelled(
    admin_client, monkeypatch, django_capture_on_commit_callbacks
):
    woken = []
    monkeypatch.setattr(wakeups, "wake", woken.append)
    later, held = factories.delivery(), factories.delivery(name="held", url=None)
    Delivery.objects.filter(pk=later.pk).update(due_at=times.now() + timedelta(hours=5))
    Delivery.objects.filter(pk=held.pk).update(due_at=None)

    tried = pages.messages_of(pages.act(admin_client, "delivery", "try_now", later, held))
    cancelled = pages.messages_of(pages.act(admin_client, "delivery", "cancel_deliveries", held))

    later.refresh_from_db()
    held.refresh_from_db()
    assert later.due_at <= times.now() + timedelta(seconds=1)
    assert woken == [[]]
    assert tried[0] == "1 delivery is tried now."
    assert "waits for its subscription" in tried[1]
    assert cancelled == ["1 delivery cancelled."]
    assert (held.status, held.reason, held.cancelled_by) == ("cancelled", "cancelled", "admin")
    assert set(AuditEntry.objects.exclude(by="").values_list("action", "by")) == {
        ("deliveries.tried_now", "admin"),
        ("deliveries.cancelled", "admin"),
    }


def test_those_who_may_only_look_may_not_replay(client):
    over = given_up()
    pages.staff(client, "view_delivery")

    pages.act(client, "delivery", "replay_deliveries", over)

    assert Delivery.objects.count() == 1


@pytest.mark.parametrize("model", ["subscription", "event", "delivery", "attempt"])
def test_a_list_takes_the_same_queries_however_long(
    admin_client, django_assert_max_num_queries, model
):
    for _ in range(8):
        attempted(given_up(name="Other"))
    admin_client.get(pages.url(model))

    with django_assert_max_num_queries(6) as queries:
        admin_client.get(pages.url(model))

    assert not [one for one in queries if '"body"' in one["sql"]]
