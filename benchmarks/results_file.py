"""What a benchmark has written with --json, read again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.headline import Headline


@dataclass(frozen=True)
class Results:
    """A full run: its content, and of that what is compared."""

    content: Mapping[str, Any]
    benchmark: str
    commit: str
    cpu: str
    headline: Mapping[str, Headline]

    @classmethod
    def read(cls, file: Path) -> Results:
        """Raises ValueError, naming the file, where it holds no full run."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["amount"] != "full":
                raise ValueError(f"a --{content['amount']} run has no headlines; run the benchmark without it")
            headline = {key: Headline.of_json(one) for key, one in content["headline"].items()}
            return cls(content, content["benchmark"], content["commit"], content["hardware"]["cpu"], headline)
        except OSError as error:
            raise ValueError(f"{file}: cannot be read: {error.strerror}; a benchmark writes it with --json") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: is not what a benchmark writes with --json: {error!r}") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
