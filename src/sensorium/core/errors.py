"""Errors that users can correct, as one class tree.

    SensoriumError
    ├── UsageError        (ValueError)         wrong call or option               exit 2
    ├── ConfigError       (ValueError)         a recipe or config does not parse  exit 2
    ├── NotFoundError     (FileNotFoundError)  a file, row, run or name           exit 4
    ├── MissingExtraError (ImportError)        an optional package                exit 1
    ├── FetchError        (OSError)            a download that failed             exit 1
    ├── MediaError        (ValueError)         bytes that are not usable media    exit 1
    │   └── LimitError                         media beyond the declared limits   exit 1
    ├── StorageError      (OSError)            a place that cannot be written     exit 1
    ├── TableError        (ValueError)         a media table that is not as asked exit 1
    ├── CheckpointError   (ValueError)         a model folder that does not load  exit 1
    └── TrainingError     (RuntimeError)       training that cannot go on         exit 1

A message is one line: what, got, expected, next step. The command line prints it and exits with `exit_code`.
Skipped work is reported by a `SensoriumWarning`; the command line prints it too.
"""

import warnings
from typing import ClassVar


class SensoriumError(Exception):
    """Base of every error that the user can correct."""

    exit_code: ClassVar[int] = 1


class UsageError(SensoriumError, ValueError):
    """An invalid call, argument or option."""

    exit_code = 2


class ConfigError(SensoriumError, ValueError):
    """A recipe or configuration that does not parse or is out of range."""

    exit_code = 2


class NotFoundError(SensoriumError, FileNotFoundError):
    """A file, table, row, run or registered name that does not exist."""

    exit_code = 4


class MissingExtraError(SensoriumError, ImportError):
    """An optional package that is not installed; the message holds the install line."""


class FetchError(SensoriumError, OSError):
    """A package or URL that could not be fetched."""


class StorageError(SensoriumError, OSError):
    """A file or folder that cannot be written or read: a full disk, no permission, a read-only place."""


class MediaError(SensoriumError, ValueError):
    """Bytes that cannot be read as media."""


class LimitError(MediaError):
    """Media beyond one of the declared limits, refused before decoding where the header tells."""


class TableError(SensoriumError, ValueError):
    """A media table that cannot be read, written or queried as asked."""


class CheckpointError(SensoriumError, ValueError):
    """A model folder that is incomplete, damaged or of another kind."""


class TrainingError(SensoriumError, RuntimeError):
    """Training that cannot continue: the loss is not a number, or a saved state does not fit the model."""


class SensoriumWarning(UserWarning):
    """Part of the requested work was skipped; the message says what was skipped and how to include it."""


def warn(message: str) -> None:
    """Issue a `SensoriumWarning` for work that was skipped.

    Example:
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     warn("18 sounds were not embedded: this model has no audio encoder")
        >>> said[0].category.__name__
        'SensoriumWarning'
    """
    warnings.warn(message, SensoriumWarning, stacklevel=3)
