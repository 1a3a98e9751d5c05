"""Paths that lead to no table: what is wrong with each, and the next step."""

from __future__ import annotations

import os
import re
from pathlib import Path

from polymodal.core.argument_types import path_problem, short
from polymodal.core.errors import DataError, did_you_mean
from polymodal.data.media.formats import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from polymodal.data.objects import SCHEMES, ObjectPath
from polymodal.data.table.source_part import DATABASES, DatabaseTable, TableFile

_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")
#: How to download from each kind of address.
_DOWNLOAD = {
    "hf": "hf download OWNER/NAME --repo-type dataset --local-dir .",
    "http": "curl -LO {}",
    "https": "curl -LO {}",
    "ftp": "curl -LO {}",
}

_FRAME = "read it with pandas.{}() and give the frame, or write it with frame.to_parquet()"
#: What to do with files that are no tables: their suffixes, and the next step.
_STEPS = [
    (".xls .xlsb .ods", "save it as .xlsx or CSV, or " + _FRAME.format("read_excel")),
    (".mdb .accdb", "export the table as CSV"),
    (
        ".tgz .tar.gz .tar.bz2 .tar.xz .tar.zst",
        "unpack it with `tar xf` and give the table in it, or decompress it if its files are samples (1.jpg, 1.txt)",
    ),
    (".7z .rar", "unpack it and give the table in it; only .zip is read as it is"),
    (".lz4 .br .z", "decompress it first; only .gz, .bz2, .xz and .zst are read as they are"),
    (".pkl .pickle .joblib .pt .pth", "a pickle can run any code and is never read: load it yourself, give the frame"),
    (".npy .npz", "an array has no column names: give a dict of columns, or a frame"),
    (".h5 .hdf5", _FRAME.format("read_hdf")),
    (".orc", _FRAME.format("read_orc")),
    (".dta", _FRAME.format("read_stata")),
    (".sav", _FRAME.format("read_spss")),
    (".sas7bdat", _FRAME.format("read_sas")),
    (".xml", _FRAME.format("read_xml")),
    (".html .htm", _FRAME.format("read_html")),
    (
        ".txt .dat .data .text",
        "if its lines are rows and the first is a header, name it .csv, or .tsv if tabs separate",
    ),
    (".yaml .yml", "this is the format of a recipe (recipe=, --recipe), not of a table"),
    (".safetensors", "these are weights, no rows"),
]
_NEXT_STEPS = {suffix: step for suffixes, step in _STEPS for suffix in suffixes.split()}


def check_location(source: str | os.PathLike[str] | ObjectPath) -> TableFile | ObjectPath | DatabaseTable:
    """`source` as a file with its part, as the path of an object store, or as a table of a database.

    Raises:
        DataError: no file can have this path, or it is an address of another kind, such as of the web.
    """
    if isinstance(source, ObjectPath):
        return source
    text = os.fspath(source)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    problem = path_problem(text.partition("#")[0] if "#" in text else text)
    if problem:
        raise DataError(problem)
    address = _ADDRESS.match(text)
    if address is not None:
        kind = address[1].lower()
        if found := DatabaseTable.parse(text) or ObjectPath.parse(text):
            return found
        example = _DOWNLOAD.get(kind, "").format(text)
        how = f", for example with `{example}`" if example else ""
        known = ", ".join((*SCHEMES, *DATABASES))
        raise DataError(
            f"{short(text, 120)} is an address of a kind that is not read ({known} are): download the file first{how}, "
            "and give the path of the file"
        )
    return TableFile.parse(text)


def is_address(text: str) -> bool:
    """Whether a text is an address such as `s3://bucket/a.parquet`."""
    return _ADDRESS.match(text) is not None


def no_such_file(path: Path) -> DataError:
    """The error for a path at which there is nothing."""
    if any(mark in path.name for mark in "*?["):
        return DataError("no file has such a name", file=str(path))
    if not path.parent.is_dir():
        return DataError("there is no such file; its folder does not exist either", file=str(path))
    with os.scandir(path.parent) as entries:
        siblings = [entry.name for entry, _ in zip(entries, range(1000), strict=False)]
    hint = did_you_mean(path.name, siblings, "its folder has no file with a similar name")
    return DataError(f"there is no such file; {hint}", file=str(path))


def unknown_format(path: Path, known: frozenset[str]) -> DataError:
    """The error for a file that is in no format of tables."""
    suffixes = "".join(path.suffixes[-2:]).lower()
    suffix = path.suffix.lower()
    formats = ", ".join(sorted(known))
    step = _NEXT_STEPS.get(suffixes) or _NEXT_STEPS.get(suffix)
    if suffix in (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES, *VIDEO_SUFFIXES):
        step = f"give a row that names it, such as {{'image': {path.name!r}}}, or a table with a column of paths"
    if suffix == "":
        return DataError(
            f"its name has no suffix, so its format is unknown: rename it to one of {formats}", file=str(path)
        )
    problem = f"the suffix {suffix!r} is not a supported table format ({formats})"
    return DataError(f"{problem}; {step}" if step else problem, file=str(path))


def absolute_source(source: Path | str) -> str:
    """A path that other processes can open; addresses do not change."""
    return str(source) if is_address(str(source)) else os.path.abspath(source)
