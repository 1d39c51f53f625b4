"""Parts of several admins: records that nobody edits, and search by message id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..models import Endpoint, Subscription
from . import html
from .badges import MEDIA, SCRIPTS
from .paging import BoundedPaginator
from .scope import Scoped, key_of


class HostColumns:
    """The host of an endpoint, open and masked."""

    @admin.display(description=_("host"))
    def host_name(self, endpoint: Endpoint) -> str:
        """The part of the URL that is no secret."""
        return endpoint.host

    @admin.display(description=_("host"))
    def masked_host(self, endpoint: Endpoint) -> str:
        """Enough of it to tell it from others."""
        return html.masked(endpoint.host)


class SwitchColumns:
    """The last switches of a subscription, or of that of an endpoint, open and masked."""

    @admin.display(description=_("last switches"))
    def recent_switches(self, row: Subscription | Endpoint) -> str:
        """How the active endpoint changed."""
        return html.switches(_subscription(row))

    @admin.display(description=_("last switches"))
    def masked_switches(self, row: Subscription | Endpoint) -> str:
        """How the active endpoint changed, with enough of each host to tell it from others."""
        return html.switches(_subscription(row), show=html.masked)


class MaskedHosts:
    """Show hosts to those who may see them, and to others enough to tell them apart.

    The former may change endpoints, or have the permission ``see_hosts``.
    """

    #: Fields that show hosts, with the ones that stand in for them.
    masks: ClassVar[Mapping[str, str]] = {}

    def get_list_display(self, request: HttpRequest) -> Any:
        """Put masked columns in place of open ones."""
        return self._masked(request, super().get_list_display(request))  # type: ignore[misc]  # the admin's

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        """Follow the columns."""
        found = super().get_list_display_links(request, list_display)  # type: ignore[misc]  # the admin's
        return found and self._masked(request, found)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Put masked fields in place of open ones."""
        return self._masked(request, super().get_fields(request, obj))  # type: ignore[misc]  # the admin's

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Know the masked fields too."""
        found = super().get_readonly_fields(request, obj)  # type: ignore[misc]  # the admin's
        return [*found, *self.masks.values()]

    def get_search_fields(self, request: HttpRequest) -> Any:
        """Search no hosts for those who do not see them: what is found would tell."""
        found = super().get_search_fields(request)  # type: ignore[misc]  # the admin's
        return found if sees_hosts(request) else [one for one in found if "host" not in one]

    def _masked(self, request: HttpRequest, names: Any) -> Any:
        return names if sees_hosts(request) else [self.masks.get(one, one) for one in names]


def sees_hosts(request: HttpRequest) -> bool:
    """Say whether the user may see where webhooks go."""
    wanted = ("django_webhooks.change_endpoint", "django_webhooks.see_hosts")
    return any(request.user.has_perm(one) for one in wanted)


def permitted(request: HttpRequest, codename: str, *, app: str = "django_webhooks") -> bool:
    """Say whether the user has a permission of an app, by its label."""
    return bool(request.user.has_perm(f"{app}.{codename}"))


def needs(codename: str) -> Callable[[Any, HttpRequest], bool]:
    """Return a ``has_…_permission`` of an admin: whether the user has a permission of its app."""

    def is_permitted(admin: Any, request: HttpRequest) -> bool:
        return permitted(request, codename, app=admin.opts.app_label)

    return is_permitted


class RecordAdmin(Scoped, admin.ModelAdmin):  # type: ignore[type-arg]  # generic for type checkers alone
    """Rows that say what happened: to be looked at, neither added, changed nor deleted."""

    change_list_template = "admin/django_webhooks/list.html"
    #: What an empty list says: what appears in it, and what to do.
    empty_list: Any = ""
    paginator = BoundedPaginator
    # A count for each choice of each filter reads the table as often.
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    list_per_page = 50

    class Media:
        css = MEDIA
        js = SCRIPTS

    #: Path to the event's key, for the search by message id.
    event_key = "pk"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: the app writes them."""
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show them in the index to users who may look at them."""
        return self.has_view_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: they say what happened."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody: ``webhooks_prune`` removes them."""
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find by message id (``msg_…``), by the record's own id, or by ``search_fields``."""
        term = search_term.strip()
        key = key_of(term)
        if key is None:
            return super().get_search_results(request, queryset, search_term)
        path = self.event_key if term.startswith("msg_") else "pk"
        return queryset.filter(**{path: key}), False


def _subscription(row: Subscription | Endpoint) -> Subscription:
    return row.subscription if isinstance(row, Endpoint) else row
