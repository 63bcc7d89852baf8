"""Parameter groups and the moving average."""

import pytest
import torch
from small_jobs import model
from torch import nn

from sensorium.core.errors import TrainingError
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from sensorium.training.optim import MovingAverage, build_optimizer, trained, training_state
from sensorium.training.recipe import TrainConfig

CONFIG = TrainConfig(steps=3, weight_decay=0.3, lr=0.01, unlocked_rate=0.25)


def towers(**image: object) -> JointEmbedding:
    options = {"width": 32, "depth": 2, "size_px": 8}
    return JointEmbedding(
        JointEmbeddingConfig.model_validate(
            {"dim": 5, "towers": {"image": {"encoder": "image-vit", "options": options, **image}}}
        )
    )


def names_of(model: JointEmbedding, optimizer: torch.optim.Optimizer, **wanted: float) -> set[str]:
    numbers = {
        id(parameter)
        for group in optimizer.param_groups
        if all(group[key] == value for key, value in wanted.items())
        for parameter in group["params"]
    }
    return {name for name, parameter in model.named_parameters() if id(parameter) in numbers}


def test_norms_biases_and_scalars_are_not_decayed() -> None:
    built = model()
    optimizer = build_optimizer(built, CONFIG)
    spared = names_of(built, optimizer, weight_decay=0.0)
    decayed = names_of(built, optimizer, weight_decay=0.3)
    assert spared | decayed == trained(built).keys()
    assert {"scale.log_scale", "logit_bias", "towers.image.head.enter.0.weight"} <= spared
    assert {name for name in spared if "bias" in name} == {name for name in trained(built) if "bias" in name}
    assert "towers.image.head.enter.2.weight" in decayed
    assert all(dict(built.named_parameters())[name].ndim >= 2 for name in decayed)


def test_embeddings_are_not_decayed() -> None:
    from small_tables import tokenizer_json

    config = {"encoder": "text-gru", "options": {"tokenizer_json": tokenizer_json(), "width": 6}}
    built = JointEmbedding(JointEmbeddingConfig.model_validate({"dim": 5, "towers": {"text": config}}))
    assert "towers.text.encoder.embedding.weight" in names_of(
        built, build_optimizer(built, CONFIG), weight_decay=0.0
    )


def test_unlocked_blocks_have_a_rate_of_their_own() -> None:
    built = towers(frozen=True, unlock=1)
    slow = names_of(built, build_optimizer(built, CONFIG), rate=0.25)
    assert slow == {
        name for name in trained(built) if name.startswith("towers.image.encoder.stack.blocks.1.")
    }


def test_a_model_without_anything_to_train_is_refused() -> None:
    built = towers()
    built.requires_grad_(False)
    with pytest.raises(TrainingError, match="nothing trains"):
        build_optimizer(built, CONFIG)


def test_the_average_has_its_closed_form() -> None:
    built = model()
    average = MovingAverage(built, decay=0.5)
    name = "towers.image.head.enter.2.weight"
    parameter, expected = trained(built)[name], trained(built)[name].detach().clone()
    for step in range(40):
        with torch.no_grad():
            parameter.add_(0.1 * step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
        average.update(step)
    kept = dict(average.model.named_parameters())[name]
    assert torch.allclose(kept, expected, rtol=1e-5)
    assert not kept.requires_grad


def test_what_is_kept_lies_between_the_start_and_the_average() -> None:
    built = model()
    pretrained = {name for name in trained(built) if name.startswith("towers.image.")}
    before = {name: parameter.detach().clone() for name, parameter in trained(built).items()}
    average = MovingAverage(built, 0.5, start_share=0.25, pretrained=pretrained)
    whole = MovingAverage(built, 0.5, pretrained=pretrained)
    with torch.no_grad():
        for parameter in trained(built).values():
            parameter.mul_(1.37).add_(0.2)
    for one in (average, whole):
        one.update(3)
    assert whole.kept() is whole.model
    unmixed = average.model.fingerprint
    kept, mean = (dict(one.named_parameters()) for one in (average.kept(), average.model))
    assert pretrained < kept.keys()
    for name, start in before.items():
        share = 0.25 if name in pretrained else 0.0
        torch.testing.assert_close(kept[name], share * start + (1 - share) * mean[name])
    assert average.model.fingerprint == unmixed == whole.model.fingerprint


def test_without_decay_the_average_is_the_model() -> None:
    built = model()
    average = MovingAverage(built, decay=0.0)
    with torch.no_grad():
        for parameter in trained(built).values():
            parameter.mul_(1.37)
    average.update(5)
    assert average.model.fingerprint == built.fingerprint


def test_what_is_locked_is_shared_with_the_average_not_copied() -> None:
    built = towers(frozen=True)
    average = MovingAverage(built, decay=0.9)
    own, twin = built.tower("image").encoder, average.model.tower("image").encoder
    assert all(a is b for a, b in zip(own.parameters(), twin.parameters(), strict=True))
    heads = zip(
        built.tower("image").head.parameters(), average.model.tower("image").head.parameters(), strict=True
    )
    assert all(a is not b for a, b in heads)


def test_training_state_leaves_locked_encoders_out() -> None:
    assert not any("encoder" in name for name in training_state(towers(frozen=True)))
    assert any("encoder" in name for name in training_state(towers()))


def test_pretrained_parameters_learn_at_the_rate_of_what_is_unlocked() -> None:
    built = model()
    pretrained = {name for name in trained(built) if name.startswith("towers.image.")}
    groups = build_optimizer(built, CONFIG, pretrained).param_groups
    slow = {id(one) for group in groups if group["rate"] == 0.25 for one in group["params"]}
    assert slow == {id(trained(built)[name]) for name in pretrained}
    assert {group["rate"] for group in groups} == {0.25, 1.0}


def test_running_statistics_are_averaged_and_counts_copied() -> None:
    norm = nn.BatchNorm1d(3)
    average = MovingAverage(norm, decay=0.5)
    norm.running_mean.fill_(1.0)
    norm.num_batches_tracked.fill_(7)
    average.update(100)
    assert average.model.running_mean.tolist() == [0.5] * 3
    assert int(average.model.num_batches_tracked) == 7
