"""How often the benchmark's 95% intervals hold the truth, by the number of seeds, as Markdown.

    python benchmarks/interval_coverage.py [--simulations 2000]

Simulated values of a model: an effect of the seed, one of the case and one of both, all normal, true mean 0; no two
cases are of one patient. The seeds' part of the variance of the mean is a sixteenth of the cases' part, or as large.
"""

import argparse

import numpy as np

from nnunet_diffusion_ensemble.statistics.bootstrap import Bootstrap, resampled_means

NUM_CASES = 50
RATIOS = {"seeds matter little": 1 / 16, "seeds matter as much as cases": 1.0}  # of variances of the mean
INTERACTION = 0.5  # standard deviation, in those between cases


def coverage(num_seeds: int, ratio: float, simulations: int) -> float:
    """Share of simulations whose interval holds the true mean."""
    bootstrap, random = Bootstrap(), np.random.default_rng(0)
    seed_counts = bootstrap.seed_counts(range(num_seeds))
    case_counts = bootstrap.patient_counts("simulated", NUM_CASES)
    seed_sd = np.sqrt(ratio * num_seeds / NUM_CASES)
    covered = 0
    for _ in range(simulations):
        values = seed_sd * random.normal(size=(num_seeds, 1)) + random.normal(size=NUM_CASES)
        values += INTERACTION * random.normal(size=values.shape)
        low, high = bootstrap.interval(resampled_means(values, seed_counts, case_counts))
        covered += low <= 0 <= high
    return covered / simulations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=2000)
    simulations = parser.parse_args().simulations
    print(f"| seeds | {' | '.join(RATIOS)} |\n|---|{'---|' * len(RATIOS)}")
    for num_seeds in (1, 3, 5, 10):
        shares = [f"{coverage(num_seeds, ratio, simulations):.1%}" for ratio in RATIOS.values()]
        print(f"| {num_seeds} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
