class Type4TagCommandError(Exception):
    @property
    def errno(self) -> int: ...

class IsoDepInitiator: ...

class Type4Tag:
    @property
    def is_present(self) -> bool: ...
    def transceive(self, data: bytes, timeout: float | None = None) -> bytearray: ...
    def send_apdu(
        self,
        cla: int,
        ins: int,
        p1: int,
        p2: int,
        data: bytes | None = None,
        mrl: int = 0,
        check_status: bool = True,
    ) -> bytearray: ...
