# The part of pyscard's low-level module that the PC/SC driver uses.
# ruff: noqa: N802, N803 - the names are pyscard's

SCARD_SCOPE_SYSTEM: int
SCARD_SHARE_EXCLUSIVE: int
SCARD_PROTOCOL_T0: int
SCARD_PROTOCOL_T1: int
SCARD_PCI_T0: int
SCARD_PCI_T1: int
SCARD_RESET_CARD: int
SCARD_LEAVE_CARD: int

SCARD_STATE_UNAWARE: int
SCARD_STATE_IGNORE: int
SCARD_STATE_CHANGED: int
SCARD_STATE_UNKNOWN: int
SCARD_STATE_UNAVAILABLE: int
SCARD_STATE_PRESENT: int

SCARD_S_SUCCESS: int
SCARD_E_CANCELLED: int
SCARD_E_COMM_DATA_LOST: int
SCARD_E_INVALID_HANDLE: int
SCARD_E_NOT_TRANSACTED: int
SCARD_E_NO_READERS_AVAILABLE: int
SCARD_E_NO_SERVICE: int
SCARD_E_NO_SMARTCARD: int
SCARD_E_PROTO_MISMATCH: int
SCARD_E_READER_UNAVAILABLE: int
SCARD_E_SHARING_VIOLATION: int
SCARD_E_TIMEOUT: int
SCARD_E_UNKNOWN_READER: int
SCARD_F_COMM_ERROR: int
SCARD_F_WAITED_TOO_LONG: int
SCARD_W_REMOVED_CARD: int
SCARD_W_RESET_CARD: int
SCARD_W_UNPOWERED_CARD: int
SCARD_W_UNRESPONSIVE_CARD: int
SCARD_W_UNSUPPORTED_CARD: int

def SCardEstablishContext(dwScope: int, /) -> tuple[int, int]: ...
def SCardReleaseContext(hcontext: int, /) -> int: ...
def SCardListReaders(hcontext: int, readergroups: list[str], /) -> tuple[int, list[str]]: ...
def SCardGetStatusChange(
    hcontext: int, dwTimeout: int, readerstatelist: list[tuple[str, int]], /
) -> tuple[int, list[tuple[str, int, list[int]]]]: ...
def SCardConnect(
    hcontext: int, readername: str, dwShareMode: int, dwPreferredProtocols: int, /
) -> tuple[int, int, int]: ...
def SCardDisconnect(hcard: int, dwDisposition: int, /) -> int: ...
def SCardBeginTransaction(hcard: int, /) -> int: ...
def SCardEndTransaction(hcard: int, dwDisposition: int, /) -> int: ...
def SCardStatus(hcard: int, /) -> tuple[int, str, int, int, list[int]]: ...
def SCardTransmit(hcard: int, pioSendPci: int, apducommand: list[int], /) -> tuple[int, list[int]]: ...
def SCardGetErrorMessage(lErrCode: int, /) -> str: ...
