"""How to predict, as it is written into records."""

from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings


def test_records_of_before_timesteps_could_be_chosen_still_hold() -> None:
    before = {"folds": [0], "checkpoint_name": "checkpoint_final.pth", "tile_step_size": 0.5, "use_mirroring": True}
    assert PredictionSettings(folds=(0,), device="cpu").to_json() == before
    assert PredictionSettings(folds=(0,), device="cpu", timesteps=(1, 9)).to_json() == {**before, "timesteps": [1, 9]}
