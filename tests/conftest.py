"""Shared by the tests: tiny topologies in the form of nnU-Net's plans, and networks whose weights are all random."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads slow a busy machine down tenfold
os.environ["nnUNet_compile"] = "f"

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading import data_loader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from torch import nn

from nnunet_diffusion_ensemble.method import DiffusionMethod

# Fixtures.
pytest_plugins = ["unlabelled_data", "foreign_models", "pretraining_trainers", "trained_models", "benchmark_inputs"]
pytest_plugins += ["self_training_data", "mistakes", "several_processes"]
torch.set_num_threads(1)  # in networks this small a second thread only waits


# nnU-Net looks through all loaded libraries for pools of threads at each batch; here there is one thread anyway.
data_loader.threadpool_limits = lambda **_: nullcontext()


@pytest.fixture(autouse=True, scope="session")
def files_that_outlive_no_power_cut() -> Iterator[None]:
    """Waiting for the disk is for users; that it is waited for, and when, `test_atomic.py` looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


class Topology(NamedTuple):
    strides: list[list[int]]
    kernel_sizes: list[list[int]]
    size: tuple[int, ...]  # of an image that fits


TOPOLOGIES = {
    "2d": Topology([[1, 1], [2, 2], [2, 2]], [[3, 3]] * 3, (16, 16)),
    "2d_anisotropic": Topology([[1, 1], [2, 1], [2, 2]], [[3, 1], [3, 3], [3, 3]], (16, 8)),
    "3d": Topology([[1, 1, 1], [2, 2, 2], [2, 2, 2]], [[3, 3, 3]] * 3, (8, 8, 8)),
    "3d_anisotropic": Topology([[1, 1, 1], [1, 2, 2], [2, 2, 2]], [[1, 3, 3], [1, 3, 3], [3, 3, 3]], (4, 8, 8)),
}


def make_architecture(name: str, **changes: Any) -> dict[str, Any]:
    """`architecture` of a configuration of the plans, as ResEncUNetPlanner writes it but tiny."""
    strides, kernel_sizes, size = TOPOLOGIES[name]
    dimension = len(size)
    arch_kwargs = {
        "n_stages": 3,
        "features_per_stage": [2, 3, 4],
        "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
        "kernel_sizes": kernel_sizes,
        "strides": strides,
        "n_blocks_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [2, 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": arch_kwargs | changes,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


@pytest.fixture
def architecture() -> Callable[..., dict[str, Any]]:
    """`architecture("2d", features_per_stage=[...])`; names are the keys of TOPOLOGIES."""
    return make_architecture


@pytest.fixture
def size_of() -> Callable[[str], tuple[int, ...]]:
    """Spatial size of an image for a topology."""
    return lambda name: TOPOLOGIES[name].size


@pytest.fixture(params=sorted(TOPOLOGIES))
def topology(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def randomise() -> Callable[..., Any]:
    """Gives every parameter of a network, zero-initialised ones too, and batch norm's statistics random values."""

    def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            for name, buffer in network.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
        return network

    return randomised


@pytest.fixture
def randn() -> Callable[..., torch.Tensor]:
    """`randn(2, 1, 16, 16)`: standard normal numbers, other ones at each call, the same in each run."""
    generator = torch.Generator().manual_seed(1)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.fixture
def inputs_of() -> Callable[[nn.Module], list[tuple]]:
    """`inputs_of(network)`: a list that the arguments of each call are added to."""

    def listed(network: nn.Module) -> list[tuple]:
        calls: list[tuple] = []
        network.register_forward_pre_hook(lambda module, arguments: calls.append(arguments))
        return calls

    return listed


DATASET_NAME = "Dataset001_Made"
PLANS_NAME = "nnUNetDiffusionEnsemblePlans"
CASES = ("case_0", "case_1", "case_2", "case_3", "case_4")
LABELS = {"background": 0, "organ": 1}
FEW_EPOCHS = {
    "ensemble.timesteps": (1, 50, 400),
    "training.timesteps_per_image": None,
    "ensemble.head.hidden_features": (5,),
    "pretraining.num_epochs": 3,
    "pretraining.num_iterations_per_epoch": 4,
    "pretraining.batch_size": 3,
    "pretraining.warmup_iterations": 1,
    "pretraining.num_samples": 2,
    "pretraining.num_sampling_steps": 2,
    "contrastive.num_epochs": 3,
    "contrastive.num_iterations_per_epoch": 4,
    "contrastive.num_decoder_stages": 1,
    "contrastive.num_regions": 4,
}


def make_plans(configuration: dict[str, Any]) -> dict[str, Any]:
    """Plans with one configuration named 2d, as the trainers read them."""
    settings = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16],
        "spacing": [1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": make_architecture("2d"),
        "batch_dice": False,
    }
    return {
        "dataset_name": DATASET_NAME,
        "plans_name": PLANS_NAME,
        "label_manager": "LabelManager",
        "continue_training": False,
        "configurations": {"2d": settings | configuration},
    }


def save_cases(folder: Path, names: tuple[str, ...]) -> None:
    """Preprocessed cases of one slice, 20 x 18 pixels: noise with a brighter square that is labelled."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _files_of_cases(names).items():
        (folder / name).write_bytes(content)


@cache
def _files_of_cases(names: tuple[str, ...]) -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        _write_cases(Path(folder), names)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def _write_cases(folder: Path, names: tuple[str, ...]) -> None:
    random = np.random.RandomState(0)
    layout = {"chunks": (1, 1, 20, 18), "blocks": (1, 1, 20, 18)}
    for name in names:
        data, segmentation = random.randn(1, 1, 20, 18).astype(np.float32), np.zeros((1, 1, 20, 18), np.int16)
        data[..., 5:12, 4:11] += 2
        segmentation[..., 5:12, 4:11] = 1
        properties = {"class_locations": {1: np.argwhere(segmentation == 1)}, "spacing": [999.0, 1.0, 1.0]}
        nnUNetDatasetBlosc2.save_case(data, segmentation, properties, str(folder / name), **layout)


@pytest.fixture
def make_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`make_trainer(TrainerClass, {"ensemble.timesteps": (1, 50)}, fold="all", batch_dice=True)`, on the CPU.

    nnU-Net's folders lie in `tmp_path`; the preprocessed one holds CASES. `device` may be another. Further arguments
    change the configuration of the plans.
    """
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    save_cases(tmp_path / "preprocessed" / DATASET_NAME / "nnUNetPlans_2d", CASES)
    (tmp_path / "preprocessed" / DATASET_NAME / "dataset_fingerprint.json").write_text("{}")

    def make(
        trainer_class: type,
        options: dict[str, Any] | None = None,
        fold: int | str = 0,
        labels: dict[str, Any] = LABELS,
        device: str = "cpu",
        **configuration: Any,
    ) -> Any:
        method = DiffusionMethod().with_options(FEW_EPOCHS | (options or {}))
        plans = make_plans({"diffusion": method.to_plans()} | configuration)
        dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(CASES), "file_ending": ".nii.gz"}
        if any(isinstance(values, list) for values in labels.values()):
            dataset["regions_class_order"] = list(range(1, len(labels)))
        torch.manual_seed(0)
        return trainer_class(plans, "2d", fold, dataset, torch.device(device))

    return make


@pytest.fixture
def start_ensemble(make_trainer: Callable[..., Any], randomise: Callable[..., Any]) -> Callable[..., Any]:
    """`start_ensemble(options, epoch=0, **of make_trainer)`: a DiffusionEnsembleTrainer at the start of an epoch.

    Its weights are random, the same for the same options.
    """
    from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer

    def start(options: dict[str, Any] | None = None, epoch: int = 0, **arguments: Any) -> Any:
        trainer = make_trainer(DiffusionEnsembleTrainer, options, **arguments)
        trainer.initialize()
        randomise(trainer.network)
        trainer.current_epoch = epoch
        trainer.logger.local_logger.my_fantastic_logging["lrs"] = [0.0] * epoch
        trainer.on_train_epoch_start()
        return trainer

    return start
