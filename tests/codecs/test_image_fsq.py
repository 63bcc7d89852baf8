"""The image codec: one class for every size, and what does not fit is refused in one line."""

import numpy as np
import pytest
import torch

from sensorium.codecs import CODECS, ImageFsq, ImageFsqConfig
from sensorium.codecs.contract import Signals
from sensorium.core.errors import ConfigError, UsageError
from sensorium.media import Audio, Image

SMALL = {"widths": (4, 6), "levels": (5, 3, 4)}


@pytest.mark.parametrize(("size_px", "num"), [(64, 64), (128, 256)])
def test_each_patch_of_eight_pixels_is_an_id(size_px: int, num: int) -> None:
    codec = CODECS.build("image-fsq", size_px=size_px, **SMALL)
    assert isinstance(codec, ImageFsq)
    ids = codec.encode(Image(np.zeros((31, 47, 3), np.uint8)))
    assert codec.rate == len(ids) == num == codec.grid[0] * codec.grid[1]
    assert codec.decode(ids).pixels.shape == (size_px, size_px, 3)


def test_training_sees_what_decoding_gives() -> None:
    torch.manual_seed(5)
    codec = ImageFsq(ImageFsqConfig(size_px=24, **SMALL)).eval()
    pixels = torch.rand(3, 3, 24, 24) * 2 - 1
    found = codec(Signals(torch.arange(3), pixels, pixels))
    assert torch.equal(codec.encode_pixels(pixels), found.ids)
    torch.testing.assert_close(codec.decode_ids(found.ids), found.values, rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient_through_the_quantiser() -> None:
    torch.manual_seed(5)
    codec = ImageFsq(ImageFsqConfig(size_px=24, **SMALL))
    pixels = torch.rand(3, 3, 24, 24) * 2 - 1
    codec(Signals(torch.arange(3), pixels, pixels)).values.square().sum().backward()
    without = [name for name, one in codec.named_parameters() if one.grad is None or not one.grad.any()]
    assert without == []


def test_a_number_of_ids_that_is_no_picture_is_refused() -> None:
    codec = ImageFsq(ImageFsqConfig(size_px=24, **SMALL))
    for num in (0, 8, 10):
        with pytest.raises(UsageError, match=f"{num} ids for an image; expected 9, 3 rows of 3"):
            codec.decode(np.zeros(num, np.int64))


def test_what_is_no_picture_is_refused() -> None:
    codec = ImageFsq(ImageFsqConfig(size_px=24, **SMALL))
    with pytest.raises(UsageError, match="an image encoder got Audio"):
        codec.encode(Audio(np.zeros((7, 1), np.float32), 16_000))


def test_a_size_that_is_not_made_of_patches_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"codec 'image-fsq'.*size_px=30 is not a multiple of the patch, 8 px"
    ):
        CODECS.build("image-fsq", size_px=30)
    with pytest.raises(ConfigError, match="did you mean 'size_px'"):
        CODECS.build("image-fsq", size_p=30)
    with pytest.raises(ConfigError, match="must be of one length"):
        CODECS.build("image-fsq", widths=(4,))


def test_no_coordinate_rests_on_its_middle_level_in_training() -> None:
    torch.manual_seed(5)
    codec = ImageFsq(ImageFsqConfig(size_px=24, **SMALL))
    with torch.no_grad():
        codec.inward.weight.mul_(0.1)
    pixels = torch.rand(17, 3, 24, 24) * 2 - 1
    steps = codec.quantiser.to_codes(codec(Signals(torch.arange(17), pixels, pixels)).ids).flatten(0, 2)
    assert [len(coordinate.unique()) for coordinate in steps.T] == [5, 3, 4]
