"""How much of the loss in the other hospital is the other hospital's own way of drawing lungs?

    python benchmarks/label_rules.py WORK      # WORK: the folder of `xrays.py prepare`

makes Dataset065_Shenzhen of the X-rays that the studies only test on, with orders of labelled cases in
WORK/shenzhen_splits.json and domains in WORK/shenzhen_domains.yaml, in which Shenzhen is the source and Montgomery the
target. What `nnunet-diffusion few-label` reaches with labels of Shenzhen in Shenzhen, on cases it has not seen, is what
better transfer could bring at most. nnUNet_raw must be set.
"""

import argparse
import json
import os
import random
import shutil
from pathlib import Path

DATASET = "Dataset065_Shenzhen"
SEEDS = (3, 4)
MOST_LABELS = 24
DOMAINS = """domains:
  - name: Shenzhen
    role: source
    images: Dataset999_shenzhen/imagesTr
    references: Dataset999_shenzhen/labelsTr
    cases: {cases}
  - {{name: Montgomery, role: target, images: Dataset999_montgomery/imagesTr, references: Dataset999_montgomery/labelsTr}}
unit: px
"""


def prepare(work: Path) -> None:
    """Seeds draw their cases from one half; the other half is tested on, so that all seeds have the same test cases."""
    source, raw = work / "Dataset999_shenzhen", Path(os.environ["nnUNet_raw"]) / DATASET
    names = sorted(file.stem for file in (source / "labelsTr").iterdir())
    training, test = names[::2], names[1::2]
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
        for name in training:
            file = f"{name}_0000.png" if folder == "imagesTr" else f"{name}.png"
            shutil.copy(source / folder / file, raw / folder / file)
    dataset = json.loads((source / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**dataset, "name": DATASET, "numTraining": len(training)}, indent=4))
    orders = {str(seed): {"train_order": random.Random(seed).sample(training, MOST_LABELS)} for seed in SEEDS}
    (work / "shenzhen_splits.json").write_text(json.dumps({"seeds": orders, "in_domain_test": test}, indent=2))
    (work / "shenzhen_domains.yaml").write_text(DOMAINS.format(cases=json.dumps(test)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of xrays.py prepare")
    prepare(parser.parse_args().work)
