"""The joint embedding: what `embed` and `forward` give, locked and partly unlocked towers."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import build, config

from sensorium.core.errors import ConfigError, MediaError, UsageError
from sensorium.core.types import MediaBatch, Padded, pad
from sensorium.media.types import Text, Video
from sensorium.models.heads import LogitScale
from sensorium.models.joint_embedding import JointEmbedding
from sensorium.models.tower import TowerConfig


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= 2e-6)


def test_embed_gives_unit_float32_rows_in_the_order_of_mixed_items(model, pictures, sounds) -> None:
    items = [
        sounds[0],
        "a frog",
        pictures[0],
        Text("a hat"),
        sounds[1],
        pictures[1],
        "the sun and the big tree",
    ]
    vectors = model.embed(items).vectors
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    singles = np.concatenate([model.embed([item]).vectors for item in items])
    assert close(vectors, singles)
    assert len(np.unique(vectors.round(4), axis=0)) == len(items)


def test_batch_size_changes_nothing(model, pictures, sounds) -> None:
    items = [*pictures, *sounds, "a frog", "a big red frog on the tree"]
    assert close(model.embed(items, batch_size=2).vectors, model.embed(items, batch_size=64).vectors)


def test_a_string_is_a_text_and_a_text_is_a_string(model) -> None:
    assert np.array_equal(model.embed(["a frog"]).vectors, model.embed([Text("a frog")]).vectors)


def test_files_and_bytes_are_opened(model, pictures, tmp_path: Path) -> None:
    path = tmp_path / "frog.png"
    pictures[0].to_pillow().save(path)
    opened = model.embed([path, path.read_bytes()]).vectors
    assert close(opened, model.embed([pictures[0], pictures[0]]).vectors)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises((MediaError, UsageError), match="item 1"):
        model.embed(["a frog", path])


def test_what_no_tower_takes_is_refused_by_item(model) -> None:
    video = Video(np.zeros((2, 8, 8, 3), np.uint8), np.array([0.0, 1.0]))
    with pytest.raises(UsageError, match="item 1 is video; the model embeds image, text, audio"):
        model.embed(["a frog", video])


def test_no_items_give_no_rows(model) -> None:
    assert model.embed([]).vectors.shape == (0, 13)


def test_embed_leaves_training_mode_as_it_was(model) -> None:
    model.train()
    model.embed(["a frog"])
    assert model.training
    assert model.towers["text"].training


def test_views_are_averaged_and_the_same_every_time(pictures) -> None:
    single, many = build(config()), build(config(views=3))
    tower = single.tower("image")
    views = torch.stack([tower(pad([tower.prepare(pictures[0], view)])) for view in range(3)]).detach()[:, 0]
    mean = torch.nn.functional.normalize(views.mean(dim=0), dim=0).numpy()
    assert close(many.embed(pictures).vectors[0], mean)
    assert np.array_equal(many.embed(pictures).vectors, many.embed(pictures).vectors)


def test_any_subset_of_modalities_may_be_present(model, pictures) -> None:
    tower = model.tower("image")
    images = pad([tower.prepare(picture) for picture in pictures])
    whole = MediaBatch(torch.arange(5), {"image": torch.arange(5)}, {"image": images})
    part = MediaBatch(
        torch.arange(5),
        {"image": torch.tensor([1, 4]), "speech": torch.tensor([2])},
        {
            "image": Padded(images.values[[1, 4]], images.mask[[1, 4]]),
            "speech": Padded(torch.randn(1, 29, 40), torch.ones(1, 29, dtype=torch.bool)),
        },
    )
    found = model(part)
    assert list(found) == ["image", "speech"]
    assert torch.allclose(found["image"], model(whole)["image"][[1, 4]], atol=2e-6)
    assert found["speech"].shape == (1, 13)


def test_features_go_through_the_head_alone(model, pictures) -> None:
    tower = model.tower("image")
    images = pad([tower.prepare(picture) for picture in pictures])
    batch = MediaBatch(torch.arange(5), {"image": torch.arange(5)}, features={"image": tower.encode(images)})
    assert torch.equal(model(batch)["image"], tower(images))


def test_audio_and_speech_share_a_tower(model) -> None:
    assert model.tower("speech") is model.tower("audio")
    with pytest.raises(UsageError, match="no tower for 'video'; it embeds image, text, audio"):
        model.tower("video")


def trained_names(model: JointEmbedding) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_a_locked_encoder_takes_no_gradient_and_stays_in_evaluation_mode() -> None:
    model = build(config(frozen=True)).train()
    tower = model.tower("image")
    assert tower.is_cacheable
    assert not tower.encoder.training
    assert tower.head.training
    assert not any(name.startswith("towers.image.encoder") for name in trained_names(model))


def test_unlocking_opens_the_last_blocks_alone() -> None:
    model = build(config(frozen=True, unlock=1)).train()
    tower = model.tower("image")
    assert not tower.is_cacheable
    open_names = {name for name in trained_names(model) if name.startswith("towers.image.encoder")}
    assert open_names
    assert all(name.startswith("towers.image.encoder.stack.blocks.2.") for name in open_names)


def test_pooling_with_weights_of_its_own_is_not_cached() -> None:
    assert not build(config(frozen=True, pooling="map")).tower("image").is_cacheable


def test_unlock_is_refused_where_it_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="set frozen = true"):
        TowerConfig(encoder="image-vit", unlock=1)
    with pytest.raises(ConfigError, match="has 3 blocks; unlock=4 is too many"):
        build(config(frozen=True, unlock=4))


def test_fingerprint_follows_weights_and_configuration() -> None:
    model, twin = build(config()), build(config())
    assert model.fingerprint == twin.fingerprint
    assert build(config(views=2)).fingerprint != model.fingerprint
    with torch.no_grad():
        twin.logit_bias += 1
    assert model.fingerprint != twin.fingerprint


def test_encoder_fingerprint_ignores_the_head() -> None:
    model = build(config(frozen=True))
    before = model.tower("image").encoder_fingerprint()
    with torch.no_grad():
        model.tower("image").head.project.weight.mul_(2)
    assert model.tower("image").encoder_fingerprint() == before
    assert build(config(frozen=True, pooling="max")).tower("image").encoder_fingerprint() != before


def test_logit_scale_is_bounded_and_never_stuck() -> None:
    scale = LogitScale(50.0)
    assert math.isclose(float(scale().detach()), 50, rel_tol=1e-6)
    with torch.no_grad():
        scale.log_scale.fill_(9.0)
    assert math.isclose(float(scale().detach()), 100, rel_tol=1e-6)
    scale().backward()  # descent would lower it: the gradient passes
    assert math.isclose(float(scale.log_scale.grad), 100, rel_tol=1e-5)
    scale.log_scale.grad = None
    (-scale()).backward()  # descent would raise it further
    assert float(scale.log_scale.grad) == 0
