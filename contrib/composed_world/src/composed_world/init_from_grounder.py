"""Initialises a multimodal language model from a grounder: encoders and fusion blocks.

Input: a grounder trained with boxes, which aligns words with places. Output: tensors under the names of a
`MultimodalLM` whose fusion is a `transformer` of the same width, depth and places, without norm. Up to
rounding, the memory of the model is then the output of the grounder's blocks. Training with answers only
learns this alignment very slowly (docs/guides/assistant.md). Entry point `sensorium.start`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sensorium.models.grounder import Grounder
from sensorium.nn.position import POSITION_DIM
from sensorium.training.generative.build import Start


def start(grounder: Grounder) -> Start:
    """Initial tensors of a run with `start` set to a grounder."""
    return Start(from_grounder(grounder), str(grounder.config.text.options.get("tokenizer_json", "")))


@torch.no_grad()
def from_grounder(grounder: Grounder) -> Mapping[str, Tensor]:
    """Tensors of a multimodal model that a grounder has too."""
    given = grounder.state_dict()
    made = {f"sources.{name}": given[name] for name in given if name.startswith(("image.", "text."))}
    if grounder.meeting is None:
        return made
    stack = "meeting.stack."
    made |= {f"fusion.mixer.stack.{name.removeprefix(stack)}": given[name] for name in given if stack in name}
    made["fusion.mixer.places.table"] = given["meeting.positions.table"]
    for name in ("weight", "bias"):
        made[f"fusion.mixer.look.query.{name}"] = given[f"meeting.query.{name}"]
    for part in ("leave", "look.value"):
        made[f"fusion.mixer.{part}.weight"] = torch.eye(grounder.config.dim)
        made[f"fusion.mixer.{part}.bias"] = torch.zeros(grounder.config.dim)
    place, word = given["place.weight"], given["word.weight"]
    beside_place = place.new_zeros(len(place), POSITION_DIM)
    # A grounder has x and y of a place's centre; a multimodal model has row and column, from -1 to 1.
    step = (grounder.grid - 1) / grounder.grid
    beside_place[:, -2:] = step * given["meeting.coordinates.weight"].flip(1)
    made["fusion.intake.project.image.0.weight"] = torch.cat([place, beside_place], dim=1)
    made["fusion.intake.project.image.0.bias"] = given["place.bias"] + given["meeting.coordinates.bias"]
    made["fusion.intake.project.text.0.weight"] = torch.cat(
        [word, word.new_zeros(len(word), POSITION_DIM)], dim=1
    )
    made["fusion.intake.project.text.0.bias"] = given["word.bias"]
    return made
