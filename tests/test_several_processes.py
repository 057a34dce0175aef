"""Which tests stay in one process."""

from pathlib import Path

import pytest
from several_processes import group_of

SLOW = Path(__file__).parent / "slow"


@pytest.mark.parametrize("name", ["trained_model", "interrupted_training", "distil_command", "self_train_command"])
def test_modules_that_share_the_chain_on_xrays_are_one_group(name: str) -> None:
    assert group_of(SLOW / f"test_{name}.py") == group_of(SLOW / "test_xray_chain.py")


def test_any_other_module_is_a_group_of_its_own() -> None:
    groups = {group_of(SLOW / f"test_{name}.py") for name in ("xray_chain", "demo", "site")}
    assert len(groups) == 3
