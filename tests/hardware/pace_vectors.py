"""The published runs of PACE, and randomness that makes them happen again."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

VECTORS: dict[str, Any] = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "pace.json").read_text())["vectors"]
}
ICAO = VECTORS["icao-9303-11-g1-pace-ecdh-gm-aes128-brainpoolp256r1"]
AES_256 = VECTORS["pace-ecdh-gm-aes256-secp256r1-and-secure-messaging"]
ICAO_CAM = VECTORS["icao-9303-11-i-pace-ecdh-cam-aes128-brainpoolp256r1"]


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def drawing(*numbers: str | bytes) -> Callable[[int], bytes]:
    """Return a random source that leads to these private numbers (hexadecimal), and gives out octets as they are."""
    left = list(numbers)

    def draw(count: int) -> bytes:
        number = left.pop(0)
        if isinstance(number, bytes):
            assert len(number) == count
            return number
        return (int(number, 16) - 1).to_bytes(count)

    return draw


def private_numbers(vector: Any, side: str) -> Sequence[str]:
    inputs = vector["inputs"]
    return inputs[f"sk_map_{side}"], inputs[f"sk_dh_{side}"]
