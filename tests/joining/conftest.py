"""A benchmark to be taken apart and joined again."""

import pytest
from joining_data import finished

from nnunet_diffusion_ensemble.benchmark.results import BenchmarkResults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResults:
    return finished(tmp_path_factory.mktemp("benchmarks") / "whole")
