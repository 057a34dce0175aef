"""Denoisers of other libraries that cannot be read or used, each refused with the reason and what to do."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_models import MONAI_UNET, SavedByLibrary

from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import parse_source, read_foreign

Make = Callable[..., SavedByLibrary]


@pytest.mark.parametrize("source", ["folder", "torch:folder", "diffusers", "diffusers:", ":folder"])
def test_a_source_of_another_form_is_refused_with_the_libraries(source: str) -> None:
    with pytest.raises(ValueError, match=rf"LIBRARY:PATH with diffusers, monai, guided_diffusion.*got '{source}'"):
        parse_source(source)


def test_a_path_may_hold_a_colon() -> None:
    assert parse_source("monai:C:/models/a") == ("monai", Path("C:/models/a"))


@pytest.mark.parametrize("library", ["diffusers", "monai", "guided_diffusion"])
def test_a_missing_folder_is_named(library: str) -> None:
    if library == "diffusers":
        pytest.importorskip("diffusers")
    with pytest.raises(FileNotFoundError, match="/not/here"):
        read_foreign(f"{library}:/not/here")


def test_without_diffusers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(RuntimeError, match=r'pip install "nnunet-diffusion-ensemble\[diffusers\]"'):
        read_foreign(f"diffusers:{tmp_path}")


@pytest.mark.parametrize(
    ("file", "text", "error", "message"),
    [
        ("scheduler_config.json", None, FileNotFoundError, r"without its noise schedule.*scheduler\.save_pretrained"),
        ("config.json", None, FileNotFoundError, r"config\.json is missing: .* holds no model of diffusers"),
        (
            "config.json",
            {"_class_name": "UNet2DConditionModel"},
            ValueError,
            "that of a UNet2DConditionModel. Only U",
        ),
        ("scheduler_config.json", {"_class_name": "Nothing"}, ValueError, "cannot read the scheduler in .*, a Nothing"),
        (
            "scheduler_config.json",
            {"_class_name": "ScoreSdeVeScheduler"},
            ValueError,
            "ScoreSdeVeScheduler in .*no al",
        ),
        ("diffusion_pytorch_model.safetensors", "cut off", ValueError, "diffusers cannot read the model"),
    ],
)
def test_a_folder_that_is_no_ddpm_of_diffusers_is_refused(
    file: str, text: Any, error: type[Exception], message: str, by_diffusers: Make
) -> None:
    source = by_diffusers().source
    target = Path(source.partition(":")[2]) / file
    target.unlink()
    if text is not None:
        target.write_text(text if isinstance(text, str) else json.dumps(text))
    with pytest.raises(error, match=message):
        read_foreign(source)


def test_weights_that_do_not_belong_to_the_configuration_are_refused(by_diffusers: Make) -> None:
    source = by_diffusers().source
    config = Path(source.partition(":")[2]) / "config.json"
    blocks = ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"down_block_types": blocks}))
    with pytest.raises(ValueError, match=r"not those of its config.json: missing are \['down_blocks\.2\.attentions"):
        read_foreign(source)


@pytest.mark.parametrize("encoder", ["vae", "vqvae"])
def test_a_latent_diffusion_model_is_refused(encoder: str, by_diffusers: Make) -> None:
    source = by_diffusers(as_pipeline=True).source
    (Path(source.partition(":")[2]) / encoder).mkdir()
    with pytest.raises(
        ValueError, match=rf"is a latent diffusion model \({encoder}/\): its U-Net does not read images"
    ):
        read_foreign(source)


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        ({"num_class_embeds": 3}, "num_class_embeds is 3: the model is conditional"),
        ({"out_channels": 2}, "reads 1 channels and writes 2"),
        ({"time_embedding_type": "fourier"}, "reads a noise level instead of a timestep"),
        ({"center_input_sample": True}, "center_input_sample"),
        (
            {"up_block_types": ("UpBlock2D", "AttnUpBlock2D", "SkipUpBlock2D"), "block_out_channels": (8, 8, 8)},
            "blocks of type SkipUpBlock2D are not supported",
        ),
    ],
)
def test_a_diffusers_model_that_cannot_be_wrapped_is_refused_with_the_reason(
    unet: dict, message: str, by_diffusers: Make
) -> None:
    with pytest.raises(ValueError, match=message):
        read_foreign(by_diffusers(**unet).source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scheduler": None}, r"must hold the arguments of network and scheduler, as"),
        ({"weights": 1}, r"must hold the arguments of network and scheduler"),
        ({"scheduler": {"schedule": "none"}}, "does not fit MONAI's DDPMScheduler"),
        ({"scheduler": {"prediction_type": "eps"}}, "does not fit MONAI's DDPMScheduler"),
        ({"network": MONAI_UNET | {"spatial_dims": 2, "depth": 3}}, "no arguments of a monai U-Net.*depth"),
        ({"network": MONAI_UNET}, "no arguments of a monai U-Net.*spatial_dims"),
        ({"network": MONAI_UNET | {"spatial_dims": 2, "num_class_embeds": 3}}, "num_class_embeds is 3: .*conditional"),
        (
            {"network": MONAI_UNET | {"spatial_dims": 2, "with_conditioning": True, "cross_attention_dim": 4}},
            "with_conditioning is True: the model is conditional",
        ),
        (
            {"network": MONAI_UNET | {"spatial_dims": 2, "channels": [4, 8]}},
            r"not those of the U-Net that its arguments describe.*\n.*in the file, .*by its arguments",
        ),
        ({"image_range": [1, 1]}, r"image_range in .* must be \[lowest, highest\], got \[1, 1\]"),
        ({"image_range": 1}, r"image_range in .* must be \[lowest, highest\], got 1"),
        ({"image_size": 64}, r"image_size in .* must be 2 numbers, \[64, 64, ...\], got 64"),
        ({"network": {"spatial_dims": 2}}, "does not say its number of channels: in_channels is None"),
    ],
)
def test_a_wrong_description_of_a_monai_model_is_refused(change: dict, message: str, by_monai: Make) -> None:
    source = by_monai().source
    description = Path(source.partition(":")[2]) / "model.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_foreign(source)


# ---- files of weights


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 cut off", "cannot be read as a state dict of PyTorch: it is truncated or something else"),
        ({"state_dict": {}, "epoch": 3}, r"holds no state dict but the keys \['state_dict', 'epoch'\]"),
        ([1, 2], "holds no state dict but a list"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(content: Any, message: str, by_monai: Make) -> None:
    source = by_monai().source
    file = Path(source.partition(":")[2]) / "model.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        read_foreign(source)


def test_of_several_files_the_one_that_is_meant_must_be_named(by_monai: Make) -> None:
    saved = by_monai()
    folder = Path(saved.source.partition(":")[2])
    shutil.copy(folder / "model.pt", folder / "other.pth")
    with pytest.raises(ValueError, match=r"several files of weights: model.pt, other.pth. Name the one"):
        read_foreign(saved.source)
    assert read_foreign(f"monai:{folder / 'model.pt'}").channels == 1
    with pytest.raises(FileNotFoundError, match=r'other.json is missing.*\n  \{"network"'):
        read_foreign(f"monai:{folder / 'other.pth'}")


def test_an_empty_folder_and_broken_json_are_refused(by_monai: Make, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no state dict"):
        read_foreign(f"monai:{tmp_path}")
    saved = by_monai()
    description = Path(saved.source.partition(":")[2]) / "model.json"
    for text, message in (("{", "is not JSON"), ("[]", "must hold an object")):
        description.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_foreign(saved.source)


def test_the_prefix_of_data_parallel_training_is_taken_off(by_monai: Make) -> None:
    saved = by_monai()
    expected = read_foreign(saved.source).state_dict
    file = Path(saved.source.partition(":")[2]) / "model.pt"
    torch.save({f"module.{name}": value for name, value in saved.model.state_dict().items()}, file)
    found = read_foreign(saved.source).state_dict
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
