"""What people with keys do to the two documents that are signed offline: root and targets.

A document goes from hand to hand as a file. Each holder adds a signature on a machine of their own, and `outstanding`
says at any moment who still has to. Nothing is changed in place: another key, or another date, is the next version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_sync.catalogue.key_store import NAME_FIELD
from backend_sync.catalogue.roles import DELEGATED, ROOT, RULES, TARGETS, Kind, delegated_role, path_pattern
from backend_sync.catalogue.tuf_api import (
    CryptoSigner,
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    RepositoryError,
    Role,
    Root,
    SSlibKey,
    Targets,
    VerificationResult,
)
from backend_sync.publish_errors import PublishError


@dataclass(frozen=True, slots=True)
class Quorum:
    """The signatures that one set of keys has to give.

    Attributes:
        whose: Which set, in words.
        needed: How many are needed.
        there: Names of the keys that signed.
        others: Names of the keys that have not.
    """

    whose: str
    needed: int
    there: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many more it takes."""
        return max(0, self.needed - len(self.there))

    def words(self) -> str:
        """Say what is needed, what is there, and who can give the rest."""
        count, there = len(self.there), ", ".join(self.there) or "none"
        said = (
            f"{self.needed} of the {self.whose} {'is' if self.needed == 1 else 'are'} needed, {count} there ({there})"
        )
        if not self.missing:
            return said
        if self.missing == len(self.others):
            return f"{said}: {' and '.join(self.others)} {'has' if self.missing == 1 else 'have'} to sign"
        if self.missing == 1:
            return f"{said}: {' or '.join(self.others)} has to sign"
        return f"{said}: {self.missing} of {', '.join(self.others)} have to sign"


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What a document still lacks.

    Attributes:
        role: Root or targets.
        version: Of the document.
        expires_s: When it ends, seconds since 1970 UTC.
        quorums: One, or for a root with other keys than the one before it, two.
    """

    role: str
    version: int
    expires_s: int
    quorums: tuple[Quorum, ...]

    @property
    def complete(self) -> bool:
        """Whether nobody has to sign any more."""
        return not any(quorum.missing for quorum in self.quorums)


def first_root(keys: Mapping[str, Sequence[SSlibKey]], now_s: int) -> bytes:
    """Make the first root, which nobody has signed yet.

    Args:
        keys: The keys of each role that root names.
        now_s: The time, seconds since 1970 UTC.

    Raises:
        PublishError: A role has more or fewer keys than it should, or a key has two roles.
    """
    for role, rule in RULES.items():
        given = len(keys.get(role, ()))
        if given != rule.keys:
            raise PublishError(f"{role}: {given} keys were given, it has {rule.keys}")
    refuse_shared(key for role in RULES for key in keys[role])
    root = Root(
        expires=_until(now_s, RULES[ROOT].lifetime_s),
        keys={key.keyid: key for role in RULES for key in keys[role]},
        roles={role: Role([key.keyid for key in keys[role]], rule.threshold) for role, rule in RULES.items()},
        consistent_snapshot=True,
    )
    return Metadata(root).to_bytes()


def first_targets(regions: Mapping[str, Mapping[Kind, SSlibKey]], now_s: int) -> bytes:
    """Make the first targets, which nobody has signed yet: for each region and kind the key that speaks for it.

    Raises:
        PublishError: There is none, a region's name will not do, or one key would speak for two.
    """
    online = [(region, kind, key) for region, kinds in regions.items() for kind, key in kinds.items()]
    if not online:
        raise PublishError("targets: no region has a key, so that nobody could list anything")
    refuse_shared(key for _, _, key in online)
    try:
        roles = {
            delegated_role(region, kind): DelegatedRole(
                delegated_role(region, kind),
                [key.keyid],
                DELEGATED.threshold,
                terminating=True,
                paths=[path_pattern(region, kind)],
            )
            for region, kind, key in online
        }
    except ValueError as error:
        raise PublishError(f"targets: {error}") from None
    targets = Targets(
        expires=_until(now_s, RULES[TARGETS].lifetime_s),
        delegations=Delegations({key.keyid: key for _, _, key in online}, roles),
    )
    return Metadata(targets).to_bytes()


def next_root(current: bytes, role: str, old: str, new: SSlibKey, now_s: int) -> bytes:
    """Make the next root, unsigned, in which one key of a role is replaced.

    Args:
        current: The root in force, complete.
        role: A role that root names.
        old: What the key is called that goes.
        new: The key that comes.
        now_s: The time, seconds since 1970 UTC.

    Raises:
        PublishError: `current` is no root, the role has no such key, or the new key has a role already.
    """
    root = read_root(current)
    if role not in root.roles:
        raise PublishError(f"{role}: root names {', '.join(RULES)}; the key of another role is replaced in targets")
    gone = [keyid for keyid in root.roles[role].keyids if key_name(root.keys[keyid]) == old]
    if len(gone) != 1:
        has = ", ".join(key_name(root.keys[keyid]) for keyid in root.roles[role].keyids)
        raise PublishError(f"{role}: has no key {old}; it has {has}")
    refuse_shared([*(root.keys.values()), new])
    root.revoke_key(gone[0], role)
    root.add_key(new, role)
    return _next(root, now_s)


def next_targets(current: bytes, role: str, new: SSlibKey, now_s: int) -> bytes:
    """Make the next targets, unsigned, in which the key of an online role, ``<region>.<kind>``, is replaced.

    Raises:
        PublishError: `current` is no targets, it has no such role, or the new key has a role already.
    """
    targets = read_targets(current)
    delegations = targets.delegations
    if delegations is None or delegations.roles is None or role not in delegations.roles:
        has = ", ".join((delegations.roles if delegations else None) or ()) or "none"
        raise PublishError(f"{role}: targets delegates to no such role; it has {has}")
    refuse_shared([*delegations.keys.values(), new])
    for keyid in list(delegations.roles[role].keyids):
        targets.revoke_key(keyid, role)
    targets.add_key(new, role)
    return _next(targets, now_s)


def renewed(current: bytes, now_s: int) -> bytes:
    """Make the next version of a document, unsigned, that says the same and lasts from now on.

    Raises:
        PublishError: It is neither root nor targets.
    """
    return _next(_document(current).signed, now_s)


def sign(document: bytes, key: Ed25519PrivateKey, authority: bytes | None = None) -> bytes:
    """Add one holder's signature.

    Args:
        document: A root or targets, signed by some already or by nobody.
        key: The holder's.
        authority: The root that says who may sign: for targets the one in force, for a root the one before it; None
            for the first root.

    Returns:
        The document with one signature more; the same again if the key had signed.

    Raises:
        PublishError: The key has no say in it, `authority` does not fit, or the document is weaker than the rules.
    """
    metadata = _document(document)
    signer = CryptoSigner(key)
    _refuse_weak(metadata.signed)
    results = _results(metadata, authority)
    if not any(signer.public_key.keyid in {**result.signed, **result.unsigned} for _, result in results):
        names = sorted({key_name(k) for _, result in results for k in {**result.signed, **result.unsigned}.values()})
        raise PublishError(f"{metadata.signed.type}: this key has no say in it; those that have: {', '.join(names)}")
    metadata.sign(signer, append=True)
    return metadata.to_bytes()


def outstanding(document: bytes, authority: bytes | None = None) -> Outstanding:
    """Say what a document still lacks; `authority` as for `sign`.

    Raises:
        PublishError: It is neither root nor targets, or `authority` does not fit.
    """
    metadata = _document(document)
    quorums = []
    for whose, result in _results(metadata, authority):
        there, others = (tuple(sorted(map(key_name, keys.values()))) for keys in (result.signed, result.unsigned))
        quorums.append(Quorum(whose, result.threshold, there, others))
    signed = metadata.signed
    return Outstanding(signed.type, signed.version, int(signed.expires.timestamp()), tuple(quorums))


def read_root(document: bytes) -> Root:
    """Take a document that has to be a root.

    Raises:
        PublishError: It is something else.
    """
    signed = _document(document).signed
    if not isinstance(signed, Root):
        raise PublishError(f"this is {signed.type} metadata, a root is wanted")
    return signed


def read_targets(document: bytes) -> Targets:
    """Take a document that has to be targets.

    Raises:
        PublishError: It is something else.
    """
    signed = _document(document).signed
    if not isinstance(signed, Targets):
        raise PublishError(f"this is {signed.type} metadata, targets is wanted")
    return signed


def key_name(key: Key) -> str:
    """Return what people call a key; its id where nobody named it."""
    return str(key.unrecognized_fields.get(NAME_FIELD, key.keyid))


def refuse_shared(keys: Iterable[Key]) -> None:
    """See that no key has two roles.

    Raises:
        PublishError: One has; both names are told.
    """
    seen: dict[str, str] = {}
    for key in keys:
        if key.keyid in seen:
            raise PublishError(f"{key_name(key)} is the same key as {seen[key.keyid]}; each role has keys of its own")
        seen[key.keyid] = key_name(key)


def identify(document: bytes) -> tuple[str, int]:
    """Return role and version of a document.

    Raises:
        PublishError: It is neither root nor targets.
    """
    signed = _document(document).signed
    return signed.type, signed.version


def said(document: bytes) -> list[str]:
    """Return what a document says, in words, for whoever is to sign it.

    Raises:
        PublishError: It is neither root nor targets.
    """
    signed = _document(document).signed
    if isinstance(signed, Root):
        named = [(role, signed.roles[role], "") for role in RULES]
        held: Mapping[str, Key] = signed.keys
    else:
        delegations = signed.delegations
        roles = (delegations.roles if delegations else None) or {}
        named = [(role, each, f" for {', '.join(each.paths or ())}") for role, each in roles.items()]
        held = delegations.keys if delegations else {}
    return [
        f"{role}: {each.threshold} of {', '.join(_fingerprint(held[keyid]) for keyid in each.keyids)}{paths}"
        for role, each, paths in named
    ]


def called(key: SSlibKey, name: str) -> SSlibKey:
    """Return the same key under another name."""
    key.unrecognized_fields[NAME_FIELD] = name
    return key


def _fingerprint(key: Key) -> str:
    return f"{key_name(key)} ({key.keyid[:16]})"


def _document(document: bytes) -> "Metadata[Root] | Metadata[Targets]":
    try:
        metadata = cast("Metadata[Root] | Metadata[Targets]", Metadata[Root].from_bytes(document))
    except RepositoryError:
        raise PublishError("this is no document of the catalogue") from None
    if not isinstance(metadata.signed, Root | Targets):
        raise PublishError(f"this is {metadata.signed.type} metadata, which is signed online")
    return metadata


def _results(
    metadata: "Metadata[Root] | Metadata[Targets]", authority: bytes | None
) -> list[tuple[str, VerificationResult]]:
    """Return which keys signed, for each set of keys that has to, with the name of the set."""
    signed, payload = metadata.signed, metadata.signed_bytes
    if isinstance(signed, Targets):
        if authority is None:
            raise PublishError("targets: the root in force says who may sign it; bring that too")
        root = read_root(authority)
        result = root.get_verification_result(TARGETS, payload, metadata.signatures)
        return [("targets keys", result)]
    own = signed.get_verification_result(ROOT, payload, metadata.signatures)
    if signed.version == 1:
        return [("root keys", own)]
    previous = None if authority is None else read_root(authority)
    if previous is None or previous.version != signed.version - 1:
        raise PublishError(f"root {signed.version}: bring root {signed.version - 1}, whose keys have to agree")
    before = previous.get_verification_result(ROOT, payload, metadata.signatures)
    if _sayers(previous) == _sayers(signed):
        return [("root keys", own)]
    return [(f"root keys of version {previous.version}", before), (f"root keys of version {signed.version}", own)]


def _sayers(root: Root) -> tuple[frozenset[str], int]:
    return frozenset(root.roles[ROOT].keyids), root.roles[ROOT].threshold


def _refuse_weak(signed: Root | Targets) -> None:
    """A holder's last line: no signature for a root that would take fewer of them than the rules say."""
    if isinstance(signed, Root):
        for role, rule in RULES.items():
            held = signed.roles[role]
            if held.threshold != rule.threshold or len(held.keyids) != rule.keys:
                raise PublishError(
                    f"root {signed.version}: {held.threshold} of {len(held.keyids)} keys would do for {role}, "
                    f"the rule is {rule.threshold} of {rule.keys}; it is not signed"
                )


def _next(signed: Root | Targets, now_s: int) -> bytes:
    signed.version += 1
    signed.expires = _until(now_s, RULES[signed.type].lifetime_s)
    if isinstance(signed, Root):
        return Metadata(signed).to_bytes()
    return Metadata(signed).to_bytes()


def _until(now_s: int, lifetime_s: int) -> datetime:
    return datetime.fromtimestamp(now_s + lifetime_s, UTC)
