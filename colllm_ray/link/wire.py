"""Messages as bytes: four bytes of length, big endian, then a msgpack array of the message's tag and its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgpack

from colllm_ray.engine.messages import Behind, Choice, Extend, Extended, Failed, Reply, Sampling

MAX_MESSAGE = 4 * 2**20  # bytes
MAX_HANDSHAKE = 256  # bytes, from a peer that has proved nothing yet
MAX_NAME = 200  # characters
DIGEST = 32  # bytes of a nonce or a mac
_HEADER = 4  # bytes


class WireError(Exception):
    """Bytes or fields that are no message; the text says what was wrong and never quotes a token."""


@dataclass(frozen=True, slots=True)
class Close:
    """The session is not needed any more."""

    session: str


@dataclass(frozen=True, slots=True)
class Hold:
    """This connection now answers for the lease, a name that is used once."""

    lease: str


@dataclass(frozen=True, slots=True)
class Release:
    """The lease ends."""

    lease: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's first words."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The client knows the secret; the server is asked the same."""

    mac: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server knows the secret too."""

    mac: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Is anybody there?"""


@dataclass(frozen=True, slots=True)
class Pong:
    """Somebody is; what was asked before may still take a while."""


Message = Extend | Close | Hold | Release | Reply | Challenge | Proof | Welcome | Ping | Pong


def encode(message: Message) -> bytes:
    """The message with its length before it; raises WireError for what `decode` would refuse."""
    try:
        payload: bytes = _packer.pack(_fields(message))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"{type(message).__name__}: {error}") from None
    if len(payload) > MAX_MESSAGE:
        raise WireError(f"{type(message).__name__} of {len(payload)} bytes: at most {MAX_MESSAGE} are sent")
    return len(payload).to_bytes(_HEADER) + payload


def decode(payload: bytes | bytearray) -> Message:
    """The message in a payload, without its length; raises WireError."""
    try:
        fields = msgpack.unpackb(payload, use_list=False, max_map_len=0, max_ext_len=0)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"not a message: {type(error).__name__} {error}") from None
    if type(fields) is not tuple:
        raise WireError(f"not a message: {type(fields).__name__} instead of an array")
    try:
        return _message(fields)
    except ValueError as error:
        raise WireError(str(error)) from None


class Decoder:
    """Cuts a stream of bytes into messages of at most `limit` bytes, which may be changed between two of them."""

    def __init__(self, limit: int = MAX_HANDSHAKE) -> None:
        self.limit = limit
        self._held = bytearray()

    @property
    def is_within_message(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> Iterator[Message]:
        """Takes the bytes in and yields the messages that are complete with them.

        Raises WireError where the stream is none of ours; nothing that follows in it can be read then.
        """
        held, begin = self._held, 0
        held += data
        while len(held) >= begin + _HEADER:
            size = int.from_bytes(held[begin : begin + _HEADER])
            if size > self.limit:
                raise WireError(f"a message of {size} bytes: at most {self.limit} are taken")
            end = begin + _HEADER + size
            if len(held) < end:
                break
            yield decode(held[begin + _HEADER : end])
            begin = end
        del held[:begin]


_packer = msgpack.Packer()  # one for all: a new one allocates its buffer anew


def _fields(message: Message) -> tuple[object, ...]:
    """Tag and fields; checks what types alone do not promise, so that a mistake here does not cost the connection."""
    match message:
        case Extend(session=session, number=number, start=start, tokens=tokens):
            sampling = None if message.sampling is None else _sampling_fields(message.sampling)
            begin = _count(number, "number"), _count(start, "start")
            end = message.want, _count(message.draft, "draft"), sampling, _tokens(message.gold), message.top
            return "extend", _name(session), *begin, _tokens(tokens), *end
        case Extended(session=session, number=number, index=index, choices=choices):
            begin = _count(number, "number"), _count(index, "index")
            seconds = _number(message.seconds, "seconds")
            return "extended", _name(session), *begin, tuple(map(_choice_fields, choices)), seconds
        case Behind(session=session, number=number, have=have):
            return "behind", _name(session), _count(number, "number"), _count(have, "have")
        case Failed(session=session, number=number, reason=reason):
            return "failed", _name(session), _count(number, "number"), reason
        case Close(session=session):
            return "close", _name(session)
        case Hold(lease=lease):
            return "hold", _name(lease)
        case Release(lease=lease):
            return "release", _name(lease)
        case Challenge(nonce=nonce):
            return "challenge", _digest(nonce)
        case Proof(mac=mac, nonce=nonce):
            return "proof", _digest(mac), _digest(nonce)
        case Welcome(mac=mac):
            return "welcome", _digest(mac)
        case Ping():
            return ("ping",)
        case Pong():
            return ("pong",)


def _message(fields: tuple[object, ...]) -> Message:
    match fields:
        case ("extend", session, number, start, tokens, want, draft, sampling, gold, top):
            return Extend(
                session=_name(session),
                number=_count(number, "number"),
                start=_count(start, "start"),
                tokens=_tokens(tokens),
                want=_count(want, "want"),
                draft=_count(draft, "draft"),
                sampling=None if sampling is None else _sampling(sampling),
                gold=_tokens(gold),
                top=_count(top, "top"),
            )
        case ("extended", session, number, index, choices, seconds):
            return Extended(
                session=_name(session),
                number=_count(number, "number"),
                index=_count(index, "index"),
                choices=tuple(map(_choice, _array(choices, "choices"))),
                seconds=_number(seconds, "seconds"),
            )
        case ("behind", session, number, have):
            return Behind(session=_name(session), number=_count(number, "number"), have=_count(have, "have"))
        case ("failed", session, number, str(reason)):
            return Failed(session=_name(session), number=_count(number, "number"), reason=reason)
        case ("close", session):
            return Close(_name(session))
        case ("hold", lease):
            return Hold(_name(lease))
        case ("release", lease):
            return Release(_name(lease))
        case ("challenge", nonce):
            return Challenge(_digest(nonce))
        case ("proof", mac, nonce):
            return Proof(_digest(mac), _digest(nonce))
        case ("welcome", mac):
            return Welcome(_digest(mac))
        case ("ping",):
            return Ping()
        case ("pong",):
            return Pong()
        case (str(tag), *rest):
            raise WireError(f"no message {tag[:20]!r} has {len(rest)} such fields")
        case _:
            raise WireError("not a message: an array without a tag")


def _choice_fields(choice: Choice) -> tuple[object, ...]:
    scores = None if choice.scores is None else _numbers(choice.scores, "scores")
    gold = None if choice.gold_logprob is None else _number(choice.gold_logprob, "gold_logprob")
    top = tuple((_count(token, "token"), _number(logprob, "logprob")) for token, logprob in choice.top)
    return _count(choice.token, "token"), _number(choice.logprob, "logprob"), scores, gold, top


def _choice(value: object) -> Choice:
    match value:
        case (token, logprob, scores, gold, top):
            values = None if scores is None else _numbers(scores, "scores")
            gold_logprob = None if gold is None else _number(gold, "gold_logprob")
            likeliest = tuple(_likely(each) for each in _array(top, "top"))
            return Choice(_count(token, "token"), _number(logprob, "logprob"), values, gold_logprob, likeliest)
        case _:
            raise WireError("choices: must be arrays of token, logprob, scores, gold_logprob and top")


def _likely(value: object) -> tuple[int, float]:
    match value:
        case (token, logprob):
            return _count(token, "token"), _number(logprob, "logprob")
        case _:
            raise WireError("top: must be pairs of token and logprob")


def _sampling_fields(sampling: Sampling) -> tuple[object, ...]:
    return _number(sampling.temperature, "temperature"), _number(sampling.top_p, "top_p"), sampling.seed


def _sampling(value: object) -> Sampling:
    match value:
        case (temperature, top_p, int(seed)):
            return Sampling(_number(temperature, "temperature"), _number(top_p, "top_p"), seed)
        case _:
            raise WireError("sampling: must be an array of temperature, top_p and seed")


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise WireError(f"session or lease: must be a printable name of 1 to {MAX_NAME} characters")
    return value


def _digest(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != DIGEST:
        raise WireError(f"nonce or mac: must be {DIGEST} bytes")
    return value


# `type(...) is int`, because a bool is an int for isinstance.


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise WireError(f"{what}: must be an integer from 0 to 2^31 - 1")
    return value


def _number(value: object, what: str) -> float:
    if type(value) not in (float, int) or value != value:
        raise WireError(f"{what}: must be a number")
    return value  # type: ignore[return-value]


def _array(value: object, what: str) -> tuple[object, ...]:
    if type(value) is not tuple:
        raise WireError(f"{what}: must be an array")
    return value


def _numbers(value: object, what: str) -> tuple[float, ...]:
    return tuple(_number(each, what) for each in _array(value, what))


def _tokens(value: object) -> tuple[int, ...]:
    tokens = _array(value, "tokens")
    # Three passes in C over what may be thousands.
    if not set(map(type, tokens)) <= {int} or (tokens and not 0 <= min(tokens) <= max(tokens) < 2**31):  # type: ignore[type-var, operator]
        raise WireError("tokens: must be integers from 0 to 2^31 - 1")
    return tokens  # type: ignore[return-value]
