"""A pretrained denoiser, folded at one timestep, is what stock nnU-Net starts from."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_commands import PRETRAIN, TINY_PLANS
from PIL import Image

pytestmark = pytest.mark.slow

DATASET = "Dataset001_Made"
STOCK = "nnUNetTrainer_1epoch"
SIZE_PX = (34, 38)


def write_dataset(folder: Path) -> None:
    """Five noisy images with a bright square that is labelled."""
    random = np.random.RandomState(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    labels = np.zeros(SIZE_PX, np.uint8)
    labels[10:24, 8:20] = 1
    for i in range(5):
        image = np.clip(60 + 90 * labels + random.normal(0, 12, SIZE_PX), 1, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "imagesTr" / f"case_{i}_0000.png")
        Image.fromarray(labels).save(folder / "labelsTr" / f"case_{i}.png")
    dataset = {"channel_names": {"0": "X-ray"}, "labels": {"background": 0, "square": 1}}
    (folder / "dataset.json").write_text(json.dumps(dataset | {"numTraining": 5, "file_ending": ".png"}))


def test_stock_training_starts_from_a_folded_denoiser(make_chain: Callable) -> None:
    chain = make_chain("2d")
    workplace, folded = chain.workplace, chain.workplace.root / "folded.pth"
    write_dataset(workplace.raw / DATASET)
    chain.plan_and_preprocess()
    workplace.train(PRETRAIN, TINY_PLANS, "all")
    checkpoint = chain.folder(PRETRAIN, "all") / "checkpoint_final.pth"
    workplace.run("nnunet-diffusion", "export", checkpoint, folded, "--timestep", 50)

    output = workplace.train(STOCK, TINY_PLANS, 0, "-pretrained_weights", folded)

    assert f"Loading pretrained weights from file  {folded}" in output
    trained = torch.load(chain.folder(STOCK, 0) / "checkpoint_final.pth", weights_only=False)["network_weights"]
    started = torch.load(folded, weights_only=True)["network_weights"]
    names = [name for name, value in started.items() if name.startswith("encoder.") and value.ndim == 4]
    one, other = (torch.cat([weights[name].flatten() for name in names]) for weights in (started, trained))
    # An epoch changes them somewhat; those of a random start would have a cosine of about 0.
    assert torch.cosine_similarity(one, other, dim=0) > 0.5
