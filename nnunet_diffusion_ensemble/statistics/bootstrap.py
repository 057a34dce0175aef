"""Intervals by resampling patients and seeds, independently of each other (Owen 2007, the pigeonhole bootstrap).

Every seed is tested on the same cases, so both axes of the matrix (seeds, cases) are samples: of possible trainings and
of possible patients. A replicate draws both with replacement and is the mean of what was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnunet_diffusion_ensemble.benchmark.resampling import Resampling
from nnunet_diffusion_ensemble.statistics.series import DomainSeries


@dataclass(frozen=True)
class Bootstrap(Resampling):
    """How to resample.

    What is drawn depends on these numbers, the name of the domain, its number of patients and the seeds alone, so all
    models are tested on the same drawn patients, and their differences and ranks are paired. So are the seeds of models
    that have the same ones.
    """

    def seed_counts(self, seeds: Sequence[int]) -> np.ndarray:
        """How often each seed is drawn, (replicates, seeds), the same in every domain."""
        return self._counts(f"seeds {sorted(seeds)}", len(seeds))

    def patient_counts(self, domain: str, num_patients: int) -> np.ndarray:
        """How often each patient is drawn, (replicates, patients), independently of other domains."""
        return self._counts(f"patients of {domain}", num_patients)

    def _counts(self, what: str, number: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, *what.encode()])
        return random.multinomial(number, np.full(number, 1 / number), self.replicates).astype(float)

    def interval(self, replicates: np.ndarray) -> tuple[float, float]:
        """The percentile interval, of the replicates that are defined; NaN if none is."""
        defined = replicates[~np.isnan(replicates)]
        if not len(defined):
            return np.nan, np.nan
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)


DEFAULT = Bootstrap()


@dataclass(frozen=True)
class DomainBootstrap:
    """Replicates of means in one domain."""

    bootstrap: Bootstrap
    domain: DomainSeries

    @cached_property
    def case_counts(self) -> np.ndarray:
        """How often each case is drawn, (replicates, cases): as often as its patient."""
        patients = self.domain.patients
        return self.bootstrap.patient_counts(self.domain.name, int(patients.max()) + 1)[:, patients]

    def means(self, values: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Replicates of the mean over cases of the mean over seeds, (replicates,).

        All of them are NaN if fewer than two patients have a value, as one patient says nothing about others.

        Args:
            values: (seeds, cases of the domain), NaN where there is none.
            seeds: of its rows.
        """
        used = ~np.isnan(values).all(axis=0)
        if len(np.unique(self.domain.patients[used])) < 2:
            return np.full(self.bootstrap.replicates, np.nan)
        case_counts = self.case_counts if used.all() else self.case_counts[:, used]
        return resampled_means(values[:, used], self.bootstrap.seed_counts(seeds), case_counts)


def resampled_means(values: np.ndarray, seed_counts: np.ndarray, case_counts: np.ndarray) -> np.ndarray:
    """For each replicate the mean over drawn cases of the mean over drawn seeds, each as often as it was drawn.

    Undefined values are left out; a case none of whose drawn seeds has a value is left out. NaN if no case is left.

    Args:
        values: (seeds, cases), NaN where undefined.
        seed_counts: (replicates, seeds).
        case_counts: (replicates, cases).

    Returns:
        (replicates,)
    """
    defined = ~np.isnan(values)
    if defined.all():  # both means are over all that was drawn: one product of matrices
        sums = np.sum((case_counts @ values.T) * seed_counts, axis=1)
        return _ratio(sums, seed_counts.sum(axis=1) * case_counts.sum(axis=1))
    weights = seed_counts @ defined
    case_values = np.nan_to_num(_ratio(seed_counts @ np.where(defined, values, 0.0), weights))
    sums = np.einsum("rc,rc->r", case_values, case_counts)
    return _ratio(sums, np.einsum("rc,rc->r", case_counts, (weights > 0).astype(float)))


def _ratio(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.divide(sums, weights, out=np.full(sums.shape, np.nan), where=weights > 0)
