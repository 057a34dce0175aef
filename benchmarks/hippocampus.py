"""Few labelled volumes, tested at home and on volumes of another scanner, which is made of the test cases by formula.

    python benchmarks/hippocampus.py DATA WORK      # DATA: the folder with images/, labels/, unlabelled/

makes Dataset067_Hippocampus of 20 labelled volumes and the unlabelled ones, with orders of labelled cases in
WORK/hippocampus_splits.json for `nnunet-diffusion few-label --splits`, and domains in
WORK/hippocampus_domains.yaml: the other 20 cases as they are (source), and under each of SHIFTS and all of them
together but the inversion (targets). nnUNet_raw must be set.
"""

import argparse
import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import uniform_filter1d

DATASET, LABELS = "Dataset067_Hippocampus", {"background": 0, "anterior": 1, "posterior": 2}
NUM_TEST, ENDING = 20, ".nii.gz"
SEEDS = range(5)  # 3 and 4 to choose on, 0 to 2 to report
BRIGHTEST = 99.5  # percentile that counts as white
Shift = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def bias_field(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness that changes across the image, by a factor of exp(0.5) to exp(-0.5): a coil on one side."""
    direction = random.standard_normal(3)
    places = np.meshgrid(*(np.linspace(-1, 1, size) for size in image.shape), indexing="ij")
    along = sum(d * place for d, place in zip(direction / np.abs(direction).sum(), places, strict=True))
    return image * np.exp(0.5 * along)


def gamma(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another contrast: exponent 1.6 or its inverse."""
    return image ** random.choice((1.6, 1 / 1.6))


def thick_slices(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each slice the mean of three along the first axis, every third kept, interpolated back to the grid."""
    thick = uniform_filter1d(image, 3, axis=0, mode="nearest")
    kept, places = np.arange(1, len(image), 3), np.arange(len(image))
    below = np.clip(np.searchsorted(kept, places, side="right") - 1, 0, len(kept) - 2)
    share = np.clip((places - kept[below]) / 3, 0, 1)[:, None, None]
    return (1 - share) * thick[kept[below]] + share * thick[kept[below + 1]]


def noise(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Rician noise of 8% of white, as magnitude images have it."""
    real, imaginary = 0.08 * random.standard_normal((2, *image.shape))
    return np.hypot(image + real, imaginary)


def inversion(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """White becomes black, as between T1 and T2."""
    return 1 - image


SHIFTS: dict[str, tuple[Shift, ...]] = {
    "bias field": (bias_field,),
    "gamma": (gamma,),
    "thick slices": (thick_slices,),
    "noise": (noise,),
    "inversion": (inversion,),
    "together": (thick_slices, gamma, bias_field, noise),
}


def shifted(image: np.ndarray, shifts: Sequence[Shift], case: str) -> np.ndarray:
    """An image (slices, rows, columns) of 0 (black) to 1 (white) and above, seen by another scanner; by its name."""
    random = np.random.default_rng(zlib.crc32(case.encode()))
    for shift in shifts:
        image = shift(np.clip(image, 0, 1), random)
    return image.astype(np.float32)


def write_shifted(file: Path, shifts: Sequence[Shift], target: Path) -> None:
    source = sitk.ReadImage(str(file), sitk.sitkFloat32)
    pixels = sitk.GetArrayFromImage(source)
    black, white = pixels.min(), np.percentile(pixels, BRIGHTEST)
    image = sitk.GetImageFromArray(shifted((pixels - black) / (white - black), shifts, file.name))
    image.CopyInformation(source)
    sitk.WriteImage(image, str(target))


def write_dataset(folder: Path, data: Path, cases: Sequence[str], shifts: Sequence[Shift] = ()) -> None:
    """A raw data set of nnU-Net of these cases."""
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    for case in cases:
        image, target = data / "images" / f"{case}{ENDING}", folder / "imagesTr" / f"{case}_0000{ENDING}"
        write_shifted(image, shifts, target) if shifts else shutil.copy(image, target)
        shutil.copy(data / "labels" / f"{case}{ENDING}", folder / "labelsTr")
    described = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": len(cases), "file_ending": ENDING}
    (folder / "dataset.json").write_text(json.dumps(described, indent=4))


def prepare(data: Path, work: Path) -> None:
    names = sorted(file.name.removesuffix(ENDING) for file in (data / "images").glob(f"*{ENDING}"))
    random.Random(0).shuffle(names)
    test, pool = sorted(names[:NUM_TEST]), sorted(names[NUM_TEST:])
    raw = Path(os.environ["nnUNet_raw"]) / DATASET
    write_dataset(raw, data, pool)
    (raw / "imagesUn").mkdir()
    for file in (data / "unlabelled").glob(f"*{ENDING}"):
        shutil.copy(file, raw / "imagesUn" / f"{file.name.removesuffix(ENDING)}_0000{ENDING}")
    lines = ["mirroring: false  # along three axes, a prediction would take eight times as long", "domains:"]
    for name, shifts in {"home": (), **SHIFTS}.items():
        folder = f"Dataset997_{name.replace(' ', '_')}"
        write_dataset(work / folder, data, test, shifts)
        role = "target" if shifts else "source"
        lines.append(f"  - {{name: {name}, role: {role}, images: {folder}/imagesTr, references: {folder}/labelsTr}}")
    orders = {str(seed): {"train_order": random.Random(seed).sample(pool, len(pool))} for seed in SEEDS}
    (work / "hippocampus_splits.json").write_text(json.dumps({"seeds": orders, "in_domain_test": test}, indent=2))
    (work / "hippocampus_domains.yaml").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    args = parser.parse_args()
    prepare(args.data, args.work)
