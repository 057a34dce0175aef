"""Does uncertainty know where and when a prediction is wrong, and which hospital an image is from?

    python benchmarks/uncertainty.py predict WORK MODEL_FOLDER FOLD [options of nnunet-diffusion predict]
    python benchmarks/uncertainty.py table WORK
    python benchmarks/uncertainty.py picture WORK PNG

WORK is that of `benchmarks/xrays.py prepare`: `predict` writes WORK/uncertainty/HOSPITAL for both hospitals, `table`
prints Markdown, `picture` shows the cases of the lowest, median and highest Dice with their entropy.
"""

import argparse
import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.stats import mannwhitneyu, spearmanr

from nnunet_diffusion_ensemble.demo_scores import dice, read_foreground

IN_DOMAIN, OTHER = HOSPITALS = ("montgomery", "shenzhen")
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
    return float(mannwhitneyu(positive, negative).statistic) / (len(positive) * len(negative))


def predict(work: Path, model: Path, fold: str, options: list[str]) -> None:
    for hospital in HOSPITALS:
        images, output = work / f"Dataset999_{hospital}" / "imagesTr", work / "uncertainty" / hospital
        command = [sys.executable, "-m", "nnunet_diffusion_ensemble.cli", "predict", "-m", model, "-f", fold]
        subprocess.run([*map(str, command), "-i", str(images), "-o", str(output), *options], check=True)


def read_cases(work: Path, hospital: str) -> list[Case]:
    output, references = work / "uncertainty" / hospital, work / f"Dataset999_{hospital}" / "labelsTr"
    cases = []
    for row in csv.DictReader((output / "uncertainty.csv").open()):
        name = row.pop("case")
        reference, prediction = (read_foreground(folder / f"{name}.png") for folder in (references, output))
        wrong, maps = reference != prediction, {}
        for kind in ("entropy", "mutual_information"):
            values = read_map(output / kind / f"{name}.tif")
            maps[kind] = auroc(values[wrong], values[~wrong]) if wrong.any() else np.nan
        cases.append(Case(name, {k: float(v or np.nan) for k, v in row.items()}, dice(reference, prediction), maps))
    return cases


def read_map(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def table(work: Path) -> None:
    cases = {hospital: read_cases(work, hospital) for hospital in HOSPITALS}
    for hospital in HOSPITALS:
        values = [case.dice for case in cases[hospital]]
        print(f"{hospital}: {len(values)} cases, Dice {np.mean(values):.3f}, lowest {min(values):.3f}")
    print("\nDoes a number for the case tell the hospitals apart, and does it go with the error?\n")
    print(f"| score | AUROC of {OTHER} | rank correlation with 1 - Dice: {IN_DOMAIN} | {OTHER} |\n|---|---|---|---|")
    names = [*SCORES, *(name for name in cases[OTHER][0].row if name.startswith("denoising_error_t"))]
    for name in names:
        sign = SCORES.get(name, 1)
        scores = {h: sign * np.array([case.row[name] for case in cases[h]]) for h in HOSPITALS}
        cells = [f"{auroc(scores[OTHER], scores[IN_DOMAIN]):.3f}"]
        for hospital in HOSPITALS:
            found = spearmanr(scores[hospital], [1 - case.dice for case in cases[hospital]])
            cells.append(f"{found.statistic:.2f} (p = {found.pvalue:.1g})")
        print(f"| {'1 - ' * (sign < 0)}{name} | {' | '.join(cells)} |")
    print("\nAre the wrong pixels the uncertain ones? AUROC within each case, median (quartiles):\n")
    print(f"| map | {IN_DOMAIN} | {OTHER} |\n|---|---|---|")
    for kind in ("entropy", "mutual_information"):
        quartiles = [np.nanpercentile([c.pixel_auroc[kind] for c in cases[h]], (50, 25, 75)) for h in HOSPITALS]
        print(f"| {kind} | " + " | ".join("{:.3f} ({:.3f} to {:.3f})".format(*three) for three in quartiles) + " |")


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
    parser.add_argument("step", choices=("predict", "table", "picture"))
    parser.add_argument("arguments", nargs="+", help="see above")
    args, options = parser.parse_known_args()
    work, *rest = args.arguments
    if args.step == "predict":
        predict(Path(work), Path(rest[0]), rest[1], options)
    elif args.step == "table":
        table(Path(work))
    else:
        picture(Path(work), Path(rest[0]))


if __name__ == "__main__":
    main()
