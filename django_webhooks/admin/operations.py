"""Operations: what is done to one subscription by a button, each with a page that asks first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import catalog, times, wakeups
from ..commits import after_commit
from ..exceptions import WebhooksError
from ..models import Endpoint, Probe, Subscription
from ..sending import database, health_checks, recording
from ..sending.recording import Draft
from . import action_log, html, links, rotation
from .mixins import sees_hosts

_TEXT = {"class": "vTextField"}


class OperationForm(forms.Form):
    """The questions of an operation about one subscription; by itself it asks nothing."""

    def __init__(self, *args: Any, request: HttpRequest, row: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class TestForm(OperationForm):
    """A test event: what kind, and with what data."""

    event_type = forms.ChoiceField(
        label=_("Event type"),
        widget=forms.Select(attrs={"data-webhooks-reload": "1"}),
    )
    payload = forms.JSONField(
        label=_("Data"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 10, "cols": 60, "spellcheck": "false"}),
        help_text=_("The receiver cannot tell it from a real one: it is signed and sent alike."),
    )

    def __init__(self, *args: Any, request: HttpRequest, row: Subscription, **kwargs: Any) -> None:
        types = catalog.all()
        chosen = request.GET.get("event_type") or (types[0].name if types else "")
        example = next((one.example for one in types if one.name == chosen), None)
        kwargs.setdefault("initial", {"event_type": chosen, "payload": example or {}})
        super().__init__(*args, request=request, row=row, **kwargs)
        field: Any = self.fields["event_type"]
        field.choices = [(one.name, one.name) for one in types]
        # Written out, so that it can be edited line by line.
        entered: Any = self.fields["payload"]
        entered.prepare_value = _lines


class PauseForm(OperationForm):
    """Why nothing is sent."""

    reason = forms.CharField(label=_("Reason"), max_length=150, widget=forms.TextInput(attrs=_TEXT))


class PinForm(OperationForm):
    """Which endpoint gets everything, and why."""

    endpoint = forms.ChoiceField(label=_("Endpoint"))
    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        widget=forms.TextInput(attrs=_TEXT),
        help_text=_("For those who come after you: what is going on, and until when."),
    )

    def __init__(self, *args: Any, request: HttpRequest, row: Subscription, **kwargs: Any) -> None:
        super().__init__(*args, request=request, row=row, **kwargs)
        field: Any = self.fields["endpoint"]
        usable = [one for one in row.endpoints.all() if one.is_usable]
        field.choices = [(str(one.pk), html.label(one, sees=sees_hosts(request))) for one in usable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A button of a subscription: who may press it, when, what is asked, and what it does.

    ``run`` returns the answer, or None to go back to the subscription.
    """

    name: str
    title: Any
    intro: Any
    submit: Any
    permission: str
    run: Callable[[ModelAdmin[Any], HttpRequest, Subscription, Any], HttpResponse | None]
    form: Callable[..., forms.Form] = OperationForm
    applies: Callable[[Subscription], bool] = lambda row: True


def _test(
    admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any
) -> HttpResponse | None:
    using = database.alias()
    data = form.cleaned_data["payload"]
    draft = Draft(event_type=form.cleaned_data["event_type"], data={} if data is None else data)
    try:
        with transaction.atomic(using=using):
            made = recording.record_for(row, draft, using=using)
            ids = [str(made.pk)]
            after_commit(lambda: wakeups.wake(ids), using=using)
    except WebhooksError as error:
        form.add_error("payload", str(error))
        return None
    action_log.log(admin, request, row, "subscription.tested", event_type=draft.event_type)
    return links.redirect(admin, "delivery", "change", made.pk)


def _pause(admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any) -> None:
    reason = form.cleaned_data["reason"]
    row.pause(reason, by=request.user.get_username())
    admin.log_change(request, row, "subscription.paused")
    admin.message_user(
        request, gettext("Paused. What happens meanwhile is recorded and waits."), messages.SUCCESS
    )


def _resume(admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any) -> None:
    row.resume()
    admin.log_change(request, row, "subscription.resumed")
    after_commit(lambda: wakeups.wake([]), using=database.alias())
    admin.message_user(request, gettext("Resumed. What waited is sent now."), messages.SUCCESS)


def _pin(admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any) -> None:
    endpoint = row.endpoints.get(pk=form.cleaned_data["endpoint"])
    reason = form.cleaned_data["reason"]
    endpoint.pin(reason, by=request.user.get_username())
    admin.log_change(request, row, "endpoint.pinned")
    admin.message_user(request, gettext("Pinned. Everything goes there now."), messages.SUCCESS)


def _unpin(admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any) -> None:
    for endpoint in row.endpoints.filter(pinned_at__isnull=False):
        endpoint.unpin(by=request.user.get_username())
        admin.log_change(request, row, "endpoint.unpinned")
    admin.message_user(
        request, gettext("The pin is lifted: health decides again."), messages.SUCCESS
    )


def _probe(admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any) -> None:
    using = database.alias()
    keys = [one.pk for one in row.endpoints.all() if one.is_usable]
    count = health_checks.check_all(using=using, endpoints=keys)
    for endpoint in Endpoint.objects.using(using).filter(pk__in=keys).order_by("position"):
        last = Probe.objects.using(using).filter(endpoint=endpoint).order_by("-pk").first()
        if last is None:
            continue
        words = gettext("%(endpoint)s: well, %(duration)d ms.") if last.succeeded else gettext(
            "%(endpoint)s: failed (%(reason)s) after %(duration)d ms."
        )  # fmt: skip
        shown = html.label(endpoint, sees=sees_hosts(request))
        admin.message_user(
            request,
            words % {"endpoint": shown, "reason": last.reason, "duration": last.duration_ms},
            messages.SUCCESS if last.succeeded else messages.WARNING,
        )
    message = ngettext("%(count)d endpoint probed.", "%(count)d endpoints probed.", count)
    action_log.log(admin, request, row, "subscription.probed", count=count)
    admin.message_user(request, message % {"count": count})


def _rotate(
    admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any
) -> HttpResponse:
    return rotation.answer(admin, request, Subscription.objects.filter(pk=row.pk))


def _replay(
    admin: ModelAdmin[Any], request: HttpRequest, row: Subscription, form: Any
) -> HttpResponse:
    address = links.address(admin.admin_site, "bulkreplay", "add")
    since = timezone.localtime(times.now() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
    asked = {"subscription": row.pk, "status": "given_up", "finished_since": since}
    return HttpResponseRedirect(f"{address}?{urlencode(asked)}")


def _has_pin(row: Subscription) -> bool:
    return any(one.is_pinned for one in row.endpoints.all())


OPERATIONS = {
    one.name: one
    for one in [
        Operation(
            name="test",
            title=_("Send a test event"),
            intro=_("It is recorded, signed and sent to this subscription alone, whatever event "
                    "types it listens to."),
            submit=_("Send"),
            permission="send_test",
            run=_test,
            form=TestForm,
        ),
        Operation(
            name="probe",
            title=_("Probe now"),
            intro=_("Each endpoint is asked now whether it is alive, as its health check says."),
            submit=_("Probe"),
            permission="probe_endpoint",
            run=_probe,
        ),
        Operation(
            name="pin",
            title=_("Pin an endpoint"),
            intro=_("Everything goes to this endpoint, whatever its health, until somebody lifts "
                    "the pin."),
            submit=_("Pin"),
            permission="pin_endpoint",
            run=_pin,
            form=PinForm,
        ),
        Operation(
            name="unpin",
            title=_("Lift the pin"),
            intro=_("The health of the endpoints decides again where deliveries go."),
            submit=_("Lift the pin"),
            permission="pin_endpoint",
            run=_unpin,
            applies=_has_pin,
        ),
        Operation(
            name="pause",
            title=_("Pause"),
            intro=_("Nothing is sent until somebody resumes it. What happens meanwhile is recorded "
                    "and waits; nothing is lost."),
            submit=_("Pause"),
            permission="pause_subscription",
            run=_pause,
            form=PauseForm,
            applies=lambda row: row.is_active,
        ),
        Operation(
            name="resume",
            title=_("Resume"),
            intro=_("What waited is sent, the oldest first."),
            submit=_("Resume"),
            permission="pause_subscription",
            run=_resume,
            applies=lambda row: not row.is_active,
        ),
        Operation(
            name="rotate",
            title=_("Rotate the signing key"),
            intro="",
            submit="",
            permission="rotate_key",
            run=_rotate,
        ),
        Operation(
            name="replay",
            title=_("Replay failed since…"),
            intro="",
            submit="",
            permission="replay_delivery",
            run=_replay,
        ),
    ]
}  # fmt: skip

#: Those that have a page of their own to ask.
ASK_THEMSELVES = {"rotate", "replay"}


def _lines(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
