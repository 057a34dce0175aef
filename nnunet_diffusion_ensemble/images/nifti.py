"""NIfTI files as they lie on the disk: whole, finite, with voxels that have a size.

ITK reads half a file without an error, as zeros or whatever the memory holds, turns NaN into 0 and a spacing that
cannot be into 1 mm; nibabel never looks at the checksum. So the bytes are looked at before either of them does.
"""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

PART = 2**20  # bytes at a time
SPACINGS_DIFFER = 0.01  # relative; tools round, and some store the sform alone in full
HEADERS = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}  # by the size that they begin with
NOT_FINITE = "holds NaN or infinite values in {count} voxel(s): repair it, or give these voxels a value"


def nifti_problem(file: Path) -> str:
    """What is wrong with a NIfTI file, compressed or not, whatever its name says; empty if nothing is.

    Read through once, in parts.
    """
    with file.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.open(raw) if is_gzip else nullcontext(raw) as stream:
            try:
                return _stream_problem(stream)
            except (EOFError, OSError, zlib.error) as error:
                return f"cannot be read (it is truncated or damaged: {error})"


def _stream_problem(stream: Any) -> str:
    start = stream.read(540)
    header = _header(start)
    if header is None:
        return "cannot be read (it has no header of NIfTI)"
    shape = [int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1]]
    if not shape or min(shape) < 1:
        return f"cannot be read (its header has the size {' x '.join(map(str, shape)) or 'of nothing'})"
    if wrong := _wrong_spacings(header, shape):
        return f"has a spacing of {wrong} mm; each must be above 0"
    if problem := _ambiguous(header):
        return problem
    dtype = header.get_data_dtype()
    wanted = math.prod(shape) * dtype.itemsize
    offset = max(int(header["vox_offset"]), header.sizeof_hdr + 4)  # some writers leave it 0
    found, not_finite = _look_through(stream, start, offset, wanted, dtype)
    if found < wanted:
        return f"cannot be read (it is truncated: {found} of {wanted} bytes of voxels are there)"
    return NOT_FINITE.format(count=not_finite) if not_finite else ""


def _header(start: bytes) -> nibabel.Nifti1Header | None:
    """The header, without nibabel's repairs."""
    for size, kind in HEADERS.items():
        for order in "<>":
            if len(start) >= size and int.from_bytes(start[:4], "little" if order == "<" else "big") == size:
                return kind(start[:size], endianness=order, check=False)
    return None


def _ambiguous(header: nibabel.Nifti1Header) -> str:
    """What readers take for different things without a word."""
    magic = bytes(header["magic"]).rstrip(b"\0")
    if magic[:3] in (b"ni1", b"ni2"):
        return "has the header of a pair: its voxels lie in another file (.img); convert both to one NIfTI file"
    if magic[:3] not in (b"n+1", b"n+2"):
        return "is in the Analyze format, which does not know left from right; convert it to NIfTI from its source"
    if header.get_data_dtype().kind == "c":
        return "holds complex numbers, of which readers drop a part; store the magnitude, or what is meant"
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or (slope and math.isfinite(slope) and not math.isfinite(intercept)):
        return f"has the scaling {slope:g} x + {intercept:g} of its values, which cannot be"
    return _two_spacings(header)


def _two_spacings(header: nibabel.Nifti1Header) -> str:
    """ITK reads the spacing from pixdim, nibabel from the sform."""
    if int(header["sform_code"]) <= 0 or int(header["dim"][0]) < 3:
        return ""
    extended = np.asarray(header["dim"][1:4]) > 1  # along an axis of one voxel, any spacing will do
    pixdim = np.asarray(header["pixdim"][1:4], np.float64)[extended]
    rows = [header["srow_x"][:3], header["srow_y"][:3], header["srow_z"][:3]]
    lengths = np.linalg.norm(np.asarray(rows, np.float64), axis=0)[extended]
    if np.allclose(lengths, pixdim, rtol=SPACINGS_DIFFER, atol=0) or not np.isfinite(lengths).all():
        return ""
    sizes = [" x ".join(f"{mm:g}" for mm in values) for values in (pixdim, lengths)]
    return f"has two spacings, {sizes[0]} mm in pixdim and {sizes[1]} mm in its sform: correct the wrong one"


def _wrong_spacings(header: nibabel.Nifti1Header, shape: list[int]) -> str:
    """Those that cannot be; an axis of one voxel may have none."""
    spacing = [float(mm) for mm in header["pixdim"][1 : min(len(shape), 3) + 1]]
    impossible = [mm for mm, n in zip(spacing, shape, strict=False) if not (mm > 0 or (mm == 0 and n == 1))]
    return ", ".join(f"{mm:g}" for mm in impossible)


def _look_through(stream: Any, start: bytes, offset: int, wanted: int, dtype: np.dtype) -> tuple[int, int]:
    """Bytes of voxels that are there, and how many voxels are not finite; a gzip stream is read to its checksum."""
    found = not_finite = 0
    left = b""
    for part in _parts(stream, start, offset):
        voxels = left + part[: max(0, wanted - found)]
        found += len(part)
        if dtype.kind in "fc":
            whole = len(voxels) // dtype.itemsize * dtype.itemsize
            not_finite += int(np.count_nonzero(~np.isfinite(np.frombuffer(voxels[:whole], dtype))))
            left = voxels[whole:]
    return min(found, wanted), not_finite


def _parts(stream: Any, start: bytes, offset: int) -> Iterator[bytes]:
    """What follows the first `offset` bytes."""
    skipped = 0
    part = start
    while part:
        rest = part[max(0, offset - skipped) :]
        skipped += len(part)
        if rest:
            yield rest
        part = stream.read(PART)
