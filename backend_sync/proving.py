"""From what a desk proved to a link: a person is proved once, gets an account, and the account gets their cards.

They get the account that they have, however often they come and with whatever card tells the same identifier. To it
belong the document's own credential, and those of the fast cards that were read along with it.

What makes somebody that person is the proof and nothing else:

- A link needs `Assurance.HOLDER`: a PIN was entered. Or it needs `Assurance.CHIP`, and that somebody at the desk
  compared the photo with the face, since a genuine card may be in anybody's hand. Never less: the rest can be copied.
- A person who is not known yet gets a new account. Whoever is to have one that was used before (a new certificate,
  another document) has to have a card of it read along. An account's number proves nothing, nor does who types it.
- A card is easily found. Where either has a code for life, the newcomer or somebody whose account it is, a live
  document of that somebody has to be read along; and without them nothing ends by `Asked.replace`, and no concession
  changes.
- What was read is used once, and with what was read then. What was denied on one account is given to no other.
- Cards of the operator's own families are an account's by their batch (`backend_sync.bindings`). They say whose account
  is meant, and get no second record.

All work inside the caller's transaction. No message repeats an account, a credential or a person.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from backend_sync import bindings, links
from backend_sync.bindings import BindingState
from backend_sync.card_family import CardFamily
from backend_sync.enrolment_errors import EnrolmentError
from backend_sync.issuing_tables import BINDING
from backend_sync.links import DENIED, Link, LinkEnding
from backend_sync.links_table import LINK, PERSON, PROOF_USED
from validator.model import Assurance
from validator.person_key import LASTING
from validator.proof_report import Person, Proof

FRESH_MS: Final = 10 * 60 * 1000
"""So long a proof may be used: it says who stood at a desk, and is not to be kept for later."""
AHEAD_MS: Final = 2 * 60 * 1000
"""So far a desk's clock may be ahead of the ledger's."""
ACCOUNT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
NAME_BYTES: Final = 8

_FAMILIES: Final = frozenset(family.value for family in CardFamily)
_TOO_LITTLE: Final = {
    Assurance.CLAIMED: "anybody could have copied what this document showed (CLAIMED): have its PIN entered",
    Assurance.SHARED_SECRET: (
        "this document showed only that somebody knows the number printed on it (SHARED_SECRET): have its PIN entered"
    ),
    Assurance.CHIP: (
        "this document is genuine, and may be anybody's (CHIP): have its PIN entered, or compare the photo with the "
        "face and say --photo-checked"
    ),
}


class LinkRefused(EnrolmentError):  # noqa: N818 - the desk's answer to the person
    """What was shown does not suffice for a link, or contradicts one that is live."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the desk asks for beside what was proved.

    Attributes:
        account: The account that the person is to have; None for the one that they have, or a new one.
        photo_checked: Whether somebody compared the photo with the face.
        replace: Whether what was live before, and was not shown now, ends with this.
    """

    account: str | None = None
    photo_checked: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Linked:
    """What linking did.

    Attributes:
        account: The person's account.
        known: Whether they had it before.
        new: How many credentials were linked that were not.
        renewed: How many were linked, and are now by a better proof or another kind of document.
        replaced: How many links from before ended with this.
    """

    account: str
    known: bool
    new: int
    renewed: int
    replaced: int


def link(
    connection: Connection, proofs: Sequence[Proof], asked: Asked, now_ms: int, random: Callable[[int], bytes]
) -> Linked:
    """Link a person to an account, and the account to the cards that were read.

    Args:
        connection: A transaction that writes.
        proofs: What the desk said of the person's document and of any other cards. Repeating them changes nothing.
        asked: What the desk asks for.
        now_ms: Milliseconds since 1970 UTC.
        random: Returns that many octets of the operating system's randomness.

    Raises:
        LinkRefused: What was shown does not suffice, or contradicts what is recorded. Nothing was changed.
        EnrolmentError: `asked` names what cannot be an account.
    """
    documents = _documents(connection, proofs, asked.account)
    proof, person = documents[0]
    _check_moment(proofs, now_ms)
    _check_assurance(documents, proofs, photo_checked=asked.photo_checked)
    repeated = _use(connection, proofs, now_ms)
    account, known = _account_of(connection, documents, proofs, asked.account, random)
    mine = _is_proved(connection, account, documents)
    if asked.replace and not mine:
        raise LinkRefused(
            "--replace is for the person whose account this is: read their document along, or `enrol unlink` one by one"
        )
    was_resident = links.is_resident(connection, account)
    for _, each in documents:
        _remember(connection, each, account, now_ms)
    shown = [one for one in proofs if one.card.family not in _FAMILIES]
    _check_own_cards(connection, account, [one for one in proofs if one.card.family in _FAMILIES])
    wanted = {
        "account": account,
        "photo_checked": asked.photo_checked,
        "desk": proof.desk,
        "since_ms": now_ms,
    }
    new = renewed = replaced = 0
    for one in shown:
        by, who = (proof, person) if one.person is None else (one, one.person)
        said = {"assurance": by.card.assurance.value, "scheme": who.scheme, "document": who.document.value}
        facts = wanted | said | {"proved_ms": by.proved_ms}
        began, again = _link_one(connection, one, facts, repeated=repeated)
        new, renewed = new + began, renewed + again
    if asked.replace:
        ids = {one.card.credential_id for one in shown}
        live = [one for one in links.of_accounts(connection, [account]) if one.ended is None]
        # Said later than another proof, this must not end what that one linked.
        others = [one for one in live if one.credential_id not in ids and one.proved_ms < proof.proved_ms]
        if others and repeated:
            raise LinkRefused("this proof was used, and ends nothing more: read the identity document again")
        replaced = links.end(connection, others, LinkEnding.REPLACED, proof.desk, now_ms)
    if not mine and links.is_resident(connection, account) is not was_resident:
        raise LinkRefused(
            "this would change the concession of an account that somebody else has: read that person's document "
            "along, or leave out --account for a new one"
        )
    return Linked(account, known, new, renewed, replaced)


def _documents(connection: Connection, proofs: Sequence[Proof], asked: str | None) -> list[tuple[Proof, Person]]:
    """Return the identity documents that were read, at most two, and first the one that an account is wanted for."""
    people = [(one, one.person) for one in proofs if one.person is not None]
    if not people:
        raise LinkRefused(
            "none of the cards that were read is an identity document: read one document, and the cards that are to be "
            "linked with it"
        )
    if len({one.desk for one in proofs}) != 1:
        raise LinkRefused("these cards were read at different desks: read them all at the one where the person is")
    if len({one.card.credential_id for one in proofs}) != len(proofs):
        raise LinkRefused("one card was read twice: read each once")
    if len(people) == 1:
        return people
    people.sort(key=lambda one: asked in _accounts_of(connection, one[1]))  # whoever is known there comes last
    if len(people) > 2 or asked is None or asked not in _accounts_of(connection, people[-1][1]):
        raise LinkRefused(
            "two documents were read: read one document, and the cards that are to be linked with it; to add a second "
            "document to an account, read one of that account's person along, and name it with --account"
        )
    return people


def _use(connection: Connection, proofs: Sequence[Proof], now_ms: int) -> bool:
    """Take what was read as used, and with what; return whether a document's proof was used before.

    A document goes with all that was read when it was used first, another card with the documents of then.
    """
    together = {one.card.credential_id for one in proofs}
    documents = {one.card.credential_id for one in proofs if one.person is not None}
    repeated = False
    for one in proofs:
        companions = documents if one.person is None else together
        before = select(PROOF_USED.c.credential_id).where(PROOF_USED.c.proof == one.number)
        used = set(connection.execute(before).scalars())
        if not used:
            facts = {"proof": one.number, "used_ms": now_ms}
            connection.execute(insert(PROOF_USED), [facts | {"credential_id": each} for each in companions])
        elif not companions <= used:
            raise LinkRefused(
                "a proof among these was used, and with other cards: read the identity document again, and all cards "
                "that are to be linked with it"
            )
        repeated = repeated or (bool(used) and one.person is not None)
    return repeated


def _check_moment(proofs: Sequence[Proof], now_ms: int) -> None:
    for one in proofs:
        if one.proved_ms > now_ms + AHEAD_MS:
            raise LinkRefused("the desk's clock is ahead of the back office's: set both, and read the cards again")
        if one.proved_ms < now_ms - FRESH_MS:
            raise LinkRefused(f"these cards were read more than {FRESH_MS // 60_000} minutes ago: read them again")


def _check_assurance(
    documents: Sequence[tuple[Proof, Person]], proofs: Sequence[Proof], *, photo_checked: bool
) -> None:
    for proof, _ in documents:
        reached = proof.card.assurance
        if reached is not Assurance.HOLDER and not (reached is Assurance.CHIP and photo_checked):
            raise LinkRefused(_TOO_LITTLE[reached])
    if any(one.card.assurance < Assurance.CHIP for one in proofs):
        raise LinkRefused("a card that was read along can be copied (below CHIP): link one that proves its chip")


def _account_of(
    connection: Connection,
    documents: Sequence[tuple[Proof, Person]],
    proofs: Sequence[Proof],
    asked: str | None,
    random: Callable[[int], bytes],
) -> tuple[str, bool]:
    """Return the account that the person has or is to have, and whether they had it."""
    if asked is not None and not ACCOUNT.fullmatch(asked):
        raise EnrolmentError("--account: an account is up to 64 letters and digits, with ._/- after the first")
    person = documents[0][1]
    accounts = _accounts_of(connection, person)
    if len(accounts) > 1:
        raise LinkRefused("this person has an account under each of two person keys: close one (`enrol unlink`)")
    if accounts:
        account = accounts.pop()
        if asked not in {None, account}:
            raise LinkRefused("this person has another account: leave out --account, and that one is taken")
        return account, True
    if asked is None:
        return f"desk-{random(NAME_BYTES).hex()}", False
    if _was_used(connection, asked):
        if not _cards_of(connection, asked) & {one.card.credential_id for one in proofs}:
            raise LinkRefused(
                "this account was used before: have a card of it read along, or leave out --account for a new one"
            )
        _refuse_another_person(connection, documents, asked)
    return asked, False


def _accounts_of(connection: Connection, person: Person) -> set[str]:
    hashes = list(person.hashes.values())
    return set(connection.execute(select(PERSON.c.account).where(PERSON.c.person.in_(hashes))).scalars())


def _was_used(connection: Connection, account: str) -> bool:
    columns = (LINK.c.account, PERSON.c.account, BINDING.c.account)
    return any(connection.execute(select(column).where(column == account)).first() for column in columns)


def _cards_of(connection: Connection, account: str) -> set[bytes]:
    """Return the credentials by which somebody shows that an account is theirs."""
    live = {one.credential_id for one in links.of_accounts(connection, [account]) if one.ended is None}
    card = _own_card(connection, account)
    return live if card is None else live | {card}


def _own_card(connection: Connection, account: str) -> bytes | None:
    """Return the credential of the card that an account holds by its batch; None for none that is live."""
    card = bindings.held(connection, [account]).get(account)
    return card.credential_id if card is not None and card.state is BindingState.LIVE else None


def _refuse_another_person(connection: Connection, documents: Sequence[tuple[Proof, Person]], account: str) -> None:
    """Two codes for life are two people, whoever's card was brought; for one of them, a document has to vouch."""
    person = documents[0][1]
    schemes = select(PERSON.c.scheme, PERSON.c.person_key).where(PERSON.c.account == account)
    known = connection.execute(schemes).all()
    if person.scheme in LASTING and any(
        row.scheme == person.scheme and row.person_key in person.hashes for row in known
    ):
        raise LinkRefused("this account is another person's: leave out --account for a new one")
    if not known or LASTING.isdisjoint({person.scheme, *(row.scheme for row in known)}):
        return
    vouching = [one for one in documents[1:] if links.account_of(connection, one[0].card.credential_id) == account]
    if not vouching or not _is_proved(connection, account, vouching):
        raise LinkRefused(
            "this account is somebody's, and a card of it does not make it another's: read along a document of that "
            "person that is linked to it, or leave out --account for a new one"
        )


def _is_proved(connection: Connection, account: str, documents: Sequence[tuple[Proof, Person]]) -> bool:
    """Whether somebody whose account it is was proved now; if it is nobody's, whoever comes may have it.

    It is theirs who have a code for life. Without one, it is theirs who came first, as each person key knows them:
    whoever came later brought no more than a card of it.
    """
    rows = connection.execute(select(PERSON).where(PERSON.c.account == account)).all()
    theirs = {row.person for row in rows if row.scheme in LASTING}
    if not theirs:
        keys = {row.person_key for row in rows}
        first = {key: min(row.since_ms for row in rows if row.person_key == key) for key in keys}
        theirs = {row.person for row in rows if row.since_ms == first[row.person_key]}
    return not theirs or any(not theirs.isdisjoint(person.hashes.values()) for _, person in documents)


def _remember(connection: Connection, person: Person, account: str, now_ms: int) -> None:
    hashes = list(person.hashes.values())
    known = set(connection.execute(select(PERSON.c.person).where(PERSON.c.person.in_(hashes))).scalars())
    facts = {"scheme": person.scheme, "account": account, "since_ms": now_ms}
    new = [{"person": told, "person_key": check, **facts} for check, told in person.hashes.items() if told not in known]
    if new:
        connection.execute(insert(PERSON), new)


def _check_own_cards(connection: Connection, account: str, proofs: Sequence[Proof]) -> None:
    card = _own_card(connection, account)
    for one in proofs:
        if card != one.card.credential_id:
            raise LinkRefused(
                f"this {one.card.family} card is not the one that the person's account holds: such a card is an "
                "account's by its batch; name that account with --account (`enrol who` shows what one holds)"
            )


def _link_one(connection: Connection, shown: Proof, facts: dict[str, Any], *, repeated: bool) -> tuple[int, int]:
    """Link one credential; return how many were linked that were not (0 or 1), and how many were renewed."""
    credential_id = shown.card.credential_id
    history = links.of_credentials(connection, [credential_id])
    live = history[-1] if history and history[-1].ended is None else None
    if live is not None and live.account != facts["account"]:
        raise LinkRefused(
            "a card that was read is linked to another account: `enrol links --credential` shows which; end that "
            "first, if it is meant"
        )
    if repeated:
        if live is None:
            raise LinkRefused("this proof was used, and what it linked has ended since: read the cards again")
        return 0, 0
    if live is None:
        _refuse_denied(history, shown, facts["account"])
    else:
        same = (live.scheme, live.document.value) == (facts["scheme"], facts["document"])
        if same and live.assurance >= facts["assurance"]:
            return 0, 0
        links.end(connection, [live], LinkEnding.RENEWED, facts["desk"], facts["since_ms"])
    links.begin(connection, facts | {"credential_id": credential_id, "family": shown.card.family})
    return (1, 0) if live is None else (0, 1)


def _refuse_denied(history: Sequence[Link], shown: Proof, account: str) -> None:
    """What was reported lost stays denied to all but its account, and so does what was given up.

    A document says itself whose it is: after an account was closed, its person comes with it again.
    """
    ends = [(one.account, one.ended.why) for one in history if one.ended is not None and one.ended.why in DENIED]
    if not ends or ends[-1][0] == account or (shown.person is not None and ends[-1][1] is not LinkEnding.LOST):
        return
    raise LinkRefused(
        "a card that was read was reported lost, or given up, on another account, and is denied: `enrol links "
        "--credential` shows how each `unlink` ended it; link another card"
    )
