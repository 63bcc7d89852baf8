"""A multimodal model that starts from a grounder remembers what the grounder's blocks give."""

from pathlib import Path

import torch
from small_tasks import recipe_values, task, task_table

from composed_world.init_from_grounder import from_grounder
from multimodal_world import BPE
from region_world import small_grounder, square_sample
from sensorium.core.types import MediaBatch
from sensorium.grounding.batches import collate, prepare_row
from sensorium.models.checkpoint import save
from sensorium.models.multimodal_lm import MultimodalLM, MultimodalLMConfig
from sensorium.nn.matching import phrase_vectors
from sensorium.training.generative.build import build_multimodal, load_matching
from sensorium.training.generative.recipe import GenerativeRecipe
from sensorium.training.generative.task import open_task


def test_the_memory_is_what_the_grounder_reads_its_scores_from() -> None:
    grounder = small_grounder(depth=2).eval()
    own, grid = grounder.config, grounder.grid
    model = MultimodalLM(
        MultimodalLMConfig.model_validate(
            {
                "sources": {"image": own.image.model_dump(), "text": own.text.model_dump()},
                "dim": own.dim,
                "fusion_options": {
                    "depth": own.depth,
                    "num_heads": own.num_heads,
                    "places": grid**2,
                    "normed": False,
                },
                "decoders": {"text": {"tokenizer_json": BPE, "width": 24, "num_heads": 2, "depth": 1}},
            }
        )
    ).eval()
    given = from_grounder(grounder)
    assert load_matching(model, given) == set(given)
    batch = collate([prepare_row(square_sample(n, "squares"), n, grounder) for n in range(3)], grounder)
    everyone = torch.arange(len(batch.texts.values))
    media = MediaBatch(
        everyone,
        {"image": everyone, "text": everyone},
        {"image": batch.images, "text": batch.texts},
        shared={"image": batch.image_of_text},
    )
    met: list[torch.Tensor] = []
    assert grounder.meeting is not None
    grounder.meeting.stack.register_forward_hook(lambda _stack, _given, both: met.append(both))
    with torch.no_grad():
        found, memory = grounder(batch), model.encode(media)
    places, words = memory.values[:, : grid**2], memory.values[:, grid**2 :]
    real, said = batch.texts.mask, met[0][:, grid**2 :]
    looks = torch.einsum("bmd,bnd->bnm", places, grounder.meeting.query(said)) * own.dim**-0.5
    expected = said + looks.softmax(dim=-1) @ places
    torch.testing.assert_close(words[real], expected[real], rtol=1e-4, atol=1e-5)
    phrases = grounder.meeting.query(phrase_vectors(said[batch.text_of_phrase], batch.spans))
    scores = torch.einsum("pmd,pd->pm", places[batch.text_of_phrase], phrases) * own.dim**-0.5
    torch.testing.assert_close(scores, found.scores, rtol=1e-4, atol=1e-4)


def test_a_run_may_start_from_a_grounder(tmp_path: Path) -> None:
    task_table(tmp_path / "t.lance")
    grounder = small_grounder(seed=3)
    save(grounder, tmp_path / "first")
    values = recipe_values([task(tmp_path / "t.lance", "ask")])
    values["model"]["sources"] = {
        "image": {"encoder": "image-cnn", "options": grounder.config.image.options},
        "text": {"encoder": "text-transformer", "options": {"width": 16, "depth": 1, "num_heads": 2}},
    }
    recipe = GenerativeRecipe.model_validate({**values, "start": str(tmp_path / "first")})
    model, _ = build_multimodal(recipe, [open_task(recipe.data.tasks[0], 0)])
    assert model.decoder("text").tokenizer.json == grounder.config.text.options["tokenizer_json"]
    for name in ("image", "text"):
        parts = grounder.get_submodule(name).state_dict()
        assert parts
        for part, tensor in parts.items():
            assert torch.equal(model.sources[name].state_dict()[part], tensor)
