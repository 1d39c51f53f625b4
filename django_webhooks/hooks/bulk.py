"""Changes that send no signals: tell them by hand, or by a query set that does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import models, router, transaction

from ..sending.fan_out import Draft
from . import coalescing, telling
from .model_webhooks import ModelWebhooks
from .muting import is_muted, muted

Row = TypeVar("Row", bound=models.Model)
_Values = Mapping[Any, Mapping[str, Any]]

if TYPE_CHECKING:
    _QuerySet = models.QuerySet
else:
    # A mixin that is combined with the project's own query set.
    class _QuerySet:
        def __class_getitem__(cls, item):
            return cls


def created(instances: Iterable[models.Model]) -> None:
    """Tell that objects were created, all in one go."""
    _tell(((instance, ()) for instance in instances), "created")


def updated(instances: Iterable[models.Model], *, changed: Collection[str]) -> None:
    """Tell that the named fields of objects were updated, all in one go.

    Raise ValueError where a model has no such field.
    """
    _tell(((instance, changed) for instance in instances), "updated")


def deleted(instances: Iterable[models.Model]) -> None:
    """Tell that objects were deleted, all in one go; call it with what they were."""
    _tell(((instance, ()) for instance in instances), "deleted")


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
            _tell(_changes(after, before, names), "updated")
        return count

    def _all_rows(self) -> models.QuerySet[Any]:
        """Return all rows, with the same relations at hand as this query set has."""
        rows: models.QuerySet[Any] = self.model._base_manager.using(self._database())
        rows.query.select_related = self.query.select_related
        lookups: Iterable[Any] = getattr(self, "_prefetch_related_lookups", ())
        return rows.prefetch_related(*lookups)

    def _database(self) -> str:
        self._for_write = True
        return self.db

    def _is_heard(self, action: str) -> bool:
        return not is_muted() and any(
            telling.is_heard(hook, action) or coalescing.applies(hook, using=self._database())
            for hook in telling.hooks_of(self.model)
        )


def _changes(
    after: Mapping[Any, models.Model], before: _Values, names: Mapping[str, str]
) -> Iterator[tuple[models.Model, Collection[str]]]:
    for key, instance in after.items():
        now, then = vars(instance), before[key]
        yield instance, [name for name, stored in names.items() if now[stored] != then[stored]]


def _tell(changes: Iterable[tuple[models.Model, Collection[str]]], action: str) -> None:
    if is_muted():
        return
    told: dict[str, list[tuple[ModelWebhooks, models.Model, Draft]]] = {}
    for instance, names in changes:
        hooks = _hooks_of(type(instance))
        changed = {_name(type(instance), name) for name in names}
        if action == "created" and instance.pk is None:
            raise ValueError(
                f"This {type(instance).__name__} has no primary key to tell of; where the database "
                "does not return those of bulk_create, use keys of your own, such as UUIDs."
            )
        using = instance._state.db or router.db_for_write(type(instance), instance=instance)
        for hook in hooks:
            draft = _draft_of(hook, instance, action, changed=changed, using=using)
            if draft is not None:
                told.setdefault(using, []).append((hook, instance, draft))
    for using, rows in told.items():
        recorded = telling.emit([draft for _, _, draft in rows], using=using)
        # Elsewhere the events wait, and are told one by one.
        for (hook, instance, _), one in zip(rows, recorded, strict=False):
            if coalescing.applies(hook, using=using):
                coalescing.remember(hook, instance, action, event=one.event, using=using)


def _draft_of(
    hook: ModelWebhooks,
    instance: models.Model,
    action: str,
    *,
    changed: Collection[str],
    using: str,
) -> Draft | None:
    """Return what is told in one go with the rest, unless it belongs to what was told before."""
    told = sorted(name for name in changed if name in hook.watched or name in hook.m2m)
    is_heard, coalesces = telling.is_heard(hook, action), coalescing.applies(hook, using=using)
    if not (is_heard or coalesces):
        return None
    stored = telling.as_stored(instance, using=using)
    draft = telling.draft_of(hook, stored, action, changed=told) if is_heard else None
    if coalesces and coalescing.remembers(hook, instance, using=using):
        coalescing.tell(hook, stored, action, changed=told, last=draft, using=using)
        return None
    if coalesces and draft is None and action == "created":
        coalescing.remember(hook, instance, action, using=using)
    return draft


def _hooks_of(model: type[models.Model]) -> list[ModelWebhooks]:
    hooks = telling.hooks_of(model)
    if not hooks:
        raise LookupError(f"Register {model.__name__} for webhooks first.")
    return hooks


def _name(model: type[models.Model], name: str) -> str:
    try:
        return model._meta.get_field(name).name
    except FieldDoesNotExist:
        raise ValueError(f"{model.__name__} has no field {name!r} that could change.") from None
