"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sensorium.core.errors import NotFoundError

if TYPE_CHECKING:
    from sensorium.models.joint_embedding import JointEmbedding

ModelOption = Annotated[
    Path | None,
    typer.Option("--model", "-m", metavar="RUN", envvar="SENSORIUM_MODEL", help="Folder of a trained model."),
]
TableArgument = Annotated[Path, typer.Argument(metavar="TABLE", help="A media table.")]
FieldOption = Annotated[
    list[str] | None,
    typer.Option("--field", "-f", metavar="FIELD", help="image, text, audio, speech or video; repeatable."),
]
LanguageOption = Annotated[
    list[str] | None,
    typer.Option("--language", metavar="CODE", help="Languages of texts and spoken captions; repeatable."),
]
AssistantOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        envvar="SENSORIUM_ASSISTANT",
        help="A name that `sensorium models` lists, a folder, a .gguf file, or hf:OWNER/NAME.",
    ),
]
WordsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TEXT...]", help="Text, without quotes if you like; default: stdin."),
]
TaughtModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        envvar="SENSORIUM_ASSISTANT",
        help="As for chat; default: the first available model trained for this task, also in runs/.",
    ),
]
EveryOption = Annotated[
    float | None,
    typer.Option(
        "--every",
        metavar="SECONDS",
        min=0.1,
        help="Split one video or sound into parts of this length; one answer for each.",
    ),
]
SystemOption = Annotated[str, typer.Option("--system", metavar="TEXT", help="System prompt.")]
MaxTokensOption = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=1, help="Maximum tokens of an answer.")
]
TemperatureOption = Annotated[
    float,
    typer.Option(
        "--temperature", metavar="T", min=0, help="0: greedy decoding; above: sampling, more varied."
    ),
]
PenaltyOption = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        metavar="R",
        min=1,
        help="Above 1, repeated tokens become less likely; default 1.1, with --continue 1.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Equal seeds give equal answers.")
]
Precision = Literal["fp32", "bf16", "int8", "int4"]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="Number format of the weights; fewer bits are faster.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]


def load_model(run: Path | None, device: str = "cpu") -> JointEmbedding:
    """Load a joint embedding onto a device; raises NotFoundError if `run` is None."""
    if run is None:
        raise NotFoundError("no model given; give --model RUN, train one, or run: sensorium quickstart")
    from sensorium.core.runtime import pick_device
    from sensorium.models.checkpoint import load
    from sensorium.models.joint_embedding import JointEmbedding

    return load(run, JointEmbedding).to(pick_device(device))


PENALTY = 1.1
"""Default repetition penalty of answers: small models loop without it, and degrade at 1.2."""
