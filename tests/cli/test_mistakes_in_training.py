"""`plan`, `preprocess`, `train` and `few-label`: each fault gives a sentence, and leaves all as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mistakes import DEEP, DEEP_YAML, PLANS, Fault, change_json, nothing, remove, without, write
from planning_data import make_dataset as make_raw_dataset
from unlabelled_data import NAME


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_raw_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (4, 32, 32), (1.0, 1.0, 1.0))
    (tmp_path / "file").write_text("mine")


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", write("raw/Dataset001_Made/dataset.json", "{}"), "dataset.json lacks channel_names"),
        ("", write("raw/Dataset001_Made/dataset.json", "[1]"), "dataset.json must hold an object"),
        ("", write("raw/Dataset001_Made/dataset.json", DEEP), "dataset.json is not JSON"),
        ("", change_json("raw/Dataset001_Made/dataset.json", without("labels")), "dataset.json lacks"),
        ("", remove("raw/Dataset001_Made/dataset.json"), "There is no {tmp}/raw/Dataset001_Made/dataset.json"),
        ("", write("preprocessed/Dataset001_Made/dataset_fingerprint.json", "{}"), "dataset_fingerprint.json"),
        (
            "",
            write("preprocessed/Dataset001_Made/dataset_fingerprint.json", "{"),
            "fingerprint.json is not JSON",
        ),
        ("-d 2", nothing, "There is no data set 2; there is Dataset001_Made"),
        ("--batch-size 0", nothing, "batch_size must be a whole number of at least 1, or null; got 0"),
        ("--base-features -1", nothing, "base_features must be a whole number of at least 1"),
        ("--blocks-per-stage 0", nothing, "blocks_per_stage must be a whole number of at least 1"),
        ("--gpu-memory-target nan", nothing, "gpu_memory_target_gb must be a finite number above 0"),
        ("--gpu-memory-target -1", nothing, "gpu_memory_target_gb must be a number above 0"),
        ("--target-spacing 1 nan 1", nothing, "target_spacing must be a list of 3, each a finite number above 0"),
        ("-np 0", nothing, "-np"),
        ("--denoiser {tmp}/file", nothing, "{tmp}/file is not a checkpoint"),
        ("--denoiser {tmp}/raw", nothing, "{tmp}/raw is a folder, not a checkpoint"),
    ],
)
def test_plan(arguments: str, fault: Fault, message: str, raw: None, check: Callable) -> None:
    check(f"plan -d 1 -np 1 {arguments}", fault, message)


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", write(PLANS, "{}"), "Plans.json lacks"),
        ("", write(PLANS, "[]"), "Plans.json must hold an object"),
        ("", write(PLANS, '{"configurations": []}'), "Plans.json"),
        ("", write(PLANS, '{"configurations": {"2d": 3}}'), "Plans.json"),
        (
            "",
            change_json(PLANS, without("configurations", "2d", "data_identifier")),
            "lacks 'data_identifier'",
        ),
        ("", write(PLANS, '{"configurations": {"2d": {"inherits_from": "2d"}}}'), "Plans.json"),
        ("", write(f"nnUNet_preprocessed/{NAME}/dataset.json", "{}"), "dataset.json lacks"),
        ("", remove(f"nnUNet_preprocessed/{NAME}/dataset.json"), "dataset.json"),
        ("-c 3d_fullres", nothing, "Plans.json has no configuration 3d_fullres, only 2d"),
        ("-p Others", nothing, "There are no plans {tmp}/nnUNet_preprocessed/Dataset001_Test/Others.json"),
    ],
)
def test_preprocess(arguments: str, fault: Fault, message: str, planned: None, check: Callable) -> None:
    check(f"preprocess -d 1 -c 2d -p Plans -np 1 {arguments}", fault, message)


# ---- train and few-label

STUDY = "few-label -d 1 -p Plans --trainers nnUNetTrainer --labels 1 -device cpu -o {tmp}/study"
ORDERS = '{"seeds": {"0": {"train_order": ["a", "b", "c"]}}, "in_domain_test": %s}'


@pytest.fixture
def preprocessed(planned: None, tmp_path: Path) -> Path:
    """With five labelled cases."""
    folder = tmp_path / "nnUNet_preprocessed" / NAME
    (folder / "gt_segmentations").mkdir()
    for case in "abcde":
        (folder / "gt_segmentations" / f"{case}.png").touch()
    return folder


IN = f"nnUNet_preprocessed/{NAME}"


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("--seeds -1", nothing, "must be 0 or more, got -1"),
        ("--minutes nan", nothing, "minutes must be a finite number above 0; got nan"),
        ("--minutes inf", nothing, "minutes must be a finite number above 0; got inf"),
        ("--hold-out 5", nothing, "--hold-out 5: the data set has 5 labelled case(s)"),
        ("--hold-out 4", nothing, "1 labelled cases cannot be taken"),
        ("--splits {tmp}/none.json", nothing, "There is no {tmp}/none.json"),
        ("--splits {tmp}", nothing, "{tmp} is a folder, not a file"),
        ("--splits {tmp}/s.json", write("s.json", "{}"), "s.json is no file of label orders"),
        ("--splits {tmp}/s.json", write("s.json", "[]"), "s.json is no file of label orders"),
        (
            "--splits {tmp}/s.json --seeds 0",
            write("s.json", ORDERS % '["d", "dd"]'),
            "names 1 case(s) that the data set",
        ),
        ("", write(f"{IN}/splits_final.json", "{}"), "splits_final.json must hold a list of folds"),
        ("", write(f"{IN}/splits_final.json", '[{"train": ["a"]}]'), "splits_final.json, fold 0: must be"),
        ("", write(f"{IN}/splits_final.json", '[{"train": "a", "val": ["b"]}]'), "splits_final.json, fold 0: must be"),
        ("", write(f"{IN}/splits_final.json", "["), "splits_final.json is not JSON"),
        ("", write(f"{IN}/dataset.json", "{}"), "dataset.json lacks file_ending"),
        ("", write(f"{IN}/dataset.json", "[]"), "dataset.json must hold an object"),
        ("", write(f"{IN}/Plans.json", "{}"), "Plans.json lacks configurations"),
        ("-d 9", nothing, "There is no data set 9"),
        ("-o {tmp}/file", write("file", "mine"), "{tmp}/file is a file, but a folder is needed"),
        ("--benchmark {tmp}/b.yaml", write("b.yaml", DEEP_YAML), "b.yaml is nested too deep"),
        ("--parts 2 --part 2", nothing, "--part counts from 0 to --parts - 1 = 1, got 2"),
    ],
)
def test_few_label(arguments: str, fault: Fault, message: str, preprocessed: Path, check: Callable) -> None:
    check(f"{STUDY} {arguments}", fault, message)


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("1 2d 0 --minutes nan", nothing, "minutes must be a finite number above 0; got nan"),
        ("1 2d 0 --minutes 0", nothing, "minutes must be a number above 0; got 0"),
        ("1 2d -1 --minutes 1", nothing, "must be a number or all, got -1"),
        ("1 2d 0 --minutes 1", write(PLANS, "{}"), "Plans.json lacks"),
        ("1 2d 0 --minutes 1", write(PLANS, "[]"), "Plans.json must hold an object"),
        ("1 2d 0 --minutes 1", remove(PLANS), "There are no plans"),
        ("1 3d_fullres 0 --minutes 1", nothing, "Plans.json has no configuration 3d_fullres, only 2d"),
        ("1 2d 0 --minutes 1", write(f"{IN}/dataset.json", "{}"), "dataset.json lacks"),
        ("1 2d 0 --minutes 1 -tr Nobody", nothing, "nnU-Net finds no trainer Nobody"),
        ("9 2d 0 --minutes 1", nothing, "There is no data set 9"),
        ("1 2d 0 --minutes 1", write(f"{IN}/splits_final.json", "{"), "splits_final.json is not JSON"),
    ],
)
def test_train(arguments: str, fault: Fault, message: str, preprocessed: Path, check: Callable) -> None:
    check(f"train -tr nnUNetTrainer -p Plans -device cpu {arguments}", fault, message)
