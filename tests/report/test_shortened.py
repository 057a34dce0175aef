"""What is left of a long name."""

import pytest

from nnunet_diffusion_ensemble.report.shortened import short


@pytest.mark.parametrize(
    ("length", "expected"), [(9, "abcdefghi"), (8, "abcd\N{HORIZONTAL ELLIPSIS}ghi"), (1, "\N{HORIZONTAL ELLIPSIS}")]
)
def test_a_long_name_keeps_both_ends(length: int, expected: str) -> None:
    assert short("abcdefghi", length) == expected
