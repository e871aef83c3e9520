from ecdsa.curves import Curve as Curve
from ecdsa.curves import NIST192p as NIST192p
from ecdsa.curves import SECP128r1 as SECP128r1
from ecdsa.keys import BadSignatureError as BadSignatureError
from ecdsa.keys import SigningKey as SigningKey
from ecdsa.keys import VerifyingKey as VerifyingKey
