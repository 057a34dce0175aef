"""Files that their readers accept though a part is missing: PNG, TIFF, and what ITK reads beside NIfTI."""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

PART = 2**20  # bytes at a time
GIPL_HEADER = 256
GIPL_BYTES = {1: 1, 7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}  # of a voxel, by its type


def png_problem(file: Path) -> str:
    """Pillow reads a PNG without looking at its checksums, and one without an end."""
    with Image.open(file) as image:
        image.verify()
    return ""


def tiff_problem(file: Path) -> str:
    """tifffile leaves out pages that lie behind the end, and decodes what is left of a strip."""
    size = file.stat().st_size
    if any(offset >= size for offset in _page_offsets(file)):
        return "cannot be read (it is truncated: pages are missing)"
    with tifffile.TiffFile(file) as tiff:
        ends = [
            offset + count
            for page in map(_whole_page, tiff.pages)
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        ]
        ends += [series.dataoffset + series.nbytes for series in tiff.series if series.dataoffset is not None]
        shapes = [series.shape for series in tiff.series]
    if max(ends, default=0) > size:
        return f"cannot be read (it is truncated: pixels end at byte {max(ends)}, the file at {size})"
    if shapes.count(shapes[0]) > 1:
        return f"holds {len(shapes)} images, of which nnU-Net reads the first: store them as one volume, or one a file"
    return ""


def _whole_page(page: Any) -> tifffile.TiffPage:
    return page.aspage()


def _page_offsets(file: Path) -> Iterator[int]:
    """Where the directories of all pages begin, and end where that is behind the file."""
    with file.open("rb") as stream:
        start, size = stream.read(16), file.stat().st_size
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        if order is None or len(start) < 16:
            raise ValueError("it is no TIFF")
        is_big = struct.unpack(order + "H", start[2:4])[0] == 43
        count, entry, pointer = ("Q", 20, "Q") if is_big else ("H", 12, "I")
        (offset,) = struct.unpack(order + pointer, start[8:16] if is_big else start[4:8])
        seen: set[int] = set()
        while offset and offset not in seen:
            yield offset
            seen.add(offset)
            stream.seek(offset)
            number = stream.read(struct.calcsize(count))
            if len(number) < struct.calcsize(count):
                yield size
                return
            stream.seek(struct.unpack(order + count, number)[0] * entry, 1)
            following = stream.read(struct.calcsize(pointer))
            if len(following) < struct.calcsize(pointer):
                yield size
                return
            (offset,) = struct.unpack(order + pointer, following)


def meta_image_problem(file: Path) -> str:
    """ITK compares the size of an .mha, but not the checksum of a compressed one."""
    with file.open("rb") as stream:
        header: dict[str, str] = {}
        while "ElementDataFile" not in header:
            line = stream.readline(PART)
            if not line:
                return "cannot be read (its header has no end)"
            key, _, value = line.decode("latin-1").partition("=")
            header[key.strip()] = value.strip()
        if header["ElementDataFile"] != "LOCAL" or header.get("CompressedData", "").lower() != "true":
            return ""
        return _deflated_problem(iter(lambda: stream.read(PART), b""))


def nrrd_problem(file: Path) -> str:
    """ITK compares the size of an .nrrd, but not the checksum of a compressed one."""
    with file.open("rb") as stream:
        encoding = ""
        while (line := stream.readline(PART).strip()) != b"":
            if line.lower().startswith(b"encoding:"):
                encoding = line.split(b":")[1].strip().decode("latin-1").lower()
        return _deflated_problem(iter(lambda: stream.read(PART), b"")) if encoding in ("gzip", "gz") else ""


def _deflated_problem(parts: Iterator[bytes]) -> str:
    """Of a stream of zlib or gzip, read to its checksum."""
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        for part in parts:
            decompressor.decompress(part)
    except zlib.error as error:
        return f"cannot be read (it is damaged: {error})"
    return "" if decompressor.eof else "cannot be read (it is truncated: the compressed voxels have no end)"


def gipl_problem(file: Path) -> str:
    """ITK fills what is missing of a GIPL."""
    with file.open("rb") as stream:
        start = stream.read(10)
    if len(start) < 10:
        return "cannot be read (it has no header of GIPL)"
    *shape, kind = struct.unpack(">5H", start)
    wanted = GIPL_HEADER + math.prod(max(1, n) for n in shape) * GIPL_BYTES.get(kind, 0)
    found = file.stat().st_size
    return "" if found >= wanted else f"cannot be read (it is truncated: {found} of {wanted} bytes are there)"


PROBLEMS: dict[str, Callable[[Path], str]] = {
    ".png": png_problem,
    ".tif": tiff_problem,
    ".tiff": tiff_problem,
    ".mha": meta_image_problem,
    ".nrrd": nrrd_problem,
    ".gipl": gipl_problem,
}
