"""Speech as ids: log-mel frames through finite scalar quantisation, and a vocoder that makes samples of ids.

In: an `Audio` of any rate. Out: 50 ids a second, one codebook; and back to mono sound at 16 kHz. Both halves
are ConvNeXt blocks over frames; the last layer tells magnitude and phase of a short-time spectrum, whose
inverse is the sound (Vocos, arXiv:2306.00814), so no layer runs at the rate of samples. Sound can be decoded
while ids still come: a piece needs `lookahead` ids beyond it, and pieces are what the whole would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn

from sensorium.codecs.contract import CODECS, Ids, Reconstructed, Signals, check_ids
from sensorium.core.config import Config, parse
from sensorium.core.errors import UsageError
from sensorium.data.transforms.audio import audio_of
from sensorium.media import Audio
from sensorium.media.logmel import log_mel
from sensorium.media.types import Media
from sensorium.nn.convnext import ConvNeXt1d
from sensorium.nn.istft import InverseStft
from sensorium.nn.quantise import Fsq, Quantised

RATE_HZ = 16_000
HOP = 160
FLOOR = -7.0
"""Of log10 mel energies: what lies below is as good as silence."""
_MEAN, _STD = -3.0, 2.0
_LOUDEST = 5.0
"""Greatest logarithm of a magnitude: keeps an untrained head finite."""


class AudioFsqConfig(Config):
    """An audio codec.

    Attributes:
        num_mels: Bands of the frames, of which there are 100 a second.
        stride: Frames that one id stands for: 2 gives 50 ids a second, 4 gives 25.
        encoder_dim: Width before the quantiser.
        encoder_depth: Blocks there.
        decoder_dim: Width after it.
        decoder_depths: Blocks at the rate of ids, and at the rate of frames.
        kernel: Frames that a convolution sees, odd.
        widen: Hidden width of a block's MLP over its width.
        window: Samples of the output's short-time spectrum, 160 apart.
        levels: Of the quantiser; their product is the number of ids.
    """

    num_mels: int = Field(default=80, ge=1, le=200)
    stride: int = Field(default=2, ge=1)
    encoder_dim: int = Field(default=160, ge=1)
    encoder_depth: int = Field(default=4, ge=0)
    decoder_dim: int = Field(default=208, ge=1)
    decoder_depths: tuple[int, int] = (1, 5)
    kernel: int = Field(default=5, ge=1)
    widen: int = Field(default=3, ge=1)
    window: int = Field(default=640, ge=320)
    levels: tuple[int, ...] = (7, 5, 5, 5, 5)


class AudioFsq(nn.Module):
    """The autoencoder; by `CODECS.build("audio-fsq")`, trained by `sensorium.load`.

    Args:
        config: Its form.
        pretrained: There are no public weights: nothing is loaded here either way.

    Attributes:
        rate: Ids of a second.
        lookahead: Ids beyond a piece, before and after it, that its sound depends on.

    Example:
        >>> codec = AudioFsq(AudioFsqConfig(encoder_dim=8, decoder_dim=8))
        >>> ids = codec.encode(Audio(np.zeros((8_000, 2), np.float32), 16_000))
        >>> ids.shape, codec.decode(ids)
        ((25,), Audio(0.50 s, 16000 Hz, 1 ch))
    """

    modality = "audio"

    def __init__(self, config: AudioFsqConfig, pretrained: bool = False) -> None:
        super().__init__()
        self.config = config
        self.rate = RATE_HZ / HOP / config.stride
        self.samples_per_id = HOP * config.stride
        kernel, widen, num = config.kernel, config.widen, len(config.levels)
        self.quantiser = Fsq(config.levels)
        self.listen = ConvNeXt1d(
            config.num_mels * config.stride, config.encoder_dim, config.encoder_depth, kernel, widen
        )
        self.inward = nn.Linear(config.encoder_dim, num)
        slow, fast = config.decoder_depths
        self.plan = ConvNeXt1d(num, config.decoder_dim, slow, kernel, widen)
        self.unfold = nn.Linear(config.decoder_dim, config.decoder_dim * config.stride)
        self.voice = ConvNeXt1d(config.decoder_dim, config.decoder_dim, fast, kernel, widen)
        self.norm = nn.LayerNorm(config.decoder_dim, eps=1e-6)
        self.spectrum = nn.Linear(config.decoder_dim, 2 * (config.window // 2 + 1))
        self.inverse = InverseStft(config.window, HOP)
        self.lookahead = self.plan.reach + ceil((self.voice.reach + self.inverse.reach) / config.stride)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self.quantiser.size

    def forward(self, batch: Signals) -> Reconstructed:
        """Encode log-mel frames and decode samples; frames are a multiple of the stride."""
        found = self._quantise(batch.inputs)
        return Reconstructed(self._speak(found.codes), found.ids)

    def frames(self, samples: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, "T M"]:
        """Log-mel frames of samples at 16 kHz, padded with silence to whole ids.

        Raises:
            UsageError: If there are no samples.
        """
        if len(samples) == 0:
            raise UsageError("a sound of no samples; give at least one")
        padded = np.pad(samples, (0, -len(samples) % self.samples_per_id))
        return log_mel(padded, num_mels=self.config.num_mels, rate_hz=RATE_HZ)

    def encode_frames(self, frames: Float[Tensor, "B T M"]) -> Int64[Tensor, "B N"]:
        """Ids of log-mel frames."""
        return self._quantise(frames).ids

    def decode_ids(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B S"]:
        """Samples of ids."""
        return self._speak(self.quantiser.to_codes(ids))

    def _quantise(self, frames: Float[Tensor, "B T M"]) -> Quantised:
        scaled = (frames.clamp_min(FLOOR) - _MEAN) / _STD
        pairs = rearrange(scaled, "b (n s) m -> b n (s m)", s=self.config.stride)
        found: Quantised = self.quantiser(self.inward(self.listen(pairs)))
        return found

    def _speak(self, codes: Float[Tensor, "B N d"]) -> Float[Tensor, "B S"]:
        slow = self.unfold(self.plan(codes))
        fast = self.voice(rearrange(slow, "b n (s d) -> b (n s) d", s=self.config.stride))
        size, phase = self.spectrum(self.norm(fast)).float().chunk(2, dim=-1)
        spectra = torch.polar(size.clamp_max(_LOUDEST).exp(), phase)
        samples: Tensor = self.inverse(spectra)
        return samples

    @torch.inference_mode()
    def encode(self, media: Media | str, /) -> Int64[np.ndarray, " N"]:
        """Return the ids of a sound, or of a video's; the last may stand for some silence after it.

        Raises:
            UsageError: If there is no sound, or not one sample of it.
        """
        frames = torch.from_numpy(self.frames(audio_of(media).mono(RATE_HZ)))[None]
        ids: np.ndarray = self.encode_frames(frames.to(self.norm.weight.device))[0].cpu().numpy()
        return ids

    @torch.inference_mode()
    def decode(self, ids: Ids, /) -> Audio:
        """Make the sound of some ids, at 16 kHz.

        Raises:
            UsageError: If there are none, or one is no id.
        """
        array = check_ids(ids, self.vocab_size)
        if len(array) == 0:
            raise UsageError("no ids; a sound has at least one")
        samples = self.decode_ids(torch.from_numpy(array)[None].to(self.norm.weight.device))
        return Audio(samples[0].cpu().numpy()[:, None], RATE_HZ)

    def decode_stream(self, ids: Iterable[int], *, ids_at_once: int = 25) -> Iterator[Audio]:
        """Make sound while ids still come; joined, the pieces are what `decode` gives.

        Args:
            ids: One by one.
            ids_at_once: Of a piece; the last is shorter. A piece comes when `lookahead` ids beyond it are
                known.

        Raises:
            UsageError: If there are none, or one is no id.
        """
        if ids_at_once < 1:
            raise UsageError(f"ids_at_once={ids_at_once}; give at least 1")
        near: list[int] = []
        start = 0  # of the next piece within `near`
        for number in ids:
            near.append(number)
            if len(near) >= start + ids_at_once + self.lookahead:
                yield self._piece(near, start, start + ids_at_once)
                start += ids_at_once
                spent = max(0, start - self.lookahead)
                near, start = near[spent:], start - spent
        yield self._piece(near, start, len(near))

    def _piece(self, near: list[int], start: int, stop: int) -> Audio:
        samples = self.decode(near).samples
        return Audio(samples[start * self.samples_per_id : stop * self.samples_per_id], RATE_HZ)


@CODECS.register("audio-fsq")
def audio_fsq(**options: object) -> AudioFsq:
    """Build an audio codec with random weights from the options of `AudioFsqConfig`.

    Raises:
        ConfigError: If they do not fit.
    """
    return AudioFsq(parse(AudioFsqConfig, options, "codec 'audio-fsq'"))
