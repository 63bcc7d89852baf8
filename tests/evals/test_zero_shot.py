import numpy as np
import pytest

from sensorium.core.errors import UsageError
from sensorium.evals import ProbeOptions, accuracy, class_vectors, linear_probe
from sensorium.evals.probe import WEIGHT_DECAYS


def embed(texts: list[str]) -> np.ndarray:
    """A vector of its own for each text, of any length."""
    return np.stack(
        [np.random.default_rng(list(text.encode())).standard_normal(11) for text in texts]
    ).astype(np.float32)


def test_class_vectors_are_normalised_before_and_after_the_mean() -> None:
    names, templates = ["frog", "red {x} fruit", "owl"], ["a {c}.", "{c}", "one {c}, two {c}"]
    found = class_vectors(names, embed, templates)
    for row, name in zip(found, names, strict=True):
        prompts = [embed([template.replace("{c}", name)])[0] for template in templates]
        mean = sum(prompt / np.linalg.norm(prompt) for prompt in prompts) / 3
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)


def test_a_template_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match="no place for the class"):
        class_vectors(["frog"], embed, ["a photo"])


@pytest.mark.parametrize("num_classes", [2, 4, 5, 13])
@pytest.mark.parametrize("grain", [1, 10**6])
def test_accuracies_equal_sorting(num_classes: int, grain: int) -> None:
    stream = np.random.default_rng(num_classes)
    scores = stream.integers(-grain, grain + 1, (97, num_classes)) / grain
    labels = stream.integers(0, num_classes - 1, 97)  # the last class never occurs
    order = np.argsort(-scores, axis=1, kind="stable")
    found = accuracy(scores, labels)
    assert found.acc1 == pytest.approx(np.mean(order[:, 0] == labels))
    if num_classes >= 5:
        assert found.acc5 == pytest.approx(np.mean((order[:, :5] == labels[:, None]).any(1)))
    else:
        assert found.acc5 is None
    recalls = [np.mean(order[labels == one, 0] == one) for one in np.unique(labels)]
    assert found.mean_per_class_recall == pytest.approx(np.mean(recalls))


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="expected 0 to 2"):
        accuracy(np.eye(3), np.array([0, 1, 3]))


def clusters(num: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    centers = np.random.default_rng(0).standard_normal((7, 23))
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, 7, num)
    return (centers[labels] + noise * stream.standard_normal((num, 23))).astype(np.float32), labels


def test_a_probe_reads_clusters_and_is_reproducible() -> None:
    train, test = clusters(301, 1, 0.5), clusters(199, 2, 0.5)
    found = linear_probe(train, test)
    assert found.accuracy.acc1 > 0.95
    assert found.weight_decay == 0
    assert found == linear_probe(train, test)


def test_a_probe_finds_nothing_in_noise() -> None:
    train, test = clusters(301, 1, 0.5), clusters(307, 2, 0.5)
    shuffled = np.random.default_rng(3).permutation(train[1])
    assert linear_probe((train[0], shuffled), test).accuracy.acc1 < 0.35


def test_the_length_of_vectors_does_not_matter() -> None:
    train, test = clusters(101, 1, 0.5), clusters(103, 2, 0.5)
    longer = (train[0] * np.float32(64), train[1])
    assert linear_probe(longer, test) == linear_probe(train, test)


def test_weight_decay_is_chosen_from_the_grid() -> None:
    options = ProbeOptions(num_epochs=2)
    found = linear_probe(
        clusters(61, 1, 2.0), clusters(67, 2, 2.0), validation=clusters(71, 3, 2.0), options=options
    )
    assert found.weight_decay in WEIGHT_DECAYS
    assert len(WEIGHT_DECAYS) == 97
