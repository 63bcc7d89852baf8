"""A small model of three modalities."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig

WORDS = "a big blue red green small frog tree hat sun and the on of".split()
RARE_WORDS = [f"word{number}" for number in range(60)]


def tokenizer_json() -> str:
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(["?", *WORDS, *RARE_WORDS])}, unk_token="?")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def config(**image: object) -> JointEmbeddingConfig:
    return JointEmbeddingConfig.model_validate(
        {
            "dim": 13,
            "towers": {
                "image": {
                    "encoder": "image-vit",
                    "options": {
                        "width": 32,
                        "input": {"flip": 0.5},
                        "depth": 3,
                        "patch_px": 8,
                        "size_px": 24,
                    },
                    **image,
                },
                "text": {
                    "encoder": "text-gru",
                    "options": {"tokenizer_json": tokenizer_json(), "width": 22},
                    "head": "residual-mlp",
                    "head_options": {"width": 17, "num_blocks": 2},
                },
                "audio": {
                    "encoder": "audio-cnn",
                    "options": {"width": 3, "depths": [1, 1], "dim": 19, "num_mels": 40},
                },
            },
        }
    )


def build(config: JointEmbeddingConfig) -> JointEmbedding:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return JointEmbedding(config).eval()
