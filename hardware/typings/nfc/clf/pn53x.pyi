from nfc import clf

class Chipset:
    class Error(Exception): ...
    in_list_passive_target_max_target: int
    def command(self, cmd_code: int, cmd_data: bytes, timeout: float) -> bytearray | None: ...

class Device(clf.Device):
    chipset: Chipset
