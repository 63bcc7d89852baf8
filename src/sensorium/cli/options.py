"""Options that several commands share, spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    typer.Argument(metavar="[TEXT...]", help="Words need no quotes; without any, stdin is read."),
]
TaughtModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        envvar="SENSORIUM_ASSISTANT",
        help="As for chat; if not given, the first at hand that was taught this, those in runs/ too.",
    ),
]
EveryOption = Annotated[
    float | None,
    typer.Option(
        "--every",
        metavar="SECONDS",
        min=0.1,
        help="Take one video or sound, of any length, in parts: a line for each.",
    ),
]
SystemOption = Annotated[
    str, typer.Option("--system", metavar="TEXT", help="What the model is told about its part.")
]
MaxTokensOption = Annotated[
    int, typer.Option("--max-tokens", metavar="N", min=1, help="Most tokens of an answer.")
]
TemperatureOption = Annotated[
    float,
    typer.Option("--temperature", metavar="T", min=0, help="0: the likeliest answer; above: more varied."),
]
PenaltyOption = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        metavar="R",
        min=1,
        help="Above 1, what was said becomes less likely; default 1.1, and 1 for --continue.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Equal seeds give equal answers.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="P",
        help="Of the weights: fp32, bf16, int8 or int4; fewer bits are faster.",
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]


def load_model(run: Path | None, device: str = "cpu") -> JointEmbedding:
    """Load the model that an option names and put it on a device.

    Raises:
        NotFoundError: If none is named.
    """
    if run is None:
        raise NotFoundError("no model given; give --model RUN, train one, or run: sensorium quickstart")
    from sensorium.core.runtime import pick_device
    from sensorium.models.checkpoint import load
    from sensorium.models.joint_embedding import JointEmbedding

    return load(run, JointEmbedding).to(pick_device(device))


PENALTY = 1.1
"""Of answers: small models repeat themselves without, and lose the thread at 1.2."""


def is_table(path: Path) -> bool:
    """Whether a path is a media table, told by its folder alone."""
    return (path / "rows.lance").is_dir()
