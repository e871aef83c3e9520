"""The card's half of PIV key establishment, step by step from SP 800-73-5 part 2 §4.1 and the papers that it cites.

It shares no code with the project: points are pairs of integers, the derivation is a loop over hashlib, CMAC is put
together from single AES blocks (SP 800-38B §6), and templates are literal bytes. Slow, plain, and somebody else's.
"""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Point = tuple[int, int] | None
"""Affine coordinates; None is the point at infinity."""


@dataclass(frozen=True)
class Curve:
    """y² = x³ - 3x + b over the integers modulo p (SP 800-186 §3.2.1); the base point has order n."""

    p: int
    b: int
    n: int
    base: tuple[int, int]
    size: int

    def holds(self, point: tuple[int, int]) -> bool:
        x, y = point
        return x < self.p and y < self.p and (y * y - (x * x * x - 3 * x + self.b)) % self.p == 0

    def add(self, one: Point, other: Point) -> Point:
        if one is None or other is None:
            return one or other
        (x1, y1), (x2, y2) = one, other
        if x1 == x2 and (y1 + y2) % self.p == 0:
            return None
        over, under = (3 * x1 * x1 - 3, 2 * y1) if one == other else (y2 - y1, x2 - x1)
        slope = over * pow(under, -1, self.p) % self.p
        x3 = (slope * slope - x1 - x2) % self.p
        return x3, (slope * (x1 - x3) - y1) % self.p

    def times(self, number: int, point: Point) -> tuple[int, int]:
        result: Point = None
        while number:
            if number & 1:
                result = self.add(result, point)
            point, number = self.add(point, point), number >> 1
        assert result is not None
        return result

    def octets(self, point: tuple[int, int]) -> bytes:
        """X || Y."""
        return point[0].to_bytes(self.size) + point[1].to_bytes(self.size)


P256 = Curve(
    p=2**256 - 2**224 + 2**192 + 2**96 - 1,
    b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    n=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    base=(
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
    size=32,
)
P384 = Curve(
    p=2**384 - 2**128 - 2**96 + 2**32 - 1,
    b=0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    n=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    base=(
        0xAA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7,
        0x3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F,
    ),
    size=48,
)


@dataclass(frozen=True)
class Answer:
    """What a card computed on its way to its answer."""

    secret: bytes
    other_info: bytes
    keys: tuple[bytes, bytes, bytes, bytes]
    confirmed: bytes
    cryptogram: bytes
    message: bytes
    data_field: bytes


def answer(suite: int, private: int, certificate: bytes, request: bytes, nonce: bytes) -> Answer:
    """Steps C1 to C11.

    Args:
        suite: 0x27 or 0x2E.
        private: The card's private number.
        certificate: C_ICC.
        request: What stands in object 81: CB_H || ID_sH || 04 || X || Y.
        nonce: N_ICC.
    """
    curve, algorithm, key_size, digest = (
        (P256, 0x09, 16, hashlib.sha256) if suite == 0x27 else (P384, 0x0D, 32, hashlib.sha384)
    )
    id_icc = hashlib.sha256(certificate).digest()[:8]  # C1
    cb_h, id_h, q_h = request[0], request[1:9], request[9:]
    cb_icc = cb_h & 0xF0  # C2
    assert cb_icc == 0  # C3
    assert q_h[0] == 4
    assert len(q_h) == 1 + 2 * curve.size
    point = int.from_bytes(q_h[1 : 1 + curve.size]), int.from_bytes(q_h[1 + curve.size :])
    assert curve.holds(point)  # C4
    secret = curve.times(private, point)[0].to_bytes(curve.size)  # C5, the cofactor is 1
    assert len(nonce) == (16 if suite == 0x27 else 24)  # C6
    other_info = (
        bytes([4, algorithm, algorithm, algorithm, algorithm])
        + (b"\x08" + id_h)
        + (b"\x01" + bytes([cb_h]))
        + (b"\x10" + q_h[1:17])
        + (b"\x08" + id_icc)
        + (bytes([len(nonce)]) + nonce)
        + (b"\x01" + bytes([cb_icc]))
    )
    material, counter = b"", 0
    while len(material) < 4 * key_size:  # C7
        counter += 1
        material += digest(counter.to_bytes(4) + secret + other_info).digest()
    confirmation, command, encryption, response = (
        material[start : start + key_size] for start in (0, key_size, 2 * key_size, 3 * key_size)
    )
    confirmed = b"KC_1_V" + id_icc + id_h + q_h[1:]
    cryptogram = cmac(confirmation, confirmed)  # C9
    message = bytes([cb_icc]) + nonce + cryptogram + certificate  # C11
    return Answer(
        secret,
        other_info,
        (confirmation, command, encryption, response),
        confirmed,
        cryptogram,
        message,
        tlv("7C", tlv("82", message)),
    )


def cmac(key: bytes, message: bytes) -> bytes:
    """AES-CMAC (SP 800-38B §6.2)."""
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # one block at a time: the mode adds nothing

    def doubled(block: bytes) -> bytes:
        number = int.from_bytes(block) << 1
        return ((number ^ 0x87) if number >> 128 else number).to_bytes(17)[1:]

    whole = aes.update(bytes(16))
    subkey = doubled(whole)
    blocks = [message[start : start + 16] for start in range(0, len(message), 16)] or [b""]
    if len(blocks[-1]) < 16:
        subkey = doubled(subkey)
        blocks[-1] = (blocks[-1] + b"\x80").ljust(16, b"\x00")
    blocks[-1] = exclusive_or(blocks[-1], subkey)
    state = bytes(16)
    for block in blocks:
        state = aes.update(exclusive_or(state, block))
    return state


def exclusive_or(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def tlv(tag: str, value: bytes) -> bytes:
    size = len(value)
    length = bytes([size]) if size < 0x80 else b"\x81" + bytes([size]) if size < 0x100 else b"\x82" + size.to_bytes(2)
    return bytes.fromhex(tag) + length + value


def certificate(suite: int, issuer: bytes, guid: bytes, point: tuple[int, int], signature: bytes) -> bytes:
    """C_ICC of §4.1.5, with any octets in the place of the ECDSA-Sig-Value."""
    curve, oid, algorithm = (
        (P256, "06082A8648CE3D030107", "300A06082A8648CE3D040302")
        if suite == 0x27
        else (P384, "06052B81040022", "300A06082A8648CE3D040303")
    )
    return tlv("7F21", signed_part(issuer, guid, curve, oid, point) + signature_object(algorithm, signature))


def signed_part(issuer: bytes, guid: bytes, curve: Curve, oid: str, point: tuple[int, int]) -> bytes:
    key = bytes.fromhex(oid) + tlv("86", b"\x04" + curve.octets(point))
    return (
        bytes.fromhex("5F290180") + tlv("42", issuer) + tlv("5F20", guid) + tlv("7F49", key) + bytes.fromhex("5F4C0100")
    )


def signature_object(algorithm: str, signature: bytes) -> bytes:
    return tlv("5F37", tlv("30", bytes.fromhex(algorithm) + tlv("03", b"\x00" + signature)))
