"""The chain of the audit trail: what is written stays, and what somebody else does to it shows."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import threading

import pytest
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext

from django_webhooks import audit_log, encryption, tasks
from django_webhooks.audit_log import EntryDraft
from django_webhooks.auditing import chain, changes
from django_webhooks.auditing.chain import Fault
from django_webhooks.auditing.models import AuditEntry, AuditHead
from django_webhooks.exceptions import AppendOnly
from django_webhooks.fields import uuid7

DATABASE = os.environ.get("TEST_DATABASE", "sqlite")
pytestmark = pytest.mark.django_db(transaction=True)

OLD, NEW = encryption.generate_key(), encryption.generate_key()
TABLE = "django_webhooks_auditing_entry"


def note(count: int = 5) -> None:
    for number in range(1, count + 1):
        audit_log.log("x.done", by="ada", number=number)


def sql(statement: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def broken() -> tuple[Fault, int] | None:
    found = chain.verify(using="default").broken
    return found and (found.fault, found.sequence)


def entry(sequence: int) -> AuditEntry:
    return AuditEntry.objects.get(sequence=sequence)


def rewrite_without_the_key(start: int) -> None:
    """Compute all digests anew from an entry on, and the head's, as the source code says."""
    before = entry(start - 1).digest
    for one in AuditEntry.objects.filter(sequence__gte=start).order_by("sequence"):
        before = one.digest_after(before, sequence=one.sequence)
        sql(f"UPDATE {TABLE} SET digest = %s WHERE sequence = %s", before, one.sequence)
    sql("UPDATE django_webhooks_auditing_head SET digest = %s", before)


class TestAppending:
    def test_each_entry_has_the_next_number_and_its_digest(self):
        note(3)

        assert list(AuditEntry.objects.order_by("pk").values_list("sequence", flat=True)) == [
            1, 2, 3,
        ]  # fmt: skip
        assert chain.verify(using="default").holds
        assert AuditHead.objects.get().digest == entry(3).digest

    def test_a_rollback_leaves_no_gap(self):
        note(1)
        with transaction.atomic():
            note(2)
            transaction.set_rollback(True)
        with transaction.atomic():
            note(1)
            with transaction.atomic():
                note(1)
                transaction.set_rollback(True)

        assert list(AuditEntry.objects.order_by("pk").values_list("sequence", flat=True)) == [1, 2]
        assert chain.verify(using="default").entries == 2

    def test_many_at_once_cost_as_many_statements_as_a_few(self):
        note(1)
        counts = []
        for many in (2, 200):
            with CaptureQueriesContext(connection) as captured:
                changes.record(EntryDraft(action="x.done") for _ in range(many))
            counts.append(len(captured))

        assert counts[0] <= counts[1] <= 16
        assert chain.verify(using="default").entries == 203

    def test_threads_at_the_same_time_make_one_chain(self):
        failures = []

        def work() -> None:
            try:
                for _ in range(10):
                    with transaction.atomic():
                        note(2)
            except Exception as error:
                failures.append(error)
            finally:
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

        found = chain.verify(using="default")
        assert failures == []
        assert (found.holds, found.entries, found.waiting) == (True, 80, 0)

    @pytest.mark.skipif(DATABASE == "sqlite", reason="writers of SQLite wait for each other")
    def test_processes_at_the_same_time_make_one_chain(self):
        code = (
            "import django; django.setup()\n"
            "from django.db import transaction\n"
            "from django_webhooks import audit_log\n"
            "for _ in range(20):\n"
            "    with transaction.atomic():\n"
            "        audit_log.log('x.done')\n"
        )
        name = str(connection.settings_dict["NAME"])
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "TEST_DATABASE_NAME": name,
        }
        running = [
            subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], env=environment)
            for _ in range(3)
        ]

        assert [one.wait(60) for one in running] == [0, 0, 0]

        found = chain.verify(using="default")
        assert (found.holds, found.entries, found.waiting) == (True, 60, 0)

    @pytest.mark.skipif(DATABASE == "sqlite", reason="writers of SQLite wait for each other")
    def test_who_has_noted_and_not_committed_keeps_nobody_waiting(self):
        noted = threading.Event()

        def work() -> None:
            note(1)
            noted.set()
            connection.close()

        with transaction.atomic():
            note(1)
            thread = threading.Thread(target=work)
            thread.start()
            assert noted.wait(20)
            thread.join()

        assert chain.verify(using="default").entries == 2

    def test_what_a_crash_left_is_chained_by_the_sweep(self, monkeypatch):
        monkeypatch.setattr(chain, "try_to_extend", lambda using: None)
        note(2)
        assert AuditEntry.objects.pending().count() == 2
        monkeypatch.undo()

        tasks.sweep()

        assert AuditEntry.objects.pending().count() == 0

    def test_each_entry_is_logged_as_an_anchor(self, caplog):
        caplog.set_level(logging.INFO, "django_webhooks.auditing")

        note(2)

        anchors = re.findall(r"Audit entry (\d+):([0-9a-f]{64}): x.done by ada", caplog.text)
        assert [(int(number), digest) for number, digest in anchors] == [
            (1, entry(1).digest),
            (2, entry(2).digest),
        ]

    def test_what_is_noted_reads_the_same_from_each_database(self):
        audit_log.log(
            "x.done",
            by="a\0b",
            number=1e3,
            large=1e22,
            small=1e-7,
            text="é\ud800\0",
            nested={"b": (1, 2.5)},
        )

        assert chain.verify(using="default").holds


class TestAppendOnly:
    @pytest.mark.parametrize(
        "change",
        [
            lambda one: one.save(),
            lambda one: AuditEntry(action="x").save(),
            lambda one: one.delete(),
            lambda one: AuditEntry.objects.update(by=""),
            lambda one: AuditEntry.objects.filter(pk=one.pk).delete(),
            lambda one: AuditEntry.objects.bulk_update([one], ["by"]),
            lambda one: AuditEntry._base_manager.all().delete(),
            lambda one: AuditEntry.objects.update_or_create(pk=one.pk, defaults={"by": ""}),
            lambda one: AuditEntry.objects.create(action="x"),
            lambda one: AuditEntry.objects.bulk_create([AuditEntry(action="x")]),
        ],
    )
    def test_nothing_but_a_note_is_taken(self, change):
        note(1)

        with pytest.raises(AppendOnly, match="append-only"):
            change(entry(1))

        assert AuditEntry.objects.count() == 1
        assert chain.verify(using="default").holds


class TestTampering:
    @pytest.mark.parametrize("column", ["by", "action", "subject", "subject_id", "detail"])
    def test_a_changed_entry(self, column):
        note()
        quoted = connection.ops.quote_name(column)
        sql(f"UPDATE {TABLE} SET {quoted} = %s WHERE sequence = 3", '{"number": 9}')

        assert broken() == (Fault.CHANGED, 3)

    def test_a_deleted_entry(self):
        note()
        sql(f"DELETE FROM {TABLE} WHERE sequence = 3")

        assert broken() == (Fault.MISSING, 3)

    def test_a_deleted_entry_whose_number_the_following_ones_took(self):
        note()
        sql(f"DELETE FROM {TABLE} WHERE sequence = 3")
        sql(f"UPDATE {TABLE} SET sequence = 3 WHERE sequence = 4")
        sql(f"UPDATE {TABLE} SET sequence = 4 WHERE sequence = 5")

        assert broken() == (Fault.MOVED, 3)

    def test_an_inserted_entry(self):
        note()
        one = entry(3)
        for number in (5, 4, 3):
            sql(f"UPDATE {TABLE} SET sequence = %s WHERE sequence = %s", number + 1, number)
        forge(one, sequence=3)

        assert broken() == (Fault.CHANGED, 3)

    def test_two_that_changed_places(self):
        note()
        sql(f"UPDATE {TABLE} SET sequence = 99 WHERE sequence = 2")
        sql(f"UPDATE {TABLE} SET sequence = 2 WHERE sequence = 4")
        sql(f"UPDATE {TABLE} SET sequence = 4 WHERE sequence = 99")

        assert broken() == (Fault.MOVED, 2)

    def test_a_tail_that_was_cut_off(self):
        note()
        sql(f"DELETE FROM {TABLE} WHERE sequence > 3")

        assert broken() == (Fault.TRUNCATED, 4)

    def test_a_tail_that_was_cut_off_with_the_head_moved_back(self):
        note()
        sql(f"DELETE FROM {TABLE} WHERE sequence > 3")
        sql("UPDATE django_webhooks_auditing_head SET sequence = 3, digest = %s", entry(3).digest)

        assert broken() == (Fault.SEAL, 3)

    def test_an_entry_after_the_last_one(self):
        note()
        forge(entry(5), sequence=6)

        assert broken() == (Fault.ADDED, 6)

    def test_a_chain_that_was_rewritten_with_right_digests_and_without_the_key(self):
        note()
        sql(f"UPDATE {TABLE} SET action = 'x.other' WHERE sequence = 3")
        rewrite_without_the_key(3)

        assert broken() == (Fault.CHANGED, 3)

    def test_genuine_entries_in_another_order_with_right_digests_and_without_the_key(self):
        note()
        sql(f"DELETE FROM {TABLE} WHERE sequence = 3")
        sql(f"UPDATE {TABLE} SET sequence = 3 WHERE sequence = 4")
        sql(f"UPDATE {TABLE} SET sequence = 4 WHERE sequence = 5")
        rewrite_without_the_key(3)
        sql("UPDATE django_webhooks_auditing_head SET sequence = 4, digest = %s", entry(4).digest)

        assert broken() == (Fault.SEAL, 4)

    def test_two_that_changed_places_with_right_digests_and_without_the_key(self):
        note()
        for before, after in ((2, 99), (4, 2), (99, 4)):
            sql(f"UPDATE {TABLE} SET sequence = %s WHERE sequence = %s", after, before)
        rewrite_without_the_key(2)

        assert broken() == (Fault.SEAL, 5)

    def test_a_later_entry_does_not_hide_that_the_seal_was_broken(self):
        note()
        sql(f"DELETE FROM {TABLE} WHERE sequence = 5")
        sql("UPDATE django_webhooks_auditing_head SET sequence = 4, digest = %s", entry(4).digest)

        note(1)

        assert entry(5).action == "audit.seal_broken"
        assert AuditEntry.objects.filter(action="audit.seal_broken").count() == 1

    def test_a_head_that_was_removed(self):
        note()
        sql("DELETE FROM django_webhooks_auditing_head")

        found = chain.verify(using="default")

        assert found.broken is not None
        assert found.broken.fault is Fault.SEAL

    def test_an_entry_that_somebody_else_left_waiting_gets_no_place(self):
        note()
        forge(entry(5), sequence=None)
        note(1)

        found = chain.verify(using="default")

        assert (found.holds, found.forged, found.entries) == (False, 1, 6)

    def test_an_anchor_shows_what_was_put_back_to_an_earlier_state(self):
        note()
        kept, head = entry(5).digest, AuditHead.objects.get()
        note(2)
        anchor = {7: entry(7).digest}
        sql(f"DELETE FROM {TABLE} WHERE sequence > 5")
        sql(
            "UPDATE django_webhooks_auditing_head SET sequence = 5, digest = %s, mac = %s",
            kept,
            head.mac,
        )

        assert broken() is None
        found = chain.verify(using="default", anchors=anchor).broken
        assert found is not None
        assert (found.fault, found.sequence) == (Fault.ANCHOR, 7)
        assert chain.verify(using="default", anchors={5: kept}).holds
        assert chain.verify(using="default", anchors={5: "0" * 64}).broken is not None


def forge(one: AuditEntry, *, sequence: int | None) -> None:
    """Insert what looks like an entry, past the app."""
    one.pk, one.sequence, one.action = uuid7(), sequence, "x.forged"
    models.QuerySet(AuditEntry).bulk_create([one])


class TestKeys:
    def test_a_key_that_is_gone_is_not_a_break(self, settings):
        settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD]
        note(3)
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW]

        found = chain.verify(using="default")

        assert (found.broken, found.is_sealed, found.holds) == (None, None, False)

    def test_the_next_entry_seals_anew_and_says_so(self, settings):
        settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD]
        note(3)
        old = AuditHead.objects.get().key_id
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW]

        note(1)

        found = chain.verify(using="default")
        assert (found.holds, found.unchecked) == (True, {old: 3})
        assert entry(4).action == "audit.key_gone"

    def test_a_rotation_seals_anew_without_a_word(self, settings):
        settings.WEBHOOKS_ENCRYPTION_KEYS = [OLD]
        note(2)
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW, OLD]

        call_command("webhooks_reencrypt", by="ada")

        assert AuditHead.objects.get().key_id == encryption.keys()[0].id
        settings.WEBHOOKS_ENCRYPTION_KEYS = [NEW]
        assert chain.verify(using="default").holds
        assert entry(3).action == "encryption.keys_rotated"
