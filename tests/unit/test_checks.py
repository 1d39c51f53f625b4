"""System checks: what is reported, by which id, and that nothing else is."""

from __future__ import annotations

import re

import certifi
import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.test import override_settings
from kombu import Queue

from django_webhooks import beat, encryption, tasks
from django_webhooks.checks import values
from django_webhooks.conf import Settings
from django_webhooks.inbox import tasks as inbox_tasks
from django_webhooks.sending.http import sockets
from tests.unit.test_docs import check_sources

# A check for production asks the rows.
pytestmark = [pytest.mark.django_db, pytest.mark.every_case]
ACTING = "django_webhooks.middleware.actor"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"

NAN = float("nan")
KEY, OTHER_KEY = encryption.generate_key(), encryption.generate_key()


@pytest.fixture(autouse=True)
def _nothing_opened():
    """The settings of the tests open loopback."""
    with override_settings(WEBHOOKS_ALLOWED_NETWORKS=[]):
        yield


def reported(*, deploy: bool = False, **settings: object) -> set[str]:
    with override_settings(**settings):
        return {one.id for one in run_checks(tags=["webhooks"], include_deployment_checks=deploy)}


def test_requests_that_would_wait_for_connections_are_warned_of():
    assert reported(WEBHOOKS_MAX_IN_FLIGHT=64, WEBHOOKS_MAX_CONNECTIONS=63) == {"webhooks.W180"}
    assert reported(WEBHOOKS_MAX_IN_FLIGHT=64, WEBHOOKS_MAX_CONNECTIONS=64) == set()


def test_half_of_the_open_files_may_be_connections(monkeypatch):
    monkeypatch.setattr(sockets.resource, "getrlimit", lambda which: (126, 4096))

    assert reported(WEBHOOKS_MAX_IN_FLIGHT=63) == set()
    assert reported(WEBHOOKS_MAX_IN_FLIGHT=64) == {"webhooks.W180"}


@pytest.fixture
def no_celery(monkeypatch, settings):
    """Celery as it is where nobody configured it."""
    for name in ("beat_schedule", "task_routes"):
        monkeypatch.delitem(tasks.deliver.app.conf.changes, name, raising=False)
        # Celery prefers a setting of Django, even an empty one, to one of its app.
        delattr(settings, f"CELERY_{name.upper()}")


def test_nothing_is_reported_about_the_defaults():
    assert reported() == set()
    assert reported(deploy=True, WEBHOOKS_REQUIRE_HTTPS=True) == set()


def test_each_setting_has_a_rule():
    names = [name for name in vars(Settings) if name.startswith("WEBHOOKS_")]

    rules = values.RULES
    assert sorted(rule.setting for rule in rules) == sorted(names)


def test_each_id_is_used_once():
    ids = re.findall(r"webhooks\.[EW]\d{3}", "".join(path.read_text() for path in check_sources()))

    assert len(ids) == len(set(ids)) >= len(values.RULES)


BOOLEANS = ["yes", 1, None]
COUNTS = [0, -1, 1.5, "10", True, None]
POSITIVE = [0, -0.5, "5", True, None, NAN, float("inf")]
NOT_NEGATIVE = [-1, "5", True, None, NAN]


@pytest.mark.parametrize(
    ("setting", "id", "bad", "good"),
    [
        ("ALLOW_UNKNOWN_EVENT_TYPES", "E002", BOOLEANS, [True, False]),
        ("MAX_PAYLOAD_BYTES", "E003", COUNTS, [1]),
        ("RATE_LIMIT_PER_SECOND", "E067", [0, -1, "1", True, NAN, float("inf")], [None, 0.5, 20]),
        ("MAX_IN_FLIGHT_PER_SUBSCRIPTION", "E068", [0, -1, 1.5, "1", True], [None, 1, 3]),
        ("REQUIRE_HTTPS", "E005", BOOLEANS, [True, False]),
        ("TIMEOUT_SECONDS", "E006", POSITIVE, [0.5, 30]),
        ("RESPONSE_EXCERPT_BYTES", "E008", [-1, 1.5, "1", None], [0, 10]),
        ("LEASE_SECONDS", "E009", POSITIVE, [30.5, 300]),
        ("MAX_IN_FLIGHT", "E011", COUNTS, [1]),
        ("MAX_IN_FLIGHT_PER_ENDPOINT", "E012", COUNTS, [1]),
        ("RETRY_ATTEMPTS", "E014", COUNTS, [1]),
        ("RETRY_BASE_SECONDS", "E015", POSITIVE, [0.5]),
        ("RETRY_FACTOR", "E016", [0.9, 0, "2", None, NAN], [1, 2.5]),
        ("RETRY_CAP_SECONDS", "E017", POSITIVE, [1]),
        ("EVENT_MAX_AGE_SECONDS", "E020", POSITIVE, [60]),
        (
            "RETENTION_DAYS",
            "E022",
            [None, 30, {"waiting": 1}, {"succeeded": -1}, {"succeeded": "30"}, {"gone": 1}],
            [{}, {"succeeded": None}, {"given_up": 0.5, "inbox_handled": 7}],
        ),
        ("HEALTH_FALL", "E024", COUNTS, [1]),
        ("HEALTH_STATUSES", "E075", ["", "any", "4xx", None, 500, []], ["non_2xx", "5xx"]),
        ("HEALTH_RISE", "E025", COUNTS, [1]),
        ("HEALTH_HOLD_SECONDS", "E029", POSITIVE, [1]),
        ("PROBE_INTERVAL_SECONDS", "E031", POSITIVE, [1]),
        ("PROBE_INTERVAL_UNHEALTHY_SECONDS", "E032", POSITIVE, [1]),
        ("DISABLE_AFTER_SECONDS", "E036", POSITIVE, [3600]),
        (
            "NOTIFY",
            "E037",
            [None, 5, ["anna"], "ops@example.com", "no.such.path", "django.VERSION", [None]],
            [(), ["a@example.com"], ("a@example.com",), str.split, "django.setup"],
        ),
        (
            "ALLOWED_NETWORKS",
            "E039",
            ["10.0.0.0/8", ["10.0.0.1/8"], ["intranet"], [10], None],
            [[], ("10.1.0.0/16", "fd00::/8"), ["10.0.0.7"]],
        ),
        ("DENIED_NETWORKS", "E040", [["300.0.0.0/8"], None], [["8.8.8.0/24"]]),
        (
            "ENCRYPTION_KEYS",
            "E042",
            [["short"], KEY, [KEY, KEY], [None], 5],
            [[KEY], (KEY, OTHER_KEY)],
        ),
        (
            "PROXY_URL",
            "E044",
            [
                None,
                "proxy",
                "https://proxy",
                "http://",
                "http://a:b",
                "http://a/b",
                "http://[a",
                "http://a b",
                "http://a\n",
                "http://a:70000",
                "http://a?b",
                "socks5://a",
                " http://a",
            ],
            ["", "http://proxy", "http://user:password@proxy.internal:4750/"],
        ),
        ("MAX_CONNECTIONS", "E180", COUNTS, [64]),
        ("CA_BUNDLE", "E045", [None, "/no/such/file", __file__], ["", certifi.where()]),
        ("RECEIVING_REQUIRE_HTTPS", "E051", BOOLEANS, [True, False]),
        ("RECEIVING_MAX_BYTES", "E052", COUNTS, [1]),
        ("TRUSTED_PROXIES", "E053", ["10.0.0.0/8", ["10.0.0.1/8"], None], [["10.0.0.0/8"]]),
        (
            "SITE_URL",
            "E102",
            [
                None,
                "hooks.example.com",
                "ftp://example.com",
                "https://",
                "https://[::1",
                "https://example.com:0",
                "https://example.com:x",
                "https://example.com/?a=1",
                "https://example.com/#a",
                "https://example.com/a b",
            ],
            ["", "https://hooks.example.com", "http://localhost:8000/prefix/"],
        ),
        ("ALLOWED_PORTS", "E041", [[0], [65_536], ["443"], 443, [True]], [None, [], [443], {8443}]),
    ],
)
def test_a_setting_that_cannot_work_is_an_error(setting, id, bad, good):
    name = f"WEBHOOKS_{setting}"

    assert [value for value in bad if reported(**{name: value}) != {f"webhooks.{id}"}] == []
    assert [value for value in good if reported(**{name: value})] == []


def test_an_error_names_the_setting_and_says_what_it_must_be():
    with override_settings(WEBHOOKS_RETRY_FACTOR=0.5):
        [error] = run_checks(tags=["webhooks"])

    assert error.msg == "WEBHOOKS_RETRY_FACTOR must be a number of at least 1."
    assert error.hint


def test_an_unknown_kind_of_rows_is_named():
    with override_settings(WEBHOOKS_RETENTION_DAYS={"handled": 7, "succeeded": 7}):
        [error] = run_checks(tags=["webhooks"])

    assert (error.id, error.hint) == ("webhooks.E022", "Unknown: handled.")


@pytest.mark.parametrize(
    ("lease", "timeout", "ids"),
    [
        (10, 15.0, {"webhooks.E023"}),
        (19.9, 15, {"webhooks.E023"}),
        (20, 15, set()),
    ],
)
def test_a_lease_outlasts_an_attempt(lease, timeout, ids):
    assert reported(WEBHOOKS_LEASE_SECONDS=lease, WEBHOOKS_TIMEOUT_SECONDS=timeout) == ids


def test_sending_in_the_clear_is_a_warning_for_production_alone():
    assert reported(WEBHOOKS_REQUIRE_HTTPS=False) == set()
    assert reported(WEBHOOKS_REQUIRE_HTTPS=False, deploy=True) == {"webhooks.W004"}


def test_an_open_network_is_a_warning_for_production_alone():
    opened = {"WEBHOOKS_ALLOWED_NETWORKS": ["10.1.0.0/16"], "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**opened) == set()
    assert reported(**opened, deploy=True) == {"webhooks.W006"}


def test_production_asks_for_encryption_keys_of_its_own():
    unset = {"WEBHOOKS_ENCRYPTION_KEYS": [], "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**unset) == {"webhooks.W008"}
    assert reported(**unset, DEBUG=True) == set()
    assert reported(**unset, deploy=True) == {"webhooks.W008", "webhooks.E047"}


def test_a_key_that_is_the_secret_key_is_an_error():
    keys = {"WEBHOOKS_ENCRYPTION_KEYS": [KEY, OTHER_KEY]}

    assert reported(**keys, SECRET_KEY=OTHER_KEY) == {"webhooks.E046"}
    assert reported(**keys, SECRET_KEY_FALLBACKS=[KEY]) == {"webhooks.E046"}


@pytest.mark.parametrize(
    ("url", "is_reported"),
    [
        ("amqp://guest@rabbit.internal//", True),
        ("redis://10.0.0.7:6379/0", True),
        ("sentinel://localhost;sentinel://other", True),
        (["amqps://rabbit.internal//", "amqp://rabbit.internal//"], True),
        ("amqps://rabbit.internal//", False),
        ("rediss://10.0.0.7:6379/0", False),
        ("redis://127.0.0.1:6379", False),
        ("redis://[::1]:6379", False),
        ("amqp://", False),
        ("sqs://", False),
    ],
)
def test_a_broker_elsewhere_without_tls_is_a_warning_for_production(url, is_reported):
    found = reported(deploy=True, WEBHOOKS_REQUIRE_HTTPS=True, CELERY_BROKER_URL=url)

    assert found == ({"webhooks.W009"} if is_reported else set())
    told = reported(
        deploy=True,
        WEBHOOKS_REQUIRE_HTTPS=True,
        CELERY_BROKER_URL=url,
        CELERY_BROKER_USE_SSL={"ca_certs": "x"},
    )
    assert told == set()


def test_a_proxy_is_a_reminder_for_production():
    proxy = {"WEBHOOKS_PROXY_URL": "http://proxy:4750", "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**proxy) == set()
    assert reported(**proxy, deploy=True) == {"webhooks.W010"}


@pytest.mark.parametrize(
    ("middleware", "is_warned"),
    [
        ([AUTHENTICATION, ACTING], False),
        ([ACTING, AUTHENTICATION], True),
        ([AUTHENTICATION], True),
        ([], False),
    ],
)
def test_a_trail_that_does_not_know_who_is_a_warning_for_production(middleware, is_warned):
    assert reported(MIDDLEWARE=middleware) == set()
    found = reported(MIDDLEWARE=middleware, deploy=True)
    assert ("webhooks.W020" in found) is is_warned


class Elsewhere:
    """A router that knows the label of the core, and not that of audits."""

    def db_for_write(self, model, **hints):
        return "other" if model._meta.app_label == "django_webhooks_auditing" else None


def test_a_trail_in_another_database_than_what_it_tells_of_is_an_error():
    assert reported(DATABASE_ROUTERS=[Elsewhere()]) == {"webhooks.E202"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TIMEOUT", "Did you mean WEBHOOKS_TIMEOUT_SECONDS?"),
        ("TIME_OUT", "Did you mean WEBHOOKS_TIMEOUT_SECONDS?"),
        ("HEALTH_HOLD", "Did you mean WEBHOOKS_HEALTH_HOLD_SECONDS?"),
        ("PROBE_INTERVAL", "Did you mean WEBHOOKS_PROBE_INTERVAL_SECONDS?"),
        ("RATE_LIMIT", "Did you mean WEBHOOKS_RATE_LIMIT_PER_SECOND?"),
        ("METRIC", "Did you mean WEBHOOKS_METRICS?"),
        ("QQQ", "Remove it."),
    ],
)
def test_an_unknown_setting_is_a_warning_that_names_the_nearest_one(name, hint):
    with override_settings(**{f"WEBHOOKS_{name}": 1}):
        [warning] = run_checks(tags=["webhooks"])

    assert (warning.id, warning.hint) == ("webhooks.W001", hint)


UNSCHEDULED = {"webhooks.W002", "webhooks.W007", "webhooks.W011", "webhooks.W021"}
SCHEDULE = {
    "look": {"task": "django_webhooks.tasks.sweep", "schedule": 5},
    "ask": {"task": "django_webhooks.tasks.check_health", "schedule": 5},
    "count": {"task": "django_webhooks.tasks.roll_up", "schedule": 60},
    "audit": {"task": "django_webhooks.auditing.tasks.audit", "schedule": 86_400},
}


@pytest.mark.usefixtures("no_celery")
def test_a_schedule_without_our_tasks_is_a_warning():
    assert reported() == UNSCHEDULED
    assert reported(CELERY_BEAT_SCHEDULE={"x": {"task": "shop.tasks.sweep"}}) == UNSCHEDULED
    assert reported(CELERY_BEAT_SCHEDULE={"x": "nonsense"}) == UNSCHEDULED
    assert reported(CELERY_BEAT_SCHEDULE="nonsense") == UNSCHEDULED


@pytest.mark.usefixtures("no_celery")
def test_each_of_our_tasks_is_missed_by_itself():
    missed = dict(zip(SCHEDULE, sorted(UNSCHEDULED), strict=True))
    for name, warning in missed.items():
        others = {key: entry for key, entry in SCHEDULE.items() if key != name}
        assert reported(CELERY_BEAT_SCHEDULE=others) == {warning}


@pytest.mark.usefixtures("no_celery")
def test_they_may_have_any_name_in_the_schedule():
    assert reported(CELERY_BEAT_SCHEDULE=SCHEDULE) == set()


@pytest.mark.usefixtures("no_celery")
def test_the_schedule_may_be_that_of_the_celery_app(monkeypatch):
    monkeypatch.setitem(tasks.deliver.app.conf, "beat_schedule", SCHEDULE)

    assert reported() == set()


@pytest.mark.usefixtures("no_celery")
def test_a_schedule_in_the_database_is_not_looked_at(monkeypatch):
    is_installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: name == "django_celery_beat" or is_installed(name)
    )

    assert reported() == set()


ONE_QUEUE, NO_QUEUE = {"webhooks.W060"}, {"webhooks.W005"}


@pytest.mark.usefixtures("no_celery")
@pytest.mark.parametrize(
    ("routes", "warnings"),
    [
        ({}, NO_QUEUE),
        ({"django_webhooks.tasks.*": {"queue": "hooks"}}, ONE_QUEUE),
        ({"shop.tasks.*": "shop"}, NO_QUEUE),
        ({re.compile(r"django_webhooks\..*"): "hooks"}, ONE_QUEUE),
        ([("shop.*", "shop"), ("django_webhooks.*", "hooks")], ONE_QUEUE),
        ([("shop.*", "shop"), ["other.*", "hooks"]], NO_QUEUE),
        ([{"shop.*": "shop"}, {"*.deliver": "hooks"}], set()),
        (lambda name, *args: None, set()),
        ("shop.routing.route", set()),
        (beat.ROUTES, set()),
        (dict(reversed(beat.ROUTES.items())), set()),
        ([beat.ROUTES], set()),
        (("django_webhooks.*", Queue("hooks")), ONE_QUEUE),
        ({"django_webhooks.tasks.*": {"queue": Queue("hooks")}}, ONE_QUEUE),
        ({"django_webhooks.tasks.*": {"exchange": "hooks"}}, set()),
        ({**beat.ROUTES, "django_webhooks.tasks.sweep": {"queue": "webhooks"}}, ONE_QUEUE),
    ],
)
def test_tasks_without_queues_of_their_own_are_a_warning_for_production(routes, warnings):
    found = reported(deploy=True, WEBHOOKS_REQUIRE_HTTPS=True, CELERY_TASK_ROUTES=routes)

    assert found == UNSCHEDULED | warnings


@pytest.mark.parametrize(
    ("queues", "is_reported"),
    [
        pytest.param([Queue("default"), Queue("webhooks")], True, id="the periodic one is missing"),
        pytest.param([Queue("default")], True, id="both are missing"),
        pytest.param([Queue("webhooks"), Queue("webhooks-periodic")], False, id="both are there"),
        pytest.param({"webhooks": {}, "webhooks-periodic": {}}, False, id="a mapping"),
        pytest.param({"webhooks": {}}, True, id="a mapping without it"),
        pytest.param([], False, id="a worker is told by -Q"),
        pytest.param("nonsense", False, id="nonsense"),
    ],
)
def test_a_queue_that_no_worker_would_consume_is_a_warning(queues, is_reported):
    found = reported(CELERY_TASK_QUEUES=queues, CELERY_TASK_ROUTES=beat.ROUTES)

    assert found == ({"webhooks.W061"} if is_reported else set())


@pytest.mark.parametrize(
    ("pool", "is_refused"),
    [
        ("eventlet", True),
        ("celery.concurrency.eventlet:TaskPool", True),
        ("prefork", False),
        ("threads", False),
        ("gevent", False),
        ("solo", False),
        (None, False),
    ],
)
def test_a_pool_in_which_deadlines_do_not_hold_is_an_error(pool, is_refused):
    assert reported(CELERY_WORKER_POOL=pool) == ({"webhooks.E080"} if is_refused else set())


@pytest.mark.parametrize(
    ("task", "name", "seconds", "settings", "is_reported"),
    [
        ("deliver", "time_limit", 2, {}, True),
        ("deliver", "soft_time_limit", 79, {}, True),
        ("deliver", "soft_time_limit", 80, {}, False),
        ("deliver", "time_limit", None, {}, False),
        ("handle", "soft_time_limit", 19, {}, True),
        ("check_health", "time_limit", 10, {}, True),
        ("sweep", "time_limit", 5, {}, True),
        ("replay", "time_limit", 5, {}, True),
        ("prune", "time_limit", 5, {}, True),
        ("deliver", "soft_time_limit", 3600, {"WEBHOOKS_LEASE_SECONDS": 3600.0}, True),
        ("deliver", "soft_time_limit", 3600, {"WEBHOOKS_LEASE_SECONDS": "nonsense"}, False),
    ],
)
def test_a_limit_that_cuts_off_what_was_sent_is_a_warning(
    monkeypatch, task, name, seconds, settings, is_reported
):
    module = inbox_tasks if task == "handle" else tasks
    monkeypatch.setattr(getattr(module, task), name, seconds)

    assert ("webhooks.W062" in reported(**settings)) is is_reported


@pytest.mark.parametrize("is_eager", [True, False])
def test_saves_that_wait_for_receivers_are_a_warning_for_production(is_eager):
    settings = {"CELERY_TASK_ALWAYS_EAGER": is_eager, "WEBHOOKS_REQUIRE_HTTPS": True}

    assert reported(**settings) == set()
    assert reported(deploy=True, **settings) == ({"webhooks.W064"} if is_eager else set())


def test_commits_that_nobody_hears_of_are_a_warning(monkeypatch):
    monkeypatch.setitem(django_settings.DATABASES["default"], "AUTOCOMMIT", False)

    assert reported() == {"webhooks.W063"}


@pytest.mark.parametrize(
    ("settings", "is_reported"),
    [
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 600}}, True),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"visibility_timeout": 601}}, False),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": {"polling_interval": 1}}, False),
        ({"CELERY_BROKER_TRANSPORT_OPTIONS": "nonsense"}, False),
        ({"CELERY_BROKER_URL": "redis://"}, False),
        ({"CELERY_BROKER_URL": "amqp://"}, False),
    ],
)
def test_messages_do_not_wait_for_longer_than_the_broker_lets_them(settings, is_reported):
    assert reported(**settings) == ({"webhooks.W003"} if is_reported else set())
