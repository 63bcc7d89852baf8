"""Fetches checkpoints from the Hugging Face hub.

A name is `hf:OWNER/NAME`. The client's local cache is asked first, then the network. Only configuration,
tokenizer, chat template and `.safetensors` files are taken. Needs the extra `hub`.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sensorium.core.errors import FetchError
from sensorium.core.runtime import require

PREFIX = "hf:"
_FILES = ("*.json", "*.safetensors", "*.jinja")


def from_hub(name: str) -> Path:
    """Return the folder of a model on the hub.

    Args:
        name: `OWNER/NAME`, with or without `PREFIX`.

    Raises:
        FetchError: If it cannot be fetched.
        MissingExtraError: If the client is not installed.
    """
    name = name.removeprefix(PREFIX)
    hub = require("huggingface_hub", "hub")
    for is_local in (True, False):
        try:
            found = hub.snapshot_download(name, local_files_only=is_local, allow_patterns=list(_FILES))
            return Path(cast(str, found))
        except (OSError, ValueError) as error:  # the client's errors are OSErrors, a wrong name a ValueError
            failure = error
    line = " ".join(str(failure).split())
    raise FetchError(f"cannot fetch {name} from the hub: {line}; is the name right, the network there?")
