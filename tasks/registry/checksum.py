"""The checksum of a version: one sha256 over its files, stored at registration and verified before use.

MLflow keeps it as a tag in its database, apart from the files in the artifact store. Changing a model unnoticed takes
write access to both.
"""

import hashlib
import shutil
from pathlib import Path

from lstm.errors import CheckpointError

CHECKSUM_TAG = "artefact_sha256"  # tag of a version
_CACHES = ("__pycache__", "registered_model_meta")  # written by Python and MLflow into a folder that they load from
_SHOWN_DIGITS = 12


def strip_caches(folder: Path) -> None:
    """Remove caches from a copy: cached byte code would run instead of the code that the checksum covers."""
    for name in _CACHES:
        for path in list(folder.rglob(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def checksum(folder: Path) -> str:
    """Return the sha256 of what `sha256sum` prints for the files of `folder`, sorted by path (docs/security.md)."""
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()):
        with (folder / name).open("rb") as file:
            digest.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  ./{name}\n".encode())
    return digest.hexdigest()


def verify_checksum(folder: Path, expected: str | None, version: str, runs_code: bool) -> None:
    """Check a copy of a version's files.

    Args:
        folder: the copy.
        expected: checksum of the version; None if MLflow itself or an earlier release registered it without one.
        version: `NAME/3`, for messages.
        runs_code: whether code among the files will be run, which needs a checksum.

    Raises:
        CheckpointError: the files are not those that were registered, or a needed checksum is missing.
    """
    if expected is None:
        if runs_code:
            raise CheckpointError(
                f"{version}: has no tag {CHECKSUM_TAG}, and code without a checksum is not run. Register it again: "
                "lstm train CONFIG"
            )
    elif (actual := checksum(folder)) != expected:
        raise CheckpointError(
            f"{version}: its files are not those that were registered: expected sha256 {expected[:_SHOWN_DIGITS]}… (tag"
            f" {CHECKSUM_TAG}), but got {actual[:_SHOWN_DIGITS]}…. Restore them from a copy, or register it again: "
            "lstm train CONFIG"
        )
