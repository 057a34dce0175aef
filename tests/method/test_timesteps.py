"""Timesteps of another length of the diffusion process: as far on the way, wherever they come from."""

from typing import Any

import pytest

from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod, EnsembleSettings, on_the_way
from nnunet_diffusion_ensemble.method.timesteps import TIMESTEP_SETTINGS, timesteps_on_the_way


# Worked by hand: of 100 steps, 50 becomes 5, 1 and 4 both 0, and 999, which rounds to 100, the last.
@pytest.mark.parametrize(
    ("timesteps", "steps", "expected"),
    [((250, 50), 1000, (50, 250)), ((1, 4, 50), 100, (0, 5)), ((800, 999), 100, (80, 99)), ((1, 999), 4000, (4, 3996))],
)
def test_timesteps_of_another_length_are_as_far_on_the_way(timesteps, steps, expected) -> None:
    assert timesteps_on_the_way(timesteps, steps) == expected


def test_only_settings_that_are_timesteps_are_moved() -> None:
    changes = {
        "ensemble.timesteps": (100, 500),
        "ensemble.single_timestep": 500,
        "pretraining.timestep_bands": (4, 250),
        "training.num_epochs": 500,
    }
    assert on_the_way(changes, 100) == {
        "ensemble.timesteps": (10, 50),
        "ensemble.single_timestep": 50,
        "pretraining.timestep_bands": (25,),  # a band before timestep 0 would be empty
        "training.num_epochs": 500,
    }


def test_the_usual_length_leaves_the_defaults_as_they_are() -> None:
    method = DiffusionMethod(denoiser=DenoiserSettings(num_diffusion_steps=1000))
    for path, (_, default) in TIMESTEP_SETTINGS.items():
        part, name = path.split(".")
        assert getattr(getattr(method, part), name) == default


@pytest.mark.parametrize("steps", [2, 3, 10, 50, 51, 100, 500, 501, 800, 999, 1001, 4000])
def test_a_process_of_any_length_has_defaults_that_fit(steps: int) -> None:
    method = DiffusionMethod().with_options({"denoiser.num_diffusion_steps": steps})
    assert max(method.ensemble.timesteps) == min(round(0.8 * steps), steps - 1)
    assert all(0 < edge < steps for edge in method.pretraining.timestep_bands)
    assert method.pretraining.num_sampling_steps == min(50, steps)
    assert DiffusionMethod.from_plans({"diffusion": method.to_plans()}) == method


@pytest.mark.parametrize(
    "settings",
    [
        {"denoiser": {"num_diffusion_steps": 100}, "ensemble": {"timesteps": [1, 50]}},
        {"denoiser": DenoiserSettings(num_diffusion_steps=100), "ensemble": EnsembleSettings(timesteps=(1, 50))},
    ],
    ids=["JSON", "models"],
)
def test_timesteps_that_are_named_stay(settings: dict[str, Any]) -> None:
    method = DiffusionMethod.read(settings)
    assert method.ensemble.timesteps == (1, 50)
    assert method.ensemble.single_timestep == 0  # 1 of 1000
