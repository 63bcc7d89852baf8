"""A small multimodal language model: pictures, texts and sounds in; texts and picture codes out."""

import torch

from sensorium.codecs.bpe import train_bpe
from sensorium.core.types import MediaBatch, Padded
from sensorium.models.multimodal_lm import MultimodalLM, MultimodalLMConfig
from sensorium.models.sequences import DecoderBatch, TokenBatch, TokenSequence, padded

SIDE, D, CODES = 24, 32, 19
CNN = {"width": 3, "depths": [1, 1]}
BPE = train_bpe(["a big blue frog", "a red tree", "the sun and the hat"] * 3, 270)


def config(**changes: object) -> MultimodalLMConfig:
    values = {
        "sources": {
            "image": {"encoder": "image-cnn", "options": {**CNN, "norm": "layer", "size_px": SIDE}},
            "text": {"encoder": "text-gru", "options": {"tokenizer_json": BPE, "width": 22}},
            "audio": {"encoder": "audio-cnn", "options": {**CNN, "dim": 13, "num_mels": 11}},
        },
        "dim": D,
        "fusion_options": {"depth": 2},
        "decoders": {
            "text": {"tokenizer_json": BPE, "width": 24, "num_heads": 2, "depth": 2},
            "image": {"num_codes": CODES, "width": 16, "num_heads": 2, "depth": 1},
        },
    }  # fmt: skip
    return MultimodalLMConfig.model_validate({**values, **changes})


def build(*, is_moved: bool = True, **changes: object) -> MultimodalLM:
    """A model; moved a little away from its start, where gates and biases are 0."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = MultimodalLM(config(**changes)).eval()
        with torch.no_grad():
            for parameter in model.parameters() if is_moved else ():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def media(rows: int = 3) -> MediaBatch:
    """Row 0 has all, row 1 a picture and a text, row 2 a sound alone."""
    generator = torch.Generator().manual_seed(1)
    image = Padded(torch.randn(2, 3, SIDE, SIDE, generator=generator), torch.ones(2, 1, dtype=torch.bool))
    text = Padded(
        torch.tensor([[3, 5, 7, 2, 9], [4, 6, 0, 0, 0]]), torch.arange(5) < torch.tensor([[5], [2]])
    )
    audio = Padded(torch.randn(2, 23, 11, generator=generator), torch.arange(23) < torch.tensor([[23], [9]]))
    present = {"image": torch.tensor([0, 1]), "text": torch.tensor([0, 1]), "audio": torch.tensor([0, 2])}
    return MediaBatch(torch.arange(rows) + 40, present, {"image": image, "text": text, "audio": audio})


def sequels() -> list[TokenSequence]:
    return [
        TokenSequence([1, 77, 90], [100, 101, 102, 2], 0),
        TokenSequence([1], [80, 2], 1),
        TokenSequence([1, 66], [67, 68, 2], 2),
        TokenSequence([1, 99], [70, 71, 72, 73, 2], 0),
    ]


def lesson(writing: TokenBatch | None = None, decoder: str = "text") -> DecoderBatch:
    return DecoderBatch(media(), decoder, padded(sequels()) if writing is None else writing)
