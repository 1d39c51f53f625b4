"""The recipes of the documentation receive what their senders send, word for word."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import path

from django_webhooks.inbox import worker
from django_webhooks.inbox.models import InboxMessage
from tests import senders

# They look at requests: all databases behave alike.
pytestmark = [pytest.mark.django_db, pytest.mark.alike]

DOCS = Path(__file__).parents[3] / "docs/howto"
RECIPES = dict(
    re.findall(
        r"<!-- recipe: (\w+) -->\s*```python\n(.+?)```",
        (DOCS / "receive-from.md").read_text(encoding="utf-8"),
        re.S,
    )
)
SECRET = "what-the-recipe-verifies-with"
HANDLERS = (
    "handle_entry",
    "handle_notification",
    "handle_event",
    "handle_interaction",
    "look_for_changes",
    "handle_activity",
    "handle_parcel",
    "handle_push",
)
SETTINGS = (
    "META_APP_SECRET",
    "META_VERIFY_TOKEN",
    "GRAPH_CLIENT_STATE",
    "SLACK_SIGNING_SECRET",
    "OKTA_HOOK_SECRET",
    "DROPBOX_APP_SECRET",
    "EVENT_GRID_TOKEN",
    "TWILIO_AUTH_TOKEN",
    "HUBSPOT_CLIENT_SECRET",
    "SQUARE_SIGNATURE_KEY",
    "X_CONSUMER_SECRET",
    "COURIER_SECRETS",
)
URL = "https://testserver/hook/"

urlpatterns = []


@pytest.fixture
def site(settings):
    """Return what makes a view of a recipe the one at /hook/, and what its handler was given."""
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
    for name in SETTINGS:
        setattr(settings, name, SECRET)
    given = []

    def use(recipe, view=None):
        names = {"__name__": f"recipe_{recipe}"}
        names |= {name: lambda *what: given.append(what) for name in HANDLERS}
        exec(RECIPES[recipe], names)
        urlpatterns[:] = [path("hook/", names[view or recipe])]
        from django.urls import clear_url_caches

        clear_url_caches()
        return given

    yield use
    urlpatterns.clear()


def post(body, headers, *, content_type="application/json", query=""):
    return Client(enforce_csrf_checks=True).generic(
        "POST",
        f"/hook/{query}",
        body,
        headers=headers,
        secure=True,
        CONTENT_TYPE=content_type,
        CONTENT_LENGTH=str(len(body)),
    )


def get(query="", **headers):
    return Client().get(f"/hook/{query}", secure=True, headers=headers)


def mac(signed, *, algorithm="sha256"):
    return hmac.digest(SECRET.encode(), signed, algorithm)


def in_base64(digest):
    return base64.b64encode(digest).decode()


def is_plain(answer, text):
    assert (answer.status_code, answer.content.decode()) == (200, text)
    assert answer["Content-Type"].startswith("text/plain")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert not InboxMessage.objects.exists()
    return True


def test_each_recipe_is_tried_here():
    source = Path(__file__).read_text(encoding="utf-8")

    assert [one for one in RECIPES if f'site("{one}"' not in source] == []


def test_meta(site):
    given = site("meta")
    asks = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": SECRET}
    body = b'{"object":"page","entry":[{"id":"0","time":1},{"id":"1","time":2}]}'

    assert is_plain(get(f"?{urlencode(asks)}"), "1158201444")
    assert get(f"?{urlencode(asks | {'hub.verify_token': 'x'})}").status_code == 403
    assert get(f"?{urlencode(asks | {'hub.mode': 'unsubscribe'})}").status_code == 405
    assert post(body, {"x-hub-signature-256": f"sha256={mac(body).hex()}"}).status_code == 204
    assert post(body, {"x-hub-signature-256": f"sha256={'0' * 64}"}).status_code == 401
    assert given == [({"id": "0", "time": 1},), ({"id": "1", "time": 2},)]


def test_microsoft_graph(site):
    given = site("graph")
    body = json.dumps({"value": [{"subscriptionId": "7", "clientState": SECRET}]}).encode()
    asks = "?validationToken=Validation%3A+Testing"

    assert is_plain(post(b"", {}, content_type="text/plain", query=asks), "Validation: Testing")
    # A second change is told in the same words.
    assert [post(body, {}).status_code for _ in range(2)] == [202, 202]
    # What a stranger's query asks is no answer to a message.
    assert post(body.replace(b"7", b"8"), {}, query=asks).status_code == 202
    for wrong in ({"value": []}, {"value": [{"clientState": "x"}]}, {"value": [{}]}, [], 7):
        assert post(json.dumps(wrong).encode(), {}).status_code == 401
    mixed = {"value": [{"clientState": SECRET}, {"clientState": "x"}]}
    assert post(json.dumps(mixed).encode(), {}).status_code == 401
    worker.drain()
    assert [one["subscriptionId"] for (one,) in given] == ["7", "7", "8"]


def test_slack_events_in_the_background(site):
    given = site("slack", "slack_events")
    asks = b'{"token":"x","challenge":"3eZbrw1a","type":"url_verification"}'
    body = b'{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}'
    now = int(time.time())

    assert is_plain(post(asks, senders.slack(asks, SECRET, now)), "3eZbrw1a")
    assert post(asks, senders.slack(asks, "another", now)).status_code == 401
    assert post(body, senders.slack(body, SECRET, now)).status_code == 202
    worker.drain()
    assert given == [({"type": "app_mention"},)]


def test_slack_commands_and_interactions(site):
    command = b"token=x&command=%2Fweather&text=94070+%C3%BC&response_url=https%3A%2F%2Fx.example"
    payload = urlencode({"payload": '{"type":"block_actions"}'}).encode()
    form = "application/x-www-form-urlencoded"
    now = int(time.time())

    site("slack", "slack_commands")
    answer = post(command, senders.slack(command, SECRET, now), content_type=form)
    assert (answer.status_code, answer.json()["text"]) == (200, "/weather: 94070 ü")
    given = site("slack", "slack_interactions")
    answer = post(payload, senders.slack(payload, SECRET, now), content_type=form)
    assert answer.status_code == 204
    assert given == [("block_actions", {"type": "block_actions"})]


def test_okta(site):
    given = site("okta")
    body = b'{"eventId":"1","data":{"events":[{"uuid":"7"}]}}'

    answer = get(**{"X-Okta-Verification-Challenge": "Me_rShK8"})

    assert (answer.status_code, answer.json()) == (200, {"verification": "Me_rShK8"})
    assert answer["Content-Type"] == "application/json"
    assert get().status_code == 405
    assert post(body, {"authorization": SECRET}).status_code == 204
    assert post(body, {"authorization": "x"}).status_code == 401
    assert given == [({"uuid": "7"},)]


def test_dropbox(site):
    given = site("dropbox")
    body = b'{"list_folder":{"accounts":["dbid:1"]}}'

    assert is_plain(get("?challenge=abc123"), "abc123")
    assert is_plain(get("?challenge=%3Cscript%3E"), "<script>")
    for _ in range(2):
        assert post(body, {"x-dropbox-signature": mac(body).hex()}).status_code == 204
    assert given == [("dbid:1",), ("dbid:1",)]


def test_cloudevents(site):
    given = site("cloudevents")
    body = b'{"specversion":"1.0","id":"1","type":"shop.order","source":"/","data":{"id":7}}'
    asks = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}

    def options(headers):
        return Client().options("/hook/", secure=True, headers=headers)

    answer = options(asks)
    assert answer.status_code == 200
    assert answer["WebHook-Allowed-Origin"] == "eventgrid.azure.net"
    assert answer["WebHook-Allowed-Rate"] == "600"
    assert "POST" in answer["Allow"]
    refused = options(asks | {"WebHook-Request-Origin": "evil.example"})
    assert refused.status_code == 403
    assert "WebHook-Allowed-Origin" not in refused
    assert options({})["Allow"] == "POST, OPTIONS"
    answer = post(
        body,
        {"authorization": f"Bearer {SECRET}"},
        content_type="application/cloudevents+json; charset=utf-8",
    )
    assert answer.status_code == 204
    assert given == [("shop.order", {"id": 7})]


def test_twilio(site):
    site("twilio")
    fields = {"Body": "Hallo", "From": "+14158675309", "To": "+18005551212"}
    signed = URL + "?a=1" + "".join(name + fields[name] for name in sorted(fields))
    body = urlencode(fields).encode()
    headers = {"x-twilio-signature": in_base64(mac(signed.encode(), algorithm="sha1"))}
    form = "application/x-www-form-urlencoded"

    answer = post(body, headers, content_type=form, query="?a=1")

    assert (answer.status_code, answer["Content-Type"]) == (200, "text/xml")
    assert b"You said 5 letters" in answer.content
    assert post(body, headers, content_type=form, query="?a=2").status_code == 401


def test_hubspot(site):
    given = site("hubspot")
    now = str(int(time.time() * 1000))
    body = b'[{"subscriptionType":"contact.creation","eventId":1}]'
    signature = in_base64(mac(f"POST{URL}".encode() + body + now.encode()))
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": now}

    assert post(body, headers).status_code == 204
    assert post(body, headers, query="?a").status_code == 401
    assert given == [("contact.creation", {"subscriptionType": "contact.creation", "eventId": 1})]


def test_square(site):
    given = site("square")
    body = b'{"event_id":"1","type":"payment.created","data":{"id":"7"}}'
    headers = {"x-square-hmacsha256-signature": in_base64(mac(URL.encode() + body))}

    assert post(body, headers).status_code == 204
    assert post(body, headers, query="?a").status_code == 401
    assert given == [("payment.created", {"id": "7"})]


def test_square_where_senders_write_another_url(site, settings):
    settings.WEBHOOKS_SITE_URL = "https://hooks.example.com/api/"
    given = site("square")
    body = b'{"event_id":"1","type":"payment.created","data":{"id":"7"}}'
    signed = b"https://hooks.example.com/api/hook/" + body

    answer = post(body, {"x-square-hmacsha256-signature": in_base64(mac(signed))})

    assert answer.status_code == 204
    assert len(given) == 1


def test_a_handshake_of_one_s_own(site):
    given = site("handshake", "x")
    body = b'{"for_user_id":"1"}'
    signature = f"sha256={in_base64(mac(body))}"

    answer = get("?crc_token=abc")

    assert answer.json() == {"response_token": f"sha256={in_base64(mac(b'abc'))}"}
    assert get().status_code == 405
    assert post(body, {"x-twitter-webhooks-signature": signature}).status_code == 204
    assert given == [({"for_user_id": "1"},)]


def test_a_scheme_of_one_s_own(site, settings):
    settings.COURIER_SECRETS = [SECRET, "the old one"]
    given = site("scheme", "courier")
    body = b'{"parcel":7}'
    signature = mac(f"POST\n{URL}\n".encode() + body).hex()

    assert post(body, {"x-courier-signature": signature}).status_code == 204
    assert post(body, {"x-courier-signature": signature}, query="?a").status_code == 401
    assert given == [({"parcel": 7},)]


def test_the_first_example_handles_what_github_says_in_its_header(site, settings):
    text = (DOCS / "receive.md").read_text(encoding="utf-8")
    RECIPES["github"] = re.search(r"```python\n# shop/hooks_in.py\n(.+?)```", text, re.S)[1]
    settings.GITHUB_WEBHOOK_SECRETS = [SECRET]
    given = site("github")
    form = urlencode({"payload": '{"ref":"main"}'}).encode()
    as_json = b'{"ref":"other"}'

    for body, kind in ((form, "application/x-www-form-urlencoded"), (as_json, "application/json")):
        headers = senders.github(body, SECRET) | {
            "x-github-event": "push",
            "x-github-delivery": kind,
        }
        assert post(body, headers, content_type=kind).status_code == 204
        ping = headers | {"x-github-event": "ping", "x-github-delivery": f"ping {kind}"}
        assert post(body, ping, content_type=kind).status_code == 204

    assert given == [({"ref": "main"},), ({"ref": "other"},)]
