from __future__ import annotations

import pytest
import torch

from curation.faults import DataError
from curation.media import tensors


def test_they_come_back_as_they_were_or_rounded():
    made = {"b": torch.rand(3, 4), "a": torch.arange(4, dtype=torch.int32), "c": torch.rand(2, 3).T}
    back = tensors.from_safetensors(tensors.to_safetensors(made))
    assert back.keys() == made.keys() and all(torch.equal(back[name], made[name]) for name in made)
    rounded = tensors.from_safetensors(tensors.to_safetensors(made, "bf16"))
    assert torch.equal(rounded["b"], made["b"].bfloat16()) and rounded["a"].dtype == torch.int32
    assert tensors.to_safetensors(made) == tensors.to_safetensors(dict(reversed(made.items())))


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_one_is_read_at_its_place(dtype):
    made = {"5x16x16@10": torch.rand(2, 2, 2, 2), "5x16x16@9": torch.rand(2, 2, 2, 2), "9x16x32@0": torch.rand(2, 3, 2, 4)}
    data = tensors.to_safetensors(made, dtype)
    places = tensors.places(data)
    assert places.keys() == made.keys() and max(last for _, last in places.values()) == len(data)
    assert [first for first, _ in places.values()][1:] == [last for _, last in places.values()][:-1], "without gaps, in order"
    for name, (first, last) in places.items():
        wanted = made[name].to(torch.bfloat16 if dtype == "bf16" else torch.float32)
        assert torch.equal(tensors.from_bytes(data[first:last], tuple(wanted.shape), dtype), wanted)


def test_what_is_none_is_the_samples_fault():
    data = tensors.to_safetensors({"a": torch.rand(3, 4)})
    for bad in (data[:-1], data[:5], b"", b"no tensors" * 9):
        with pytest.raises(DataError, match="bad_tensors"):
            tensors.from_safetensors(bad)
    for size in (11, 13):
        with pytest.raises(DataError, match="bad_tensors"):
            tensors.from_bytes(bytes(4 * size), (3, 4), "fp32")


def test_names_say_bucket_and_first_frame():
    assert tensors.named_latents(tensors.latents_name("17x512x288", 24)) == ("17x512x288", 24)
    assert tensors.sides("17x512x288") == (17, 512, 288)
