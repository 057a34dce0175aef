"""`predict` and faulty models: each gives a sentence that says what came and what to do, and leaves all as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mistakes import DEEP, Fault, as_folder, change_json, flip, nothing, without, write


@pytest.fixture
def model(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model_folder()
    images(num_cases=1)
    (tmp_path / "file").write_text("mine")


CHECKPOINT = "model/fold_0/checkpoint_final.pth"


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", write("model/plans.json", "{}"), "model/plans.json lacks"),
        ("", write("model/plans.json", "[]"), "model/plans.json must hold an object"),
        ("", write("model/plans.json", '{"configurations": 3}'), "model/plans.json"),
        ("", write("model/plans.json", '{"a":'), "model/plans.json is not JSON"),
        ("", write("model/plans.json", DEEP), "model/plans.json is not JSON"),
        ("", change_json("model/plans.json", without("configurations", "2d")), "model/plans.json"),
        ("", change_json("model/plans.json", without("configurations", "2d", "patch_size")), "model/plans.json"),
        ("", change_json("model/plans.json", without("image_reader_writer")), "model/plans.json"),
        ("", write("model/dataset.json", "{}"), "model/dataset.json lacks"),
        ("", write("model/dataset.json", "7"), "model/dataset.json must hold an object"),
        ("", change_json("model/dataset.json", lambda content: content.update(labels=[1])), "model/dataset.json"),
        ("", flip(CHECKPOINT), "checkpoint_final.pth is damaged"),
        ("", as_folder(CHECKPOINT), "There is no {tmp}/model/fold_0/checkpoint_final.pth"),
        ("", lambda folder: torch.save([1], folder / CHECKPOINT), "is not a checkpoint of nnU-Net"),
        ("-step_size nan", nothing, "tile_step_size must be a finite number above 0 and at most 1; got nan"),
        ("--timesteps -1", nothing, "timesteps must be a list of one or more, each a whole number of at least 0"),
        ("--timesteps 1 1", nothing, "1 twice; name each once"),
        ("--timesteps 5000", nothing, "5000"),
        ("-f 7", nothing, "There is no {tmp}/model/fold_7"),
        ("-o {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-i {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-m {tmp}/file", nothing, "{tmp}/file"),
        ("--denoiser {tmp}/file", nothing, "{tmp}/file is not a checkpoint"),
        ("--denoiser {tmp}/images", nothing, "{tmp}/images is a folder, not a checkpoint"),
    ],
)
def test_predict(arguments: str, fault: Fault, message: str, model: None, check: Callable) -> None:
    given = f"predict -i {{tmp}}/images -o {{tmp}}/out -m {{tmp}}/model -f 0 -device cpu {arguments}"
    check(given, fault, message)
