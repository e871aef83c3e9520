from nfc import clf

class Device(clf.Device):
    rcvd_data: int
