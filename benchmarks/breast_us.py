"""Few labelled ultrasound images of the breast, tested on other sources: a second kind of image than X-rays.

    python benchmarks/breast_us.py DATA WORK --size 64      # DATA: the folder with bus_bra/, busi/, lesions_usg/, ...

makes Dataset066_Breast of 20 images of BUS-BRA (Brazil) and the unlabelled images of BUSI (Egypt), squashed to squares,
with orders of labelled cases in WORK/breast_splits.json for `nnunet-diffusion few-label --splits`, and domains in
WORK/breast_domains.yaml: BUS-BRA's other 16 images are the source, BUSI and Breast-Lesions-USG (Poland) the targets. Of
the latter no training sees an image. nnUNet_raw must be set.
"""

import argparse
import json
import os
import random
import shutil
from functools import partial
from pathlib import Path

DATASET, SOURCE, UNLABELLED = "Dataset066_Breast", "bus_bra", "unlabelled_busi"
TARGETS = ("busi", "lesions_usg")
NUM_TEST = 16
SEEDS = range(5)  # 3 and 4 to choose on, 0 to 2 to report
DOMAINS = """domains:
  - {name: BUS-BRA, role: source, images: Dataset998_bus_bra/imagesTr, references: Dataset998_bus_bra/labelsTr}
  - {name: BUSI, role: target, images: Dataset998_busi/imagesTr, references: Dataset998_busi/labelsTr}
  - name: Breast-Lesions-USG
    role: target
    images: Dataset998_lesions_usg/imagesTr
    references: Dataset998_lesions_usg/labelsTr
unit: px  # the images were squashed to squares
"""


def prepare(data: Path, work: Path, size: int) -> None:
    """One half of the source is tested on, the same for all seeds; they draw their cases from the other."""
    from nnunet_diffusion_ensemble.data.convert import convert

    names = sorted(file.stem for file in (data / SOURCE / "images").glob("*.png"))
    random.Random(0).shuffle(names)
    test, pool = sorted(names[:NUM_TEST]), sorted(names[NUM_TEST:])
    for folder, chosen in (("pool", pool), (SOURCE, test)):
        for kind in ("images", "masks"):
            (work / folder / kind).mkdir(parents=True, exist_ok=True)
            for name in chosen:
                shutil.copy(data / SOURCE / kind / f"{name}.png", work / folder / kind)
    squash = partial(convert, labels={"lesion": 255}, resize=(size, size), overwrite=True)
    raw = Path(os.environ["nnUNet_raw"]) / DATASET
    print(squash(work / "pool" / "images", work / "pool" / "masks", [data / UNLABELLED], raw))
    for name, parent in {SOURCE: work, **dict.fromkeys(TARGETS, data)}.items():
        print(squash(parent / name / "images", parent / name / "masks", [], work / f"Dataset998_{name}"))
    orders = {str(seed): {"train_order": random.Random(seed).sample(pool, len(pool))} for seed in SEEDS}
    (work / "breast_splits.json").write_text(json.dumps({"seeds": orders, "in_domain_test": test}, indent=2))
    (work / "breast_domains.yaml").write_text(DOMAINS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    prepare(args.data, args.work, args.size)
