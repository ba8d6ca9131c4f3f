"""The text of an answer as its tokens come, up to a stop text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from colllm_ray.data.text import PieceStream
from colllm_ray.decoding.written import WrittenToken


@dataclass(frozen=True)
class Piece:
    """A token and the text that it adds."""

    written: WrittenToken
    text: str


class AnswerText:
    """Gives each token once its text is known, and known not to be part of a stop text; in order, and once.

    What stands before a stop text is given; the stop text is not, nor are the tokens that it is made of alone.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()) -> None:
        self._pieces = PieceStream(tokenizer)
        self._stops = stops
        self._held: list[Piece] = []
        self.tokens = 0  # that were taken in
        self.stopped = False

    def add(self, tokens: Iterable[WrittenToken]) -> list[Piece]:
        """Takes tokens in, as far as the answer goes; gives what is known now."""
        given: list[Piece] = []
        for written in tokens:
            if self.stopped:
                break
            self.tokens += 1
            self._held.append(Piece(written, self._pieces.add(written.token)))
            if self._pieces.is_complete:
                given += self._known()
        return given

    def rest(self) -> list[Piece]:
        """What was held back, once no more tokens come: also a character that the answer was cut in."""
        if self._held and not self._pieces.is_complete:
            last = self._held[-1]
            self._held[-1] = replace(last, text=last.text + self._pieces.rest())
        given, self._held = self._held, []
        return given

    def _known(self) -> list[Piece]:
        text = "".join(piece.text for piece in self._held)
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            given, self._held = _up_to(self._held, min(found)), []
            return given
        sure = len(text) - max((_begun(stop, text) for stop in self._stops), default=0)
        given, length = [], 0
        for piece in self._held:
            length += len(piece.text)
            if length > sure:
                break
            given.append(piece)
        del self._held[: len(given)]
        return given


def _begun(stop: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def _up_to(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """The pieces of the first `length` characters, the last one cut."""
    given: list[Piece] = []
    for piece in pieces:
        if length <= 0:
            break
        given.append(replace(piece, text=piece.text[:length]))
        length -= len(piece.text)
    return given
