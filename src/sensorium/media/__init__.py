"""Media in: outside bytes are sniffed, bounded and decoded here, and nowhere else.

In: a path, bytes, file object or data URI. Out: `Image`, `Audio`, `Video` or `Text`. Decoding libraries are
imported when a file needs them.
"""

from sensorium.media.limits import Limits
from sensorium.media.opening import open, probe
from sensorium.media.types import Audio, Header, Image, Text, Video

__all__ = ["Audio", "Header", "Image", "Limits", "Text", "Video", "open", "probe"]
