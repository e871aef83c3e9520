from nfc.clf import ContactlessFrontend as ContactlessFrontend
