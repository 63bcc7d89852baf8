"""Speech codec: an autoencoder over log-mel frames with finite scalar quantisation (FSQ), and a vocoder.

Input: an `Audio` of any rate. Output: 50 ids a second from one codebook, and back to mono sound at 16 kHz.
Encoder and decoder are ConvNeXt blocks over frames. The last layer predicts magnitude and phase of a
short-time spectrum, and an inverse STFT makes the samples (Vocos, arXiv:2306.00814). Streaming: a piece of
sound needs `lookahead` ids after it; concatenated, the pieces equal the whole.
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
"""Lower limit of log10 mel energies: below is silence."""
_MEAN, _STD = -3.0, 2.0
_MAX_LOG_MAGNITUDE = 5.0
"""Keeps the output of an untrained model finite."""


class AudioFsqConfig(Config):
    """Options of the audio codec.

    Attributes:
        num_mels: Mel bands of the frames, of which there are 100 a second.
        stride: Frames of one id: 2 gives 50 ids a second, 4 gives 25.
        encoder_dim: Width of the encoder.
        encoder_depth: Blocks of the encoder.
        decoder_dim: Width of the decoder.
        decoder_depths: Blocks of the decoder at the rate of ids, and at the rate of frames.
        kernel: Kernel size of the convolutions in frames, odd.
        widen: Hidden width of a block's MLP over its width.
        window: Window of the output's STFT in samples; the hop is 160.
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
    """The audio codec. `CODECS.build("audio-fsq")` builds an untrained one, `sensorium.load` a trained one.

    Args:
        config: Options.
        pretrained: Not used: there are no public weights.

    Attributes:
        rate: Ids of a second.
        lookahead: Number of ids before and after a piece that its sound depends on.

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
        """Number of ids."""
        return self.quantiser.size

    def forward(self, batch: Signals) -> Reconstructed:
        """Encode log-mel frames and decode samples; the number of frames is a multiple of the stride."""
        found = self._quantise(batch.inputs)
        return Reconstructed(self._synthesize(found.codes), found.ids)

    def frames(self, samples: Float32[np.ndarray, " S"]) -> Float32[np.ndarray, "T M"]:
        """Return log-mel frames of samples at 16 kHz, padded with silence to a multiple of an id.

        Raises:
            UsageError: If there are no samples.
        """
        if len(samples) == 0:
            raise UsageError("a sound without samples; give at least one")
        padded = np.pad(samples, (0, -len(samples) % self.samples_per_id))
        return log_mel(padded, num_mels=self.config.num_mels, rate_hz=RATE_HZ)

    def encode_frames(self, frames: Float[Tensor, "B T M"]) -> Int64[Tensor, "B N"]:
        """Encode log-mel frames."""
        return self._quantise(frames).ids

    def decode_ids(self, ids: Int64[Tensor, "B N"]) -> Float[Tensor, "B S"]:
        """Decode ids to samples."""
        return self._synthesize(self.quantiser.to_codes(ids))

    def _quantise(self, frames: Float[Tensor, "B T M"]) -> Quantised:
        scaled = (frames.clamp_min(FLOOR) - _MEAN) / _STD
        pairs = rearrange(scaled, "b (n s) m -> b n (s m)", s=self.config.stride)
        found: Quantised = self.quantiser(self.inward(self.listen(pairs)))
        return found

    def _synthesize(self, codes: Float[Tensor, "B N d"]) -> Float[Tensor, "B S"]:
        slow = self.unfold(self.plan(codes))
        fast = self.voice(rearrange(slow, "b n (s d) -> b (n s) d", s=self.config.stride))
        log_magnitude, phase = self.spectrum(self.norm(fast)).float().chunk(2, dim=-1)
        spectra = torch.polar(log_magnitude.clamp_max(_MAX_LOG_MAGNITUDE).exp(), phase)
        samples: Tensor = self.inverse(spectra)
        return samples

    @torch.inference_mode()
    def encode(self, media: Media | str, /) -> Int64[np.ndarray, " N"]:
        """Encode a sound, or that of a video; it is padded with silence to a multiple of an id.

        Raises:
            UsageError: If there is no sound, or it has no samples.
        """
        frames = torch.from_numpy(self.frames(audio_of(media).mono(RATE_HZ)))[None]
        ids: np.ndarray = self.encode_frames(frames.to(self.norm.weight.device))[0].cpu().numpy()
        return ids

    @torch.inference_mode()
    def decode(self, ids: Ids, /) -> Audio:
        """Decode ids to sound at 16 kHz.

        Raises:
            UsageError: If there are none, or one is not in the vocabulary.
        """
        array = check_ids(ids, self.vocab_size)
        if len(array) == 0:
            raise UsageError("no ids; a sound has at least one")
        samples = self.decode_ids(torch.from_numpy(array)[None].to(self.norm.weight.device))
        return Audio(samples[0].cpu().numpy()[:, None], RATE_HZ)

    def decode_stream(self, ids: Iterable[int], *, ids_at_once: int = 25) -> Iterator[Audio]:
        """Decode a stream of ids; concatenated, the pieces are what `decode` returns.

        Args:
            ids: One by one.
            ids_at_once: Ids of a piece; the last is shorter. It is yielded once `lookahead` ids after it are
                known.

        Raises:
            UsageError: If there are none, or one is not in the vocabulary.
        """
        if ids_at_once < 1:
            raise UsageError(f"ids_at_once={ids_at_once}; give at least 1")
        near: list[int] = []
        start = 0  # of the next piece in `near`
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
    """Build an untrained audio codec from the options of `AudioFsqConfig`.

    Raises:
        ConfigError: If an option is invalid.
    """
    return AudioFsq(parse(AudioFsqConfig, options, "codec 'audio-fsq'"))
