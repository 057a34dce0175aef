"""The rules that a user may choose."""

import pytest

from nnunet_diffusion_ensemble.self_training.settings import SelfTrainingSettings

WRONG = [
    ({"upper": 0.5}, "upper must be a number above 0.5 and at most 1; got 0.5"),
    ({"lower": 0.5}, "lower must be a number of at least 0 and below 0.5; got 0.5"),
    ({"kept_share": 0.0}, "kept_share must be a number above 0 and at most 1; got 0.0"),
    ({"rounds": 0}, "rounds must be a whole number of at least 1; got 0"),
    ({"largest_area": 0.9}, "largest_area must be a number of at least 1; got 0.9"),
    ({"true_share": 1.0}, "true_share must be a number above 0 and below 1; got 1.0"),
    ({"uper": 0.9}, "uper is unknown; did you mean upper"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_value_that_is_not_allowed_is_named(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelfTrainingSettings(**values)
