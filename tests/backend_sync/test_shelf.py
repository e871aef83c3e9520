"""The register of what is at the broker: whatever is cut off when, nothing is missing and nothing left behind."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sync import shelf, wire
from backend_sync.shelf import Register, decode_register, topic_of
from backend_sync.wire import WireError
from tests.hostile import hostile

names = st.sampled_from([*(f"{n}.snapshot.json" for n in range(6)), *(f"objects/{n:064x}" for n in range(6))])
some = st.frozensets(names)


def _damaged(where: int, octet: int) -> bytes:
    encoded = bytearray(Register(frozenset({"1.root.json"}), frozenset({"2.snapshot.json"})).encode())
    encoded[where % len(encoded)] = octet
    return bytes(encoded)


@given(some, some)
def test_a_register_comes_back_as_it_went(there: frozenset[str], unsure: frozenset[str]) -> None:
    register = Register(there, unsure)
    assert decode_register(register.encode()) == register


@hostile
@given(st.binary(max_size=60) | st.builds(_damaged, st.integers(0, 40), st.integers(0, 255)))
def test_any_bytes_are_a_register_of_names(data: bytes) -> None:
    for name in (found := decode_register(data)).there | found.unsure:
        assert topic_of("north", name).startswith("pilet/1/list/north/")


@given(st.lists(some, min_size=1, max_size=5), st.data())
def test_wherever_it_is_cut_off_the_next_one_sets_it_right(wanted: list[frozenset[str]], data: st.DataObject) -> None:
    """The broker keeps what was sent, in the order in which it was; each attempt but the last is cut off somewhere."""
    at_broker, left = set[str](), b""
    for number, files in enumerate(wanted):
        register = decode_register(left)
        missing, steps = register.missing(files), [("register", "")]
        steps += [("bring", name) for name in missing]
        steps += [("clear", name) for name in register.before_moving(files).surplus(files)]
        steps.append(("settle", ""))
        cut = len(steps) if number == len(wanted) - 1 else data.draw(st.integers(0, len(steps)))
        for step, name in steps[:cut]:
            if step == "bring":
                at_broker.add(name)
            elif step == "clear":
                at_broker.discard(name)
            else:
                left = (register.before_moving(files) if step == "register" else Register(files)).encode()
    assert at_broker == wanted[-1]


@given(some)
def test_objects_come_before_the_metadata_that_names_them(wanted: frozenset[str]) -> None:
    missing = Register().missing(wanted)
    kinds = [name.startswith("objects/") for name in missing]
    assert kinds == sorted(kinds, reverse=True)
    assert set(missing) == wanted


def test_topics() -> None:
    assert topic_of("north", "7.snapshot.json") == wire.list_metadata("north", "7.snapshot.json")
    assert topic_of("north", "objects/" + "ab" * 32) == wire.list_object("north", b"\xab" * 32)
    for name in ("objects/xyz", "a/b", "", "objects/"):
        with pytest.raises(WireError):
            topic_of("north", name)
    assert decode_register(msgpack.packb([2, [], []])) == Register()
    assert shelf.REGISTER not in Register().missing([])
