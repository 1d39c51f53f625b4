"""Reports of audits: what was found, what to do, and what is accepted for a while."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.translation import gettext_lazy as _

from ... import times
from ...admin import answers, badges, links, scope
from ...admin.mixins import RecordAdmin, permitted
from ...admin.times import moment, moment_column
from ...sending import database
from .. import audit, rendering
from ..models import AcceptedFinding, AuditReport

KINDS = {"severe": "unhealthy", "warning": "trial", "info": "disabled"}


class AcceptForm(forms.Form):
    """Why a finding is left as it is, and for how long."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=500,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=_("For those who come after you; it is kept with the audit trail."),
    )
    days = forms.IntegerField(
        label=_("Days"),
        min_value=1,
        max_value=3650,
        initial=90,
        help_text=_("After these it counts again."),
    )


@admin.register(AuditReport)
class AuditReportAdmin(RecordAdmin):
    """Look at reports, run an audit now, accept findings."""

    change_list_template = "admin/django_webhooks_auditing/audit_reports.html"
    list_display = ["when", "found", "trail", "who"]
    sortable_by = ["when"]

    when = moment_column(_("when"), "created_at", ordering="pk")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user has the permission and sees all owners: it is about all."""
        return scope.owners(request) is None and super().has_view_permission(request, obj)

    def get_urls(self) -> list[Any]:
        """Add what is done by buttons."""
        view = self.admin_site.admin_view
        name = "django_webhooks_auditing_auditreport"
        return [
            path("run/", view(self.run_view), name=f"{name}_run"),
            path("<uuid:key>/accept/", view(self.accept_view), name=f"{name}_accept"),
            path("<uuid:key>/withdraw/", view(self.withdraw_view), name=f"{name}_withdraw"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """List them, with the button to run an audit."""
        context = {"can_run": self._is_permitted(request, "run_audit"), **(extra_context or {})}
        return super().changelist_view(request, context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show a report; what is accepted is shown as it is now."""
        report = self._report(request, object_id)
        return answers.page(
            self,
            request,
            "django_webhooks_auditing/audit_report",
            title=_("Audit report"),
            subtitle=str(report),
            original=report,
            at=moment(report.created_at),
            heading=rendering.heading(report),
            chain=rendering.chain(report),
            chain_holds=report.chain.get("holds"),
            findings=_shown(self.admin_site, report.findings, report),
            can_accept=self._is_permitted(request, "accept_finding"),
            can_run=self._is_permitted(request, "run_audit"),
        )

    # The walk along the trail takes its time: nobody is to wait for what it locks at its start.
    @transaction.non_atomic_requests
    def run_view(self, request: HttpRequest) -> HttpResponse:
        """Run an audit, and show what it found."""
        if request.method != "POST" or not self._may(request, "run_audit"):
            raise PermissionDenied
        using = database.alias()
        report = audit.keep(audit.run(using=using), by=request.user.get_username(), using=using)
        return _to(self, report)

    def accept_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Ask why a finding is accepted and for how long, and accept it."""
        if not self._may(request, "accept_finding"):
            raise PermissionDenied
        report = self._report(request, str(key))
        finding = _finding(report, request.GET)
        form = AcceptForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            AcceptedFinding.objects.using(database.alias()).accept(
                finding["id"],
                finding["subject"],
                by=request.user.get_username(),
                **form.cleaned_data,
            )
            self.log_change(request, report, f"finding.accepted {finding['id']}")
            self.message_user(request, _("Accepted. The next audit counts it apart."))
            return _to(self, report)
        return answers.page(
            self,
            request,
            "django_webhooks_auditing/accept",
            title=_("Accept a finding"),
            original=report,
            finding=_shown(self.admin_site, [finding], report)[0],
            form=form,
        )

    def withdraw_view(self, request: HttpRequest, key: UUID) -> HttpResponse:
        """Let a finding count again."""
        if request.method != "POST" or not self._may(request, "accept_finding"):
            raise PermissionDenied
        report = self._report(request, str(key))
        finding = _finding(report, request.POST)
        rows = AcceptedFinding.objects.using(database.alias())
        by = request.user.get_username()
        done = [
            subject
            for subject in {finding["subject"], ""}
            if rows.withdraw(finding["id"], subject, by=by)
        ]
        if done:
            self.log_change(request, report, f"finding.withdrawn {finding['id']}")
            self.message_user(request, _("Withdrawn. The next audit counts it."))
        else:
            self.message_user(request, _("There is nothing to do."), messages.WARNING)
        return _to(self, report)

    def _may(self, request: HttpRequest, codename: str) -> bool:
        return self.has_view_permission(request) and self._is_permitted(request, codename)

    def _is_permitted(self, request: HttpRequest, codename: str) -> bool:
        return permitted(request, codename, app=self.opts.app_label)

    def _report(self, request: HttpRequest, key: str) -> AuditReport:
        if not self.has_view_permission(request):
            raise PermissionDenied
        report: AuditReport | None = self.get_object(request, key)
        if report is None:
            raise Http404
        return report

    @admin.display(description=_("by"), empty_value="-")
    def who(self, report: AuditReport) -> str:
        """The user who asked for it; nobody for beat."""
        return report.by

    @admin.display(description=_("findings"))
    def found(self, report: AuditReport) -> Any:
        """How many there are of the worst severity, and of the others."""
        counts = [
            f"{report.counts[name]} {rendering.label(name)}"
            for name in KINDS
            if report.counts.get(name)
        ]
        worst = next((name for name in KINDS if report.counts.get(name)), "")
        kind = KINDS.get(worst, "healthy")
        return badges.badge(kind, ", ".join(counts) or str(_("nothing found")))

    @admin.display(description=_("audit trail"))
    def trail(self, report: AuditReport) -> Any:
        """Whether the trail held."""
        holds = report.chain.get("holds")
        words = {
            True: (_("holds"), "healthy"),
            False: (_("broken"), "unhealthy"),
            None: (_("cannot be checked"), "trial"),
        }
        is_gone = not report.chain.get("broken") and report.chain.get("seal") == "key gone"
        word, kind = words[None if is_gone else bool(holds)]
        return badges.badge(kind, str(word))


def _to(page: admin.ModelAdmin[Any], report: AuditReport) -> HttpResponseRedirect:
    return links.redirect(page, "auditreport", "change", report.pk)


def _finding(report: AuditReport, asked: Any) -> dict[str, Any]:
    """Return the finding that a form or an address names."""
    key = (asked.get("finding"), asked.get("subject"))
    found = next((one for one in report.findings if (one["id"], one["subject"]) == key), None)
    if found is None:
        raise Http404
    return dict(found)


def _shown(
    site: admin.AdminSite, findings: list[dict[str, Any]], report: AuditReport
) -> list[dict[str, Any]]:
    """Return findings with badges, addresses to accept them at, and who accepted them now."""
    rows = AcceptedFinding.objects.using(database.alias()).valid(times.now())
    valid = {(one.finding, one.subject): one for one in rows}
    app = report._meta.app_label
    address = links.address(site, "auditreport", "accept", report.pk, app=app)
    shown = []
    for one in findings:
        accepted = valid.get((one["id"], one["subject"])) or valid.get((one["id"], ""))
        asked = urlencode({"finding": one["id"], "subject": one["subject"]})
        shown.append(
            {
                **one,
                "badge": badges.badge(KINDS[one["severity"]], rendering.label(one["severity"])),
                "address": f"{address}?{asked}",
                "accepted": accepted,
                "until": moment(accepted.until) if accepted else "",
            }
        )
    return shown
