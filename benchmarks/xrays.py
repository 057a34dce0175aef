"""Few labelled X-rays of one hospital, tested on another: the data of the studies in docs/explanation.

    python benchmarks/xrays.py prepare DATA WORK --size 64       # DATA: the folder with montgomery/, shenzhen/, ...
    python benchmarks/xrays.py evaluate WORK TRAINER PLANS FOLD

`prepare` makes Dataset064_Lungs with the folds of few_label_splits.json (fold = 5 * seed + position of n in 1, 3, 6,
12, 24), test sets of both hospitals, and domains.yaml for `nnunet-diffusion few-label --benchmark`. `evaluate`
prints the mean Dice of one training. The variables nnUNet_raw, nnUNet_preprocessed and nnUNet_results must be set.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
from functools import partial
from pathlib import Path

LABEL_COUNTS = (1, 3, 6, 12, 24)
HOSPITALS = ("montgomery", "shenzhen")
DOMAINS = """domains:
  - {name: Montgomery, role: source, images: Dataset999_montgomery/imagesTr, references: Dataset999_montgomery/labelsTr}
  - {name: Shenzhen, role: target, images: Dataset999_shenzhen/imagesTr, references: Dataset999_shenzhen/labelsTr}
unit: px  # the X-rays were squashed to squares
"""


def prepare(data: Path, work: Path, size: int, dataset: str) -> None:
    """Converts Montgomery's pool (labelled), the unlabelled images and both test sets."""
    from nnunet_diffusion_ensemble.data.convert import convert

    protocol = json.loads((data / "few_label_splits.json").read_text())
    test = set(protocol["in_domain_test"])
    sources = {"pool": lambda name: name not in test, "montgomery": lambda name: name in test}
    for target, belongs in sources.items():
        for kind in ("images", "masks"):
            (work / target / kind).mkdir(parents=True, exist_ok=True)
            for file in (data / "montgomery" / kind).iterdir():
                if belongs(file.stem):
                    shutil.copy(file, work / target / kind / file.name)
    unlabelled = [data / "unlabelled_nih", data / "unlabelled_shenzhen"]
    raw = Path(os.environ["nnUNet_raw"])
    pool, convert_lungs = work / "pool", partial(convert, labels={"lung": 255}, resize=(size, size), overwrite=True)
    print(convert_lungs(pool / "images", pool / "masks", unlabelled, raw / dataset))
    for name, folder in (("montgomery", work / "montgomery"), ("shenzhen", data / "shenzhen")):
        converted = work / f"Dataset999_{name}"
        print(convert_lungs(folder / "images", folder / "masks", [], converted))
    (work / "domains.yaml").write_text(DOMAINS)
    names = sorted(file.stem for file in (pool / "images").iterdir())
    splits = []
    for seed in protocol["seeds"].values():
        rest = [name for name in names if name not in seed["train_order"]]
        splits += [{"train": seed["train_order"][:n], "val": rest[:4]} for n in LABEL_COUNTS]
    (raw / dataset / "splits_final.json").write_text(json.dumps(splits))


def evaluate(work: Path, dataset: str, trainer: str, plans: str, fold: int) -> None:
    """Prints mean Dice on both hospitals' test cases, predicted as nnU-Net does by default."""
    import torch
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__2d"
    dice = {}
    for hospital in HOSPITALS:
        output, data = work / "predictions" / f"{model.name}_{fold}_{hospital}", work / f"Dataset999_{hospital}"
        output.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(model), (fold,))
            predictor.predict_from_files_sequential(str(data / "imagesTr"), str(output), overwrite=True)
            described = (str(model / "dataset.json"), str(model / "plans.json"), str(output / "summary.json"))
            compute_metrics_on_folder2(str(data / "labelsTr"), str(output), *described, num_processes=1)
        dice[hospital] = round(json.loads((output / "summary.json").read_text())["foreground_mean"]["Dice"], 4)
    print(f"{trainer} {plans} fold {fold}: {json.dumps(dice)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "evaluate"))
    parser.add_argument("paths", nargs="+", help="see above")
    parser.add_argument("--dataset", default="Dataset064_Lungs")
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    if args.step == "prepare":
        data, work = map(Path, args.paths)
        prepare(data, work, args.size, args.dataset)
    else:
        work, trainer, plans, fold = args.paths
        evaluate(Path(work), args.dataset, trainer, plans, int(fold))


if __name__ == "__main__":
    main()
