"""What passengers read: never too long, never nothing, in each language, and what a hand says it should be."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.validator.ticket_making import PRODUCTS
from validator.answer import LAST_DAY_S, WORDS, Display, Language, Passengers, answer, band
from validator.answer_words import Band
from validator.conditions import Conditions
from validator.decision import GRANTING
from validator.model import NEVER, Outcome, Reason
from validator.rights import Decision, Entitlement, Product, ProductKind, Use

NOON = 1_795_435_200
PASS = Product(1, ProductKind.PERIOD_PASS, 0, NOON, 0)
CARNET = replace(PASS, kind=ProductKind.CARNET, rides=5, valid_until=NEVER)
PURSE = replace(PASS, kind=ProductKind.STORED_VALUE, balance=2000, fare=205, valid_until=NEVER)
LATER = replace(PURSE, kind=ProductKind.PAY_AS_YOU_GO, balance=-100, conditions=Conditions(floor=3000))
GROUP = replace(PASS, conditions=Conditions(riders=3, day_starts_s=4 * 3600))
DENIALS = sorted(set(Reason) - GRANTING)


def use(product: Product, seq: int = 1, **others: int) -> Use:
    return replace(Use(seq, product.product_id, 0, 0, b"", "", 0, 0, True, None), **others)  # type: ignore[arg-type]


def granted(right: Entitlement, reason: Reason = Reason.VALID) -> Decision:
    return Decision(Outcome.GRANT, reason, entitlement=right)


@pytest.mark.parametrize(
    ("right", "uses", "language", "expected"),
    [
        (Entitlement(None), [], Language.ENGLISH, "valid"),
        (Entitlement(PASS), [], Language.ENGLISH, "valid; until 23/11 14:00"),
        (Entitlement(PASS), [], Language.ESTONIAN, "kehtib; kuni 23.11. kell 14.00"),
        (Entitlement(PASS), [], Language.JAPANESE, "有効です。11月23日14時00分まで"),
        (Entitlement(GROUP), [], Language.ENGLISH, "valid; for 3 people; until 23/11 18:00"),
        (Entitlement(CARNET, rides=1), [], Language.ENGLISH, "valid; 4 rides left"),
        (Entitlement(CARNET, rides=1), [use(CARNET, rides=3)], Language.ENGLISH, "valid; 1 ride left"),
        (Entitlement(CARNET, rides=1), [use(CARNET, rides=3)], Language.JAPANESE, "有効です。残り1回"),
        (Entitlement(CARNET, rides=1), [use(CARNET, rides=4)], Language.ESTONIAN, "kehtib; 0 sõitu alles"),
        (Entitlement(PURSE, amount=205), [], Language.ENGLISH, "valid; balance good for some rides; charged 2.05"),
        (
            Entitlement(PURSE, amount=205),
            [use(PURSE, amount=1500)],
            Language.ESTONIAN,
            "kehtib; jääk on väike: laadige peagi juurde; tasu 2,05",
        ),
        (Entitlement(LATER), [], Language.ENGLISH, "valid; balance used up: top up"),
    ],
)
def test_a_passenger_reads_what_the_hand_says(
    right: Entitlement, uses: Sequence[Use], language: Language, expected: str
) -> None:
    assert answer(granted(right), uses, 7200, Passengers(language)) == expected


@pytest.mark.parametrize(
    ("balance", "expected"),
    [(204, Band.EMPTY), (205, Band.LOW), (614, Band.LOW), (615, Band.ENOUGH), (2049, Band.ENOUGH), (2050, Band.PLENTY)],
)
def test_a_balance_is_told_in_fares(balance: int, expected: Band) -> None:
    purse = replace(PURSE, balance=balance + 305)
    assert band(purse, [use(purse, amount=100)], Entitlement(purse, amount=205)) is expected
    later = replace(LATER, balance=balance + 410)
    assert band(later, [use(later), use(later, 2, recovers=1)], Entitlement(later)) is expected


@pytest.mark.parametrize("language", Language)
def test_every_language_has_words_for_every_reason_and_band(language: Language) -> None:
    words = WORDS[language]
    assert set(words.reasons) == set(Reason)
    assert len(set(words.reasons.values())) == len(Reason)
    assert set(words.bands) == set(Band)
    assert all(said.strip() == said and said.isprintable() for said in words.reasons.values())


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("display", Display)
@pytest.mark.parametrize("reason", DENIALS)
def test_a_refusal_says_why_and_nothing_else(language: Language, display: Display, reason: Reason) -> None:
    said = answer(Decision(Outcome.DENY, reason), [], 0, Passengers(language, display))
    assert said == WORDS[language].reasons[reason]
    assert 0 < len(said) <= display


@given(
    product=st.none() | PRODUCTS,
    taken=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
    reason=st.sampled_from(sorted(GRANTING)),
    uses=st.lists(
        st.builds(lambda seq, amount: (seq, amount), st.integers(1, 9), st.integers(0, 2**31 - 1)), max_size=3
    ),
    offset_s=st.integers(-86_399, 86_399),
    passengers=st.builds(Passengers, st.sampled_from(Language), st.sampled_from(Display)),
)
def test_an_answer_is_never_empty_and_never_too_long(
    *,
    product: Product | None,
    taken: tuple[int, int],
    reason: Reason,
    uses: list[tuple[int, int]],
    offset_s: int,
    passengers: Passengers,
) -> None:
    right = Entitlement(product, *taken)
    before = [use(product or PASS, seq, amount=amount, rides=amount) for seq, amount in uses]
    said = answer(granted(right, reason), before, offset_s, passengers)
    assert 0 < len(said) <= passengers.display
    assert said.isprintable()
    assert said.startswith(WORDS[passengers.language].reasons[reason])


@given(balances=st.lists(st.integers(2050, 2**31 - 1), min_size=2), language=st.sampled_from(Language))
def test_no_display_tells_the_amount_of_a_balance(balances: list[int], language: Language) -> None:
    rights = [Entitlement(replace(PURSE, balance=balance)) for balance in balances]
    assert len({answer(granted(right), [], 0, Passengers(language)) for right in rights}) == 1


def test_what_a_display_has_no_room_for_is_left_out() -> None:
    late = replace(LATER, valid_until=NOON, conditions=Conditions(riders=3, floor=3000))
    first = granted(Entitlement(late), Reason.FIRST_RIDE)
    longer, shorter = (
        answer(first, [], 7200, Passengers(Language.ESTONIAN, display)) for display in (Display.GATE, Display.BUS)
    )
    assert longer == f"{shorter}; kuni 23.11. kell 14.00"
    assert shorter.endswith("; 3 inimesele; jääk on otsas: laadige juurde")


def test_what_ends_in_another_century_has_no_end() -> None:
    soon = granted(Entitlement(replace(PASS, valid_until=LAST_DAY_S - 1)))
    assert "31/12" in answer(soon, [], 0, Passengers())
    assert answer(granted(Entitlement(replace(PASS, valid_until=LAST_DAY_S))), [], 0, Passengers()) == "valid"
