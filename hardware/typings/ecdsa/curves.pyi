class Curve:
    name: str
    baselen: int
    signature_length: int
    order: int

NIST192p: Curve
SECP128r1: Curve
