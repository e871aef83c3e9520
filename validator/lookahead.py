"""What the lists say of one card, looked up while the card computes its signature.

A card takes 30 ms and more to sign; its certificate, or the verdict that was kept of it, is in the gate before that. So
the chain is searched and the tickets are read in a thread of their own meanwhile, and only the signature's check is
left when the answer comes. Nothing found here is believed, recorded or shown before that signature holds.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from validator import trust, vouching
from validator.lists.errors import ListError
from validator.lists.installed import InstalledLists
from validator.model import Identity, Instant, Reason, Refusal
from validator.proof import CardProof, Shown
from validator.rights import Product


@dataclass(frozen=True, slots=True)
class _Found:
    """What was looked up; the products are None where they could not be read, or no credential is named."""

    vouched: vouching.Vouched | Reason
    products: Sequence[Product] | None = None


class TapLookAhead:
    """The look-ahead of one tap. Lists are read in the executor's thread alone, until `products` is asked.

    Args:
        lists: In force for this tap.
        at: Now.
        executor: Of one thread.
    """

    def __init__(self, lists: InstalledLists, at: Instant, executor: Executor) -> None:
        self._lists, self._at, self._executor = lists, at, executor
        self._begun: tuple[Shown, Future[_Found]] | None = None

    def begin(self, shown: Shown) -> None:
        """Look up what a card showed; returns at once."""
        self._begun = shown, self._executor.submit(self._look_up, shown)

    def judge(self, proof: CardProof) -> Identity | Refusal:
        """Judge a proof by what was found, waiting for it where the card was faster (`trust.judge`)."""
        return trust.judge(proof, self._found(proof.shown).vouched, self._lists.denied, self._at)

    def products(self, credential_id: bytes) -> Sequence[Product]:
        """Return what a credential holds.

        Raises:
            ListError: The ticket file cannot be read any more.
        """
        if self._begun is not None:
            found = self._begun[1].result()
            named = isinstance(found.vouched, vouching.Vouched) and found.vouched.credential_id == credential_id
            if named and found.products is not None:
                return found.products
        return self._lists.products(credential_id)

    def _found(self, shown: Shown) -> _Found:
        if self._begun is None or self._begun[0] != shown:
            self._begun = shown, self._executor.submit(self._look_up, shown)
        return self._begun[1].result()

    def _look_up(self, shown: Shown) -> _Found:
        if self._lists.trust is None:
            return _Found(Reason.TRUST_LIST_STALE)
        vouched = vouching.vouch(
            shown, vouching.Authorities(self._lists.trust, self._lists.enrolled, self._lists.enrolled_under), self._at
        )
        if isinstance(vouched, Reason):
            return _Found(vouched)
        try:
            return _Found(vouched, self._lists.products(vouched.credential_id))
        except ListError:  # asked again, and reported, when the tap is decided
            return _Found(vouched)
