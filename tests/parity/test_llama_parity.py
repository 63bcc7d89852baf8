"""Llama, Qwen2 and Qwen3 against transformers: equal logits, equal greedy ids, however they are computed."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from sensorium.codecs.bpe import train_bpe
from sensorium.codecs.chat import Message, ids_of
from sensorium.models.language_model import LanguageModel
from sensorium.models.pretrained.text_model import load_folder

SIZES = {
    "vocab_size": 307,
    "hidden_size": 60,
    "intermediate_size": 53,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 211,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ROPE = {"rope_type": "default", "rope_theta": 7_000.0}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, head_dim=10, rms_norm_eps=1e-3, rope_parameters=ROPE)),
    "llama-tied": (LlamaForCausalLM, LlamaConfig(**SIZES, head_dim=22, tie_word_embeddings=True)),
    "llama-biased": (LlamaForCausalLM, LlamaConfig(**SIZES, head_dim=10, attention_bias=True)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SIZES, rms_norm_eps=1e-4)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=22, rms_norm_eps=1e-2, rope_parameters=ROPE)),
}
NUM_NEW = 128


@pytest.fixture(scope="module", params=MODELS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedModel, LanguageModel]:
    """The reference with random weights, and ours from the folder that it saved."""
    kind, config = MODELS[request.param]
    torch.manual_seed(11)
    reference = kind(config).eval()
    reference.generation_config.eos_token_id = None
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            around = 1.0 if "norm" in name else 0.0
            parameter.copy_(around + 0.3 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(request.param)
    reference.save_pretrained(folder, max_shard_size="60KB")
    (folder / "tokenizer.json").write_text(train_bpe(["low lower lowest"], 300))
    assert (folder / "model.safetensors.index.json").is_file()
    return reference, load_folder(folder).model


def some_ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, SIZES["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def greedy(model: LanguageModel, prompts: list[torch.Tensor]) -> torch.Tensor:
    """Continue prompts of any lengths together, from caches."""
    lengths = torch.tensor([[len(prompt)] for prompt in prompts])
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=9)
    caches = model.new_caches(len(prompts), ids.shape[1] + NUM_NEW)
    hidden = model(model.embed(ids), torch.arange(ids.shape[1]) < lengths, caches=caches)
    hidden = hidden[torch.arange(len(prompts))[:, None], lengths - 1]
    written = []
    for step in range(NUM_NEW):
        written.append(model.logits(hidden).argmax(-1))
        at = lengths + step
        hidden = model(model.embed(written[-1], at), positions=at, caches=caches)
    return torch.cat(written, dim=1)


def reference_greedy(reference: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    config = GenerationConfig(do_sample=False, max_new_tokens=NUM_NEW, pad_token_id=0, eos_token_id=None)
    return reference.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)[
        :, ids.shape[1] :
    ]


def test_logits_are_equal(both: tuple[PreTrainedModel, LanguageModel]) -> None:
    reference, model = both
    ids = some_ids(2, 97)
    with torch.no_grad():
        expected = reference(ids).logits
        error = (model.logits(model(model.embed(ids))) - expected).norm() / expected.norm()
    assert error <= 1e-5


def test_greedy_ids_are_equal_alone_and_in_a_padded_batch(
    both: tuple[PreTrainedModel, LanguageModel],
) -> None:
    reference, model = both
    prompts = [some_ids(1, 13)[0], some_ids(2, 5)[1]]
    expected = torch.cat([reference_greedy(reference, prompt[None]) for prompt in prompts])
    assert torch.equal(greedy(model, prompts), expected)
    assert torch.equal(greedy(model, prompts[1:]), expected[1:])
    assert len(set(expected[0].tolist())) > 9  # a model that repeats itself would agree by accident


def test_an_epsilon_that_is_not_read_would_be_seen(both: tuple[PreTrainedModel, LanguageModel]) -> None:
    reference, model = both
    values = json.loads(reference.config.to_json_string())
    epsilons = {module.eps for module in model.modules() if isinstance(module, torch.nn.RMSNorm)}
    assert epsilons == {values["rms_norm_eps"]}


TEMPLATES = (
    "{% for message in messages %}\n{{- '<|' + message.role + '|>\\n' + (message['content'] | trim) -}}"
    "{{ eos_token }}\n  {% endfor %}{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}"
    "{{ m | tojson }}{{ m.content.split('x')[-1] | upper }}\n{% endfor %}",
)


@pytest.mark.parametrize("template", TEMPLATES)
def test_conversations_are_laid_out_as_transformers_does(template: str, tmp_path: Path) -> None:
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(train_bpe(["low lower lowest"], 300)),
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        bos_token="<start>",
        eos_token="<end>",
        chat_template=template,
    )
    theirs.save_pretrained(tmp_path)
    kind, config = MODELS["llama"]
    kind(config).save_pretrained(tmp_path)
    loaded = load_folder(tmp_path)
    assert loaded.chat is not None
    assert loaded.end_ids == {2}
    said = [Message("system", " low\n"), Message("user", "naïve x \n\n  lower"), Message("assistant", "x")]
    for is_open in (True, False):
        expected = theirs.apply_chat_template(
            [{"role": one.role, "content": one.content} for one in said],
            add_generation_prompt=is_open,
            return_dict=False,
        )
        assert ids_of(loaded.chat.encode(said, is_open=is_open)) == expected
