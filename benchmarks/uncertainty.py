"""Does uncertainty know where and when a prediction is wrong, and which images are unlike those of the training?

    python benchmarks/uncertainty.py unusual WORK
    python benchmarks/uncertainty.py predict WORK MODEL_FOLDER FOLD [options of nnunet-diffusion predict]
    python benchmarks/uncertainty.py table WORK
    python benchmarks/uncertainty.py picture WORK PNG

WORK is that of `benchmarks/xrays.py prepare`. `unusual` makes images of the first hospital that nobody should segment
unwarned, `predict` writes WORK/uncertainty/NAME for each set of images, `table` prints Markdown, `picture` shows the
cases of the lowest, median and highest Dice of each hospital.
"""

import argparse
import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import mannwhitneyu, spearmanr

from nnunet_diffusion_ensemble.demo.results import dice_of_masks, read_foreground

IN_DOMAIN, OTHER = HOSPITALS = ("montgomery", "shenzhen")
UNUSUAL = {
    "upside_down": lambda pixels: pixels[::-1],
    "inverted": lambda pixels: 255 - pixels,
    "blurred": lambda pixels: gaussian_filter(pixels.astype(float), 1.5).round().astype(np.uint8),
    "noisy": lambda pixels: (
        (pixels + np.random.RandomState(0).normal(0, 25, pixels.shape)).clip(0, 255).astype(np.uint8)
    ),
}
SETS = (*HOSPITALS, *UNUSUAL)
# Columns of uncertainty.csv, and whether a larger number should mean a worse prediction.
SCORES = {
    "entropy": 1,
    "entropy_foreground": 1,
    "mutual_information": 1,
    "mutual_information_foreground": 1,
    "timestep_dice": -1,
    "denoising_error": 1,
}


@dataclass(frozen=True)
class Case:
    """A predicted case: its row of uncertainty.csv, Dice, and how well entropy ranks its wrong pixels (AUROC)."""

    name: str
    row: dict[str, float]
    dice: float
    pixel_auroc: dict[str, float]


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive has the larger score than a negative (ties count half)."""
    found = mannwhitneyu(positive, negative, nan_policy="omit").statistic
    return float(found) / (np.isfinite(positive).sum() * np.isfinite(negative).sum())


def make_unusual(work: Path) -> None:
    for name, change in UNUSUAL.items():
        images = work / f"Dataset999_{name}" / "imagesTr"
        images.mkdir(parents=True, exist_ok=True)
        for file in (work / f"Dataset999_{IN_DOMAIN}" / "imagesTr").glob("*.png"):
            Image.fromarray(np.ascontiguousarray(change(np.asarray(Image.open(file))))).save(images / file.name)


def predict(work: Path, model: Path, fold: str, options: list[str]) -> None:
    for name in SETS:
        images, output = work / f"Dataset999_{name}" / "imagesTr", work / "uncertainty" / name
        command = [sys.executable, "-m", "nnunet_diffusion_ensemble.cli", "predict", "-m", model, "-f", fold]
        subprocess.run([*map(str, command), "-i", str(images), "-o", str(output), *options], check=True)


def read_rows(work: Path, name: str) -> dict[str, dict[str, float]]:
    """The table of a set of images, by case."""
    rows = list(csv.DictReader((work / "uncertainty" / name / "uncertainty.csv").open()))
    return {row.pop("case"): {key: float(value or np.nan) for key, value in row.items()} for row in rows}


def read_cases(work: Path, hospital: str) -> list[Case]:
    output, references = work / "uncertainty" / hospital, work / f"Dataset999_{hospital}" / "labelsTr"
    cases = []
    for name, row in read_rows(work, hospital).items():
        reference, prediction = (read_foreground(folder / f"{name}.png") for folder in (references, output))
        wrong, maps = reference != prediction, {}
        for kind in ("entropy", "mutual_information"):
            values = read_map(output / kind / f"{name}.tif")
            maps[kind] = auroc(values[wrong], values[~wrong]) if wrong.any() else np.nan
        cases.append(Case(name, row, dice_of_masks(reference, prediction), maps))
    return cases


def read_map(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def table(work: Path) -> None:
    cases = {hospital: read_cases(work, hospital) for hospital in HOSPITALS}
    for hospital in HOSPITALS:
        values = [case.dice for case in cases[hospital]]
        print(f"{hospital}: {len(values)} cases, Dice {np.mean(values):.3f}, lowest {min(values):.3f}")
    names = [*SCORES, *(name for name in cases[OTHER][0].row if name.startswith("denoising_error_t"))]
    signs = {name: SCORES.get(name, 1) for name in names}
    print("\nDoes a case with a larger number have a larger error? Rank correlation with 1 - Dice:\n")
    print(f"| score | {' | '.join(HOSPITALS)} |\n|---|---|---|")
    for name, sign in signs.items():
        cells = []
        for hospital in HOSPITALS:
            scores = [sign * case.row[name] for case in cases[hospital]]
            found = spearmanr(scores, [1 - case.dice for case in cases[hospital]], nan_policy="omit")
            cells.append(f"{found.statistic:.2f} (p = {found.pvalue:.1g})")
        print(f"| {_title(name, sign)} | {' | '.join(cells)} |")
    print(f"\nDoes a number tell other images from those of {IN_DOMAIN}? AUROC:\n")
    rows = {name: list(read_rows(work, name).values()) for name in SETS}
    print(f"| score | {' | '.join(SETS[1:])} |\n|---|{'---|' * len(SETS[1:])}")
    for name, sign in signs.items():
        of_set = {of: sign * np.array([row[name] for row in rows[of]]) for of in SETS}
        cells = [f"{auroc(of_set[of], of_set[IN_DOMAIN]):.3f}" for of in SETS[1:]]
        print(f"| {_title(name, sign)} | {' | '.join(cells)} |")
    print("\nAre the wrong pixels the uncertain ones? AUROC within each case, median (quartiles):\n")
    print(f"| map | {IN_DOMAIN} | {OTHER} |\n|---|---|---|")
    for kind in ("entropy", "mutual_information"):
        quartiles = [np.nanpercentile([c.pixel_auroc[kind] for c in cases[h]], (50, 25, 75)) for h in HOSPITALS]
        print(f"| {kind} | " + " | ".join("{:.3f} ({:.3f} to {:.3f})".format(*three) for three in quartiles) + " |")


def _title(name: str, sign: int) -> str:
    return f"1 - {name}" if sign < 0 else name


def picture(work: Path, file: Path) -> None:
    """Image with the contours of reference and prediction, and the maps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(HOSPITALS) * 3, 3, figsize=(7.5, 15.5), layout="constrained")
    for i, hospital in enumerate(HOSPITALS):
        cases = sorted(read_cases(work, hospital), key=lambda case: case.dice)
        for row, case in zip(axes[3 * i :], (cases[0], cases[len(cases) // 2], cases[-1]), strict=False):
            _draw(row, work, hospital, case)
    figure.savefig(file, dpi=100)


def _draw(axes: np.ndarray, work: Path, hospital: str, case: Case) -> None:
    data, output = work / f"Dataset999_{hospital}", work / "uncertainty" / hospital
    image = read_map(data / "imagesTr" / f"{case.name}_0000.png")
    axes[0].imshow(image, cmap="gray")
    axes[0].contour(read_foreground(data / "labelsTr" / f"{case.name}.png"), [0.5], colors="#56B4E9")
    axes[0].contour(read_foreground(output / f"{case.name}.png"), [0.5], colors="#E69F00")
    axes[0].set_title(f"{hospital}: Dice {case.dice:.3f}", fontsize=9)
    for axis, kind in zip(axes[1:], ("entropy", "mutual_information"), strict=True):
        axis.imshow(read_map(output / kind / f"{case.name}.tif"), cmap="magma", vmin=0, vmax=1)
        axis.set_title(f"{kind} {case.row[kind]:.3f}", fontsize=9)
    for axis in axes:
        axis.set(xticks=[], yticks=[])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("unusual", "predict", "table", "picture"))
    parser.add_argument("arguments", nargs="+", help="see above")
    args, options = parser.parse_known_args()
    work, *rest = args.arguments
    if args.step == "unusual":
        make_unusual(Path(work))
    elif args.step == "predict":
        predict(Path(work), Path(rest[0]), rest[1], options)
    elif args.step == "table":
        table(Path(work))
    else:
        picture(Path(work), Path(rest[0]))


if __name__ == "__main__":
    main()
