"""Changes that send no signals: tell them by hand, or by a query set that does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import models, transaction

from .. import namespaces
from ..sending.recording import Draft
from . import coalescing, stored
from . import drafts as drafting
from .model_webhooks import ModelWebhooks
from .muting import is_muted, muted

Row = TypeVar("Row", bound=models.Model)
_Values = Mapping[Any, Mapping[str, Any]]
#: See :func:`.coalescing.heard`.
_Heard = tuple[bool, bool]

if TYPE_CHECKING:
    _QuerySet = models.QuerySet
else:
    # A mixin that is combined with the project's own query set.
    class _QuerySet:
        def __class_getitem__(cls, item):
            return cls


def created(instances: Iterable[models.Model]) -> None:
    """Tell that objects were created, all in one go."""
    tell(((instance, ()) for instance in instances), "created")


def updated(instances: Iterable[models.Model], *, changed: Collection[str]) -> None:
    """Tell that the named fields of objects were updated, all in one go.

    Raise ValueError where a model has no such field.
    """
    tell(((instance, changed) for instance in instances), "updated")


def deleted(instances: Iterable[models.Model]) -> None:
    """Tell that objects were deleted, all in one go; call it with what they were."""
    tell(((instance, ()) for instance in instances), "deleted", is_stored=True)


class WebhookQuerySetMixin(_QuerySet[Row]):
    """Let ``bulk_create``, ``bulk_update`` and ``update`` tell what they do.

    ``delete`` tells by itself, because Django sends signals for each row of a registered model.
    With ``ignore_conflicts`` or ``update_conflicts`` the database does not say which rows it wrote:
    nothing is told.
    """

    def bulk_create(self, objs: Iterable[Row], *args: Any, **kwargs: Any) -> list[Row]:
        """Create the objects and tell of each."""
        # The two flags may come by position too, after the batch size.
        by_name = (kwargs.get("ignore_conflicts"), kwargs.get("update_conflicts"))
        if any(args[1:3]) or any(by_name) or not self._is_heard("created"):
            return super().bulk_create(objs, *args, **kwargs)
        with transaction.atomic(using=self._database()):
            made = super().bulk_create(objs, *args, **kwargs)
            created(made)
        return made

    def bulk_update(
        self, objs: Iterable[Row], fields: Iterable[str], *args: Any, **kwargs: Any
    ) -> int:
        """Update the objects and tell of those that changed."""
        objs, fields = tuple(objs), tuple(fields)

        def read(names: Iterable[str]) -> _Values:
            rows = self._all_rows().in_bulk([one.pk for one in objs])
            return {key: vars(row) for key, row in rows.items()}

        # It calls update(), which would tell the same.
        write = muted()(super().bulk_update)
        return self._write(fields, read, lambda: write(objs, fields, *args, **kwargs))

    def update(self, **kwargs: Any) -> int:
        """Update the rows and tell of those that matched before and changed."""

        def read(names: Iterable[str]) -> _Values:
            rows = self.using(self._database()).order_by().prefetch_related(None)
            return {row["pk"]: row for row in rows.values("pk", *names)}

        write = super().update
        return self._write(kwargs, read, lambda: write(**kwargs))

    def _write(
        self,
        fields: Iterable[str],
        read: Callable[[Iterable[str]], _Values],
        write: Callable[[], int],
    ) -> int:
        if self.query.is_sliced or not self._is_heard("updated"):
            return write()
        concerned = [self.model._meta.get_field(name) for name in fields]
        names = {one.name: one.attname for one in concerned if isinstance(one, models.Field)}
        with transaction.atomic(using=self._database()):
            # What matches now may not match afterwards.
            before = read(names.values())
            count = write()
            after = self._all_rows().in_bulk(list(before))
            tell(_changes(after, before, names), "updated", is_stored=True)
        return count

    def _all_rows(self) -> models.QuerySet[Any]:
        """Return all rows, with the same relations at hand as this query set has."""
        rows: models.QuerySet[Any] = self.model._base_manager.using(self._database())
        rows.query.select_related = self.query.select_related
        lookups: Iterable[Any] = getattr(self, "_prefetch_related_lookups", ())
        return rows.prefetch_related(*lookups)

    def _database(self) -> str:
        return namespaces.written_by(self)

    def _is_heard(self, action: str) -> bool:
        return not is_muted() and any(
            any(coalescing.heard(hook, action, using=self._database()))
            for hook in drafting.hooks_of(self.model)
        )


def _changes(
    after: Mapping[Any, models.Model], before: _Values, names: Mapping[str, str]
) -> Iterator[tuple[models.Model, Collection[str]]]:
    for key, instance in after.items():
        now, then = vars(instance), before[key]
        yield instance, [name for name, stored in names.items() if now[stored] != then[stored]]


def tell(
    changes: Iterable[tuple[models.Model, Collection[str]]], action: str, *, is_stored: bool = False
) -> None:
    """Tell of changes in one go.

    ``is_stored`` says that the objects were just read, or are gone.
    """
    if is_muted():
        return
    found: list[tuple[models.Model, list[str], list[tuple[ModelWebhooks, _Heard]], str]] = []
    # Asked once for all objects.
    heard: dict[tuple[ModelWebhooks, str], _Heard] = {}
    for instance, names in changes:
        hooks = _hooks_of(type(instance))
        changed = [_name(type(instance), name) for name in names]
        if action == "created" and instance.pk is None:
            raise ValueError(
                f"This {type(instance).__name__} has no primary key to tell of; where the database "
                "does not return those of bulk_create, use keys of your own, such as UUIDs."
            )
        using = drafting.database_of(instance, None)
        concerned = []
        for hook in hooks:
            if (hook, using) not in heard:
                heard[hook, using] = coalescing.heard(hook, action, using=using)
            if any(heard[hook, using]):
                concerned.append((hook, heard[hook, using]))
        if concerned:
            found.append((instance, changed, concerned, using))
    rows = {} if is_stored else stored.read_many((one[0], one[3]) for one in found)
    told: dict[str, list[tuple[ModelWebhooks, models.Model, Draft]]] = {}
    for instance, changed, heard_by, using in found:
        state = rows.get(id(instance))
        if state is None:
            is_read = is_stored and action != "deleted"
            state = instance if is_read else stored.remembered(instance, using=using)[0]
        for hook, one in heard_by:
            draft = _draft_of(hook, state, action, changed=changed, heard=one, using=using)
            if draft is not None:
                told.setdefault(using, []).append((hook, state, draft))
    for using, drafts in told.items():
        recorded = drafting.emit([draft for _, _, draft in drafts], using=using)
        # Elsewhere the events wait, and are told one by one.
        for (hook, instance, _), event in zip(drafts, recorded, strict=False):
            if coalescing.may_apply(hook, using=using):
                coalescing.remember(hook, instance, action, event=event, using=using)


def _draft_of(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    changed: Collection[str],
    heard: _Heard,
    using: str,
) -> Draft | None:
    """Return what is told in one go with the rest, unless it belongs to what was told before."""
    told = sorted(name for name in changed if name in hook.watched or name in hook.m2m)
    is_heard, coalesces = heard
    draft = drafting.draft_of(hook, instance, action, changed=told) if is_heard else None
    if coalesces and coalescing.remembers(hook, instance, using=using):
        coalescing.tell(hook, instance, action, changed=told, last=draft, using=using)
        return None
    if coalesces and draft is None and action == "created":
        coalescing.remember(hook, instance, action, using=using)
    return draft


def _hooks_of(model: type[models.Model]) -> Sequence[ModelWebhooks]:
    hooks = drafting.hooks_of(model)
    if not hooks:
        raise LookupError(f"Register {model.__name__} for webhooks first.")
    return hooks


def _name(model: type[models.Model], name: str) -> str:
    try:
        return model._meta.get_field(name).name
    except FieldDoesNotExist:
        raise ValueError(f"{model.__name__} has no field {name!r} that could change.") from None
