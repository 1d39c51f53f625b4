"""Hooks on models of popular packages: each change is told once, as what it is."""

from __future__ import annotations

import pytest
import reversion
from django.utils import translation
from reversion.models import Version

from django_webhooks import hooks
from django_webhooks.hooks import muted
from django_webhooks.models import Event
from tests.hosts.packages.models import (
    Animal,
    Author,
    Book,
    Category,
    Dog,
    News,
    Page,
    Photo,
    Poll,
    StockRecord,
)

from .conftest import hooked, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("listener")]


def told_types():
    return [event_type for event_type, _ in told()]


def test_django_oscars_way_of_sending_signals():
    with hooked(StockRecord, fields=["sku", "num_allocated"]):
        record = StockRecord.objects.create(sku="a")
        record.sku = "never saved"
        record.allocate(2)
        record.allocate(3)
        events = told()

    data = [{"sku": "a", "num_allocated": one, "changed": ["num_allocated"]} for one in (2, 5)]
    assert events == [
        ("stockrecord.created", {"sku": "a", "num_allocated": None}),
        *(("stockrecord.updated", one) for one in data),
    ]


@pytest.mark.parametrize("language", ["en", "de"])
def test_modeltranslation_a_save_of_nothing_in_any_language(language):
    with muted():
        News.objects.create(title_en="Hello", title_de="Hallo")
    with hooked(News), translation.override(language):
        News.objects.get().save()
        made = News.objects.get()
        made.save(update_fields=["title"])
        assert told() == []


@pytest.mark.parametrize("language", ["en", "de"])
def test_modeltranslation_the_same_row_reads_the_same_in_any_language(language):
    with muted():
        News.objects.create(title_en="Hello", title_de="Hallo")
    with hooked(News), translation.override(language):
        news = News.objects.get()
        news.count += 1
        news.save()
        [(_, data)] = told()

    assert (data["title"], data["title_de"]) == ("Hello", "Hallo")
    assert data["changed"] == ["count"]


def test_modeltranslation_a_change_of_one_language_is_one_of_that():
    with muted():
        News.objects.create(title_en="Hello", title_de="Hallo")
    with hooked(News), translation.override("de"):
        news = News.objects.get()
        news.title = "Servus"
        news.save()
        [(_, data)] = told()

    assert (data["title"], data["title_de"]) == ("Hello", "Servus")
    assert data["changed"] == ["title_de"]


def test_simple_history_and_its_rows():
    with hooked(Poll), hooked(Poll.history.model, prefix="history"):
        poll = Poll.objects.create(question="Why?")
        poll.question = "How?"
        poll.save()
        poll.delete()

    expected = ["poll.created", "poll.updated", "poll.deleted", *["history.created"] * 3]
    assert sorted(recorded_types()) == sorted(expected)


def recorded_types():
    return list(Event.objects.order_by("created_at", "pk").values_list("type", flat=True))


def test_polymorphic_children_are_told_once_by_each_hook():
    with hooked(Animal), hooked(Dog):
        Dog.objects.create(name="Rex")
        dog = Animal.objects.get()
        dog.barks = False
        dog.save()
        dog.name = "Bello"
        dog.save()
        Animal.objects.all().delete()
        events = [(name, data.get("changed")) for name, data in told()]

    assert sorted(map(str, events)) == sorted(
        map(
            str,
            [
                ("dog.created", None),
                ("animal.created", None),
                ("dog.updated", ["barks"]),
                ("dog.updated", ["name"]),
                ("animal.updated", ["name"]),
                ("dog.deleted", None),
                ("animal.deleted", None),
            ],
        )
    )


def test_safedelete_a_soft_delete_is_an_update_and_so_is_what_goes_with_it():
    with hooked(Author), hooked(Book):
        author = Author.objects.create(name="Ann")
        Book.objects.create(author=author)
        author.delete()
        author.undelete()
        author.delete(force_policy=0)
        events = [(name, data.get("changed")) for name, data in told()]

    names = [name for name, _ in events]
    assert names[:2] == ["author.created", "book.created"]
    assert ("author.updated", ["deleted"]) in [
        (name, [one for one in changed or [] if one == "deleted"]) for name, changed in events
    ]
    assert "book.updated" in names


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Using")
def test_treebeard_creates_and_deletes_and_the_line_that_tells_of_a_move():
    with hooked(Category, fields=["name", "path"]):
        one, other = Category.add_root(name="One"), Category.add_root(name="Other")
        child = one.add_child(name="Child")
        told_before = len(told())
        child.move(other, "first-child")
        child.refresh_from_db()
        moved = len(told())
        # The line of docs/howto/model-hooks.md.
        hooks.updated(Category.objects.filter(path__startswith=child.path), changed=["path"])
        event_type, data = told()[-1]
        Category.objects.get(pk=other.pk).delete()
        names = told_types()

    assert moved == told_before
    assert (event_type, data) == (
        "category.updated",
        {"name": "Child", "path": child.path, "changed": ["path"]},
    )
    assert names.count("category.created") == 3
    assert names.count("category.deleted") == 2


@pytest.mark.parametrize("raw", [True, False])
def test_reversion_reverts_and_recovers_where_a_hook_asks_for_it(raw):
    with hooked(Page, fields=["name"], raw=raw):
        with reversion.create_revision():
            page = Page.objects.create(name="one")
        with reversion.create_revision():
            page.name = "two"
            page.save()
        first = Version.objects.get_for_object(page).last()
        first.revision.revert()
        key = page.pk
        Page.objects.get(pk=key).delete()
        first.revision.revert()
        events = told()

    written = [
        ("page.created", {"name": "one"}),
        ("page.updated", {"name": "two", "changed": ["name"]}),
    ]
    reverted = [("page.updated", {"name": "one", "changed": ["name"]})] if raw else []
    deleted = [("page.deleted", {"name": "one"})]
    recovered = [("page.created", {"name": "one"})] if raw else []
    assert events == [*written, *reverted, *deleted, *recovered]


def test_taggit_by_a_payload():
    def payload(self, photo):
        return {"name": photo.name, "tags": sorted(photo.tags.names())}

    with hooked(Photo, payload=payload):
        photo = Photo.objects.create(name="sea")
        photo.tags.add("blue", "wide")
        photo.name = "the sea"
        photo.save()
        events = told()

    assert events[-1] == (
        "photo.updated",
        {"name": "the sea", "tags": ["blue", "wide"], "changed": ["name"]},
    )


def test_hooks_on_every_model_there_is():
    """What each says of itself can be sent, and so can an empty object of each."""
    import json

    from django.apps import apps

    from django_webhooks import catalog

    some = [
        one for one in apps.get_models() if not one._meta.app_label.startswith("django_webhooks")
    ]
    registered = []
    try:
        for one in some:
            if one._meta.proxy:
                continue
            attributes = {"prefix": one._meta.label_lower, "exclude": []}
            hooks.register(one)(type("Hook", (hooks.ModelWebhooks,), attributes))
            registered.append(one)
            for event_type in catalog.all():
                json.dumps([event_type.schema, event_type.example], allow_nan=False)
        Dog.objects.create(name="Rex")
        assert told_types()
    finally:
        hooks.unregister(*registered)
