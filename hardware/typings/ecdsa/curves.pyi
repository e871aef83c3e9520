from ecdsa.ellipticcurve import CurveFp, PointJacobi

class Curve:
    name: str
    baselen: int
    signature_length: int
    order: int
    curve: CurveFp
    generator: PointJacobi

BRAINPOOLP192r1: Curve
BRAINPOOLP224r1: Curve
BRAINPOOLP256r1: Curve
BRAINPOOLP320r1: Curve
BRAINPOOLP384r1: Curve
BRAINPOOLP512r1: Curve
NIST192p: Curve
NIST224p: Curve
NIST256p: Curve
NIST384p: Curve
NIST521p: Curve
SECP128r1: Curve
