"""The admin: what staff see, what they may do, and how many queries it takes."""

from __future__ import annotations

import pytest
from django.utils import timezone

from django_webhooks import catalog, tasks
from django_webhooks.models import Attempt, Delivery
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
    delivery.finished_at = timezone.now()
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


def test_selected_deliveries_are_replayed(
    admin_client, monkeypatch, django_capture_on_commit_callbacks
):
    woken = []
    monkeypatch.setattr(tasks, "wake", woken.extend)
    over, waits = given_up(), factories.delivery()

    with django_capture_on_commit_callbacks(execute=True):
        response = pages.act(admin_client, "delivery", "replay_deliveries", over, waits)

    new = Delivery.objects.get(replay_of=over)
    assert woken == [str(new.pk)]
    replayed, left_out = pages.messages_of(response)
    assert replayed == "1 delivery replayed."
    assert left_out.startswith("1 delivery was left out")


def test_a_replay_to_a_paused_subscription_waits(
    admin_client, monkeypatch, django_capture_on_commit_callbacks
):
    woken = []
    monkeypatch.setattr(tasks, "wake", woken.append)
    over = given_up()
    over.subscription.pause()

    with django_capture_on_commit_callbacks(execute=True):
        pages.act(admin_client, "delivery", "replay_deliveries", over)

    assert Delivery.objects.get(replay_of=over).due_at is None
    assert woken == []


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
