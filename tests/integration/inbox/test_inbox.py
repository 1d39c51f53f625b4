"""The inbox: each message is processed once, in its request or by a worker."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.signals import got_request_exception
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse
from django.test import Client
from django.urls import path

from django_webhooks import events, tasks, times
from django_webhooks.inbox import deduplication, maintenance, wakeups, worker
from django_webhooks.inbox import inline as once_module
from django_webhooks.inbox import signals as inbox_signals
from django_webhooks.inbox import tasks as inbox_tasks
from django_webhooks.inbox.models import InboxMessage
from django_webhooks.receiving import Token, WebhookView, handlers, webhook
from django_webhooks.receiving import views as receiving_views
from django_webhooks.sending.wire import loops
from django_webhooks.testing import signed_request

pytestmark = pytest.mark.django_db
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

#: What the handlers do next; a handler writes a group first.
todo = []
seen = []


def work(request, message, *args, **kwargs):
    Group.objects.create(name=f"effect {Group.objects.count()}")
    seen.append((request, message, kwargs))
    step = todo.pop(0) if todo else None
    return step() if step else None


def fail():
    raise RuntimeError("not now")


def lose_the_database():
    raise OperationalError("gone")


orders = webhook(secrets=SECRET, require_https=False, name="orders")(work)
later = webhook(secrets=SECRET, require_https=False, name="later", background=True)(work)
often = webhook(secrets=SECRET, require_https=False, name="often", once=False)(work)
lean = webhook(secrets=SECRET, require_https=False, name="lean", keep_payload=False)(work)
owned = webhook(
    secrets=SECRET,
    require_https=False,
    name="owned",
    owner=lambda request: get_user_model().objects.get(username=request.headers["x-tenant"]),
)(work)
by_token = webhook(
    secrets="s3cret", scheme=Token(header="X-Key", prefix="", id_header="X-Id"),
    require_https=False, name="token",
)(work)  # fmt: skip


class Classy(WebhookView):
    secrets = SECRET
    guard_options = {"require_https": False}
    background = True
    name = "classy"
    suffix = ""

    def handle(self, message):
        return work(self.request, message, suffix=self.suffix, **self.kwargs)


urlpatterns = [
    path("orders/", orders),
    path("orders/again/", orders),
    path("tenants/<slug:tenant>/", orders),
    path("later/", later),
    path("later/<int:number>/", later),
    path("often/", often),
    path("plain/", lambda request: None),
    path("lean/", lean),
    path("owned/", owned),
    path("token/", by_token),
    path("class/<uuid:key>/", Classy.as_view(suffix="!")),
]


@pytest.fixture(autouse=True)
def _urls(settings, monkeypatch):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    todo.clear()
    seen.clear()
    monkeypatch.setattr(wakeups, "tell_of_message", lambda key: told.append(key))
    told.clear()


told = []


def send(address="/orders/", *, id="msg_1", data=None, **options):
    request = signed_request("order.paid", data or {"n": 1}, secret=SECRET, message_id=id)
    client = Client(raise_request_exception=False)
    headers = dict(request.headers) | options.pop("headers", {})
    return client.post(
        address, request.body, content_type="application/json", headers=headers, **options
    )


def effects():
    return Group.objects.count()


class TestInTheRequest:
    def test_a_message_is_handled_and_known(self):
        answer = send()

        row = InboxMessage.objects.get()
        assert answer.status_code == 204
        assert effects() == 1
        assert (row.source, row.message_id, row.event_type) == ("orders", "msg_1", "order.paid")
        assert (row.status, row.attempts_made, row.answer) == ("handled", 1, 204)
        assert row.explain().startswith("Handled at ")

    def test_a_repeat_is_answered_and_not_handled(self):
        send()

        answer = send()

        assert answer.status_code == 200
        assert effects() == 1
        assert InboxMessage.objects.get().repeats == 1

    def test_the_same_message_at_another_endpoint_of_the_view_is_a_repeat(self):
        send("/orders/")

        assert send("/orders/again/").status_code == 200
        assert effects() == 1

    def test_another_message_and_another_view_are_none(self):
        send()
        send(id="msg_2")
        send("/lean/")

        assert effects() == 3

    def test_what_the_url_captures_tells_tenants_apart(self):
        send("/tenants/ada/")
        send("/tenants/bob/")

        assert effects() == 2
        assert send("/tenants/ada/").status_code == 200

    def test_owners_are_told_apart_and_kept(self):
        ada = get_user_model().objects.create(username="ada")
        get_user_model().objects.create(username="bob")

        send("/owned/", headers={"x-tenant": "ada"})
        send("/owned/", headers={"x-tenant": "bob"})

        assert effects() == 2
        assert send("/owned/", headers={"x-tenant": "ada"}).status_code == 200
        assert InboxMessage.objects.order_by("pk").first().owner == ada

    @pytest.mark.parametrize(
        ("step", "status"),
        [
            (fail, 500),
            (lose_the_database, 503),
            (lambda: HttpResponse("no", status=422), 422),
            (lambda: HttpResponse("later", status=503), 503),
        ],
    )
    def test_a_failure_leaves_nothing_and_the_repeat_is_handled(self, step, status):
        todo.append(step)

        answer = send()

        assert answer.status_code == status
        assert effects() == 0
        assert not InboxMessage.objects.exists()
        assert send().status_code == 204
        assert effects() == 1

    def test_an_error_asks_for_a_repeat_and_is_told_of(self, caplog):
        todo.append(fail)
        told_of = []
        listener = lambda **kwargs: told_of.append(kwargs["request"])  # noqa: E731
        got_request_exception.connect(listener)

        answer = send()

        got_request_exception.disconnect(listener)
        assert (answer["Retry-After"], answer.content) == ("10", b"not_handled\n")
        assert len(told_of) == 1
        assert "RuntimeError: not now" in caplog.text

    def test_the_handlers_own_status_is_kept(self):
        todo.append(lambda: HttpResponse(status=201))

        assert send().status_code == 201
        assert InboxMessage.objects.get().answer == 201

    def test_a_template_is_rendered_within_the_transaction(self):
        class Answer(SimpleTemplateResponse):
            @property
            def rendered_content(self):
                raise RuntimeError("a broken template")

        todo.append(lambda: Answer("any.html"))

        assert send().status_code == 500
        assert effects() == 0

    def test_once_can_be_left_to_the_handler(self):
        send("/often/")
        send("/often/")

        assert effects() == 2
        assert not InboxMessage.objects.exists()

    def test_payloads_may_be_left_out(self):
        send("/lean/")

        row = InboxMessage.objects.get()
        assert (bytes(row.body), row.has_payload) == (b"", False)
        assert InboxMessage.objects.all().replay() == 0

    def test_credentials_are_neither_kept_nor_handed_on(self):
        answer = Client().post(
            "/token/", b"{}", content_type="application/json",
            headers={"x-key": "s3cret", "x-id": "7", "cookie": "a=b", "authorization": "Basic x"},
        )  # fmt: skip

        [(_, message, _)] = seen
        assert answer.status_code == 204
        for headers in (message.headers, InboxMessage.objects.get().headers):
            assert not {"x-key", "cookie", "authorization"} & set(headers)
            assert headers["x-id"] == "7"

    def test_headers_are_kept_in_bounds_and_as_text(self):
        send(
            headers={
                "x-long": "x" * 3000,
                "x-nul": "a\0b",
                **{f"x-{n}": "y" * 2000 for n in range(12)},
            }
        )

        kept = InboxMessage.objects.get().headers
        assert "x-long" not in kept
        assert kept["x-nul"] == "a�b"
        assert sum(map(len, kept.values())) <= deduplication.MAX_HEADERS

    def test_what_a_message_causes_is_a_hop_further(self):
        todo.append(lambda: seen.append(loops.current()))

        send(headers={"webhook-hops": "3"})

        assert seen[-1] == 4
        assert events.handling is loops.handling

    def test_an_async_handler_is_refused(self):
        async def handler(request, message):
            """Never."""

        with pytest.raises(TypeError, match="plain function"):
            webhook(secrets=SECRET)(handler)

    def test_a_name_that_is_too_long_is_refused(self):
        with pytest.raises(ValueError, match="200 characters"):
            webhook(secrets=SECRET, name="x" * 201)(work)

    @pytest.mark.parametrize("options", [{"once": False}, {"keep_payload": False}])
    def test_what_cannot_be_in_the_background_is_refused(self, options):
        with pytest.raises(ValueError, match="background"):
            webhook(secrets=SECRET, background=True, **options)(work)


class TestInTheBackground:
    def test_a_message_is_stored_and_a_worker_told(self, django_capture_on_commit_callbacks):
        with django_capture_on_commit_callbacks(execute=True):
            answer = send("/later/")

        row = InboxMessage.objects.get()
        assert answer.status_code == 202
        assert effects() == 0
        assert told == [row.pk]
        assert row.explain().startswith("Waits for a worker since ")

    def test_a_repeat_is_answered_whatever_became_of_it(self):
        send("/later/")

        assert send("/later/").status_code == 200
        assert InboxMessage.objects.get().repeats == 1

    def test_a_worker_handles_it_with_a_request_made_anew(self):
        send("/later/5/", headers={"x-more": "ünï".encode().decode("latin-1")})

        assert worker.drain().handled == 1

        [(request, message, kwargs)] = seen
        row = InboxMessage.objects.get()
        assert kwargs == {"number": 5}
        assert (request.method, request.path, request.body) == ("POST", "/later/5/", message.body)
        assert request.content_type == "application/json"
        assert request.is_secure()
        assert request.resolver_match.kwargs == {"number": 5}
        assert message.payload["data"] == {"n": 1}
        assert message.timestamp == row.timestamp
        assert message.headers["webhook-id"] == "msg_1"
        assert (row.status, row.attempts_made, row.answer) == ("handled", 1, 204)

    def test_a_class_is_handled_too(self):
        key = "0197d2e0-0000-7000-8000-000000000000"
        assert send(f"/class/{key}/").status_code == 202

        worker.drain()

        [(request, _, kwargs)] = seen
        assert (str(kwargs["key"]), kwargs["suffix"]) == (key, "!")
        assert request.path == f"/class/{key}/"

    def test_a_failure_leaves_no_effect_and_is_tried_again_later(self, settings):
        settings.WEBHOOKS_RETRY_BASE_SECONDS = 500.0
        todo.append(fail)
        send("/later/")

        drained = worker.drain()

        row = InboxMessage.objects.get()
        assert (drained.handled, drained.is_more_due) == (0, False)
        assert drained.next_in == pytest.approx(500, abs=200)
        assert effects() == 0
        assert (row.status, row.attempts_made, row.error) == (
            "waiting",
            1,
            "RuntimeError: not now",
        )
        assert "RuntimeError" in row.explain()
        # Who has nothing to do appoints nothing: the first run comes back.
        assert worker.drain() == worker.Drained()
        InboxMessage.objects.all().try_now()
        assert worker.drain().handled == 1
        assert InboxMessage.objects.get().error == ""
        assert effects() == 1

    def test_after_the_last_attempt_it_is_given_up_and_told_of(
        self, settings, caplog, django_capture_on_commit_callbacks
    ):
        settings.WEBHOOKS_RETRY_ATTEMPTS = 2
        todo.extend([fail, lambda: HttpResponse(status=500)])
        send("/later/")
        worker.drain()
        InboxMessage.objects.all().try_now()

        with django_capture_on_commit_callbacks(execute=True):
            worker.drain()

        row = InboxMessage.objects.given_up().get()
        assert row.error == "The handler answered 500."
        assert row.explain().startswith("Given up at ")
        assert f"Received message {row.pk} is given up on attempt 2." in caplog.text

    def test_a_handler_that_asks_for_no_repeat_is_heard(self):
        todo.append(lambda: HttpResponse(status=422, headers={"webhook-no-retry": "1"}))
        send("/later/")

        worker.drain()

        assert InboxMessage.objects.given_up().count() == 1

    def test_a_handler_that_kills_its_worker_is_not_run_for_ever(
        self, settings, monkeypatch, django_capture_on_commit_callbacks
    ):
        settings.WEBHOOKS_RETRY_ATTEMPTS = 2
        send("/later/")
        monkeypatch.setattr(worker, "_attempt", lambda *args, **kwargs: False)
        heard = []
        inbox_signals.message_given_up.connect(lambda **kwargs: heard.append(kwargs), weak=False)

        with django_capture_on_commit_callbacks(execute=True):
            for _ in range(3):
                worker.drain()
                InboxMessage.objects.all().try_now()

        row = InboxMessage.objects.get()
        assert (row.status, row.attempts_made, row.error) == ("given_up", 2, "interrupted")
        assert len(heard) == 1

    def test_what_is_over_is_replayed_by_a_worker(self):
        send("/orders/", id="msg_2")
        todo.append(lambda: HttpResponse(status=422, headers={"webhook-no-retry": "1"}))
        send("/later/")
        worker.drain()

        assert InboxMessage.objects.all().replay() == 2
        assert InboxMessage.objects.all().replay() == 0
        assert worker.drain().handled == 2

        assert {one.status for one in InboxMessage.objects.all()} == {"handled"}
        assert effects() == 3

    def test_a_path_that_leads_nowhere_any_more_is_an_error_to_see(self):
        send("/later/")
        InboxMessage.objects.update(path="/gone/")

        worker.drain()

        assert "There is no view at /gone/" in InboxMessage.objects.get().error

    def test_a_path_that_is_longer_than_what_is_kept_takes_nothing(self, caplog):
        assert send(f"/later/{'1' * 600}/").status_code == 500
        assert not InboxMessage.objects.exists()

    def test_a_path_of_another_view_is_an_error_to_see(self):
        with pytest.raises(handlers.NoHandler, match="takes no webhooks"):
            handlers.at("/plain/")

    def test_a_view_that_a_worker_would_not_find_takes_nothing(self, monkeypatch, rf, caplog):
        elsewhere = webhook(secrets=SECRET, require_https=False, name="elsewhere", background=True)(
            work
        )
        signed = signed_request("order.paid", {}, secret=SECRET)

        answer = elsewhere(signed.as_django("/orders/"))

        assert answer.status_code == 500
        assert "elsewhere is not the view at /orders/" in caplog.text
        assert not InboxMessage.objects.exists()

    def test_a_run_ends_after_its_time_and_says_that_more_is_due(self):
        for number in range(3):
            send("/later/", id=f"msg_{number}")

        drained = worker.drain(max_seconds=1e-9)

        assert (drained.handled, drained.is_more_due) == (0, True)

    def test_named_messages_go_first_and_others_follow(self):
        for number in range(3):
            send("/later/", id=f"msg_{number}")
        last = InboxMessage.objects.get(message_id="msg_2")

        worker.drain([last.pk])

        assert [one[1].id for one in seen] == ["msg_2", "msg_0", "msg_1"]

    def test_what_was_handled_meanwhile_is_not_handled_again(self):
        send("/later/")
        row = InboxMessage.objects.get()
        begun = worker._begin(row.pk, now=times.now() + timedelta(1), using="default")
        InboxMessage.objects.update(attempts_made=7)

        assert worker._attempt(row.pk, begun.number, using="default") is False
        assert effects() == 0

    def test_a_message_that_no_row_has_is_ignored(self):
        assert worker.drain([InboxMessage().pk]).handled == 0


class TestTasks:
    def test_the_task_handles_what_is_due(self, monkeypatch):
        send("/later/")

        inbox_tasks.handle.apply(([str(InboxMessage.objects.get().pk)],)).get()

        assert effects() == 1

    def test_the_task_passes_on_what_is_left(self, monkeypatch):
        again = []
        monkeypatch.setattr(inbox_tasks, "hint", lambda task: again.append(()))
        monkeypatch.setattr(
            worker,
            "drain",
            lambda keys, **how: worker.Drained(is_more_due=True, next_in=None),
        )

        inbox_tasks.handle()

        assert again == [()]

    def test_an_eager_run_handles_what_is_named_alone_and_asks_for_no_other(self, monkeypatch):
        send("/later/", id="msg_1")
        send("/later/", id="msg_2")
        again = []
        monkeypatch.setattr(inbox_tasks, "hint", lambda task: again.append(()))
        first, second = InboxMessage.objects.order_by("message_id")

        inbox_tasks.handle.apply(args=([str(second.pk)],)).get()

        first.refresh_from_db()
        second.refresh_from_db()
        assert (first.status, second.status, again) == ("waiting", "handled", [])

    def test_the_sweep_tells_of_what_was_forgotten(self, monkeypatch):
        send("/later/")
        again = []
        monkeypatch.setattr(inbox_tasks, "hint", lambda task: again.append(()))

        tasks.sweep.apply().get()

        assert again == [()]

    def test_prune_forgets_what_is_old(self):
        send("/orders/")
        send("/orders/", id="msg_2")
        send("/later/", id="msg_3")
        old = times.now() - timedelta(days=31)
        InboxMessage.objects.filter(message_id="msg_1").update(finished_at=old)
        InboxMessage.objects.filter(message_id="msg_3").update(received_at=old)

        assert maintenance.prune(dry_run=True) == 1
        assert tasks.prune.apply().get() == 1
        assert set(InboxMessage.objects.values_list("message_id", flat=True)) == {"msg_2", "msg_3"}

    def test_prune_keeps_for_ever_what_it_is_told_to(self, settings):
        send("/orders/")
        InboxMessage.objects.update(finished_at=times.now() - timedelta(days=999))
        settings.WEBHOOKS_RETENTION_DAYS = {"inbox_handled": None}

        assert maintenance.prune() == 0


def test_telling_never_raises(monkeypatch, caplog):
    monkeypatch.undo()
    published = []
    monkeypatch.setattr(wakeups._waker, "_publish", published.append)

    wakeups.tell_of_message(InboxMessage().pk)

    assert wakeups._waker.flush(timeout=60)
    assert len(published) == 1
    monkeypatch.setattr(wakeups._waker, "wake", fail_with_arguments)
    wakeups.tell_of_message(InboxMessage().pk)
    assert "No worker could be told of received message" in caplog.text


def fail_with_arguments(*args):
    raise RuntimeError("not now")


@pytest.mark.django_db(transaction=True)
class TestAtTheSameMoment:
    """Two threads with one message."""

    @pytest.fixture(autouse=True)
    def _patient(self, monkeypatch):
        monkeypatch.setattr(deduplication, "WAIT_SECONDS", 60)

    def both(self, address, step):
        answers = []
        go_on, begun = threading.Event(), threading.Event()

        def hold():
            begun.set()
            go_on.wait(60)
            return step() if step else None

        def first():
            answers.append(send(address).status_code)
            connections.close_all()

        def second():
            answers.append(send(address).status_code)
            connections.close_all()

        todo.append(hold)
        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        threads[0].start()
        assert begun.wait(60)
        threads[1].start()
        time.sleep(0.3)
        go_on.set()
        for thread in threads:
            thread.join(60)
        return sorted(answers)

    def test_one_is_handled_and_the_other_waits_for_it(self):
        assert self.both("/orders/", None) == [200, 204]
        assert effects() == 1

    def test_where_the_first_fails_the_other_is_handled(self):
        assert self.both("/orders/", fail) == [204, 500]
        assert effects() == 1

    def test_nobody_waits_for_ever(self, monkeypatch):
        if connection.vendor == "sqlite":
            pytest.skip("SQLite has a time-out of its own")
        monkeypatch.setattr(deduplication, "WAIT_SECONDS", 1)
        row = deduplication.row(
            seen_message(),
            handling=getattr(orders, handlers.ATTRIBUTE),
            path="/",
            captured=[[], {}],
        )
        with transaction.atomic():
            assert deduplication.insert(row, using="default")
            answers = []
            thread = threading.Thread(
                target=lambda: (answers.append(send()), connections.close_all())
            )
            began = time.monotonic()
            thread.start()
            thread.join(60)
            took = time.monotonic() - began

        assert answers[0].status_code == 503
        assert answers[0]["Retry-After"] == "10"
        # Without a bound of ours MariaDB waits for 50 s, and PostgreSQL for ever.
        assert 0.5 < took < 30

    def test_the_connection_is_left_as_it_was(self):
        variable = {
            "postgresql": "SELECT current_setting('lock_timeout')",
            "mysql": "SELECT @@SESSION.innodb_lock_wait_timeout",
        }.get(connection.vendor)
        if variable is None:
            pytest.skip("SQLite has nothing to be left")

        def ask():
            with connection.cursor() as cursor:
                cursor.execute(variable)
                return cursor.fetchone()[0]

        before = ask()
        inside = []
        todo.append(lambda: inside.append(ask()))

        send()

        assert [before, *inside, ask()] == [before] * 3

    def test_two_workers_handle_a_message_once(self):
        if not connection.features.has_select_for_update_skip_locked:
            pytest.skip("needs SKIP LOCKED")
        send("/later/")
        go_on, begun = threading.Event(), threading.Event()

        def hold():
            begun.set()
            go_on.wait(60)

        todo.append(hold)

        def work_off():
            worker.drain()
            connections.close_all()

        first = threading.Thread(target=work_off)
        first.start()
        assert begun.wait(60)
        # Its next attempt would be due, and it is locked.
        assert worker.drain().handled == 0
        key = InboxMessage.objects.get().pk
        later = times.now() + timedelta(days=1)
        assert worker._begin(key, now=later, using="default") is None
        go_on.set()
        first.join(60)

        assert effects() == 1
        assert InboxMessage.objects.get().attempts_made == 1


def seen_message():
    from django_webhooks.receiving import Message

    return Message(scheme="standard", id="msg_1", body=b"{}")


def test_the_names_of_views_are_those_of_their_handlers():
    found = receiving_views.webhook(secrets=SECRET)(work)

    assert getattr(found, handlers.ATTRIBUTE).source == f"{__name__}.work"
    assert once_module.__doc__
