"""Comparing the weights of a file with those of a network."""

import torch

from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes, listed


def test_weights_of_the_same_names_and_shapes_do_not_differ() -> None:
    assert different_shapes({"a": torch.zeros(2), "b": torch.ones(1)}, {"b": torch.zeros(1), "a": torch.zeros(2)}) == []


def test_each_difference_names_both_shapes_in_the_order_of_the_network() -> None:
    theirs = {"only.theirs": torch.zeros(3), "b": torch.zeros(2, 1)}
    ours = {"only.ours": torch.zeros(()), "b": torch.zeros(2, 2)}
    assert different_shapes(theirs, ours) == [
        "only.ours: missing in the checkpoint, () in the network",
        "b: (2, 1) in the checkpoint, (2, 2) in the network",
        "only.theirs: (3,) in the checkpoint, missing in the network",
    ]


def test_the_places_are_called_as_the_caller_says() -> None:
    assert different_shapes({}, {"a": torch.zeros(1)}, "in the file", "here") == ["a: missing in the file, (1,) here"]


def test_a_message_lists_the_first_six() -> None:
    assert listed([str(i) for i in range(9)]) == "\n  0\n  1\n  2\n  3\n  4\n  5"
