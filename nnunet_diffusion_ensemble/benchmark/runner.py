"""Runs a benchmark: prediction and evaluation of each trained model on each domain, and the tables of all."""

from nnunet_diffusion_ensemble.benchmark.progress import Report, silent
from nnunet_diffusion_ensemble.benchmark.results import ResultFolder
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec


def run_benchmark(spec: BenchmarkSpec, report: Report = silent) -> ResultFolder:
    """Predicts and evaluates what is not there yet, and writes the tables (`results.py` says which).

    Killed at any time, it goes on where it was; several processes share the work on one output folder.

    Args:
        spec: what to test.
        report: is told of each case that is done, and of what is computed anew.

    Returns:
        Where the results lie.

    Raises:
        ValueError: models or cases cannot be tested, all of them listed, if the specification says `refuse`; or the
            output folder holds the results of another specification.
        OSError: a file cannot be read or written.
        RuntimeError: a prediction fails, if the specification says `refuse`; or nothing can be tested.
    """
    raise NotImplementedError
