"""The rules that a user may choose."""

import pytest

from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings, read_settings

WRONG = [
    ({"upper": 0.5}, "upper is 0.5: input should be greater than 0.5"),
    ({"lower": 0.5}, "lower is 0.5: input should be less than 0.5"),
    ({"kept_share": 0}, "kept_share is 0: input should be greater than 0"),
    ({"rounds": 0}, "rounds is 0: input should be greater than or equal to 1"),
    ({"largest_area": 0.9}, "largest_area is 0.9: input should be greater than or equal to 1"),
    ({"true_share": 1}, "true_share is 1: input should be less than 1"),
    ({"uper": 0.9}, "uper is 0.9: extra inputs are not permitted"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_value_that_is_not_allowed_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(SelfTrainingSettings, values)


def test_what_is_not_chosen_is_the_default() -> None:
    assert read_settings(SelfTrainingSettings, {"upper": None, "rounds": 2}) == SelfTrainingSettings(rounds=2)
