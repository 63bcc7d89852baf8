"""Opens and decodes media files; the only package that reads outside bytes.

Input: a path, bytes, file object or data URI. Output: `Image`, `Audio`, `Video` or `Text`. The format is
detected from the content, and sizes are checked against limits. Decoding libraries are imported when a file
needs them. Every reader raises `MediaError` for damaged or unsupported content, and `LimitError` for content
beyond `Limits`.
"""

from sensorium.media.limits import Limits
from sensorium.media.opening import open, probe
from sensorium.media.types import Audio, Header, Image, Text, Video

__all__ = ["Audio", "Header", "Image", "Limits", "Text", "Video", "open", "probe"]
