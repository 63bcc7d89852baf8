"""Training data and initial model of a joint embedding.

In: a recipe and its rows. Out: the model with its initial weights, and the batches. Fields whose tower is
locked are read from the feature cache; the others are decoded in every epoch.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sensorium.codecs.bpe import train_bpe
from sensorium.core.errors import ConfigError, TrainingError, warn
from sensorium.core.runtime import Progress, cache_dir, quiet
from sensorium.core.types import FIELDS, MODALITY_OF, MediaBatch
from sensorium.data.loading.feature_loader import feature_batches
from sensorium.data.loading.loader import Loader
from sensorium.data.loading.order import LoaderState, pick
from sensorium.data.table.sample import is_asked, normalise
from sensorium.data.table.table import Table
from sensorium.data.table.vectors import Ragged
from sensorium.encoders import ENCODERS
from sensorium.models.checkpoint import read_tensors, write_tensors
from sensorium.models.feature_cache import cache_features, encode_items
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from sensorium.models.tower import Tower
from sensorium.training.embedding.corpus import Corpus, captions
from sensorium.training.embedding.fields import languages_of
from sensorium.training.recipe import Recipe
from sensorium.training.task import Batches


@dataclass(frozen=True)
class TrainingData:
    """Rows and cached features.

    Attributes:
        corpus: The rows.
        cached: By field with a locked tower, features of all rows, and of the class names after them.
        groups: Group of each row and class name.
        train: Row numbers that train.
        failures: Rows that could not be read, as (row, reason).
    """

    corpus: Corpus
    cached: Mapping[str, Ragged]
    groups: Sequence[str]
    train: Int64[np.ndarray, " n"]
    failures: Sequence[tuple[int, str]]


def build_model(recipe: Recipe, corpus: Corpus) -> JointEmbedding:
    """Build the recipe's model; the recipe's seed names its weights.

    A text tower without a tokenizer gets one that is trained on the training texts.
    """
    config = with_tokenizers(recipe.model, corpus, recipe.data.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return JointEmbedding(config)


def with_tokenizers(config: JointEmbeddingConfig, corpus: Corpus, vocab_size: int) -> JointEmbeddingConfig:
    """Add a tokenizer trained on the training texts, if the text tower needs one."""
    tower = config.towers.get("text")
    if tower is None or "tokenizer_json" in tower.options:
        return config
    parameter = inspect.signature(ENCODERS.get(tower.encoder)).parameters.get("tokenizer_json")
    if parameter is None or parameter.default is not inspect.Parameter.empty:
        return config
    options = {**tower.options, "tokenizer_json": train_bpe(_texts(corpus), vocab_size)}
    towers = {**config.towers, "text": tower.model_copy(update={"options": options})}
    return config.model_copy(update={"towers": towers})


def load_data(
    recipe: Recipe, model: JointEmbedding, corpus: Corpus, progress: Progress = quiet
) -> TrainingData:
    """Run locked towers over the rows that are not cached yet, and collect their features.

    Raises:
        ConfigError: If class vectors are asked for and the image tower has none.
        TrainingError: If no training row holds both fields of a pair.
    """
    cached: dict[str, Ragged] = {}
    failures: list[tuple[int, str]] = []
    for name in corpus.fields:
        tower = model.tower(name)
        if tower.is_cacheable:
            cached[name], failed = _cached(recipe, corpus, name, tower, progress)
            failures += failed
    data = TrainingData(corpus, cached, corpus.groups, corpus.train, failures)
    _check_pairs(recipe, data)
    return with_class_vectors(data, model) if recipe.data.class_vectors else data


def with_class_vectors(data: TrainingData, model: JointEmbedding) -> TrainingData:
    """Add the class vectors of the image encoder's classifier as training rows, paired with class names.

    Classes with the name of a held-out caption are left out. Each synonym is one text of the row.

    Raises:
        ConfigError: If the towers are not locked, or the image tower has no class vectors.
    """
    tower = model.tower("image")
    vectors, names = (
        getattr(tower.encoder, "class_vectors", None),
        getattr(tower.encoder, "class_names", None),
    )
    if vectors is None or names is None or not {"image", "text"} <= data.cached.keys():
        raise ConfigError(
            "data.class_vectors needs locked image and text towers, and an image encoder that names classes; "
            f"'{tower.config.encoder}' over {', '.join(data.cached) or 'no cached field'} is not"
        )
    corpus = data.corpus
    held_out = captions(corpus.tables[0], corpus.test, corpus.languages)
    synonyms = [name.split(", ") for name in names]
    kept = [n for n, words in enumerate(synonyms) if not held_out & set(map(normalise, words))]
    texts = _class_texts(model.tower("text"), synonyms)
    images = vectors.detach().cpu().float().numpy()[kept]
    added = {
        "image": Ragged(images, np.arange(len(kept) + 1)),
        "text": Ragged(
            np.concatenate([texts[n] for n in kept]), np.cumsum([0, *(len(synonyms[n]) for n in kept)])
        ),
    }
    empty = {
        name: Ragged(np.zeros((0, part.dim), np.float32), np.zeros(len(kept) + 1, np.int64))
        for name, part in data.cached.items()
    }
    return replace(
        data,
        cached={name: joined([part, added.get(name, empty[name])]) for name, part in data.cached.items()},
        groups=[*data.groups, *(normalise(synonyms[n][0]) for n in kept)],
        train=np.concatenate([data.train, len(corpus) + np.arange(len(kept))]),
    )


def build_batches(recipe: Recipe, model: JointEmbedding, data: TrainingData) -> Batches:
    """Training batches of cached features, decoded media, or both.

    Raises:
        ConfigError: If media of further tables would have to be decoded, or mixup is asked for cached images.
    """
    train, corpus = recipe.train, data.corpus
    rows = _epoch_rows(data, recipe.data.repeat)
    batch_size = min(train.batch_size, len(rows))
    if batch_size < train.batch_size:
        warn(f"{len(rows):,} rows train, so a batch holds {batch_size:,} and not {train.batch_size:,}")
    decoded = [name for name in corpus.fields if name not in data.cached]
    if recipe.data.blend > 0 and "image" not in decoded:
        raise ConfigError(
            f"data.blend={recipe.data.blend} needs an image tower whose encoder trains; unlock it, or set 0"
        )
    if not decoded:
        return feature_batches(
            data.cached,
            rows,
            groups=data.groups,
            batch_size=batch_size,
            seed=recipe.seed,
        )
    if len(corpus.tables) > 1:
        raise ConfigError(
            f"data.extra needs locked towers, but {', '.join(decoded)} must be decoded in each epoch; "
            "lock those towers, or put all rows in one table"
        )
    inputs = {name: model.tower(name).encoder.input for name in decoded}
    loader = Loader(
        corpus.tables[0],
        rows,
        inputs,
        workers=train.workers,
        augment=train.augment,
        languages=corpus.languages,
        captions=recipe.data.captions,
        cache_mb=train.cache_mb,
        mixup=recipe.data.blend,
        batch_size=batch_size,
        seed=recipe.seed,
    )
    return MixedBatches(loader, data.cached, recipe.seed) if data.cached else loader


def _epoch_rows(data: TrainingData, repeat: int) -> Int64[np.ndarray, " n"]:
    """Training rows of an epoch: those of the main table `repeat` times."""
    is_main = data.train < len(data.corpus.tables[0])
    return np.repeat(data.train, np.where(is_main, repeat, 1))


def _check_pairs(recipe: Recipe, data: TrainingData) -> None:
    """Refuse pairs of the loss that no training row has."""
    corpus = data.corpus
    for pair in recipe.loss.pairs:
        if recipe.data.class_vectors and {pair.a, pair.b} == {"image", "text"}:
            continue  # classes hold both
        both = np.intersect1d(rows_with_field(data, pair.a), rows_with_field(data, pair.b))
        if not np.isin(corpus.train, both).any():
            raise TrainingError(
                f"no training row of {', '.join(corpus.names)} holds both {pair.a} and {pair.b} in the "
                f"languages {', '.join(corpus.languages) or 'of all'}; {corpus.names[0]} has texts in "
                f"{languages_of(corpus.tables[0]) or 'none'}: choose by --set data.languages=[..], or "
                "leave the pair out (--set loss.pairs=[] takes what there is)"
            )


def rows_with_field(data: TrainingData, name: str) -> Int64[np.ndarray, " n"]:
    """Rows with a field; for locked towers, rows with cached features."""
    cached = data.cached.get(name)
    return data.corpus.rows_with(name) if cached is None else np.flatnonzero(cached.counts)


class MixedBatches:
    """Batches of decoded media together with cached features of other fields.

    Args:
        loader: Batches of decoded media.
        cached: Features of other fields, for all rows of the table.
        seed: Names the choice among a row's features.
    """

    def __init__(self, loader: Loader, cached: Mapping[str, Ragged], seed: int) -> None:
        self._loader = loader
        self._cached = cached
        self._seed = seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._loader)

    def epoch(self, epoch: int, offset: int = 0) -> Iterator[MediaBatch]:
        """Yield the batches of an epoch from the one numbered `offset` on."""
        for batch in self._loader.epoch(epoch, offset):
            yield self._with_features(batch, epoch)

    def state(self) -> LoaderState:
        """The position after the last batch."""
        return self._loader.state()

    @property
    def failures(self) -> Mapping[int, str]:
        """Rows that could not be read, and why."""
        return self._loader.failures

    def _with_features(self, batch: MediaBatch, epoch: int) -> MediaBatch:
        rows = batch.rows.numpy()
        present, features = dict(batch.present), {}
        for name, ragged in self._cached.items():
            places = np.flatnonzero(ragged.counts[rows])
            if len(places):
                own = rows[places]
                chosen = ragged.offsets[own] + pick(self._seed, epoch, own, name, ragged.counts[own])
                present[name] = torch.from_numpy(places)
                features[name] = torch.from_numpy(ragged.values[chosen])
        return replace(batch, present=present, features=features)


def used_fields(recipe: Recipe, held: Sequence[str]) -> list[str]:
    """Fields of a run: those of the loss, and those of `data.fields` with a tower.

    Args:
        recipe: The recipe.
        held: Fields that the main table holds.

    Raises:
        ConfigError: If the loss names a field that the table does not hold.
    """
    wanted = {name for pair in recipe.loss.pairs for name in (pair.a, pair.b)}
    missing = sorted(wanted - set(held))
    if recipe.data.class_vectors and "image" in held:
        missing = [name for name in missing if name != "text"]  # classes have names
    if missing:
        raise ConfigError(
            f"loss.pairs names '{missing[0]}', but {recipe.data.table} holds {', '.join(held) or 'no rows'}; "
            "for the pairs that it holds give --set loss.pairs=[], or take the recipe that fits any table: "
            f"sensorium train media --set data.table={recipe.data.table}"
        )
    more = {name for name in recipe.data.fields if name in held and MODALITY_OF[name] in recipe.model.towers}
    return [name for name in FIELDS if name in wanted | more]


def joined(parts: Sequence[Ragged]) -> Ragged:
    """Concatenate."""
    starts = np.cumsum([0, *(len(part.values) for part in parts)])
    offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
    values: Float32[np.ndarray, "M D"] = np.concatenate([part.values for part in parts])
    return Ragged(values, np.concatenate([*offsets, starts[-1:]]))


def _cached(
    recipe: Recipe, corpus: Corpus, name: str, tower: Tower, progress: Progress
) -> tuple[Ragged, list[tuple[int, str]]]:
    parts: list[Ragged] = []
    failures: list[tuple[int, str]] = []
    for start, table in zip(corpus.starts, corpus.tables, strict=False):
        if name not in table.fields:
            parts.append(
                Ragged(np.zeros((0, tower.encoder.dim), np.float32), np.zeros(len(table) + 1, np.int64))
            )
            continue
        is_main = len(parts) == 0
        views = max(recipe.data.views, tower.config.views) if is_main else recipe.data.extra_views
        found = cache_features(
            table,
            name,
            tower,
            views=views,
            languages=corpus.languages,
            threads=os.cpu_count() or 1,
            progress=progress,
        )
        features = table.features(found.name)
        failures += [
            (int(start) + row, reason) for row, reason in _unread(table, name, features, found.failures)
        ]
        parts.append(features.first() if name == "text" and recipe.data.captions == "first" else features)
    return joined(parts), failures


def _unread(
    table: Table, name: str, features: Ragged, failures: Sequence[tuple[int, str]]
) -> list[tuple[int, str]]:
    """Rows without features: those that could not be read now, and when the cache was filled earlier."""
    now = dict(failures)
    rows = table.rows_with(name) if name in ("image", "audio", "video") else np.zeros(0, np.int64)
    earlier = rows[features.counts[rows] == 0].tolist()
    reason = "could not be read by the run that cached its features"
    return [*failures, *((row, reason) for row in earlier if row not in now)]


def _class_texts(tower: Tower, synonyms: Sequence[Sequence[str]]) -> Ragged:
    """Features of class names, cached in the user's cache."""
    words = [word for of_class in synonyms for word in of_class]
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]
    path = cache_dir("features") / f"classes-{digest}-{tower.encoder_fingerprint()}.safetensors"
    if not path.is_file():
        vectors = encode_items(tower, [tower.prepare(word) for word in words])
        write_tensors(path, {"text": torch.from_numpy(vectors)}, {})
    values = read_tensors(path)[0]["text"].numpy()
    return Ragged(values, np.cumsum([0, *map(len, synonyms)]))


def _texts(corpus: Corpus) -> Iterator[str]:
    """Training texts in the corpus's languages."""
    for sample in corpus.rows(corpus.train, columns=["texts"]):
        for caption in sample.texts:
            if is_asked(caption.language, "text", corpus.languages):
                yield caption.text
