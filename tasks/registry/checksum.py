"""The seal of a version: one sha256 over all of its files, made when it is registered, held against them before use.

MLflow keeps it as the version's tag in its database, apart from the files in the artifact store: who can write to the
store alone can't change a model unseen.
"""

import hashlib
import shutil
from pathlib import Path

from lstm.errors import CheckpointError

SEAL = "artefact_sha256"  # tag of a version
_OF_LOADERS = ("__pycache__", "registered_model_meta")  # what MLflow and Python leave in a folder that they load from
_SHOWN = 12  # digits


def without_leftovers(folder: Path) -> None:
    """Remove what loaders have left in a copy: byte code would run instead of the code that the seal covers."""
    for name in _OF_LOADERS:
        for path in list(folder.rglob(name)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def seal_of(folder: Path) -> str:
    """sha256 of what `sha256sum` prints for the files of `folder`, in the order of their paths (docs/security.md)."""
    digest = hashlib.sha256()
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()):
        with (folder / name).open("rb") as file:
            digest.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  ./{name}\n".encode())
    return digest.hexdigest()


def check_seal(folder: Path, seal: str | None, version: str, runs: bool) -> None:
    """Hold a copy of a version's files against its seal.

    Args:
        folder: the copy.
        seal: None: the version was registered without one, by MLflow itself or an earlier release.
        version: `NAME/3`, for messages.
        runs: whether code among the files will be run: then there must be a seal.

    Raises:
        CheckpointError: they are not what was registered, or nobody can say.
    """
    if seal is None:
        if runs:
            raise CheckpointError(
                f"{version}: has no tag {SEAL}, and the code that it carries is not run unchecked. Register it anew: "
                "lstm train CONFIG"
            )
    elif (found := seal_of(folder)) != seal:
        raise CheckpointError(
            f"{version}: its files are not those that were registered: expected sha256 {seal[:_SHOWN]}…, as its tag "
            f"{SEAL} says, but got {found[:_SHOWN]}…. Restore them from a copy, or register it anew: lstm train CONFIG"
        )
