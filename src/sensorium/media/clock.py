"""Timeline of a media file in seconds, shared by frames, audio, words, shots and cuts.

Time 0 is the earliest presentation timestamp of any track, as in a player. Each track keeps its own
timestamps, after FFmpeg's demuxers have applied edit lists, encoder delay and counter wrap. If audio begins 3
s after the video, its first sample is at 3 s; decoded samples are preceded by 3 s of silence.

- **AVI** stores decoding order only. The k-th displayed frame takes the k-th decoding timestamp
  (`media.video`).
- **Transport and program streams** restart their timestamps where files were joined. The second part
  continues where the first ended.
- Packets without a timestamp follow the previous packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer

MICROSECONDS = 1_000_000
# Formats that are joined by concatenation. Within one recording stamps neither go back nor leave such a gap.
_JOINABLE = ("mpegts", "mpeg")
_BACK_S, _AHEAD_S = 0.5, 10.0


class Clock:
    """Converts timestamps of a track's packets, in order, to seconds on the file's timeline.

    If reading starts in the middle (`is_sought`), the first timestamp may have any value.
    """

    def __init__(self, container: InputContainer, *, is_sought: bool = False) -> None:
        self._start_s = start_of(container)
        self._may_break = is_joinable(container)
        self._shift_s = 0.0
        self._end_s: float | None = None if is_sought else 0.0
        self._is_first = True

    @property
    def is_broken(self) -> bool:
        """Whether the timestamps have restarted."""
        return self._shift_s != 0.0

    def __call__(self, stamp_s: float | None, duration_s: float) -> float:
        """Start time of a packet or frame with this timestamp in the container (None: it has none)."""
        if stamp_s is None:
            time_s = self._end_s or 0.0
        else:
            time_s = stamp_s - self._start_s + self._shift_s
            if self._may_break and not self._is_first and self._end_s is not None:
                gap_s = time_s - self._end_s
                if gap_s < -_BACK_S or gap_s > _AHEAD_S:
                    self._shift_s -= gap_s
                    time_s = self._end_s
        self._end_s, self._is_first = time_s + duration_s, False
        return time_s


def start_of(container: InputContainer) -> float:
    """Timestamp in seconds at which the file's timeline begins."""
    return (container.start_time or 0) / MICROSECONDS


def is_joinable(container: InputContainer) -> bool:
    """Whether files of this format may be concatenated, so that timestamps may restart."""
    return container.format.name in _JOINABLE


def is_stamped_in_decoding_order(container: InputContainer) -> bool:
    """Whether a format stores no presentation timestamps; FFmpeg's guesses are wrong with B-frames."""
    return bool(container.format.name == "avi")
