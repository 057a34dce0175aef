"""How often the interval of predicted Dice holds the true one, whatever coverage it aims at, as Markdown and a figure.

    python benchmarks/dice_coverage.py RESULTS [--figure FILE.png]     # of a benchmark with calibrated models

The calibrations beside the models are asked again, at other coverages, about the scores that the benchmark wrote. What
takes more cases than there are (95% of jackknife+ takes 19) gives the interval from 0 to 1.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.calibration.file import calibration_file, read_calibration

AIMS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def intervals(results: Path) -> Iterator[dict[str, object]]:
    """For each calibrated training, domain, case and coverage whether the interval holds, and how wide it is."""
    spec = read_spec(results / "spec.yaml")
    for model in (model for model in spec.models if model.calibrated):
        for seed, folds in model.seeds.items():
            fitted = read_calibration(calibration_file(model.folder, folds)).dice
            assert fitted is not None, "the benchmark had a predicted Dice"
            for domain in spec.domains:
                folder = results / "runs" / f"{model.key}_seed{seed}" / domain.key
                dice = pd.read_csv(folder / "predicted_dice.csv").set_index("case")["dice"]
                scores = pd.read_csv(folder / "prediction" / "uncertainty.csv").set_index("case")
                for aim in AIMS:
                    asked = fitted.model_copy(update={"coverage": aim})
                    for case, true in dice.items():
                        if found := asked.of_case(scores.loc[case].to_dict()):
                            holds, width = found.lower <= true <= found.upper, found.upper - found.lower
                            yield {"domain": domain.name, "aim": aim, "holds": holds, "width": width}


def draw(table: pd.DataFrame) -> Figure:
    """Coverage against what it aims at; on the dotted line they are equal."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes, ends = figure.subplots(), (min(AIMS[0], table.min(axis=None)) - 0.05, 1.0)
    axes.plot(ends, ends, ":", color="grey")
    for (name, coverage), marker in zip(table.items(), "osD^v", strict=False):
        axes.plot(coverage.index, coverage, marker=marker, label=name)
    axes.set(xlabel="coverage aimed at", ylabel="cases whose Dice lies in the interval", xlim=ends, ylim=ends)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of the benchmark")
    parser.add_argument("--figure", type=Path, help="file to write")
    args = parser.parse_args()
    means = pd.DataFrame(intervals(args.results)).groupby(["domain", "aim"]).mean().unstack("domain")
    print("| aims at | " + " | ".join(f"{name}, holds (mean width)" for name in means["holds"]) + " |")
    print("|---|" + "---|" * len(means["holds"].columns))
    for aim, row in means.iterrows():
        cells = [f"{row['holds', name]:.0%} ({row['width', name]:.3f})" for name in means["holds"]]
        print(f"| {aim:.0%} | " + " | ".join(cells) + " |")
    if args.figure:
        draw(means["holds"]).savefig(args.figure, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()
