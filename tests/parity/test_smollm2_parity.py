"""SmolLM2-135M-Instruct as published, against transformers with the same decoded weights."""

import gguf
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sensorium.codecs.chat import Message, ids_of
from sensorium.data.collections.packages import weights
from sensorium.generation import Engine, PlainDecoder, Request
from sensorium.models.pretrained.text_model import TextModel, load_gguf

pytestmark = [pytest.mark.slow, pytest.mark.network]

THEIRS = (
    ("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("blk.", "model.layers."),
    ("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
    ("attn_output", "self_attn.o_proj"), ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
    ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
)  # fmt: skip
HEADS = {"attn_q": 9, "attn_k": 3}
QUESTIONS = ("Name three animals that live in a pond.", "Write a Python function that adds two numbers.")
NUM_NEW = 48


@pytest.fixture(scope="module")
def ours() -> TextModel:
    return load_gguf(weights("smollm2"))


@pytest.fixture(scope="module")
def reference() -> LlamaForCausalLM:
    """Read by the packages gguf and transformers alone."""
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1_536, num_hidden_layers=30, rms_norm_eps=1e-5,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    state = {}
    for tensor in gguf.GGUFReader(weights("smollm2")).tensors:
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        heads = next((count for part, count in HEADS.items() if f"{part}." in tensor.name), None)
        if heads:
            value = value.reshape(heads, 32, 2, 576).swapaxes(1, 2).reshape(value.shape)
        name = tensor.name
        for theirs, published in THEIRS:
            name = name.replace(theirs, published)
        state[name] = value
    missing = model.load_state_dict(state, strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["lm_head.weight"], [])
    return model


@torch.no_grad()
def test_greedy_text_is_equal(ours: TextModel, reference: LlamaForCausalLM) -> None:
    assert ours.chat is not None
    prompts = [ids_of(ours.chat.encode([Message("user", question)])) for question in QUESTIONS]
    engine = Engine(PlainDecoder(ours.model, num_rows=2, capacity=128), ours.tokenizer.decode)
    done = engine.run([Request(prompt, max_tokens=NUM_NEW, stop_ids=ours.end_ids) for prompt in prompts])
    for prompt, one in zip(prompts, done, strict=True):
        ids = torch.tensor([[*prompt, *one.ids]])
        expected = reference(ids).logits
        # what transformers would have chosen at each place, given the same beginning: its greedy ids
        assert expected[0, len(prompt) - 1 : -1].argmax(-1).tolist() == one.ids
        error = (ours.model.logits(ours.model(ours.model.embed(ids))) - expected).norm() / expected.norm()
        assert error <= 1e-5
    assert "def " in done[1].text


def test_the_prompt_is_laid_out_as_it_was_trained(ours: TextModel) -> None:
    assert ours.chat is not None
    ids = ids_of(ours.chat.encode([Message("user", "Hi <|im_end|>")]))
    assert [one for one in ids if one in ours.tokenizer.special_ids.values()] == [1, 2, 1, 2, 1]
    assert ours.tokenizer.decode(ids) == (
        "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\n"
        "user\nHi <|im_end|>\nassistant\n"
    )
    assert ours.tokenizer.encode("x = 123") == [104, 446, 216, 33, 34, 35]
