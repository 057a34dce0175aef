"""What is told of a data set's plans."""

import json
from pathlib import Path

from nnunet_diffusion_ensemble.nnunet.preprocessed import plans_that_are_there


def test_plans_are_named_whatever_they_are_called_and_nothing_else_is(tmp_path: Path) -> None:
    files = {"nnUNetPlans": {"configurations": {}}, "Study": {"configurations": {}}, "dataset": {"labels": {}}}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "splits_final.json").write_text("[]")
    (tmp_path / "HalfPlans.json").write_text('{"configu')
    assert plans_that_are_there(tmp_path) == ", or name those that are there: -p Study or -p nnUNetPlans"
    assert plans_that_are_there(tmp_path / "none") == ""
