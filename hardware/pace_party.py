"""One side of one run of PACE (TR-03110-3 v2.2 §A.2 and §A.3; Doc 9303-11 §4.4.3): from the nonce to the session keys.

Private numbers and keys live in byte arrays that are wiped; the integers that Python makes of them on the way are out
of reach.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

from hardware import tlv
from hardware.domain_parameters import PointError
from hardware.pace import PaceError, PaceInfo, derive_key
from hardware.secure_messaging import Secret, SecureChannel

TOKEN_BYTES = 8

_BLOCK = 16
_ENCRYPTION, _AUTHENTICATION = 1, 2  # the counters of the key derivation (§A.2.3)
_PUBLIC_KEY, _OBJECT_IDENTIFIER, _POINT = 0x7F49, 0x06, 0x86


class Party:
    """One side of one run, from the nonce to the session keys: `map`, `agree`, then tokens and the channel.

    Args:
        info: The suite.
        random: Returns that many fresh random bytes; asked once for the mapping and once for the agreement.

    Attributes:
        mapping_point: Our public key of the mapping, ``04 || X || Y``.

    Raises:
        PaceError: The suite is not spoken here.
    """

    def __init__(self, info: PaceInfo, random: Callable[[int], bytes]) -> None:
        self._oid, self._key_bytes, self._parameters = info.oid, info.key_bytes, info.parameters
        self._random = random
        self._mapping_private = self._fresh()
        self._private = bytearray()
        self._enc_key, self._mac_key = bytearray(), bytearray()
        self._agreement_point, self._peer_point = b"", b""
        self.mapping_point = self._parameters.public_point(int.from_bytes(self._mapping_private))

    def map(self, nonce: Secret, peer: bytes) -> bytes:
        """Map the nonce to the fresh base point: s·G + H, with the whole shared point H (TR-03110-3 §A.3.4.1).

        Args:
            nonce: Decrypted.
            peer: The other side's public key of the mapping.

        Returns:
            Our public key of the agreement, over the fresh base point.

        Raises:
            PaceError: The other side's key is no point, or is ours.
        """
        if peer == self.mapping_point:
            raise PaceError("our own key of the mapping came back")
        parameters = self._parameters
        number = int.from_bytes(nonce) % parameters.order
        try:
            base = parameters.multiply(peer, int.from_bytes(self._mapping_private))
            if number:
                base = parameters.add(parameters.public_point(number), base)
            self._private = self._fresh()
            self._agreement_point = parameters.multiply(base, int.from_bytes(self._private))
        except PointError as error:
            raise PaceError(str(error)) from None
        return self._agreement_point

    def agree(self, peer: bytes) -> None:
        """Agree on the session keys.

        Args:
            peer: The other side's public key of the agreement.

        Raises:
            PaceError: It is no point, or is ours.
        """
        if peer == self._agreement_point:
            raise PaceError("our own key of the agreement came back")
        try:
            secret = bytearray(self._parameters.agree(int.from_bytes(self._private), peer))
        except PointError as error:
            raise PaceError(str(error)) from None
        self._peer_point = peer
        self._enc_key = derive_key(secret, _ENCRYPTION, self._key_bytes)
        self._mac_key = derive_key(secret, _AUTHENTICATION, self._key_bytes)
        _overwrite(secret, self._private)

    @property
    def own_token(self) -> bytes:
        """What shows the other side that we have the keys: over its public key, 8 bytes (TR-03110-3 §A.2.4)."""
        return self._token(self._peer_point)

    @property
    def expected_token(self) -> bytes:
        """What the other side has to show: over our public key, 8 bytes."""
        return self._token(self._agreement_point)

    def channel(self) -> SecureChannel:
        """Open the session, its counter at 0."""
        return SecureChannel(self._enc_key, self._mac_key)

    def seal_chip_data(self, chip_private: int) -> bytes:
        """Make the encrypted chip authentication data A_IC, as a card: the mapping's number over the chip's own."""
        order = self._parameters.order
        number = int.from_bytes(self._mapping_private) * pow(chip_private, -1, order) % order
        plain = number.to_bytes(self._parameters.order_bytes) + b"\x80"
        encryptor = self._chip_data_cipher().encryptor()
        return encryptor.update(plain + bytes(-len(plain) % _BLOCK)) + encryptor.finalize()

    def open_chip_data(self, encrypted: bytes) -> bytes:
        """Decrypt chip authentication data to CA_IC, as a terminal.

        Raises:
            PaceError: It is not whole blocks, or not padded.
        """
        if not encrypted or len(encrypted) % _BLOCK:
            raise PaceError(f"encrypted chip authentication data of {len(encrypted)} bytes")
        decryptor = self._chip_data_cipher().decryptor()
        plain = (decryptor.update(encrypted) + decryptor.finalize()).rstrip(b"\0")
        if plain[-1:] != b"\x80":
            raise PaceError("chip authentication data without their padding")
        return plain[:-1]

    def wipe(self) -> None:
        """Overwrite what is secret. A channel that was opened lives on."""
        _overwrite(self._mapping_private, self._private, self._enc_key, self._mac_key)

    def _fresh(self) -> bytearray:
        parameters = self._parameters
        number = parameters.private_number(self._random(parameters.random_bytes))
        return bytearray(number.to_bytes(parameters.order_bytes))

    def _token(self, point: bytes) -> bytes:
        content = tlv.encode(_OBJECT_IDENTIFIER, self._oid) + tlv.encode(_POINT, point)
        mac = CMAC(AES(self._mac_key))
        mac.update(tlv.encode(_PUBLIC_KEY, content))
        return mac.finalize()[:TOKEN_BYTES]

    def _chip_data_cipher(self) -> Cipher[CBC]:
        """AES-CBC under KS_enc, its IV the encryption of -1 (Doc 9303-11 §4.4.3.5.3)."""
        block = Cipher(AES(self._enc_key), ECB()).encryptor()  # noqa: S305 - one block, as the clause has it
        return Cipher(AES(self._enc_key), CBC(block.update(b"\xff" * _BLOCK) + block.finalize()))


def _overwrite(*secrets: bytearray) -> None:
    for secret in secrets:
        secret[:] = bytes(len(secret))
