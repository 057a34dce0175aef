"""Time and memory of a whole benchmark and its report beside `nnUNetv2_evaluate_folder` on the same predictions.

    python benchmarks/benchmark_cost.py make FOLDER             cases of 256 x 256 with two lungs and lesions in them
    python benchmarks/benchmark_cost.py time FOLDER --rounds 3  both ways in turn, for 1,000 cases, two processes each
    python benchmarks/benchmark_cost.py memory FOLDER           of 250 and 1,000 cases: the largest processes

Ours is `nnunet-diffusion benchmark` and then `nnunet-diffusion report`, two commands from start to end: checks and
checksums of all files, all metrics with surfaces, calibration and lesions, volumes, subgroups by two columns, tables,
figures, page and summary. Predictions are there, so neither way predicts; a small model of nnU-Net stands for the one
that made them.
"""

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from evaluation import DRAWN, PR_SET_CHILD_SUBREAPER, SIDE, Cost, lungs, run

SIZES = (250, 1000)
LABELS = {"background": 0, "lung": 1, "lesion": 2}
DATASET = {"labels": LABELS, "file_ending": ".png", "channel_names": {"0": "X-ray"}, "numTraining": 1}
STOCK, BENCHMARK, REPORT = "nnUNetv2_evaluate_folder", "nnunet-diffusion benchmark", "nnunet-diffusion report"


def lesions(random: np.random.RandomState, lung: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Discs in a lung and the probability of a segmentation that misses some, moves others and adds a few."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = np.argwhere(lung)
    reference, probability = np.zeros(lung.shape, bool), np.full(lung.shape, 0.02)
    for number in range(random.randint(1, 5)):
        (row, column), radius = inside[random.randint(len(inside))], random.uniform(3, 9)
        if number:  # the first is a false positive
            reference |= np.hypot(rows - row, columns - column) < radius
        if random.uniform() > 0.2:
            distance = np.hypot(rows - row - random.randn(), columns - column - random.randn())
            probability = np.maximum(probability, 1 / (1 + np.exp(distance - radius)))
    return reference, probability


def make(folder: Path) -> None:
    os.environ |= {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    save_model(folder / "model")
    random = np.random.RandomState(0)
    for size in SIZES:
        make_size(folder, size, random)


def save_model(folder: Path) -> None:
    """Of nnU-Net, with as few weights as it takes; they are read and not used."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture: dict[str, Any] = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2,
            "features_per_stage": [4, 8],
            "conv_op": "torch.nn.modules.conv.Conv2d",
            "kernel_sizes": [[3, 3], [3, 3]],
            "strides": [[1, 1], [2, 2]],
            "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
            "norm_op_kwargs": {"affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "made",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [64, 64],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
        "batch_dice": False,
    }
    plans: dict[str, Any] = {
        "dataset_name": "Dataset001_Made",
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "image_reader_writer": "NaturalImage2DIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": {}},
        "configurations": {"2d": configuration},
    }
    arguments = architecture["network_class_name"], architecture["arch_kwargs"], architecture["_kw_requires_import"]
    network = get_network_from_plans(*arguments, 1, len(LABELS), deep_supervision=False)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "2d", "fold": 0},
        "inference_allowed_mirroring_axes": (0, 1),
    }
    (folder / "fold_0").mkdir(parents=True)
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(DATASET))


def make_size(folder: Path, size: int, random: np.random.RandomState) -> None:
    """Images, references, metadata and predictions, as `nnunet-diffusion benchmark` would have left them."""
    from nnunet_diffusion_ensemble.benchmark.checks import check_benchmark
    from nnunet_diffusion_ensemble.benchmark.progress import silent
    from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
    from nnunet_diffusion_ensemble.benchmark.spec_file import write_spec

    root = folder / str(size)
    drawn = [draw(root, number, random) for number in range(DRAWN)]
    for number in range(DRAWN, size):
        for part, ending in (("images", "_0000.png"), ("references", ".png")):
            os.link(root / part / f"case_{number % DRAWN:04d}{ending}", root / part / f"case_{number:04d}{ending}")
    rows = [f"case_{number:04d},{'FM'[number % 2]},{20 + number % 60}" for number in range(size)]
    (root / "metadata.csv").write_text("\n".join(["case,sex,age", *rows, ""]))
    domain = {"name": "North", "role": "target", **{name: root / name for name in ("images", "references")}}
    spec = BenchmarkSpec.model_validate(
        {
            "output": root / "out",
            "models": [{"name": "Model", "folder": folder / "model", "seeds": {0: (0,)}}],
            "domains": [{**domain, "metadata": root / "metadata.csv"}],
            "subgroups": {"sex": "categories", "age": (40.0, 65.0)},
            "instances": ("lesion",),
            "unit": "px",
            "device": "cpu",
        }
    )
    write_spec(spec, root / "spec.yaml")
    ((pair,),) = check_benchmark(spec, silent).pairs(spec)
    pair.forget_what_changed()
    predict(pair.prediction, size, drawn)


def draw(root: Path, number: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Writes an image and its reference; the probabilities of lung and lesion."""
    from PIL import Image

    lung, lung_probability = lungs(random)
    lesion, lesion_probability = lesions(random, lung)
    image = 60 + 90 * ~lung + 60 * lesion + random.randint(0, 30, lung.shape)
    content = {"images": image, "references": np.where(lesion, 2, lung)}
    for part, ending in (("images", "_0000.png"), ("references", ".png")):
        (root / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(content[part].astype(np.uint8)).save(root / part / f"case_{number:04d}{ending}")
    return lung_probability * (1 - lesion_probability), lesion_probability


def predict(folder: Path, size: int, drawn: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO

    from nnunet_diffusion_ensemble.prediction.folder import PROBABILITY, CaseUncertainty, PredictionFolder

    properties = {"spacing": (999, 1, 1)}
    target = PredictionFolder(folder, ".png", NaturalImage2DIO())
    target.begin({}, {"label_manager": "LabelManager"}, DATASET)
    for number in range(size):
        probabilities = drawn[number % DRAWN]
        segmentation = np.where(probabilities[1] > 0.5, 2, probabilities[0] > 0.5).astype(np.uint8)
        with target.new_case(f"case_{number:04d}") as files:
            files.write_segmentation(segmentation[None], properties)
            for place, (name, values) in enumerate(zip(("lung", "lesion"), probabilities, strict=True), start=1):
                files.write_map(values[None], properties, PROBABILITY, f"{place}_{name}")
            files.write_scores(CaseUncertainty(files.case, int((segmentation > 0).sum())))


def commands(root: Path) -> dict[str, list[str]]:
    """The three of them, for one number of cases."""
    prediction = root / "out" / "runs" / "Model_seed0" / "North" / "prediction"
    scripts = Path(sys.executable).parent
    files = ["-djfile", prediction / "dataset.json", "-pfile", root.parent / "model" / "plans.json"]
    found: dict[str, list[Any]] = {
        STOCK: [scripts / STOCK, root / "references", prediction, *files, "-np", 2],
        BENCHMARK: [scripts / "nnunet-diffusion", "benchmark", root / "spec.yaml", "--num-processes", 2],
        REPORT: [scripts / "nnunet-diffusion", "report", root / "out"],
    }
    return {name: [str(part) for part in command] for name, command in found.items()}


def forget_evaluation(root: Path) -> None:
    """All but the predictions is to be made again."""
    out = root / "out"
    for file in (*out.glob("*.*"), *out.glob("runs/*/*/*.csv"), *out.glob("runs/*/*/evaluated_from.json")):
        if file.is_file():
            file.unlink()
    shutil.rmtree(out / "report", ignore_errors=True)


def compare_times(root: Path, rounds: int) -> None:
    costs: dict[str, list[Cost]] = {name: [] for name in commands(root)}
    for _ in range(rounds):
        forget_evaluation(root)
        for name, command in commands(root).items():
            costs[name].append(run(command))
            print(f"  {name}: {costs[name][-1]}", file=sys.stderr, flush=True)
    both = [
        Cost(one.seconds + two.seconds, one.cpu_seconds + two.cpu_seconds, 0)
        for one, two in zip(costs[BENCHMARK], costs[REPORT], strict=True)
    ]
    print("| 1,000 cases | CPU seconds, median (least to most) | of nnU-Net's | seconds | of nnU-Net's |")
    print("|---|---|---|---|---|")
    for name, measured in {**costs, "benchmark and report": both}.items():
        cells = [name]
        for kind in ("cpu_seconds", "seconds"):
            stock, ours = ([getattr(cost, kind) for cost in part] for part in (costs[STOCK], measured))
            cells += [f"{median(ours):.1f} ({min(ours):.1f} to {max(ours):.1f})", f"{median(ours) / median(stock):.2f}"]
        print(f"| {' | '.join(cells)} |")


def peaks(command: Sequence[str]) -> tuple[float, float]:
    """Most resident memory, in MB, of the command's own process and of the largest of its descendants (Linux)."""
    seen: dict[int, float] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            look_at(process.pid, seen)
            time.sleep(0.2)
        _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    own = seen.pop(process.pid)
    return own, max(seen.values(), default=0.0)


def look_at(pid: int, seen: dict[int, float]) -> None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return
    most = [int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:")]
    seen[pid] = max([seen.get(pid, 0.0), *most])
    for child in children:
        look_at(int(child), seen)


def compare_memory(folder: Path) -> None:
    print("| cases | command | its process, MB | largest worker, MB |\n|---|---|---|---|")
    for size in SIZES:
        forget_evaluation(folder / str(size))
        for name, command in commands(folder / str(size)).items():
            own, worker = peaks(command)
            print(f"| {size:,} | {name} | {own:.0f} | {worker:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "time", "memory"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    if args.what == "make":
        make(args.folder.resolve())
    elif args.what == "time":
        compare_times(args.folder.resolve() / "1000", args.rounds)
    else:
        compare_memory(args.folder.resolve())


if __name__ == "__main__":
    main()
