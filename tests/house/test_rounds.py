"""A law that is run in rounds, each of them with an instance of its class, as `make soak` does it."""

from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import hostile


class Laws:
    @hostile
    @given(st.integers(0, 1))
    def of_a_method(self, drawn: int) -> None:
        assert drawn in {0, 1}


def test_a_law_of_a_class_can_have_several_rounds() -> None:
    Laws().of_a_method()
    Laws().of_a_method()
