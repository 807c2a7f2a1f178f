"""The data sets that are known by name, a family a file."""

from landscape.tasks.dataset import Dataset
from landscape.tasks.sets.conll import CONLL
from landscape.tasks.sets.glue import GLUE
from landscape.tasks.sets.images import IMAGES
from landscape.tasks.sets.math import MATH
from landscape.tasks.sets.reading import READING
from landscape.tasks.sets.superglue import SUPERGLUE

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset for dataset in (*GLUE, *SUPERGLUE, *READING, *MATH, *CONLL, *IMAGES)
}
"""The data sets in an official release or on the hub, by the name that ``load_task`` knows."""
