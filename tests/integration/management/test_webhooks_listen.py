"""webhooks_listen: verifies, tells and fails over real sockets, and ends when it is told to."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from django_webhooks import signing
from django_webhooks.management.commands import webhooks_listen
from django_webhooks.models import Endpoint
from django_webhooks.receiving import Square, StandardWebhooks, Token, loopback
from django_webhooks.receiving.failures import Plan, parse
from django_webhooks.receiving.listener import Listener
from django_webhooks.sending import worker
from tests import certificates, factories
from tests.senders import BODY, OTHER, SCHEMES, SECRET, digest, standard

ROOT = Path(__file__).parents[3]
#: Seconds that anything may take.
PATIENCE = 60


@contextmanager
def listening(**options):
    came = []
    known = {"scheme": StandardWebhooks(), "secrets": [SECRET], "told": came.append}
    listener = Listener(**known | options)
    listener.start()
    try:
        yield listener, came
    finally:
        listener.stop()


def send(listener, body=BODY, *, method="POST", headers=None, timeout=PATIENCE):
    """Send one request; return status and headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=timeout)
    try:
        found = standard(body, at=int(time.time())) if headers is None else headers
        connection.request(method, "/hook", body, found)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def hears_nothing(listener):
    with pytest.raises((OSError, http.client.HTTPException)):
        send(listener)


def raw(listener, sent, *, and_close=False):
    with socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        if and_close:
            connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").readline()


class TestVerifying:
    @pytest.mark.parametrize("name", SCHEMES)
    def test_what_each_sender_signs_is_accepted(self, name):
        scheme, make, _ = SCHEMES[name]

        with listening(scheme=scheme) as (listener, came):
            assert send(listener, headers=make(at=int(time.time())))[0] == 204

        [arrival] = came
        assert arrival.is_verified
        assert (arrival.body, arrival.path, arrival.answer) == (BODY, "/hook", "204")
        assert arrival.message_id

    def test_another_secret_is_refused_with_what_it_claims(self):
        with listening() as (listener, came):
            headers = standard(secret=OTHER, at=int(time.time()))
            assert send(listener, headers=headers)[0] == 401

        assert came[0].message_id == "msg_1"
        assert "known secret" in came[0].refusal

    @pytest.mark.parametrize("form", ["v1,{}", " {}\n"])
    def test_a_secret_as_it_is_copied(self, form):
        with listening(secrets=[form.format(SECRET)]) as (listener, _):
            assert send(listener)[0] == 204

    def test_a_scheme_that_signs_the_url(self):
        with listening(scheme=Square()) as (listener, came):
            body = b'{"event_id":"1"}'
            signed = f"{listener.url}hook".encode() + body
            signature = base64.b64encode(digest(SECRET, signed)).decode()
            headers = {"x-square-hmacsha256-signature": signature}
            assert send(listener, body, headers=headers)[0] == 204
            assert send(listener, body + b" ", headers=headers)[0] == 401

        assert [one.message_id for one in came] == ["1", ""]

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_what_is_no_post_is_refused(self, method):
        with listening() as (listener, came):
            assert send(listener, method=method)[0] == 405

        assert [(one.method, one.is_verified) for one in came] == [(method, False)]

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_a_health_check_is_no_arrival(self, method):
        with listening() as (listener, came):
            assert send(listener, method=method)[0] == 204

        assert came == []

    def test_repeats_are_known(self):
        with listening(plan=Plan([parse("503")], first=1)) as (listener, came):
            assert [send(listener)[0] for _ in range(3)] == [503, 204, 204]

        assert [(one.times, one.is_repeat) for one in came] == [(1, False), (2, False), (3, True)]

    def test_credentials_are_not_kept(self):
        for scheme in (Token(), Token(header="X-Key", prefix="")):
            with listening(scheme=scheme) as (listener, came):
                headers = {
                    "Authorization": f"Bearer {SECRET}",
                    "X-Key": SECRET,
                    "Cookie": SECRET,
                    "Proxy-Authorization": SECRET,
                }
                send(listener, headers=headers)

            kept = came[0].headers
            assert not {"authorization", "cookie", "proxy-authorization"} & kept.keys()
            assert not set(scheme.credential_headers) & kept.keys()


@pytest.mark.django_db(transaction=True)
def test_our_own_sender_arrives_and_what_failed_on_purpose_comes_again():
    subscription = factories.subscription(url=None)
    secrets = webhooks_listen._secrets_of(str(subscription.pk))
    plan = Plan([parse("503")], first=1)
    with listening(secrets=secrets, plan=plan) as (listener, came):
        Endpoint.objects.create(subscription=subscription, url=listener.url)
        factories.record()
        clock = factories.Clock()
        worker.drain(clock=clock)
        clock.move(seconds=60)
        worker.drain(clock=clock)

    assert [one.answer for one in came] == ["503", "204"]
    assert [one.headers["webhook-attempt"] for one in came] == ["1", "2"]
    assert came[1].headers["webhook-retry-reason"] == "http_503"
    assert {one.event_type for one in came} == {"order.paid"}


class TestFailing:
    @pytest.mark.parametrize(
        ("text", "status", "header"),
        [
            ("503", 503, None),
            ("429:30", 429, ("Retry-After", "30")),
            ("redirect", 302, ("Location", "/elsewhere")),
            ("refuse", 422, ("webhook-no-retry", "1")),
        ],
    )
    def test_a_status(self, text, status, header):
        with listening(plan=Plan([parse(text)])) as (listener, came):
            found, headers = send(listener)

        assert found == status
        assert header is None or headers[header[0]] == header[1]
        assert [one.answer for one in came] == [text]

    def test_a_reset(self):
        with (
            listening(plan=Plan([parse("reset")])) as (listener, came),
            pytest.raises(ConnectionResetError),
        ):
            send(listener)

        assert [one.answer for one in came] == ["reset"]

    def test_a_time_out_until_the_sender_leaves(self):
        with listening(plan=Plan([parse("timeout")])) as (listener, came):
            with pytest.raises(TimeoutError):
                send(listener, timeout=0.3)
            until(lambda: came)
            assert [one.answer for one in came] == ["timeout"]
            until(lambda: not listener._server.ends)

    def test_a_time_out_ends_with_the_listener(self):
        with listening(plan=Plan([parse("timeout")])) as (listener, came):
            sending = threading.Thread(target=hears_nothing, args=(listener,))
            sending.start()
            until(lambda: came)
            listener.stop()
        sending.join(PATIENCE / 2)

        # Both sides would wait for longer.
        assert not sending.is_alive()

    def test_what_is_not_verified_is_refused_and_uses_up_no_failure(self):
        with listening(plan=Plan([parse("503")], first=1)) as (listener, _):
            assert send(listener, headers={})[0] == 401
            assert send(listener)[0] == 503


def drip(connection):
    for _ in range(20 * PATIENCE):
        connection.sendall(b"x")
        time.sleep(0.05)


class TestBounds:
    @pytest.mark.parametrize(
        ("lines", "status"),
        [
            (b"Content-Length: 2000000", b"413"),
            (b"Content-Length: -1", b"400"),
            (b"Content-Length: " + b"9" * 50, b"400"),
            (b"Content-Length: 5\r\nContent-Length: 6", b"400"),
            (b"Transfer-Encoding: chunked", b"411"),
            (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"411"),
            (b"X: y", b"411"),
        ],
    )
    def test_a_length_that_is_none_or_too_much(self, lines, status):
        with listening() as (listener, came):
            answer = raw(listener, b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n\r\nhello")

        assert answer.split()[1] == status
        assert [one.answer.encode() for one in came] == [status]

    def test_a_body_that_does_not_come_in_full_is_no_arrival(self):
        with listening() as (listener, came):
            sent = b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nhello"
            assert raw(listener, sent, and_close=True) == b""

        assert came == []

    def test_a_request_that_drips_is_hung_up_on(self, monkeypatch):
        monkeypatch.setattr(loopback, "DEADLINE", 0.4)
        with (
            listening() as (listener, came),
            socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE) as connection,
        ):
            connection.sendall(b"POST / HTTP/1.1\r\nX: ")
            with pytest.raises(OSError, match=r"."):
                drip(connection)

        assert came == []

    def test_there_may_be_so_many_connections(self, monkeypatch):
        monkeypatch.setattr(loopback, "MAX_CONNECTIONS", 2)
        with listening() as (listener, _):
            taken = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(2)]
            until(lambda: len(listener._server.ends) == 2)
            with socket.create_connection(("127.0.0.1", listener.port), timeout=PATIENCE) as more:
                assert more.recv(10) == b""
            for one in taken:
                one.close()
            until(lambda: not listener._server.ends)
            assert send(listener)[0] == 204

    def test_a_fault_of_ours_is_logged(self, caplog):
        def breaks(arrival):
            raise RuntimeError("ours")

        with listening(told=breaks) as (listener, _), pytest.raises(http.client.HTTPException):
            send(listener)

        assert "The listener failed" in caplog.text

    def test_garbage_breaks_nothing(self):
        with listening() as (listener, came):
            for sent in (b"\x16\x03\x01\x00", b"GARBAGE\r\n\r\n", b"\r\n" * 50, b"\0" * 100_000):
                with socket.create_connection(("127.0.0.1", listener.port)) as connection:
                    connection.sendall(sent)
            assert send(listener)[0] == 204

        assert len(came) == 1


def test_it_can_be_killed_and_revived_on_its_port():
    with listening() as (listener, came):
        connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=PATIENCE)
        connection.request("POST", "/", BODY, standard(at=int(time.time())))
        assert connection.getresponse().status == 204
        port = listener.port

        listener.stop(patience=0)
        listener.stop()
        hears_nothing(listener)
        listener.start()

        assert listener.port == port
        assert send(listener)[0] == 204
        connection.close()
    assert [one.is_repeat for one in came] == [False, True]


def test_an_answer_that_is_under_way_goes_out_before_it_stops():
    has_come, may_go = threading.Event(), threading.Event()

    def told(arrival):
        has_come.set()
        may_go.wait(PATIENCE)

    answers = []
    with listening(told=told) as (listener, _):
        sending = threading.Thread(target=lambda: answers.append(send(listener)[0]))
        sending.start()
        assert has_come.wait(PATIENCE)
        stopping = threading.Thread(target=listener.stop, kwargs={"patience": PATIENCE})
        stopping.start()
        time.sleep(0.3)
        may_go.set()
        sending.join(PATIENCE)
        stopping.join(PATIENCE)

    assert answers == [204]


def test_with_tls(tmp_path):
    certificate = certificates.make(tmp_path, names=["127.0.0.1"])
    trusting = ssl.create_default_context(cafile=certificate.certificate)
    with listening(tls=certificate.server()) as (listener, came):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", listener.port, timeout=PATIENCE, context=trusting
        )
        connection.request("POST", "/", BODY, standard(at=int(time.time())))
        assert connection.getresponse().status == 204
        connection.close()

    assert listener.url.startswith("https://")
    assert len(came) == 1


def until(condition, seconds=PATIENCE):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


@contextmanager
def running(*arguments, secret=SECRET, **environment):
    """Run the command as a process of its own, and yield it with the port that it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "webhooks_listen", "--port", "0", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DJANGO_WEBHOOKS_SECRET": secret,
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        first = (process.stderr if "--json" in arguments else process.stdout).readline()
        process.port = int(first.split("127.0.0.1:")[1].partition("/")[0])
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class TestTheCommand:
    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
    def test_it_ends_cleanly_when_told(self, signum):
        with running() as process:
            assert send(process)[0] == 204
            process.send_signal(signum)
            out, err = process.communicate(timeout=PATIENCE)

        assert process.returncode == 0
        assert err == ""
        assert out.endswith("1 arrived: 1 verified, 0 repeated, 0 failed on purpose, 0 refused.\n")
        assert "verified  order.paid  msg_1" in out
        assert SECRET not in out
        assert standard()["webhook-signature"][:10] not in out

    def test_it_ends_after_so_many_and_each_of_them_was_answered(self):
        with running("--requests", "3", "--fail", "429:1", "--fail-first", "1") as process:
            assert [send(process)[0] for _ in range(3)] == [429, 204, 204]
            out, _ = process.communicate(timeout=PATIENCE)

        assert process.returncode == 0
        assert out.endswith("3 arrived: 3 verified, 1 repeated, 1 failed on purpose, 0 refused.\n")

    def test_json_is_a_line_each_and_nothing_else(self):
        with running("--json", "--requests", "2", LC_ALL="C", PYTHONIOENCODING="ascii") as process:
            headers = {"webhook-id": "\x1b[2J\u202e".encode().decode("latin-1")}
            assert send(process)[0] == 204
            assert send(process, "größe".encode(), headers=headers)[0] == 401
            out, err = process.communicate(timeout=PATIENCE)

        good, bad = [json.loads(line) for line in out.splitlines()]
        assert (good["verdict"], good["message_id"]) == ("verified", "msg_1")
        assert (bad["verdict"], bad["body"]) == ("refused", "größe")
        assert out.isascii()
        assert "\x1b" not in out
        assert process.returncode == 1
        assert err.endswith("1 refused.\n")

    def test_text_for_a_terminal_without_unicode(self):
        with running("--requests", "1", PYTHONIOENCODING="ascii") as process:
            body = '{"type":"größe"}'.encode()
            assert send(process, body)[0] == 204
            out, _ = process.communicate(timeout=PATIENCE)

        assert "gr\\xf6\\xdfe" in out
        assert process.returncode == 0

    def test_whoever_reads_may_stop_reading(self):
        with running() as process:
            process.stdout.close()
            # It ends while it answers.
            with contextlib.suppress(OSError, http.client.HTTPException):
                send(process)
            assert process.wait(PATIENCE) == 0
            assert "BrokenPipe" not in process.stderr.read()


def called(*arguments):
    out, err = io.StringIO(), io.StringIO()
    call_command("webhooks_listen", "--port", "0", *arguments, stdout=out, stderr=err)
    return out.getvalue()


class TestItsOptions:
    def test_it_ends_after_so_long(self, monkeypatch):
        monkeypatch.setenv("DJANGO_WEBHOOKS_SECRET", f"{SECRET}\n\n{OTHER}\n")

        assert called("--seconds", "0.1").endswith("0 refused.\n")

    def test_it_runs_in_a_thread_too_with_tls(self, tmp_path):
        certificate = certificates.make(tmp_path)
        files = [str(certificate.certificate), str(certificate.key)]
        printed = []
        arguments = ["--secret", SECRET, "--seconds", "0.1", "--tls", *files]
        running = threading.Thread(target=lambda: printed.append(called(*arguments)))
        running.start()
        running.join(PATIENCE)

        assert "Listening on https://127.0.0.1:" in printed[0]

    def test_too_few_are_a_failure(self):
        with pytest.raises(SystemExit) as ended:
            called("--secret", SECRET, "--requests", "1", "--seconds", "0.1")

        assert ended.value.code == 1

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "DJANGO_WEBHOOKS_SECRET"),
            (["--secret", ""], "Name what to verify with"),
            (["--secret", "whsec_%"], "base64"),
            (["--secret", SECRET, "--fail", "soon"], "A failure is"),
            (["--secret", SECRET, "--fail", "503", "--fail-rate", "2"], "0 to 1"),
            (["--secret", SECRET, "--tls", "/nowhere", "/nowhere"], "cannot be used"),
            (["--secret", SECRET, "--port", "99999"], "cannot be listened on"),
            (["--scheme", "morse"], "invalid choice"),
        ],
    )
    def test_what_it_cannot_do_it_says(self, monkeypatch, arguments, message):
        monkeypatch.delenv("DJANGO_WEBHOOKS_SECRET", raising=False)

        with pytest.raises(CommandError, match=message):
            called(*arguments)

    def test_a_port_that_is_taken(self):
        with listening() as (listener, _), pytest.raises(CommandError, match="in use"):
            called("--secret", SECRET, "--port", str(listener.port))

    def test_secrets_of_another_scheme_are_any_text(self):
        assert called("--scheme", "github", "--secret", "It's a text", "--seconds", "0.1")

    @pytest.mark.django_db
    def test_a_subscription_has_the_secrets(self, settings):
        subscription = factories.subscription()
        old = subscription.signing_secret
        pair = subscription.rotate_key(kind="v1a").secret

        found = webhooks_listen._secrets_of(str(subscription.pk))

        assert found == [signing.public_key(pair), old]
        assert called("--subscription", subscription.name, "--seconds", "0.1")

    @pytest.mark.django_db
    def test_a_subscription_whose_keys_cannot_be_read(self, settings):
        subscription = factories.subscription()
        subscription.signing_keys.all().delete()

        with pytest.raises(CommandError, match="no signing key"):
            called("--subscription", str(subscription.pk))


def test_the_quickstart_sends_to_where_it_listens():
    parser = webhooks_listen.Command().create_parser("manage.py", "webhooks_listen")
    port = parser.get_default("port")

    text = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")

    assert f'url="http://127.0.0.1:{port}/"' in text
    assert "manage.py webhooks_listen --subscription CRM" in text
