from nfc.clf import ContactlessFrontend, RemoteTarget
from nfc.tag.tt4 import Type4Tag

def activate(clf: ContactlessFrontend, target: RemoteTarget) -> Type4Tag | None: ...
