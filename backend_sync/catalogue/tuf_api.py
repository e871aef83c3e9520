"""What is used of python-tuf (theupdateframework/python-tuf) and of the library that signs for it, securesystemslib.

One place, because both compute their ``__all__``, which a type checker cannot read.
"""

from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # type: ignore[attr-defined]
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import (  # type: ignore[attr-defined]
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
    VerificationResult,
)
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig  # type: ignore[attr-defined]

__all__ = [
    "BadVersionNumberError",
    "CryptoSigner",
    "DelegatedRole",
    "Delegations",
    "DownloadError",
    "DownloadHTTPError",
    "ExpiredMetadataError",
    "FetcherInterface",
    "Key",
    "LengthOrHashMismatchError",
    "MetaFile",
    "Metadata",
    "RepositoryError",
    "Role",
    "Root",
    "SSlibKey",
    "Snapshot",
    "TargetFile",
    "Targets",
    "Timestamp",
    "UnsignedMetadataError",
    "Updater",
    "UpdaterConfig",
    "VerificationResult",
]
