"""sensorium: turn the media you own into one model you can search, question and talk to.

    import sensorium as sm

    model = sm.load("runs/stamps")
    vectors = model.embed(["a frog", Path("frog.png"), Path("croak.ogg")])
    hits = sm.Table.open("stamps.lance").search("a red fruit", model=model, k=10)
    sm.load("smollm2").generate(["What is a frog?"]).text

Public names are loaded on first use: importing the package imports neither torch nor Lance.
"""

import importlib
from typing import TYPE_CHECKING

from sensorium.moved import install as _install_old_paths

if TYPE_CHECKING:
    from sensorium.assistants.load import load as load
    from sensorium.core.errors import SensoriumError as SensoriumError
    from sensorium.core.types import Embeddings as Embeddings
    from sensorium.data.table.table import Table as Table
    from sensorium.media import Audio as Audio
    from sensorium.media import Image as Image
    from sensorium.media import Limits as Limits
    from sensorium.media import Text as Text
    from sensorium.media import Video as Video
    from sensorium.media import open as open

__version__ = "0.1.0"

_install_old_paths()

_HOME = {
    "Audio": "sensorium.media",
    "Embeddings": "sensorium.core.types",
    "Image": "sensorium.media",
    "Limits": "sensorium.media",
    "SensoriumError": "sensorium.core.errors",
    "Table": "sensorium.data.table.table",
    "Text": "sensorium.media",
    "Video": "sensorium.media",
    "load": "sensorium.assistants.load",
    "open": "sensorium.media",
}
_PACKAGES = ("align", "fusion", "losses")

__all__ = [*sorted(_HOME), *_PACKAGES, "__version__"]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f"sensorium.{name}")
    else:
        raise AttributeError(f"module 'sensorium' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
