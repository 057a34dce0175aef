"""Doors x faults: each gives a sentence that says what came and what to do, and leaves everything as it was."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from planning_data import make_dataset as make_raw_dataset
from report_data import Made, make_results
from unlabelled_data import GREY_JSON, GREY_PLANS, NAME, make_dataset

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.source import shipped_denoisers

SHIPPED = "chest-xray-64"
DEEP = "[" * 20000  # JSON; YAML takes its time
DEEP_YAML = "[" * 1000
Fault = Callable[[Path], Any]


def write(name: str, text: str) -> Fault:
    return lambda folder: (folder / name).write_text(text)


def remove(name: str) -> Fault:
    return lambda folder: (folder / name).unlink()


def as_folder(name: str) -> Fault:
    def fault(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return fault


def edit(name: str, change: Callable[[str], str]) -> Fault:
    return lambda folder: (folder / name).write_text(change((folder / name).read_text()))


def change_json(name: str, change: Callable[[dict], Any]) -> Fault:
    def fault(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return fault


def without(*path: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def nothing(folder: Path) -> None: ...


def everything_in(folder: Path) -> dict[str, bytes | None]:
    found = sorted(folder.rglob("*"))
    return {str(file.relative_to(folder)): file.read_bytes() if file.is_file() else None for file in found}


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.setenv("TMPDIR", str(tmp_path.parent))

    def run(arguments: str, fault: Fault, message: str) -> None:
        fault(tmp_path)
        before = everything_in(tmp_path)
        try:
            status = main([part.format(tmp=tmp_path) for part in arguments.split()])
        except SystemExit as end:  # of argparse
            status = end.code
        told = capsys.readouterr().err
        assert message.format(tmp=tmp_path) in told
        assert (status, "Traceback" in told) == (2, False), told
        assert everything_in(tmp_path) == before

    return run


# ---- report

RESULTS = "results/results.csv"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    made = Made(models=("A",), with_timesteps=(), num_cases=2, seeds=(0,), labelled_cases=(6,), has_images=False)
    make_results(tmp_path / "results", made)
    (tmp_path / "file").write_text("mine")


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ("", edit(RESULTS, lambda text: text.replace("value", "wert", 1)), "results.csv lacks the column(s) value"),
        ("", edit(RESULTS, lambda text: text[:-9]), "results.csv is truncated"),
        ("", write(RESULTS, ""), "results.csv is empty"),
        ("", edit(RESULTS, lambda text: text.split("\n")[0] + "\n"), "has no results of any case"),
        ("", edit(RESULTS, lambda text: text.replace(",0.", ",no", 1)), "results.csv cannot be read as a table"),
        ("", edit(RESULTS, lambda text: text + 'A,6,0,Home,"\n'), "results.csv cannot be read as a table"),
        (
            "",
            edit(RESULTS, lambda text: text.replace("\nA,", "\nB,", 1)),
            "results of B, which spec.yaml does not",
        ),
        ("", lambda folder: (folder / RESULTS).write_bytes(b"\xff\xfe\x00" * 99), "results.csv"),
        ("", as_folder(RESULTS), "results.csv is a folder, not a file"),
        ("", remove("results/problems.csv"), "There is no {tmp}/results/problems.csv"),
        ("", write("results/problems.csv", ""), "problems.csv is empty"),
        ("", write("results/calibration.csv", "model,seed\n"), "calibration.csv lacks the column(s) labelled_cases, "),
        ("", write("results/spec.yaml", ""), "spec.yaml has"),
        ("", write("results/spec.yaml", DEEP_YAML), "spec.yaml is nested too deep"),
        ("-o {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("-o {tmp}/file/below", nothing, "{tmp}/file is a file, but a folder is needed"),
        ("--labels nose", nothing, "--labels nose: the results have lung"),
    ],
)
def test_report(arguments: str, fault: Fault, message: str, results: None, check: Callable) -> None:
    check(f"report {{tmp}}/results {arguments}", fault, message)


def test_report_of_a_file(results: None, check: Callable) -> None:
    check("report {tmp}/file", nothing, "{tmp}/file is a file, but a folder is needed")


# ---- predict


@pytest.fixture
def model(model_folder: Callable, images: Callable, tmp_path: Path) -> None:
    model_folder()
    images(num_cases=1)
    (tmp_path / "file").write_text("mine")


CHECKPOINT = "model/fold_0/checkpoint_final.pth"


def flip(name: str, share: float = 0.5) -> Fault:
    """Changes a bit in the middle of a file."""

    def fault(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[int(share * len(content))] ^= 1
        (folder / name).write_bytes(content)

    return fault


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


# ---- plan and preprocess


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
        ("-d 2", nothing, "a dataset with the ID 2"),
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


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path, monkeypatch, GREY_PLANS, GREY_JSON)


PLANS = f"nnUNet_preprocessed/{NAME}/Plans.json"


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
        ("1 2d 0 --minutes 1 -tr Nobody", nothing, "Could not find requested nnunet trainer Nobody"),
        ("9 2d 0 --minutes 1", nothing, "a dataset with the ID 9"),
        ("1 2d 0 --minutes 1", write(f"{IN}/splits_final.json", "{"), "splits_final.json is not JSON"),
    ],
)
def test_train(arguments: str, fault: Fault, message: str, preprocessed: Path, check: Callable) -> None:
    check(f"train -tr nnUNetTrainer -p Plans -device cpu {arguments}", fault, message)


# ---- convert


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    for folder in ("raw", "images", "masks", "empty"):
        (tmp_path / folder).mkdir()
    for folder in ("images", "masks"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / folder / "a.png")


BOTH = "--images {tmp}/images --masks {tmp}/masks"


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        (f"{BOTH} --labels a=255 a=1", nothing, "--labels names a twice, as 255 and 1"),
        (f"{BOTH} --labels a=1 b=1", nothing, "1"),
        (f"{BOTH} --labels a=", nothing, "--labels takes NAME=VALUE"),
        (f"{BOTH} --resize 0 4", nothing, "must be 1 or more, got 0"),
        ("--images {tmp}/images", nothing, "Give images together with masks"),
        ("--unlabelled {tmp}/images/a.png", nothing, "{tmp}/images/a.png"),
        ("--unlabelled {tmp}/empty", nothing, "{tmp}/empty"),
        ("--unlabelled {tmp}/none", nothing, "{tmp}/none"),
        (BOTH, write("raw/Dataset001_X", "mine"), "{tmp}/raw/Dataset001_X is a file"),
        (BOTH, write("masks/a.png", "text"), "a.png cannot be read"),
        (BOTH, lambda folder: shutil.copytree(folder / "images", folder / "raw/Dataset001_X"), "already holds files"),
    ],
)
def test_convert(arguments: str, fault: Fault, message: str, pictures: None, check: Callable) -> None:
    check(f"convert Dataset001_X {arguments}", fault, message)


# ---- denoiser files


@pytest.fixture
def denoisers(tmp_path: Path) -> None:
    file = shipped_denoisers()[SHIPPED]
    shutil.copy(file, tmp_path / "flipped.pth")
    flip("flipped.pth")(tmp_path)
    (tmp_path / "half.pth").write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.pth").write_text("no denoiser")


FAULTY = [
    ("{tmp}/flipped.pth", "flipped.pth is damaged"),
    ("{tmp}/half.pth", "half.pth is not a checkpoint that nnU-Net wrote: it is truncated"),
    ("{tmp}/text.pth", "text.pth is not a checkpoint that nnU-Net wrote"),
    ("{tmp}/folder", "{tmp}/folder is a folder, not a checkpoint"),
    ("{tmp}/none.pth", "There is no file {tmp}/none.pth"),
]
OUTPUTS = [
    ("{tmp}/folder", "{tmp}/folder is a folder, but a file is needed"),
    ("{tmp}/none/x", "There is no folder {tmp}/none"),
    ("{tmp}/text.pth/x", "{tmp}/text.pth is a file, but a folder is needed"),
]


@pytest.mark.parametrize(("file", "message"), FAULTY)
@pytest.mark.parametrize("command", ["sample {file} {{tmp}}/out.png", "export {file} {{tmp}}/out.pth"])
def test_a_faulty_denoiser(command: str, file: str, message: str, denoisers: None, check: Callable) -> None:
    check(command.format(file=file), nothing, message)


@pytest.mark.parametrize(("output", "message"), OUTPUTS)
@pytest.mark.parametrize("command", ["sample", "export"])
def test_a_faulty_output(command: str, output: str, message: str, denoisers: None, check: Callable) -> None:
    check(f"{command} {SHIPPED} {output}", nothing, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample chest-xray-64 {tmp}/out.png --steps 100000", "steps must be from 1 to 1000, got 100000"),
        ("sample chest-xray-64 {tmp}/out.png --steps 0", "must be 1 or more, got 0"),
        ("sample chest-xray-64 {tmp}/out.png --size 64", "64"),
        ("sample chest-xray-64 {tmp}/out.png --size 63 64", "63"),
        ("sample chest-xray-64 {tmp}/out.png --num-images 0", "must be 1 or more, got 0"),
        ("export chest-xray-64 {tmp}/out.pth --timestep -1", "must be 0 or more, got -1"),
        ("export chest-xray-64 {tmp}/out.pth --timestep 1000000", "1000000"),
    ],
)
def test_options_beyond_the_denoiser(arguments: str, message: str, denoisers: None, check: Callable) -> None:
    check(arguments, nothing, message)


# ---- demo and benchmark


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (write("demo", "mine"), "{tmp}/demo is there and was not made by the demo"),
        (lambda folder: (folder / "demo/mine").mkdir(parents=True), "was not made by the demo"),
        (lambda folder: ((folder / "demo").mkdir(), write("demo/demo.json", "{")(folder)), "demo.json is not JSON"),
        (lambda folder: ((folder / "demo").mkdir(), write("demo/demo.json", "[]")(folder)), "must hold an object"),
        (
            lambda folder: ((folder / "demo").mkdir(), write("demo/demo.json", "{}")(folder)),
            "made with version None",
        ),
    ],
)
def test_demo(fault: Fault, message: str, check: Callable) -> None:
    check("demo {tmp}/demo", fault, message)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (write("spec.yaml", DEEP_YAML), "spec.yaml is nested too deep"),
        (write("spec.yaml", ""), "spec.yaml has"),
        (as_folder("spec.yaml"), "spec.yaml is a folder, not a file"),
        (nothing, "There is no {tmp}/spec.yaml"),
    ],
)
def test_benchmark(fault: Fault, message: str, check: Callable) -> None:
    check("benchmark {tmp}/spec.yaml", fault, message)
