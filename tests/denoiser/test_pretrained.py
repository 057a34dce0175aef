"""Finding and loading a pretrained denoiser: which file is taken, what is loaded, what is refused and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import pytest
import torch
from torch import nn

from nnunet_diffusion_ensemble.cli.parser import main
from nnunet_diffusion_ensemble.denoiser.pretrained import find_pretrained_checkpoint, load_into_network, read_pretrained
from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork
from nnunet_diffusion_ensemble.training.denoising_network import PretrainingNetwork

PLANS = "nnUNetDiffusionEnsemblePlans"
COMMAND = f"nnUNetv2_train Dataset001_Made 2d all -tr DiffusionPretrainTrainer -p {PLANS}"

# ---- finding


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "Dataset001_Made"


def add_checkpoint(
    results: Path, fold: int | str, name: str = "checkpoint_final.pth", configuration: str = "2d"
) -> Path:
    """An empty file where nnU-Net writes the checkpoint of a pretraining."""
    folder = results / f"DiffusionPretrainTrainer__{PLANS}__{configuration}" / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    return folder / name


def find(results: Path, fold: int | str = 0, from_plans: str | None = None) -> Path:
    return find_pretrained_checkpoint(results, PLANS, "2d", fold, from_plans)


def test_the_file_named_in_the_plans_comes_before_all_others(results: Path, tmp_path: Path) -> None:
    add_checkpoint(results, 0)
    named = tmp_path / "other.pth"
    named.touch()
    assert find(results, from_plans=str(named)) == named


def test_pretraining_of_the_same_fold_comes_before_that_of_fold_all(results: Path) -> None:
    add_checkpoint(results, "all")
    of_fold = add_checkpoint(results, 2)
    assert find(results, fold=2) == of_fold


def test_pretraining_of_fold_all_serves_every_fold(results: Path) -> None:
    of_all = add_checkpoint(results, "all")
    assert [find(results, fold) for fold in (0, 4, "all")] == [of_all] * 3


def test_a_finished_pretraining_of_fold_all_comes_before_an_unfinished_one_of_the_fold(results: Path) -> None:
    add_checkpoint(results, 0, "checkpoint_latest.pth")
    of_all = add_checkpoint(results, "all")
    assert find(results, fold=0) == of_all


def test_a_missing_file_named_in_the_plans_is_not_replaced_by_another(results: Path) -> None:
    add_checkpoint(results, 0)
    with pytest.raises(FileNotFoundError, match=r"plans name /gone\.pth as pretrained_checkpoint.*no file /gone"):
        find(results, from_plans="/gone.pth")


def message_of_failure(results: Path, fold: int | str = 0) -> str:
    with pytest.raises(FileNotFoundError) as error:
        find(results, fold)
    return str(error.value)


def test_without_pretraining_the_message_names_command_option_and_both_folders(results: Path) -> None:
    message = message_of_failure(results, fold=3)
    trained = results / f"DiffusionPretrainTrainer__{PLANS}__2d"
    assert all(str(trained / folder) in message for folder in ("fold_3", "fold_all"))
    assert all(part in message for part in ("No pretrained denoiser", COMMAND, "-pretrained_weights FILE"))
    assert "--c" not in message


def test_with_unfinished_pretraining_the_message_says_how_to_finish_it(results: Path) -> None:
    latest = add_checkpoint(results, "all", "checkpoint_latest.pth")
    message = message_of_failure(results)
    for part in ("has not finished", str(latest), f"{COMMAND} --c", "-pretrained_weights FILE"):
        assert part in message


def test_for_fold_all_its_folder_is_named_once(results: Path) -> None:
    assert message_of_failure(results, fold="all").count("__2d/fold_all") == 1


@pytest.mark.parametrize(("fold", "configuration"), [(1, "2d"), ("all", "3d_fullres")])
def test_pretraining_of_another_fold_or_configuration_is_not_taken(
    fold: int | str, configuration: str, results: Path
) -> None:
    add_checkpoint(results, fold, configuration=configuration)
    with pytest.raises(FileNotFoundError, match="No pretrained denoiser"):
        find(results, fold=0)


# ---- loading

Architecture = Callable[..., dict[str, Any]]
Save = Callable[..., Path]
PRETRAINED = DenoiserSettings(schedule="linear", input_scale=(0.3,), input_shift=(-0.2,))


@pytest.fixture
def save_pretrained(architecture: Architecture, randomise: Callable, tmp_path: Path) -> Save:
    """Writes the checkpoint of a pretraining with random weights, 7 iterations long, and returns its path."""

    def save(
        name: str = "2d", channels: int = 1, settings: DenoiserSettings = PRETRAINED, changes: dict | None = None
    ) -> Path:
        made = architecture(name, **(changes or {}))
        network = randomise(PretrainingNetwork(made, channels, settings))
        network.denoiser.trained_iterations.fill_(7)
        network.denoiser.intensity_range.copy_(torch.tensor([-1.5, 2.5]))
        diffusion = DiffusionMethod().to_plans() | {"denoiser": settings.to_json()}
        configuration = {"architecture": made, "diffusion": diffusion, "patch_size": [16, 24]}
        plans = {"configurations": {"2d": configuration}}
        checkpoint = {
            "network_weights": network.state_dict(),
            "init_args": {"plans": plans, "configuration": "2d"},
            "trainer_name": "DiffusionPretrainTrainer",
        }
        torch.save(checkpoint, tmp_path / "pretrained.pth")
        return tmp_path / "pretrained.pth"

    return save


@pytest.fixture
def network(architecture: Architecture, randomise: Callable) -> nn.Module:
    """Segmentation network for images of one channel, with a cosine schedule and images taken as they are."""
    method = DiffusionMethod().with_options({"ensemble.timesteps": (1, 50), "ensemble.head.hidden_features": (5,)})
    return randomise(TimestepEnsembleNetwork(architecture("2d"), 1, 2, method, (16, 16)), seed=5)


def weights_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=False)["network_weights"]


def test_the_loaded_denoiser_is_the_pretrained_one(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    checkpoint = save_pretrained()
    load_into_network(network, checkpoint, architecture("2d"))
    expected, loaded = weights_in(checkpoint), network.denoiser.state_dict(prefix="denoiser.")
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


def test_schedule_and_scaling_of_the_pretraining_replace_those_of_the_plans(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    load_into_network(network, save_pretrained(), architecture("2d"))
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # the linear schedule of DDPM
    alpha_bar = torch.cumprod(1 - betas, dim=0).float()
    torch.testing.assert_close(network.denoiser.schedule.alpha_bar, alpha_bar, rtol=1e-3, atol=1e-6)
    image = torch.tensor([[[[0.0, 1.0], [2.0, -1.0]]]])
    torch.testing.assert_close(network.denoiser.scaled(image), torch.tensor([[[[-0.2, 0.1], [0.4, -0.5]]]]))


def test_the_loaded_denoiser_counts_as_pretrained(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    assert not network.denoiser.is_pretrained
    load_into_network(network, save_pretrained(), architecture("2d"))
    assert network.denoiser.is_pretrained
    assert int(network.denoiser.trained_iterations) == 7


def test_loading_leaves_the_head_as_it_was(network: Any, save_pretrained: Save, architecture: Architecture) -> None:
    before = {name: value.clone() for name, value in network.head.state_dict().items()}
    load_into_network(network, save_pretrained(), architecture("2d"))
    assert all(torch.equal(value, before[name]) for name, value in network.head.state_dict().items())


def test_a_refused_denoiser_leaves_the_network_as_it_was(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit"):
        load_into_network(network, save_pretrained(channels=2), architecture("2d"))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("pretrained", "difference"),
    [
        ({"channels": 2}, "image channels: 2 in the checkpoint, 1 in this data set"),
        ({"name": "3d"}, r"conv_op: .*Conv3d in the checkpoint, .*Conv2d in these plans"),
        ({"name": "2d_anisotropic"}, r"kernel_sizes: .*\[3, 1\].* in the checkpoint, .* in these plans"),
        (
            {"changes": {"features_per_stage": [2, 3, 6]}},
            r"features_per_stage: \[2, 3, 6\] in the checkpoint, \[2, 3, 4\] in these plans",
        ),
        (
            {"changes": {"n_blocks_per_stage": [1, 1, 1]}},
            r"n_blocks_per_stage: \[1, 1, 1\] in the checkpoint, \[1, 2, 1\] in these plans",
        ),
        (
            {"settings": DenoiserSettings(num_diffusion_steps=500)},
            r"denoiser\.schedule\.alpha_bar: \(500,\) in the checkpoint, \(1000,\) here",
        ),
    ],
    ids=["channels", "dimension", "kernels", "features", "blocks", "diffusion steps"],
)
def test_a_denoiser_that_does_not_fit_is_refused_with_the_difference(
    pretrained: dict, difference: str, network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    expected = rf"(?s)pretrained\.pth does not fit this network:.*{difference}.*\nPretrain one"
    with pytest.raises(ValueError, match=expected):
        load_into_network(network, save_pretrained(**pretrained), architecture("2d"))


def test_a_part_that_the_checkpoint_lacks_is_called_missing(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    checkpoint = save_pretrained(changes={"conv_bias": False})
    with pytest.raises(ValueError, match=r"conv1\.conv\.bias: missing in the checkpoint, \(2,\) here"):
        load_into_network(network, checkpoint, architecture("2d"))


def test_a_file_that_cannot_be_read_is_refused_by_name(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    checkpoint = save_pretrained()
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"pretrained\.pth is not a checkpoint that nnU-Net wrote: it is truncated"):
        load_into_network(network, checkpoint, architecture("2d"))


def test_a_checkpoint_without_a_denoiser_is_refused_with_the_trainer_that_wrote_it(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    path = save_pretrained()
    checkpoint = torch.load(path, weights_only=False)
    torch.save(checkpoint | {"network_weights": {"encoder.a": torch.zeros(1)}, "trainer_name": "nnUNetTrainer"}, path)
    message = "holds no denoiser: it was written by nnUNetTrainer. Name a checkpoint of DiffusionPretrainTrainer"
    with pytest.raises(ValueError, match=message):
        load_into_network(network, path, architecture("2d"))


# ---- another number of channels


def test_an_image_repeated_over_more_channels_gives_the_same_features(
    save_pretrained: Save, architecture: Architecture, randomise: Callable, randn: Callable
) -> None:
    method = DiffusionMethod().with_options({"ensemble.timesteps": (50,), "ensemble.head.hidden_features": (5,)})
    one, three = (TimestepEnsembleNetwork(architecture("2d"), n, 2, method, (16, 16)) for n in (1, 3))
    file = save_pretrained()
    assert load_into_network(one, file, architecture("2d"), adapt_channels=True) is None
    note = load_into_network(three, file, architecture("2d"), adapt_channels=True)
    assert note is not None
    assert "1 channel(s), these have 3" in note
    image, noise, timesteps = randn(2, 1, 16, 16), randn(2, 1, 16, 16), torch.tensor([50, 700])
    expected = one.denoiser.features(image, noise, timesteps)
    found = three.denoiser.features(image.expand(-1, 3, -1, -1), noise.expand(-1, 3, -1, -1), timesteps)
    for level, expected_level in zip(found, expected, strict=True):
        torch.testing.assert_close(level, expected_level, rtol=1e-4, atol=1e-4)


def test_a_denoiser_that_scales_its_channels_differently_is_not_adapted(
    network: Any, save_pretrained: Save, architecture: Architecture
) -> None:
    file = save_pretrained(channels=2, settings=DenoiserSettings(input_scale=(1.0, 2.0), input_shift=(0.0,)))
    with pytest.raises(ValueError, match=r"input_scale differs between its 2 channels \(\[1\.0, 2\.0\]\)"):
        load_into_network(network, file, architecture("2d"), adapt_channels=True)


# ---- reading it alone


def test_a_denoiser_read_alone_is_the_one_that_was_saved(save_pretrained: Save, randn: Callable) -> None:
    file = save_pretrained()
    pretrained = read_pretrained(file)
    denoiser = pretrained.module()
    saved = torch.load(file, weights_only=False)["network_weights"]
    assert {f"denoiser.{name}" for name in denoiser.state_dict()} == set(saved)
    assert all(torch.equal(value, saved[f"denoiser.{name}"]) for name, value in denoiser.state_dict().items())
    assert not denoiser.training
    assert pretrained.patch_size == (16, 24)


def test_the_prediction_type_comes_along(save_pretrained: Save) -> None:
    file = save_pretrained(settings=DenoiserSettings(prediction_type="v_prediction"))
    assert read_pretrained(file).module().schedule.prediction_type == "v_prediction"


def sample(file: Path, *options: object) -> int:
    return main(["sample", str(file), str(file.with_name("grid.png")), *map(str, options)])


def test_the_sample_command_writes_a_grid_of_patches(save_pretrained: Save, tmp_path: Path) -> None:
    assert sample(save_pretrained(), "--num-images", 3, "--steps", 2) == 0
    # Two columns and two rows of 16 x 24 pixels, each enlarged eight times so that the shorter side has 128.
    assert imageio.imread(tmp_path / "grid.png").shape == (2 * 128, 2 * 192)


@pytest.mark.parametrize("size", [(16,), (16, 18), (16, 16, 16)])
def test_a_size_that_the_denoiser_cannot_make_is_refused(size: tuple[int, ...], save_pretrained: Save, capsys) -> None:
    assert sample(save_pretrained(), "--size", *size) == 2
    assert "works on images of multiples of 4 x multiples of 4, not 16" in capsys.readouterr().err
