"""What can be wrong with an image, and with a label map beside its image; and what is told at every door."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_inputs import snapshot
from faulty_files import (
    FLIPPED,
    SHAPE,
    empty,
    filled,
    flipped,
    half,
    half_inside,
    header,
    mask,
    pixdim,
    save_nifti,
    stored,
    text,
    volume,
    voxel,
    without_end,
)

from nnunet_diffusion_ensemble.cli.parser import main

Fault = Callable[[Path], Any]

# What is wrong with an image file, `NAME_0000.nii.gz`; at every door through which images come.
IMAGE_FAULTS: dict[str, tuple[Fault, str]] = {
    "half the file": (half, r"_0000.nii.gz cannot be read \(it is truncated or damaged"),
    "the end of the file missing": (without_end, r"_0000.nii.gz cannot be read \(it is truncated or damaged"),
    "a valid gzip of half an image": (
        half_inside,
        r"_0000.nii.gz cannot be read \(it is truncated: \d+ of 2880",
    ),
    "a damaged byte": (flipped, r"_0000.nii.gz cannot be read \(it is truncated or damaged"),
    "nothing in it": (empty, r"_0000.nii.gz cannot be read \(it has no header"),
    "a text": (text, r"_0000.nii.gz cannot be read \(it has no header"),
    "NaN": (voxel(np.nan), r"_0000.nii.gz holds NaN or infinite values in 1 voxel"),
    "infinity": (voxel(np.inf), r"_0000.nii.gz holds NaN or infinite values in 1 voxel"),
    "a spacing of zero": (pixdim(0), r"_0000.nii.gz has a spacing of 0 mm; each must be above 0"),
    "a negative spacing": (pixdim(-1), r"_0000.nii.gz has a spacing of -1 mm; each must be above 0"),
    "a spacing of NaN": (pixdim(np.nan), r"_0000.nii.gz has a spacing of nan mm; each must be above 0"),
    "a spacing of micrometres": (
        stored(spacing=(0.001, 0.001, 0.001)),
        r"_0000.nii.gz has a spacing of 0\.001 x 0\.001 x 0\.001 mm; no scanner .* below 0\.005 or above 100 mm",
    ),
    "complex numbers": (
        lambda file: save_nifti(file, volume().astype(np.complex64)),
        r"_0000.nii.gz holds complex numbers",
    ),
    "a header without NIfTI's magic": (
        header(magic=b"xxx"),
        r"_0000.nii.gz is in the Analyze format, which does not know left from right",
    ),
    "the header of a pair": (header(magic=b"ni1"), r"_0000.nii.gz has the header of a pair: .* \(\.img\)"),
    "a scaling that cannot be": (header(scl_slope=np.inf), r"_0000.nii.gz has the scaling inf x \+ "),
    "another spacing in its sform": (
        header(srow_x=(-3, 0, 0, 20), sform_code=1),
        r"_0000.nii.gz has two spacings, 0\.8 x 1\.1 x 2 mm in pixdim and 3 x 1\.1 x 2 mm in its sform",
    ),
    "a spacing of decimetres": (
        stored(spacing=(800, 1100, 2000)),
        r"_0000.nii.gz has a spacing of 800 x 1100 x 2000 mm",
    ),
}
# What is wrong with a label map or a reference, beside its image.
LABEL_FAULTS: dict[str, tuple[Fault, str]] = {
    "half the file": (half, r"b.nii.gz cannot be read \(it is truncated or damaged"),
    "a valid gzip of half a label map": (half_inside, r"b.nii.gz cannot be read \(it is truncated: \d+ of 720 bytes"),
    "another size": (
        filled(lambda: mask((6, 12, 11))),
        r"b.nii.gz is of size 6 x 12 x 11, .*b_0000.* 6 x 12 x 10",
    ),
    "axes the other way": (filled(lambda: mask((10, 12, 6))), r"b.nii.gz is of size 10 x 12 x 6, the image"),
    "another spacing": (stored(spacing=(0.8, 1.1, 2.5)), r"b.nii.gz has the spacing 0\.8 x 1\.1 x 2\.5, the image"),
    "another direction": (stored(direction=FLIPPED), r"b.nii.gz has the direction \[\[-1\.0, 0\.0.*the image"),
    "another origin": (
        stored(origin=(-19, 15, 100)),
        r"b.nii.gz has the origin -19 x 15 x 100, the image .*-20 x 15",
    ),
    "values of a picture": (
        filled(lambda: 255 * mask()),
        r"b.nii.gz holds the values 0, 255; allowed.*convert",
    ),
    "a value too many": (filled(lambda: 2 * mask()), r"b.nii.gz holds the values 0, 2; allowed are 0, 1"),
    "labels that resampling left": (
        filled(lambda: mask() * np.float32(1.0000001)),
        r"values 0, 1\.0000001; allowed are 0, 1: 1\.0000001 is no whole number: round the labels",
    ),
    "negative values": (filled(lambda: -mask().astype(np.int16)), r"b.nii.gz holds the values -1, 0; allowed"),
    "NaN": (filled(lambda: np.where(mask() == 1, np.nan, 0).astype(np.float32)), r"b.nii.gz holds NaN .* 54 voxel"),
    "a text": (text, r"b.nii.gz cannot be read"),
}


def refused(arguments: list[str], message: str, root: Path, capsys: pytest.CaptureFixture) -> None:
    """The command ends with a sentence and leaves everything as it was."""
    before = snapshot(root)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed
    assert "Traceback" not in printed
    assert snapshot(root) == before


def voxel_free() -> np.ndarray:
    return np.random.default_rng(3).normal(100, 20, SHAPE).astype(np.float32)
