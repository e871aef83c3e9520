"""Asks a deny list about everything that it was made from, before anybody gets it."""

from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b

from backend_sync.publish_errors import PublishError
from validator.lists.clubcard import DIGEST_BYTES
from validator.lists.dense_deny import DenseDeny
from validator.lists.deny_list import DenyList
from validator.model import Credential


def refuse_wrong(
    listed: DenyList,
    credential_ids: Collection[bytes],
    numbered: Sequence[DenseDeny],
    register: bytes,
    asked: Iterable[tuple[Credential, bool]],
) -> None:
    """Ask a list as a gate does; that it refuses nobody else by id or number follows from how many it holds.

    Args:
        listed: The list, read from its payload.
        credential_ids: Ids that it was made from, each once.
        numbered: Numbers that it was made from.
        register: The payload of the register that it was made from, every card of which was asked about before.
        asked: Cards, and whether each has to be refused.

    Raises:
        PublishError: An answer is wrong.
    """
    for each in credential_ids:
        if not listed.denied(Credential(each)):
            raise PublishError(f"deny list: {each.hex()} would not be refused; nothing is published")
    for section in numbered:
        numbers = listed.numbered.get(section.issuer)
        for number in section.numbers:
            if numbers is None or not numbers.denied(number):
                raise PublishError(
                    f"deny list: card {number} of {section.issuer.hex()} would not be refused; nothing is published"
                )
    held, made_from = len(listed), len(credential_ids) + sum(map(len, numbered))
    if held != made_from:
        raise PublishError(f"deny list: it holds {held} cards and was made from {made_from}; nothing is published")
    digest = b"" if listed.register is None else listed.register.state_hash
    if digest != (blake2b(register, digest_size=DIGEST_BYTES).digest() if register else b""):
        raise PublishError("deny list: its register is not the one that was checked; nothing is published")
    for card, denied in asked:
        if listed.denied(card) != denied:
            wrong = "would not be refused" if denied else "would be refused"
            raise PublishError(f"deny list: {card.id.hex()} {wrong}; nothing is published")
