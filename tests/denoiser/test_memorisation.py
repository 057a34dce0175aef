"""Distances of samples and held-out images to training images, and what is concluded from them."""

import pytest
import torch

from nnunet_diffusion_ensemble.denoiser.memorisation import MemorisationReport, check_memorisation


def report(samples: list[float], held_out: list[float], num_training_images: int = 1000) -> MemorisationReport:
    return MemorisationReport(torch.tensor(samples), torch.tensor(held_out), num_training_images)


def constant(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 2, 4, 4)


def test_distance_is_the_root_mean_square_to_the_nearest_training_image():
    training = [constant(0.0, 10.0), constant(4.0)]
    found = check_memorisation(constant(1.0, 9.0), constant(6.0), training, ())
    assert found.sample_distances.tolist() == pytest.approx([1.0, 1.0])
    assert found.held_out_distances.tolist() == pytest.approx([2.0])
    assert found.num_training_images == 3


def test_mirrored_copies_are_copies_along_the_axes_that_training_mirrors(randn):
    image = randn(1, 1, 8, 6)
    mirrored = [image.flip(2), image.flip(3), image.flip(2, 3)]
    distances = {
        axes: check_memorisation(torch.cat(mirrored), image, [image], axes).sample_distances > 0.1
        for axes in ((), (0,), (1,), (0, 1))
    }
    assert {axes: found.tolist() for axes, found in distances.items()} == {
        (): [True, True, True],
        (0,): [False, True, True],
        (1,): [True, False, True],
        (0, 1): [False, False, False],
    }


def test_large_images_are_compared_as_averages_of_pixels():
    # A chequerboard of 128 pixels is grey at half its size.
    chequerboard = (torch.arange(128)[:, None] + torch.arange(128)) % 2
    found = check_memorisation(
        chequerboard[None, None].float(), torch.ones(1, 1, 128, 128), [0.5 * torch.ones(1, 1, 128, 128)], ()
    )
    assert found.sample_distances.item() == pytest.approx(0.0, abs=1e-6)
    assert found.held_out_distances.item() == pytest.approx(0.5)


def test_volumes_are_compared(randn):
    volume = randn(2, 1, 6, 8, 40)
    found = check_memorisation(volume[:1], volume[1:], [volume[:1]], (2,))
    assert found.sample_distances.item() == pytest.approx(0.0, abs=1e-3)
    assert found.held_out_distances.item() > 0.5


def test_copies_are_suspicious_and_new_images_are_not():
    held_out = [1 + 0.01 * i for i in range(64)]
    assert report([0.01] * 16, held_out).is_suspicious
    assert not report([1 + 0.04 * i for i in range(16)], held_out).is_suspicious
    assert not report([0.01] + [1.3] * 15, held_out).is_suspicious  # one of sixteen may be chance


def test_a_single_held_out_image_proves_nothing():
    assert not report([0.01] * 4, [1.0]).is_suspicious


def test_the_report_is_one_line_with_the_numbers():
    found = str(report([0.5, 0.7, 0.2], [0.6] * 20))
    assert found == (
        "Memorisation check: the nearest of 1000 training images is 0.500 away from a sample and 0.600 from a held-out "
        "image (medians); 2 of 3 samples are nearer than 95% of 20 held-out images"
    )


def test_few_images_and_copies_are_warned_of():
    found = str(report([0.01] * 16, [1.0] * 64, 38))
    assert "may copy training images" in found
    assert "38 images are few" in found
    assert "\n" not in found
