"""The one clock of a file, in seconds: what frames, sound, words, shots and cuts are timed by.

Time 0 is the file's first moment: where its earliest picture or sound begins, as in a player. Each track
keeps its own presentation stamps from there on, after what FFmpeg's demuxers resolve: edit lists, encoder
delay, counters that wrap. So sound that begins 3 s after the picture begins at 3 s; where it is given as
samples, 3 s of silence precede it.

- **AVI** keeps decoding order only. The picture shown k-th takes the k-th decoding stamp (`media.video`).
- **Transport and program streams** that were joined start their stamps anew; the second part goes on where
  the first ended.
- Pictures and sound without a stamp follow what came before them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av.container
    import av.stream

MICROSECONDS = 1_000_000
# Formats that are joined by concatenation. QuietSeek one recording stamps neither go back nor leave such a gap.
_JOINABLE = ("mpegts", "mpeg")
_BACK_S, _AHEAD_S = 0.5, 10.0


class Clock:
    """Turns the times of a track's pieces, given one after another, into times on the file's clock.

    Args:
        container: The open file.
        is_sought: Whether the first piece is one from the middle: it may have any time.
    """

    def __init__(self, container: av.container.InputContainer, *, is_sought: bool = False) -> None:
        self._start_s = start_of(container)
        self._may_break = is_joinable(container)
        self._shift_s = 0.0
        self._end_s: float | None = None if is_sought else 0.0
        self._is_first = True

    @property
    def is_broken(self) -> bool:
        """Whether stamps have started anew."""
        return self._shift_s != 0.0

    def __call__(self, stamp_s: float | None, duration_s: float) -> float:
        """Return when a piece begins.

        Args:
            stamp_s: Its stamp, as the container has it; None if there is none.
            duration_s: How long it lasts.
        """
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


def start_of(container: av.container.InputContainer) -> float:
    """Seconds at which the file's time begins, as its stamps count."""
    return (container.start_time or 0) / MICROSECONDS


def is_joinable(container: av.container.InputContainer) -> bool:
    """Whether files of this format are joined by concatenation, so that stamps may start anew."""
    return container.format.name in _JOINABLE


def is_stamped_in_decoding_order(container: av.container.InputContainer) -> bool:
    """Whether a format keeps no presentation stamps; those that FFmpeg makes up are wrong with B-frames."""
    return bool(container.format.name == "avi")
