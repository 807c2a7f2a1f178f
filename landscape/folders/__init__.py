"""A run's folder: configuration, provenance and result as JSON, each file written whole or not."""

from landscape.folders.files import (
    Unwritable,
    draft_of,
    finite,
    json_object,
    leftovers,
    read_json,
    remedy,
    system_error,
    write_json,
    write_whole,
    writing,
)
from landscape.folders.folder import open_folder
from landscape.folders.origin import device_name, kind_of, peak_memory, provenance

__all__ = [
    "Unwritable",
    "device_name",
    "draft_of",
    "finite",
    "json_object",
    "kind_of",
    "leftovers",
    "open_folder",
    "peak_memory",
    "provenance",
    "read_json",
    "remedy",
    "system_error",
    "write_json",
    "write_whole",
    "writing",
]
