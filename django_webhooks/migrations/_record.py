"""The function of PostgreSQL that records an event and its deliveries; ``sending.one_trip`` calls it.

A release that changes what it does adds another of a new name, and leaves this one for processes of
the release before.
"""

from __future__ import annotations

from typing import Any

NAME = "django_webhooks_record_1"
SIGNATURE = f"{NAME}(varchar[], varchar[], uuid[], bytea)"

_LISTENERS = """
        SELECT array_agg(one.id), array_agg(one.flows), array_agg(one.lane)
        INTO subscriptions, flowing, lanes
        FROM (
            SELECT subscription.id,
                   subscription.status = 'active' AND COALESCE((
                       SELECT health.is_active FROM django_webhooks_health health
                       WHERE health.subscription_id = subscription.id
                         AND health.is_active AND health.ramp IS NULL
                   ), FALSE) AS flows,
                   CASE subscription.ordering
                       WHEN 'all' THEN '*'
                       WHEN 'key' THEN CASE its_ordering_key WHEN '' THEN '' ELSE left(
                           encode(sha256(convert_to(its_ordering_key, 'UTF8')), 'hex'), 32
                       ) END
                       ELSE ''
                   END AS lane
            FROM django_webhooks_subscription subscription
            WHERE ({whose}) AND subscription.id IN (
                SELECT pattern.subscription_id FROM django_webhooks_eventtypepattern pattern
                WHERE pattern.pattern = ANY (patterns)
            )
            ORDER BY subscription.id
        ) one;"""
_NOBODYS = "subscription.owner_type = '' AND subscription.owner_id = ''"
_OWNERS = "subscription.owner_type = its_owner_type AND subscription.owner_id = its_owner_id"

# Lanes are those of policies.ordering.lane; a test compares them.
# A session plans these once. Those of nobody may be all or few, which a plan of their own can tell.
# Each parameter and each column costs its caller, so one tells several things: the first pattern is
# the type of the event, and the first id is the event's, before one for each delivery that is
# expected. What is returned is NULL where nobody listens, else three lists with a space between:
# whether each flows, the subscriptions, and the lanes.
_CREATE = f"""
CREATE FUNCTION {NAME}(patterns varchar[], its varchar[], ids uuid[], its_body bytea) RETURNS text
LANGUAGE plpgsql AS $function$
DECLARE
    its_moment CONSTANT timestamptz := its[1];
    its_owner_type CONSTANT varchar := its[2];
    its_owner_id CONSTANT varchar := its[3];
    its_ordering_key CONSTANT varchar := its[4];
    its_hops CONSTANT integer := its[5];
    its_trace_parent CONSTANT varchar := its[6];
    subscriptions uuid[];
    flowing boolean[];
    lanes varchar[];
BEGIN
    IF its_owner_type = '' AND its_owner_id = '' THEN{_LISTENERS.format(whose=_NOBODYS)}
    ELSE{_LISTENERS.format(whose=f"{_OWNERS} OR subscription.is_global AND {_NOBODYS}")}
    END IF;
    -- With another number of listeners than of ids the caller does it by itself.
    IF cardinality(subscriptions) = cardinality(ids) - 1 THEN
        INSERT INTO django_webhooks_event (
            id, type, body, owner_type, owner_id, ordering_key, hops, trace_parent, created_at,
            idempotency_key, idempotency_digest
        ) VALUES (
            ids[1], patterns[1], its_body, its_owner_type, its_owner_id, its_ordering_key,
            its_hops, its_trace_parent, its_moment, '', NULL
        );
        INSERT INTO django_webhooks_delivery (
            id, event_id, subscription_id, ordering_key, due_at, created_at,
            status, reason, priority, replay, attempts_made, has_new_message_id
        ) SELECT
            one.id, ids[1], one.subscription, one.lane,
            CASE WHEN one.flows THEN statement_timestamp() END, its_moment,
            'waiting', '', 0, 0, 0, FALSE
        FROM unnest(ids[2:], subscriptions, flowing, lanes)
            AS one (id, subscription, flows, lane);
    END IF;
    RETURN array_to_string(flowing, ',') || ' ' || array_to_string(subscriptions, ',')
        || ' ' || array_to_string(lanes, ',');
END
$function$
"""  # nosec B608  # names of ours


_CHECK_AT_ONCE = """
DO $block$
DECLARE
    its_name text;
BEGIN
    SELECT conname INTO STRICT its_name FROM pg_constraint
    WHERE conrelid = 'django_webhooks_delivery'::regclass
      AND confrelid = 'django_webhooks_subscription'::regclass AND contype = 'f';
    EXECUTE format(
        'ALTER TABLE django_webhooks_delivery ALTER CONSTRAINT %I DEFERRABLE INITIALLY IMMEDIATE',
        its_name
    );
END
$block$
"""


def create(apps: Any, schema_editor: Any) -> None:
    """Create the function, on PostgreSQL."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(_CREATE, params=None)


def check_listeners_at_once(apps: Any, schema_editor: Any) -> None:
    """Have PostgreSQL check at the INSERT, not at the COMMIT, that who listens is still there.

    Else a subscription that is deleted meanwhile fails the transaction of the project. So its
    deletion waits for that transaction.
    """
    if schema_editor.connection.vendor == "postgresql":
        # Django makes foreign keys last.
        schema_editor.deferred_sql.append(_CHECK_AT_ONCE)


def drop(apps: Any, schema_editor: Any) -> None:
    """Drop the function."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP FUNCTION IF EXISTS {SIGNATURE}", params=None)
