"""The main job under the settings that host projects have, with real processes.

The ordinary run has each value of each setting, and each zone and each stack with USE_TZ and
without; ``tox run -e settings`` crosses them all.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
import standardwebhooks

from tests.receivers import Answer

from .conftest import MARIADB, RABBITMQ, REDIS, SQLITE
from .harness import SIGNING_SECRET, until
from .patience import PATIENT

STACKS = {one.id: one for one in (SQLITE, REDIS, RABBITMQ, MARIADB)}
#: What cannot be said in JSON: how transactions are isolated.
_SERIALIZABLE = """
match DATABASES["default"]["ENGINE"].rpartition(".")[2]:
    case "postgresql":
        DATABASES["default"]["OPTIONS"] = {"isolation_level": 4}
    case "mysql":
        DATABASES["default"]["OPTIONS"] = {"isolation_level": "serializable"}
"""
#: How the project runs tasks and commits: settings, and what they end with.
WAYS = {
    "plain": ({}, ""),
    "soft-2": ({"CELERY_TASK_SOFT_TIME_LIMIT": 2}, ""),
    "soft-10": ({"CELERY_TASK_SOFT_TIME_LIMIT": 10, "CELERY_TASK_TIME_LIMIT": 12}, ""),
    "hard-2": ({"CELERY_TASK_TIME_LIMIT": 2}, ""),
    "eager": ({"CELERY_TASK_ALWAYS_EAGER": True}, ""),
    "serializable": ({}, _SERIALIZABLE),
    "manual-commit": ({}, ""),
}
AXES = {
    "use_tz": [True, False],
    "zone": ["America/New_York", "Europe/Berlin", "UTC", "Asia/Tokyo"],
    "stack": list(STACKS),
    "pool": ["prefork", "threads", "gevent", "solo"],
    "way": list(WAYS),
}


@dataclass(frozen=True)
class Case:
    """A value of each."""

    use_tz: bool
    zone: str
    stack: str
    pool: str
    way: str

    @property
    def id(self):
        aware = "aware" if self.use_tz else "naive"
        return "-".join((aware, self.zone.rpartition("/")[2], self.stack, self.pool, self.way))


def ordinary():
    """Return each zone and each stack with USE_TZ and without, on another stack in each.

    Each pool and each way occurs, none of them twice in the same company.
    """
    zones, stacks = AXES["zone"], AXES["stack"]
    places = [(True, *one) for one in zip(zones, stacks, strict=True)]
    places += [(False, *one) for one in zip(zones, stacks[1:] + stacks[:1], strict=True)]
    pools, ways = itertools.cycle(AXES["pool"]), itertools.cycle(AXES["way"])
    return [Case(*place, next(pools), next(ways)) for place in places]


def others():
    """Return all that there are but the ordinary ones."""
    known = set(ordinary())
    crossed = (Case(*values) for values in itertools.product(*AXES.values()))
    return [case for case in crossed if case not in known]


def on_stacks(cases):
    return [
        pytest.param(case.stack, case, id=case.id, marks=STACKS[case.stack].marks) for case in cases
    ]


@pytest.mark.parametrize(("name", "values"), AXES.items(), ids=AXES)
def test_each_value_occurs_in_the_ordinary_run(name, values):
    assert {getattr(one, name) for one in ordinary()} == set(values)


@pytest.mark.parametrize("use_tz", [True, False])
def test_each_zone_and_each_stack_occurs_with_use_tz_and_without(use_tz):
    cases = [one for one in ordinary() if one.use_tz is use_tz]

    assert {one.zone for one in cases} == set(AXES["zone"])
    assert {one.stack for one in cases} == set(AXES["stack"])


@pytest.mark.acceptance
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("harness", "case"), on_stacks(ordinary()), indirect=["harness"])
def test_the_main_job(harness, receiver, case):
    main_job(harness, receiver, case)


@pytest.mark.campaign
@pytest.mark.settings
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("harness", "case"), on_stacks(others()), indirect=["harness"])
def test_the_main_job_everywhere(harness, receiver, case):
    main_job(harness, receiver, case)


def main_job(harness, receiver, case):
    """Save, send, fail, send again; nothing is lost or repeated, and every moment is right."""
    own, harness.recipe = WAYS[case.way]
    harness.settings = {
        **PATIENT,
        **own,
        "USE_TZ": case.use_tz,
        "TIME_ZONE": case.zone,
        "WEBHOOKS_RETRY_BASE_SECONDS": 0.5,
        "WEBHOOKS_HEALTH_FALL": 1000,
    }
    is_eager = case.way == "eager"
    count = 40 if case.way.startswith(("soft", "hard")) else 8
    # Runs of workers last for longer than the limits; nobody looks after what an eager save left.
    receiver.answers = [Answer(204)] if is_eager else [Answer(503), Answer(204, delay=0.3)]
    began = time.time()
    harness.subscribe(receiver.url)
    if not is_eager:
        harness.worker(pool=case.pool)
        harness.beat()

    harness.python(saving(count, by_hand=case.way == "manual-commit"))

    is_over = {"succeeded": count}
    # A busy machine, and the back-off of tasks that met a lock, take their time.
    until(lambda: harness.statuses() == is_over, "stuck")
    # One more sweep finds nothing that is sent again.
    time.sleep(0 if is_eager else 1.2)
    account(harness, receiver, count=count, began=began, retries=0 if is_eager else 1)
    told_by_the_local_clock(harness, case.zone)


def saving(count, *, by_hand):
    begin, end = "", ""
    if by_hand:
        begin, end = "transaction.set_autocommit(False)\n", "\n    transaction.commit()"
    return (
        "import datetime\n"
        "from django.db import transaction\n"
        "from django_webhooks.events import emit\n"
        "from tests.acceptance.site.models import Thing\n"
        f"{begin}"
        f"for number in range({count}):\n"
        "    with transaction.atomic():\n"
        "        thing = Thing.objects.create(name=str(number))\n"
        "        emit('thing.created', {'id': thing.pk, 'at': datetime.datetime.now()})\n"
        "    with transaction.atomic():\n"
        "        emit('thing.created', {'id': -1})\n"
        f"        transaction.set_rollback(True){end}\n"
        "import time\n"
        "time.sleep(0.3)  # a thread tells the workers\n"
    )


def account(harness, receiver, *, count, began, retries):
    ends = time.time()
    committed = harness.committed()
    assert len(committed) == count
    asked = Counter()
    for request in receiver.requests:
        standardwebhooks.Webhook(SIGNING_SECRET).verify(request.body, dict(request.headers))
        assert began - 2 <= int(request.headers["webhook-timestamp"]) <= ends
        body = json.loads(request.body)
        assert body["data"]["id"] in committed
        asked[body["data"]["id"]] += 1
        # The moment of the event, and a local time of the project.
        for text in (body["timestamp"], body["data"]["at"]):
            assert text.endswith("Z")
            assert began - 2 <= datetime.fromisoformat(text).timestamp() <= ends
    assert set(asked) == committed
    assert sum(asked.values()) == count + retries, f"repeats: {asked}"


def told_by_the_local_clock(harness, zone):
    found = harness.python(
        "from django_webhooks.models import Delivery\n"
        "one = Delivery.objects.order_by('pk').first()\n"
        "print(json.dumps([one.finished_at.timestamp(), one.explain()]))"
    )
    moment, sentence = found
    local = datetime.fromtimestamp(moment, UTC).astimezone(ZoneInfo(zone))
    assert f"{local:%Y-%m-%d %H:%M:%S}" in sentence
