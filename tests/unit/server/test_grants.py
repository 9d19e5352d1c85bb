"""A grant is believed only as this server signed it."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.server.errors import Refusal
from stoker.server.grants import Grant, Keys, gang_key, key_id, sign, verify

OLD, KEY, OTHER = b"o" * 32, b"k" * 32, b"x" * 32
GRANT = Grant(1, "team", "s3://bucket/stoker/team", "iris-0123abcd", 1, 0, "pod-uid", 2_000)
KEYS = Keys(KEY)


def reason(text: object, keys: Keys = KEYS, now: float = 1_000) -> str:
    with pytest.raises(Refusal) as caught:
        verify(text, keys, now)
    assert 401 == caught.value.status
    return caught.value.reason


def test_what_was_signed_is_what_is_read() -> None:
    assert GRANT == verify(sign(GRANT, KEYS), KEYS, 1_000)


def test_a_grant_ends() -> None:
    assert "GrantExpired" == reason(sign(GRANT, KEYS), now=2_000)


def test_another_servers_key_is_not_ours() -> None:
    assert "GrantInvalid" == reason(sign(GRANT, Keys(OTHER)))


def test_a_foreign_key_under_our_keys_name_is_not_ours() -> None:
    _, _, payload, mac = sign(GRANT, Keys(OTHER)).split(".")

    assert "GrantInvalid" == reason(f"stoker1.{key_id(KEY)}.{payload}.{mac}")


def test_grants_of_the_key_before_are_good_while_it_is_kept() -> None:
    text = sign(GRANT, Keys(OLD))

    assert GRANT == verify(text, Keys(KEY, OLD), 1_000)
    assert "GrantInvalid" == reason(text, Keys(KEY))
    assert sign(GRANT, Keys(KEY, OLD)) == sign(GRANT, KEYS), "the key before signs nothing"


@pytest.mark.parametrize("protocol", [0, 3, -1])
def test_a_protocol_that_we_do_not_speak_is_refused(protocol: int) -> None:
    assert "GrantInvalid" == reason(sign(msgspec.structs.replace(GRANT, protocol=protocol), KEYS))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("namespace", "other"),
        ("attempt", 2),
        ("rank", 1),
        ("key", "iris-ffffffff"),
        ("storage", "s3://x"),
        ("expires", 9**9),
    ],
)
def test_no_field_can_be_changed(field: str, value: object) -> None:
    head, identifier, _, mac = sign(GRANT, KEYS).split(".")
    changed = msgspec.json.encode(msgspec.structs.replace(GRANT, **{field: value}))
    payload = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()

    assert "GrantInvalid" == reason(".".join((head, identifier, payload, mac)))


@given(st.integers(0, 400), st.characters(codec="ascii"))
def test_no_character_can_be_changed(position: int, character: str) -> None:
    text = sign(GRANT, KEYS)
    position %= len(text)
    changed = text[:position] + character + text[position + 1 :]
    if changed != text:
        reason(changed)


@pytest.mark.parametrize(
    "text", [None, 7, "", ".", "...", "stoker1..", "é" * 9, "a" * 9000, sign(GRANT, KEYS)[:-1], sign(GRANT, KEYS) + "A"]
)
def test_junk_is_refused(text: object) -> None:
    assert "GrantInvalid" == reason(text)


@pytest.mark.parametrize("key", [b"", b"short"])
def test_a_weak_key_is_not_taken(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(key)


def test_the_ranks_of_one_attempt_share_a_secret_and_nobody_else_has_it() -> None:
    other_rank = msgspec.structs.replace(GRANT, rank=1, pod_uid="other", expires=3_000)

    assert gang_key(GRANT, KEYS) == gang_key(other_rank, KEYS)
    assert 64 == len(gang_key(GRANT, KEYS))
    for other in ({"attempt": 2}, {"key": "iris-76543210"}, {"namespace": "others"}, {"storage": "s3://bucket/others"}):
        assert gang_key(GRANT, KEYS) != gang_key(msgspec.structs.replace(GRANT, **other), KEYS), other
    assert gang_key(GRANT, KEYS) != gang_key(GRANT, Keys(OTHER))
