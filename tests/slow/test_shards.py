"""Shards by real commands: packed, planned, preprocessed and pretrained on, with files beside them."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_commands import FEW_SAMPLES, PRETRAIN, TINY, TINY_PLANS, Workplace, change_plans
from PIL import Image

from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset

pytestmark = pytest.mark.slow

NUM_PACKED, NUM_LOOSE, PER_SHARD = 30, 2, 10


def write_images(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        pixels = np.random.RandomState(seed).randint(1, 255, (34, 38)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}_0000.png")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Run once: a data set without labels, most of it in shards; preprocessing is killed after the first of them."""
    workplace = Workplace(tmp_path_factory.mktemp("shards"), "Dataset001_Archive", external=True)
    raw, archive = workplace.raw / workplace.dataset, workplace.root / "xrays"
    write_images(archive, [f"packed_{i:02d}" for i in range(NUM_PACKED)])
    write_images(raw / "imagesUn", [f"loose_{i}" for i in range(NUM_LOOSE)])
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "X-ray"}, "file_ending": ".png"}))
    run, plans = workplace.run, ("-p", TINY_PLANS)
    run("nnunet-diffusion", "pack", archive, "-o", raw / "imagesUn", "--cases-per-shard", PER_SHARD)
    run("nnunet-diffusion", "plan", "-d", 1, *plans, *TINY, "--unlabelled", "-np", 1)
    change_plans(workplace.plans(TINY_PLANS), TINY_PLANS, FEW_SAMPLES)
    preprocess = ("nnunet-diffusion", "preprocess", "-d", 1, *plans, "-c", "2d", "-np", 1)
    workplace.kill_when((preprocessed(workplace) / "xrays-000000.npz").is_file, *preprocess)
    (workplace.root / "first_shard.txt").write_text(write_time(workplace))
    run(*preprocess)
    workplace.train(PRETRAIN, TINY_PLANS, "all")
    return workplace


def preprocessed(workplace: Workplace) -> Path:
    return workplace.preprocessed / workplace.dataset / "nnUNetPlans_2d_unlabelled"


def write_time(workplace: Workplace) -> str:
    return str((preprocessed(workplace) / "xrays-000000.tar").stat().st_mtime_ns)


def test_preprocessing_killed_between_shards_went_on_after_the_last_whole_one(chain: Workplace) -> None:
    assert write_time(chain) == (chain.root / "first_shard.txt").read_text()
    files = sorted(file.name for file in preprocessed(chain).iterdir() if "loose" not in file.name)
    assert files == [f"xrays-{shard:06d}.{ending}" for shard in range(3) for ending in ("npz", "tar")]


def test_all_cases_are_there_once(chain: Workplace) -> None:
    expected = [f"loose_{i}" for i in range(NUM_LOOSE)] + [f"packed_{i:02d}" for i in range(NUM_PACKED)]
    assert UnlabelledDataset(preprocessed(chain)).identifiers.tolist() == expected
    with tarfile.open(preprocessed(chain) / "xrays-000002.tar") as tar:
        assert tar.getnames()[-1] == "packed_29.pkl"


def test_fingerprint_and_plans_count_cases_in_shards(chain: Workplace) -> None:
    fingerprint = json.loads((chain.preprocessed / chain.dataset / "dataset_fingerprint.json").read_text())
    assert len(fingerprint["spacings"]) == NUM_PACKED + NUM_LOOSE


def test_a_pretraining_trains_on_shards_and_files(chain: Workplace) -> None:
    folder = chain.trained(PRETRAIN, TINY_PLANS) / "fold_all"
    weights = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert weights["denoiser.trained_iterations"] == 4
    log = "".join(file.read_text() for file in folder.glob("training_log_*.txt"))
    assert "Pretraining on 30 images, 2 held out (32 unlabelled among them)" in log  # 5% of 32 are 1.6


def test_loader_processes_read_shards(chain: Workplace) -> None:
    plans = change_plans(chain.plans(TINY_PLANS), "Workers", {}).stem
    chain.run(*("nnUNetv2_train", 1, "2d", "all", "-tr", PRETRAIN, "-p", plans, "-device", "cpu"), nnUNet_n_proc_DA="2")
    assert (chain.trained(PRETRAIN, plans) / "fold_all" / "checkpoint_final.pth").is_file()
