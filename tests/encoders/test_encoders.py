"""What each encoder is beyond the contract: how many tokens, which options, and that it learns."""

import numpy as np
import pytest
import torch
from torch import nn

from sensorium.codecs import train_bpe
from sensorium.core.errors import ConfigError, NotFoundError, UsageError
from sensorium.core.types import Padded, pad
from sensorium.data.transforms import ImageInput, VideoInput
from sensorium.encoders import ENCODERS
from sensorium.nn.pooling import masked_mean

NAMES = ["frog", "two red apples", "a dog", "a cat", "moon", "a green tree", "sun and sea", "snow"]
TOKENIZER = train_bpe(NAMES * 5, 300)


def whole(values: torch.Tensor) -> Padded:
    num_steps = 1 if values.ndim == 4 else values.shape[1]
    return Padded(values, torch.ones(len(values), num_steps, dtype=torch.bool))


def test_cnn_gives_a_token_for_each_place_of_its_last_map() -> None:
    encoder = ENCODERS.build("image-cnn", width=3, depths=(1, 1, 1))
    assert encoder(whole(torch.randn(2, 3, 64, 64))).values.shape == (2, 64, 12)
    assert encoder(whole(torch.randn(2, 3, 40, 64))).values.shape == (2, 40, 12)


def test_cnn_joins_its_places_in_reading_order() -> None:
    apart = ENCODERS.build("image-cnn", width=3, depths=(1, 1, 1), size_px=36).eval()
    joined = ENCODERS.build("image-cnn", width=3, depths=(1, 1, 1), size_px=36, places="joined").eval()
    joined.load_state_dict(apart.state_dict())
    images = whole(torch.randn(2, 3, 36, 36))
    assert joined.dim == 25 * 12
    torch.testing.assert_close(joined(images).values[:, 0], apart(images).values.flatten(1))
    with pytest.raises(UsageError, match="images of 44 x 36 px; joined places need 36 px square"):
        joined(whole(torch.randn(2, 3, 36, 44)))


def test_merged_maps_give_a_token_for_each_place_of_the_finest() -> None:
    encoder = ENCODERS.build("image-cnn", width=3, depths=(1, 1, 1), merged=2)
    assert encoder(whole(torch.randn(2, 3, 64, 64))).values.shape == (2, 256, 12)
    joined = ENCODERS.build("image-cnn", width=3, depths=(1, 1, 1), merged=2, places="joined", size_px=36)
    assert joined(whole(torch.randn(2, 3, 36, 36))).values.shape == (2, 1, joined.dim)
    with pytest.raises(ConfigError, match="merged=4 of 3 stages"):
        ENCODERS.build("image-cnn", depths=(1, 1, 1), merged=4)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_vit_gives_a_token_for_each_patch(positions: str) -> None:
    encoder = ENCODERS.build("image-vit", width=20, depth=1, patch_px=16, positions=positions)
    assert encoder(whole(torch.randn(2, 3, 64, 64))).values.shape == (2, 16, 20)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_vit_knows_where_a_patch_is(positions: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS.build("image-vit", width=20, depth=2, patch_px=8, size_px=16, positions=positions)
    image = torch.randn(1, 3, 16, 16)
    turned = image.transpose(2, 3)  # the off-diagonal patches change places, and no patch its content
    swapped = torch.cat([torch.cat([image[..., :8, :8], image[..., 8:, :8]], 3),
                         torch.cat([image[..., :8, 8:], image[..., 8:, 8:]], 3)], 2)  # fmt: skip
    assert turned.shape == swapped.shape
    ours, theirs = encoder(whole(image)).values, encoder(whole(swapped)).values
    assert (ours[:, 0] - theirs[:, 0]).abs().max() > 1e-6


def test_rotary_vit_takes_other_sizes() -> None:
    encoder = ENCODERS.build("image-vit", width=20, depth=1, patch_px=8, size_px=32)
    assert encoder(whole(torch.randn(1, 3, 24, 48))).values.shape == (1, 18, 20)


def test_audio_token_rates() -> None:
    frames = whole(torch.randn(1, 101, 80))
    cnn = ENCODERS.build("audio-cnn", width=2, depths=(1, 1, 1), dim=7)
    transformer = ENCODERS.build("audio-transformer", width=20, depth=1, strides=[2, 2])
    assert cnn(frames).values.shape == (1, 13, 7)
    assert transformer(frames).values.shape == (1, 26, 20)


def test_order_of_frames_counts_only_with_attention_over_time() -> None:
    torch.manual_seed(1)
    frames = torch.randn(1, 5, 3, 16, 16)
    options = {"width": 8, "depths": (1, 1), "size_px": 16}
    for temporal, is_order_seen in (("attention", True), ("none", False)):
        encoder = ENCODERS.build("video-frames", temporal=temporal, frame_options=options)
        assert isinstance(encoder, nn.Module)
        encoder.eval()
        forward, backward = encoder(whole(frames)), encoder(whole(frames.flip(1)))
        is_changed = (masked_mean(forward) - masked_mean(backward)).abs().max() > 1e-5
        assert bool(is_changed) == is_order_seen


def test_a_still_video_is_its_image() -> None:
    torch.manual_seed(1)
    options = {"width": 8, "depths": (1, 1), "size_px": 16}
    encoder = ENCODERS.build("video-frames", temporal="none", frame_options=options)
    assert isinstance(encoder, nn.Module)
    encoder.eval()
    image = torch.randn(1, 3, 16, 16)
    alone = masked_mean(encoder.frame(whole(image)))
    still = masked_mean(encoder(whole(image[:, None].expand(1, 4, 3, 16, 16))))
    torch.testing.assert_close(still, alone)


def test_video_frames_needs_an_image_encoder() -> None:
    with pytest.raises(ConfigError, match="frame='audio-cnn' encodes audio"):
        ENCODERS.build("video-frames", frame="audio-cnn")


def test_input_options_come_from_a_recipe() -> None:
    encoder = ENCODERS.build("image-cnn", size_px=32, input={"flip": 0.5, "crop_scale": [0.5, 1.0]})
    assert encoder.input == ImageInput(size_px=32, mode="pad", flip=0.5, crop_scale=(0.5, 1.0))
    video = ENCODERS.build("video-frames", num_frames=3, frame_options={"size_px": 32})
    assert video.input == VideoInput(num_frames=3, frame=ImageInput(size_px=32, mode="pad"))


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'image-vit'"):
        ENCODERS.build("image-vitt")
    with pytest.raises(UsageError, match="breadth"):
        ENCODERS.build("image-cnn", breadth=3)
    with pytest.raises(UsageError, match="input options flipp"):
        ENCODERS.build("image-cnn", input={"flipp": 0.5})


def eight(modality: str) -> Padded:
    """Eight inputs that differ in content and, where they can, in length."""
    generator = torch.Generator().manual_seed(0)
    if modality == "text":
        recipe = ENCODERS.build("text-gru", tokenizer_json=TOKENIZER).input
        return pad([recipe(name) for name in NAMES])
    if modality == "image":
        return whole(torch.randn(8, 3, 16, 16, generator=generator))
    if modality == "audio":
        rng = np.random.default_rng(0)
        return pad([rng.normal(size=(length, 16)).astype(np.float32) for length in range(20, 36, 2)])
    return whole(torch.randn(8, 3, 3, 16, 16, generator=generator))


LEARNERS = {
    "image-cnn": {"width": 8, "depths": (1, 1), "size_px": 16},
    "image-vit": {"width": 32, "depth": 1, "size_px": 16},
    "text-gru": {"tokenizer_json": TOKENIZER, "width": 32},
    "text-transformer": {"tokenizer_json": TOKENIZER, "width": 32, "depth": 1},
    "audio-cnn": {"width": 8, "depths": (1, 1), "dim": 32, "num_mels": 16},
    "audio-transformer": {"width": 32, "depth": 1, "num_mels": 16},
    "video-frames": {"frame_options": {"width": 8, "depths": (1, 1), "size_px": 16}},
}


@pytest.mark.parametrize("name", LEARNERS)
def test_learns_to_tell_eight_apart(name: str) -> None:
    torch.manual_seed(0)
    encoder = ENCODERS.build(name, **LEARNERS[name])
    assert isinstance(encoder, nn.Module)
    inputs, targets = eight(encoder.modality), torch.arange(8)
    head = nn.Linear(encoder.dim, 8)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(head(masked_mean(encoder(inputs))), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
