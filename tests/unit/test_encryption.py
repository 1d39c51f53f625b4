"""Encryption at rest: the key ring, what opens where, and what does not."""

from __future__ import annotations

import base64

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_webhooks import encryption
from django_webhooks.exceptions import InvalidKey, NotDecrypted

OLD, NEW = encryption.generate_key(), encryption.generate_key()
CONTEXT = "django_webhooks.endpoint.url"


def ring(*keys):
    return override_settings(WEBHOOKS_ENCRYPTION_KEYS=list(keys))


@given(st.text())
def test_what_is_encrypted_opens_before_and_after_a_rotation(text):
    with ring(OLD):
        before = encryption.encrypt(text, context=CONTEXT)
    with ring(NEW, OLD):
        assert encryption.decrypt(before, context=CONTEXT) == text
        assert not encryption.is_current(before)
        after = encryption.encrypt(text, context=CONTEXT)
    with ring(NEW):
        assert encryption.decrypt(after, context=CONTEXT) == text
        assert encryption.is_current(after)


def test_equal_texts_have_different_ciphertexts_that_say_nothing():
    with ring(NEW):
        made = {
            encryption.encrypt("https://example.com/secret", context=CONTEXT) for _ in range(100)
        }

    assert len(made) == 100
    assert not any("secret" in one or "example" in one for one in made)
    assert all(encryption.is_ciphertext(one) for one in made)


@given(st.floats(0, 1), st.sampled_from(["A", "z", "0", "-"]))
def test_any_changed_character_is_detected(where, other):
    with ring(NEW):
        made = encryption.encrypt("https://example.com/secret", context=CONTEXT)
        head = len(encryption.PREFIX) + 9
        # The last characters hold bits that are padding.
        at = head + int(where * (len(made) - 4 - head))
        other = "B" if made[at] == other else other

        with pytest.raises(NotDecrypted, match="was changed") as caught:
            encryption.decrypt(made[:at] + other + made[at + 1 :], context=CONTEXT)

    assert not caught.value.is_key_missing


@given(st.text(max_size=300), st.data())
def test_whatever_is_tampered_with_is_detected(text, data):
    """Any bit of nonce, ciphertext and tag; pieces left out; the id of another key."""
    with ring(NEW, OLD):
        made = encryption.encrypt(text, context=CONTEXT)
        head, _, sealed = made.rpartition(":")
        raw = bytearray(base64.urlsafe_b64decode(sealed))
        match data.draw(st.sampled_from(["bit", "cut", "longer", "key"])):
            case "bit":
                raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                start = data.draw(st.integers(0, len(raw) - 1))
                del raw[start : start + data.draw(st.integers(1, len(raw)))]
            case "longer":
                raw += data.draw(st.binary(min_size=1, max_size=20))
            case "key":
                head = encryption.PREFIX + encryption.keys()[1].id
        changed = f"{head}:{base64.urlsafe_b64encode(raw).decode()}"

        with pytest.raises(NotDecrypted):
            encryption.decrypt(changed, context=CONTEXT)


@pytest.mark.parametrize("broken", ["", "AA", "!", "é"])
def test_what_is_cut_is_detected(broken):
    with ring(NEW):
        made = encryption.encrypt("x", context=CONTEXT)
        with pytest.raises(NotDecrypted):
            encryption.decrypt(made.rpartition(":")[0] + ":" + broken, context=CONTEXT)


def test_a_ciphertext_does_not_open_in_another_place():
    with ring(NEW):
        made = encryption.encrypt("Bearer x", context="django_webhooks.endpoint.authorization")
        with pytest.raises(NotDecrypted, match="another place"):
            encryption.decrypt(made, context=CONTEXT)


def test_what_is_no_ciphertext_is_not_quoted():
    with ring(NEW), pytest.raises(NotDecrypted, match="no ciphertext") as caught:
        encryption.decrypt("Bearer planted", context=CONTEXT)

    assert "planted" not in str(caught.value)


def test_a_missing_key_is_named():
    with ring(OLD):
        made = encryption.encrypt("x", context=CONTEXT)
        name = encryption.keys()[0].id
    with ring(NEW), pytest.raises(NotDecrypted, match=name) as caught:
        encryption.decrypt(made, context=CONTEXT)

    assert caught.value.is_key_missing


def test_without_keys_they_are_derived_from_the_secret_key_and_its_fallbacks():
    with override_settings(WEBHOOKS_ENCRYPTION_KEYS=[], SECRET_KEY="one"):
        made = encryption.encrypt("x", context=CONTEXT)
        derived = encryption.derived_key()
    with override_settings(
        WEBHOOKS_ENCRYPTION_KEYS=[], SECRET_KEY="two", SECRET_KEY_FALLBACKS=["one"]
    ):
        assert encryption.decrypt(made, context=CONTEXT) == "x"
    with override_settings(WEBHOOKS_ENCRYPTION_KEYS=[], SECRET_KEY=b"two"):
        assert encryption.keys()[0].id != encryption.key_id(made)
    with ring(NEW, derived):
        assert encryption.decrypt(made, context=CONTEXT) == "x"


def test_a_blind_index_is_found_under_every_key_and_differs_by_place():
    with ring(OLD):
        before = encryption.blind_index("https://a.example/", context=CONTEXT)
    with ring(NEW, OLD):
        assert before in encryption.blind_indexes("https://a.example/", context=CONTEXT)
        assert before != encryption.blind_index("https://a.example/", context=CONTEXT)
        assert before not in encryption.blind_indexes("https://a.example/", context="elsewhere")
        assert before not in encryption.blind_indexes("https://a.example/x", context=CONTEXT)


@pytest.mark.parametrize(
    "key", ["", "short", "%" * 44, base64.b64encode(b"x" * 31).decode(), None, 7, "é" * 44]
)
def test_a_malformed_key_is_refused_with_what_to_do(key):
    with pytest.raises(InvalidKey, match="webhooks_generate_key"):
        encryption.key_bytes(key)


def test_a_key_in_standard_base64_is_one_too():
    raw = b"\xff" * 32

    assert encryption.key_bytes(base64.b64encode(raw).decode()) == raw
    assert encryption.key_bytes(base64.urlsafe_b64encode(raw).decode()) == raw


def test_a_key_does_not_show_what_it_is():
    with ring(NEW):
        shown = repr(encryption.keys())

    assert NEW not in shown
    assert "index_key" not in shown
