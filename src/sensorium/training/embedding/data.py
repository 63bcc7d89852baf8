"""What a run trains on and is measured on: tables, features of locked towers, and the batches over both.

In: a recipe. Out: the model as the recipe starts it, and `Material`. Fields whose tower is locked come from
features computed once; the others are decoded in every epoch. Does not know the loop or the evaluation.
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
from sensorium.data.loading.feature_loader import FeatureLoader
from sensorium.data.loading.loader import Loader
from sensorium.data.loading.order import LoaderState, pick
from sensorium.data.table.sample import is_asked, normalise
from sensorium.data.table.vectors import Ragged
from sensorium.encoders import ENCODERS
from sensorium.models.checkpoint import read_tensors, write_tensors
from sensorium.models.feature_cache import cache_features, encode_items
from sensorium.models.joint_embedding import JointEmbedding, JointEmbeddingConfig
from sensorium.models.tower import Tower
from sensorium.training.corpus import Corpus, captions
from sensorium.training.fields import languages_of
from sensorium.training.loop import Batches
from sensorium.training.recipe import Recipe


@dataclass(frozen=True)
class Material:
    """Rows and features of a run.

    Attributes:
        corpus: The rows.
        cached: Features of the fields whose tower is locked, for all rows and the named vectors after them.
        groups: Group of each of these.
        train: Numbers of those that train.
        failures: Rows that could not be read, as (row, reason).
    """

    corpus: Corpus
    cached: Mapping[str, Ragged]
    groups: Sequence[str]
    train: Int64[np.ndarray, " n"]
    failures: Sequence[tuple[int, str]]


def build_model(recipe: Recipe, corpus: Corpus) -> JointEmbedding:
    """Build the recipe's model as it starts, its weights named by the recipe's seed.

    Text towers that need a tokenizer and have none get one that is trained on the training texts.
    """
    config = with_tokenizers(recipe.model, corpus, recipe.data.vocab_size)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return JointEmbedding(config)


def with_tokenizers(config: JointEmbeddingConfig, corpus: Corpus, vocab_size: int) -> JointEmbeddingConfig:
    """Give text towers that need a tokenizer one trained on the training texts."""
    tower = config.towers.get("text")
    if tower is None or "tokenizer_json" in tower.options:
        return config
    parameter = inspect.signature(ENCODERS.get(tower.encoder)).parameters.get("tokenizer_json")
    if parameter is None or parameter.default is not inspect.Parameter.empty:
        return config
    options = {**tower.options, "tokenizer_json": train_bpe(_texts(corpus), vocab_size)}
    towers = {**config.towers, "text": tower.model_copy(update={"options": options})}
    return config.model_copy(update={"towers": towers})


def gather(recipe: Recipe, model: JointEmbedding, corpus: Corpus, progress: Progress = quiet) -> Material:
    """Run locked towers over what they have not seen yet, and collect their features.

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
    material = Material(corpus, cached, corpus.groups, corpus.train, failures)
    _check_pairs(recipe, material)
    return with_class_vectors(material, model) if recipe.data.class_vectors else material


def with_class_vectors(material: Material, model: JointEmbedding) -> Material:
    """Add the image tower's class vectors as rows: each an image of what its class is called.

    Classes that a held-out row is called by are left out. Each synonym is one text of the row.

    Raises:
        ConfigError: If the towers are not locked, or the image tower has no class vectors.
    """
    tower = model.tower("image")
    vectors, names = (
        getattr(tower.encoder, "class_vectors", None),
        getattr(tower.encoder, "class_names", None),
    )
    if vectors is None or names is None or not {"image", "text"} <= material.cached.keys():
        raise ConfigError(
            "data.class_vectors needs locked image and text towers, and an image encoder that names classes; "
            f"'{tower.config.encoder}' over {', '.join(material.cached) or 'no cached field'} is not"
        )
    corpus = material.corpus
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
        for name, part in material.cached.items()
    }
    return replace(
        material,
        cached={name: joined([part, added.get(name, empty[name])]) for name, part in material.cached.items()},
        groups=[*material.groups, *(normalise(synonyms[n][0]) for n in kept)],
        train=np.concatenate([material.train, len(corpus) + np.arange(len(kept))]),
    )


def build_batches(recipe: Recipe, model: JointEmbedding, material: Material) -> Batches:
    """Batches of the training rows: of features, of decoded media, or of both.

    Raises:
        ConfigError: If media of further tables would have to be decoded, or cached pictures be blended.
    """
    train, corpus = recipe.train, material.corpus
    rows = _epoch_rows(material, recipe.data.repeat)
    batch_size = min(train.batch_size, len(rows))
    if batch_size < train.batch_size:
        warn(f"{len(rows):,} rows train, so a batch holds {batch_size:,} and not {train.batch_size:,}")
    decoded = [name for name in corpus.fields if name not in material.cached]
    if recipe.data.blend > 0 and "image" not in decoded:
        raise ConfigError(
            f"data.blend={recipe.data.blend} needs an image tower whose encoder trains; unlock it, or set 0"
        )
    if not decoded:
        return FeatureLoader(
            material.cached,
            rows,
            groups=material.groups,
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
    return MixedBatches(loader, material.cached, recipe.seed) if material.cached else loader


def _epoch_rows(material: Material, repeat: int) -> Int64[np.ndarray, " n"]:
    """Training rows as often as they come in an epoch: those of the main table `repeat` times."""
    is_main = material.train < len(material.corpus.tables[0])
    return np.repeat(material.train, np.where(is_main, repeat, 1))


def _check_pairs(recipe: Recipe, material: Material) -> None:
    """Refuse to train on nothing: each pair of the loss must meet in some row."""
    corpus = material.corpus
    for pair in recipe.loss.pairs:
        if recipe.data.class_vectors and {pair.a, pair.b} == {"image", "text"}:
            continue  # classes hold both
        both = np.intersect1d(holding(material, pair.a), holding(material, pair.b))
        if not np.isin(corpus.train, both).any():
            raise TrainingError(
                f"no training row of {', '.join(corpus.names)} holds both {pair.a} and {pair.b} in the "
                f"languages {', '.join(corpus.languages) or 'of all'}; {corpus.names[0]} has texts in "
                f"{languages_of(corpus.tables[0]) or 'none'}: choose by --set data.languages=[..], or "
                "leave the pair out (--set loss.pairs=[] takes what there is)"
            )


def holding(material: Material, name: str) -> Int64[np.ndarray, " n"]:
    """Rows that have something of a field to train on, once its locked tower has seen it."""
    cached = material.cached.get(name)
    return material.corpus.rows_with(name) if cached is None else np.flatnonzero(cached.counts)


class MixedBatches:
    """Batches of decoded media, with the cached features of the other fields beside them.

    Args:
        loader: Gives the rows and what is decoded.
        cached: Features of other fields, for all rows of the table.
        seed: Of the choice among a row's features.
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
        """The place after the last batch that was given."""
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
    """Fields that a run looks at: those of the loss, and of `data.fields` those that have a tower.

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
    """One after another."""
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
        failures += [(int(start) + row, reason) for row, reason in found.failures]
        features = table.features(found.name)
        parts.append(features.first() if name == "text" and recipe.data.captions == "first" else features)
    return joined(parts), failures


def _class_texts(tower: Tower, synonyms: Sequence[Sequence[str]]) -> Ragged:
    """Features of what classes are called, kept in the user's cache."""
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
