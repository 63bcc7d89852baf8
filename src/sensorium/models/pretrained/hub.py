"""Downloads model folders from the Hugging Face hub.

Input: a name `hf:OWNER/NAME`. Output: the local folder. The client's cache is used first, then the network.
Only configuration, tokenizer, chat template and `.safetensors` files are downloaded. Needs the extra `hub`.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sensorium.core.errors import FetchError
from sensorium.core.runtime import require

PREFIX = "hf:"
_FILES = ("*.json", "*.safetensors", "*.jinja")


def from_hub(name: str) -> Path:
    """Return the local folder of a model on the hub.

    Args:
        name: `OWNER/NAME`, with or without `PREFIX`.

    Raises:
        FetchError: If it cannot be downloaded.
        MissingExtraError: If the hub client is not installed.
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
    raise FetchError(f"cannot fetch {name} from the hub: {line}; check the name and the network")
