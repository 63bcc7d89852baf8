"""The multimodal model: masked and absent media change no bit, packed = padded, saved = loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from multimodal_world import BPE, CODES, build, config, lesson, media, sequels
from sensorium.core.errors import ConfigError, UsageError
from sensorium.core.types import MediaBatch, Padded, Tokens
from sensorium.losses import next_id_loss
from sensorium.models.checkpoint import load, save
from sensorium.models.decoder import Decoder, DecoderConfig
from sensorium.models.multimodal_lm import MultimodalLM
from sensorium.models.sequences import DecoderBatch, TokenSequence, packed, padded

MODES = ["memory", "prefix"]


def test_places_of_a_pictures_codes_start_as_rows_and_columns() -> None:
    writer = Decoder(
        DecoderConfig(num_codes=7, num_positions=10, width=16, num_heads=2, depth=1), memory_dim=8
    )
    positions = writer.model.positions
    assert positions is not None
    rows = positions.table[:9].detach().view(3, 3, 16)
    assert torch.equal(rows[1, 0, :8], rows[1, 2, :8])  # one row
    assert torch.equal(rows[0, 1, 8:], rows[2, 1, 8:])  # one column
    assert not torch.equal(rows[0, 1], rows[1, 0])
    with pytest.raises(ValueError, match="num_positions needs num_codes"):
        DecoderConfig(num_positions=10)


@pytest.mark.parametrize("mode", MODES)
def test_rows_stand_for_themselves(mode: str) -> None:
    model, whole = build(mode=mode), lesson()
    together = model(whole)
    at = 0
    for one in sequels():
        given = single(media(), one.row)
        alone = model(DecoderBatch(given, "text", padded([replace(one, row=0)])))
        found = slice(at, at + len(one.answer))
        torch.testing.assert_close(together.hidden[found], alone.hidden, rtol=1e-4, atol=1e-5)
        assert together.targets[found].tolist() == list(one.answer)
        assert set(together.rows[found].tolist()) == {40 + one.row}
        at += len(one.answer)


def single(batch: MediaBatch, row: int) -> MediaBatch:
    """One row without padding."""
    present, inputs = {}, {}
    for name, places in batch.present.items():
        for place in (places == row).nonzero()[:, 0].tolist():
            mask = batch.inputs[name].mask[place]
            length = len(batch.inputs[name].values[place]) if name == "image" else int(mask.sum())
            values = batch.inputs[name].values[place : place + 1, :length]
            inputs[name] = Padded(values, mask[None, : int(mask.sum())])
            present[name] = torch.tensor([0])
    return MediaBatch(batch.rows[row : row + 1], present, inputs)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_masked_or_absent_changes_no_bit(mode: str) -> None:
    model, whole = build(mode=mode), lesson()
    text, audio = whole.media.inputs["text"], whole.media.inputs["audio"]
    spoilt = {
        **whole.media.inputs,
        "text": Padded(text.values.masked_fill(~text.mask, 10**9), text.mask),
        "audio": Padded(audio.values.masked_fill(~audio.mask[..., None], float("nan")), audio.mask),
    }
    ids = whole.sequences.ids.masked_fill(~whole.sequences.mask, 255)
    other = DecoderBatch(replace(whole.media, inputs=spoilt), "text", replace(whole.sequences, ids=ids))
    assert torch.equal(model(whole).hidden, model(other).hidden)


def test_a_row_without_anything_still_writes() -> None:
    model = build()
    nothing = MediaBatch(torch.tensor([5]), {}, {})
    hidden = model(DecoderBatch(nothing, "text", padded([TokenSequence([1], [9, 2], 0)]))).hidden
    assert hidden.shape == (2, 24)
    assert hidden.isfinite().all()


@pytest.mark.parametrize("name", ["image", "text", "audio"])
def test_each_modality_is_seen(name: str) -> None:
    model, whole = build(), lesson()
    given = whole.media.inputs[name]
    values = given.values.flip(0) if name != "text" else given.values.flip(0) * given.mask
    changed = replace(whole.media, inputs={**whole.media.inputs, name: Padded(values, given.mask)})
    assert not torch.equal(model(whole).hidden, model(replace(whole, media=changed)).hidden)


def test_where_things_are_is_seen() -> None:
    model = build()
    values = torch.randn(1, 36, 6, generator=torch.Generator().manual_seed(3))
    tokens = Tokens(values, torch.ones(1, 36, dtype=torch.bool))
    turned = Tokens(values.reshape(1, 6, 6, 6).transpose(1, 2).reshape(1, 36, 6), tokens.mask)
    batch = MediaBatch(torch.tensor([0]), {"image": torch.tensor([0])}, tokens={"image": tokens})
    one, other = model.encode(batch), model.encode(replace(batch, tokens={"image": turned}))
    assert (one.values.mean(dim=1) - other.values.mean(dim=1)).abs().max() > 1e-4


def test_tokens_computed_before_are_as_good_as_inputs() -> None:
    model, whole = build(), lesson()
    tokens = model.sources["image"](whole.media.inputs["image"])
    inputs = {name: given for name, given in whole.media.inputs.items() if name != "image"}
    cached = replace(whole.media, inputs=inputs, tokens={"image": tokens})
    assert torch.equal(model(whole).hidden, model(replace(whole, media=cached)).hidden)


@pytest.mark.parametrize("num_positions", [9, 14, 40])
def test_packed_is_padded_in_loss_and_gradient(num_positions: int) -> None:
    model = build().double().train()
    matrix = model.decoder("text").model.output_matrix
    losses, gradients = [], []
    for writing in (padded(sequels()), packed(sequels(), num_positions)):
        batch = lesson(writing)
        inputs = {
            name: Padded(given.values.double() if name != "text" else given.values, given.mask)
            for name, given in batch.media.inputs.items()
        }
        written = model(replace(batch, media=replace(batch.media, inputs=inputs)))
        loss = next_id_loss(written.hidden, matrix, written.targets)
        model.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert packed(sequels(), num_positions).segments is not None
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-9, atol=1e-11)


def test_packing_and_prefixes_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="do not pack them"):
        build(mode="prefix")(lesson(packed(sequels(), 40)))


@pytest.mark.parametrize("mode", MODES)
def test_saved_is_loaded(mode: str, tmp_path: Path) -> None:
    model = build(mode=mode)
    loaded = load(save(model, tmp_path / "m"), MultimodalLM)
    assert torch.equal(model(lesson()).hidden, loaded(lesson()).hidden)
    assert loaded.decoder("text").tokenizer.json == BPE


def test_every_decoder_reads_the_same_memory() -> None:
    model = build()
    start = model.decoder("image").prompt_ids()
    writing = padded(
        [TokenSequence(start, model.decoder("image").answer_ids([3, 5, 18]), row) for row in range(3)]
    )
    written = model(lesson(writing, "image"))
    assert start == [CODES]
    assert written.targets.reshape(3, 4)[0].tolist() == [3, 5, 18, CODES + 1]
    assert not torch.equal(written.hidden[:4], written.hidden[4:8])


@pytest.mark.parametrize("mode", MODES)
def test_every_parameter_learns(mode: str) -> None:
    model = build(mode=mode).train()
    total = model(lesson()).hidden.square().sum()
    start = model.decoder("image").prompt_ids()
    total = total + model(lesson(padded([TokenSequence(start, [3, 1], 0)]), "image")).hidden.square().sum()
    total.backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert unused <= {
        n for n in unused if n.startswith("fusion.mixer.pool")
    }  # of the one vector, not of tokens


def test_what_was_written_is_forgotten_in_training_alone() -> None:
    decoders = {"text": {"tokenizer_json": BPE, "width": 24, "num_heads": 2, "depth": 1}}
    plain = build(decoders=decoders)
    decoders["text"] = {**decoders["text"], "token_dropout": 0.3}
    model, whole = build(decoders=decoders), lesson()
    assert torch.equal(model(whole).hidden, plain(whole).hidden)
    writer = model.train().decoder("text")
    ids = torch.full((200, 50), 7)
    torch.manual_seed(1)
    seen = writer.drop_tokens(ids)
    assert set(seen.unique().tolist()) == {7, writer.vocabulary.start[0]}
    assert float((seen != ids).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(model(whole).targets, plain(whole).targets)  # what is to be written stays
    assert not torch.equal(model(whole).hidden, model(whole).hidden)


def test_of_each_picture_another_share_is_forgotten() -> None:
    config = DecoderConfig(num_codes=7, num_positions=401, token_dropout=0.9, width=16, num_heads=2, depth=1)
    writer = Decoder(config, memory_dim=8).train()
    torch.manual_seed(1)
    shares = (writer.drop_tokens(torch.full((300, 400), 3)) == 7).float().mean(dim=1)
    assert float(shares.min()) < 0.05
    assert 0.85 < float(shares.max()) < 0.95
    assert float(shares.mean()) == pytest.approx(0.45, abs=0.03)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="does not write audio; it writes image, text"):
        build()(lesson(decoder="audio"))
    with pytest.raises(UsageError, match="does not take video"):
        build().encode(
            MediaBatch(torch.tensor([0]), {"video": torch.tensor([0])}, {"video": media().inputs["image"]})
        )
    values = config().model_dump()
    values["sources"]["image"] = values["sources"]["text"]
    with pytest.raises(ConfigError, match="expected an encoder of image"):
        build(sources=values["sources"])
    with pytest.raises(ValueError, match="no meaning with mode = 'prefix'"):
        config(mode="prefix", decoders={"text": {"tokenizer_json": BPE, "memory_last": 1}})
    for option in ("token_dropout", "diagonal_slope"):
        with pytest.raises(ValueError, match="do not apply to a pretrained decoder"):
            config(decoders={"text": {"pretrained": "smollm2", option: 0.1}})
    with pytest.raises(ValueError, match="prior_sharpness needs diagonal_slope > 0"):
        config(decoders={"text": {"tokenizer_json": BPE, "prior_sharpness": 2.0}})
    with pytest.raises(
        ValueError, match=r"decoders\.text\.diagonal_slope has no meaning with mode = 'prefix'"
    ):
        config(mode="prefix", decoders={"text": {"tokenizer_json": BPE, "diagonal_slope": 0.5}})
    with pytest.raises(ValueError, match=r"decoders\.text\.guidance has no meaning with mode = 'prefix'"):
        config(mode="prefix", decoders={"text": {"tokenizer_json": BPE, "guidance": 2.0}})
    with pytest.raises(UsageError, match="writes codes, not the text 'a frog'"):
        build().decoder("image").answer_ids("a frog")


def test_keys_of_earlier_releases_are_read() -> None:
    old = {"pace": 1.7, "focus": 0.5, "forget": 0.25, "num_codes": 9, "num_positions": 10, "gated": True}
    new = DecoderConfig(
        diagonal_slope=1.7,
        prior_sharpness=0.5,
        token_dropout=0.25,
        num_codes=9,
        num_positions=10,
        gated_memory=True,
    )
    assert DecoderConfig.model_validate(old) == new
    assert DecoderConfig.model_validate({"pretrained": "smollm2", "low_rank": 3}).lora_rank == 3
    with pytest.raises(ValueError, match="'pace' is the old name of 'diagonal_slope'"):
        DecoderConfig.model_validate({"pace": 1.7, "diagonal_slope": 1.7})
