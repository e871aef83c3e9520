"""How long real silicon thinks: private-key operations by card model, for chips that exist only in software.

The figures are the averages of JCAlgTest (crocs-muni/jcalgtest_results, ``javacard/Profiles/performance/fixed/*.csv``):
``TYPE_RSA_CRT_PRIVATE 2048 ALG_RSA_NOPAD doFinal`` for RSA, ``ECDSA_SHA sign`` for the curves. Mostly measured over
contact; a chip that lives on the field may be slower. Nobody measured RSA-3072, so no model has a figure for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType


@unique
class KeyType(StrEnum):
    """Key types of a card, by their usual names."""

    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    P_256 = "P-256"
    P_384 = "P-384"


class NoFigure(ValueError):  # noqa: N818 - names what is missing
    """The card model is unknown, or was never measured with that key type."""


def _figures(
    *, rsa_2048_ms: float | None = None, p256_ms: float | None = None, p384_ms: float | None = None
) -> Mapping[KeyType, float]:
    measured = {KeyType.RSA_2048: rsa_2048_ms, KeyType.P_256: p256_ms, KeyType.P_384: p384_ms}
    return MappingProxyType({kind: ms / 1000 for kind, ms in measured.items() if ms is not None})


#: Seconds per private-key operation. Where the source gives a range, its upper end.
MODELS: Mapping[str, Mapping[KeyType, float]] = MappingProxyType(
    {
        "jcop4-p71": _figures(rsa_2048_ms=53.2, p256_ms=32.0, p384_ms=45.3),  # NXP JCOP4 J3R180
        "jcop4-p71d321": _figures(rsa_2048_ms=54.8, p256_ms=33.1, p384_ms=46.2),  # NXP JCOP4 P71D321
        "jcop3-p60": _figures(rsa_2048_ms=202, p256_ms=58, p384_ms=97),  # NXP J3H145
        "jcop241-j3a081": _figures(rsa_2048_ms=428, p256_ms=78.8),  # NXP J3A081, JCOP 2.4.1
        "jcop-j2a080": _figures(rsa_2048_ms=644, p256_ms=142),  # NXP J2A080
        "athena-idprotect": _figures(rsa_2048_ms=444, p256_ms=120, p384_ms=243),
        "secora-id-x": _figures(rsa_2048_ms=62, p256_ms=23.6, p384_ms=46.8),  # Infineon
        "secora-id-x-slow": _figures(rsa_2048_ms=200, p256_ms=58.8, p384_ms=92.4),  # the same, another batch
        "cjtop-slj52": _figures(rsa_2048_ms=227, p256_ms=146, p384_ms=225),  # Infineon
        "smartcafe-7": _figures(rsa_2048_ms=107, p256_ms=52, p384_ms=75),  # G+D
        "feitian-h19cr": _figures(rsa_2048_ms=65, p256_ms=12.7, p384_ms=27.2),
        "cosmo64-v5.4": _figures(rsa_2048_ms=871),  # Oberthur ID-One, the silicon of early PIV cards
    }
)


@dataclass(frozen=True, slots=True)
class ChipTiming:
    """The compute times of one card model.

    Attributes:
        model: A name from `MODELS`.
    """

    model: str

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise NoFigure(f"unknown card model {self.model!r}: choose one of {', '.join(sorted(MODELS))}")

    @classmethod
    def of(cls, model: str) -> "ChipTiming":
        """Return the timing of a card model.

        Raises:
            NoFigure: The model is not in the table.
        """
        return cls(model)

    def seconds(self, key: KeyType) -> float:
        """Seconds that one private-key operation takes.

        Raises:
            NoFigure: The model was never measured with that key type.
        """
        figures = MODELS[self.model]
        if key not in figures:
            measured = ", ".join(figures)
            raise NoFigure(
                f"card model {self.model} has no figure for {key}, only for {measured}: choose another model"
            )
        return figures[key]
