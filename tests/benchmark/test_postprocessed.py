"""A model in a benchmark twice, the second time without small components."""

from collections.abc import Callable

import pytest
from benchmark_inputs import notes_of, with_models

from nnunet_diffusion_ensemble.benchmark.results import read_results
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.held_out.postprocessing import write_postprocessing
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer


@pytest.fixture
def spec(make_benchmark: Callable) -> BenchmarkSpec:
    made = make_benchmark(trainer=DiffusionEnsembleTrainer, metrics=("Dice", "Brier"), timesteps=False)
    plain = made.models[0].model_dump()
    return with_models(made, plain, plain | {"name": "cleaned", "postprocessed": True})


def test_a_postprocessed_model_has_other_masks_and_the_same_probabilities(spec: BenchmarkSpec) -> None:
    write_postprocessing(spec.models[0].folder, (0,), {"organ": 1.0})
    found = read_results(run_benchmark(spec).folder).results
    own = found.set_index(["model", "metric", "case"])["value"].sort_index()
    assert not own["TEDM", "Dice"].equals(own["cleaned", "Dice"])
    assert own["TEDM", "Brier"].equals(own["cleaned", "Brier"])


def test_what_is_learned_anew_predicts_its_model_anew_and_no_other(spec: BenchmarkSpec) -> None:
    write_postprocessing(spec.models[0].folder, (0,), {"organ": 1.0})
    run_benchmark(spec)
    assert notes_of(spec) == []
    write_postprocessing(spec.models[0].folder, (0,), {"organ": 0.5})
    notes = notes_of(spec)
    assert any("postprocessing_folds_0.json has changed" in note for note in notes)
    anew = [note for note in notes if "predicted anew" in note]
    assert len(anew) == 1 and anew[0].startswith("cleaned, seed 0, on north")


def test_a_model_whose_small_components_are_unknown_is_refused(spec: BenchmarkSpec) -> None:
    with pytest.raises(ValueError, match=r"cleaned: seed 0: There is no .*postprocessing_folds_0\.json.*Learn it"):
        run_benchmark(spec)
