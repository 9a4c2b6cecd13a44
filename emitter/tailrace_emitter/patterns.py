"""Finds personal data and secrets in text and puts typed placeholders in their place.

Clean text must be cheap, because nearly all text is clean: every family of patterns is guarded by a check that runs at
the speed of ``memchr`` (a literal, or the "shape" of digits). Only a text that passes it is matched against a regular
expression, and every expression is bounded, so no input makes it run longer than linear time.
"""

import re
from typing import Dict, List, Mapping, Optional, Tuple

Span = Tuple[int, int, str]

# A secret begins with a literal; the expression is matched at the literal only.
_WORD = r"A-Za-z0-9_\-"
_SECRETS: Tuple[Tuple[str, str, "re.Pattern[str]"], ...] = tuple(
    (literal, kind, re.compile(pattern, re.ASCII))
    for literal, kind, pattern in (
        ("sk-", "KEY", rf"sk-[{_WORD}]{{16,}}"),
        ("pk-", "KEY", rf"pk-[{_WORD}]{{16,}}"),
        ("sk_", "KEY", r"sk_(?:live|test)_[A-Za-z0-9]{10,}"),
        ("rk_", "KEY", r"rk_(?:live|test)_[A-Za-z0-9]{10,}"),
        ("AKIA", "KEY", r"AKIA[0-9A-Z]{16}"),
        ("ASIA", "KEY", r"ASIA[0-9A-Z]{16}"),
        ("AIza", "KEY", rf"AIza[{_WORD}]{{30,}}"),
        ("ghp_", "KEY", r"ghp_[A-Za-z0-9]{20,}"),
        ("gho_", "KEY", r"gho_[A-Za-z0-9]{20,}"),
        ("ghu_", "KEY", r"ghu_[A-Za-z0-9]{20,}"),
        ("ghs_", "KEY", r"ghs_[A-Za-z0-9]{20,}"),
        ("ghr_", "KEY", r"ghr_[A-Za-z0-9]{20,}"),
        ("github_pat_", "KEY", r"github_pat_[A-Za-z0-9_]{20,}"),
        ("glpat-", "KEY", rf"glpat-[{_WORD}]{{16,}}"),
        ("xox", "KEY", r"xox[abeoprs]-[A-Za-z0-9\-]{12,}"),
        ("hf_", "KEY", r"hf_[A-Za-z0-9]{20,}"),
        ("whsec_", "KEY", r"whsec_[A-Za-z0-9+/=]{16,}"),
        ("eyJ", "JWT", rf"eyJ[{_WORD}]{{13,}}\.[{_WORD}]{{4,}}(?:\.[{_WORD}]*)?"),
        ("-----BEGIN ", "KEY", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]{0,16000}(?:-----END [A-Z ]{0,30}-----)?"),
    )
)
_WORDS = re.compile(rf"[{_WORD}]*", re.ASCII)
_BEARER = re.compile(r"earer[ \t]{1,4}([A-Za-z0-9._~+/\-]{16,}=*)", re.ASCII)
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w\-]{0,62})\.){1,8}[^\W\d_]{2,24}")
_LOCAL = frozenset("._%+-'!#$&*/=?^`{|}~")

# Digits: one run of digits and separators is cut out first, the precise patterns look only at that run.
_RUN = re.compile(r"[0-9][0-9 \-.()/]{5,}[0-9]")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}")
_IPV4 = re.compile(
    r"(?<![0-9.])(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])(?![0-9.]*[0-9])"
)
_CARD = re.compile(r"(?<![0-9])[2-6](?:[ \-]?[0-9]){12,18}(?![0-9])")
_SSN = re.compile(r"(?<![0-9\-])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9\-])")
_PHONE = re.compile(
    r"(?<![0-9.])(?:"
    r"\+[0-9](?:[ \-./()]{0,2}[0-9]){6,14}"  # +49 (30) 901820, +1-555-123-4567
    r"|(?:1[ \-.])?\(?[0-9]{3}\)?[ \-.][0-9]{3}[ \-.][0-9]{4}"  # (555) 123-4567
    r"|\([0-9]{2,5}\)[ \-]?[0-9]{2,4}(?:[ \-]?[0-9]){3,8}"  # (030) 901820
    r"|0[0-9](?:[ \-/]?[0-9]){7,11}"  # 020 7946 0958, 0171/1234567
    r")(?![0-9])"
)

_NUMBERS = ((_IPV4, "IP", 4), (_CARD, "CARD", 13), (_SSN, "SSN", 9), (_PHONE, "PHONE", 7))

_DIGIT_SHAPE = bytes(0x30 if 0x30 <= b <= 0x39 else 0x78 for b in range(256))
_DOT_SHAPE = bytes(0x30 if 0x30 <= b <= 0x39 else (0x2E if b == 0x2E else 0x78) for b in range(256))
_SEPARATORS = b" -.()/"
# Every secret has sixteen of these in a row; ordinary words do not.
_TOKEN_SHAPE = bytes(0x77 if (chr(b).isalnum() and b < 128) or b in b"_-.~+/=" else 0x20 for b in range(256))
_TOKEN_RUN = b"w" * 16
_PASSES = 4


def _luhn(digits: str) -> bool:
    total = 0
    for i, c in enumerate(reversed(digits)):
        d = ord(c) - 48
        if i % 2:
            d = d * 2 - 9 if d > 4 else d * 2
        total += d
    return total % 10 == 0


def _iban(text: str) -> bool:
    packed = text.replace(" ", "")
    if not 15 <= len(packed) <= 34:
        return False
    moved = packed[4:] + packed[:4]
    return int("".join(c if c.isdigit() else str(ord(c) - 55) for c in moved)) % 97 == 1


def _find_mails(text: str, spans: List[Span]) -> None:
    at = text.find("@")
    floor = 0
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain:
            start = at
            while start > floor and at - start < 64 and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
                start -= 1
            if start < at:
                spans.append((start, domain.end(), "EMAIL"))
                floor = domain.end()
        at = text.find("@", at + 1)


def _find_secrets(text: str, spans: List[Span]) -> None:
    for literal, kind, pattern in _SECRETS:
        if literal not in text:
            continue
        at = text.find(literal)
        while at >= 0:
            end = at + 1
            if at == 0 or not text[at - 1].isalnum() or not text[at - 1].isascii():
                found = pattern.match(text, at)
                if found:
                    spans.append((at, found.end(), kind))
                    end = found.end()
                elif kind == "JWT":
                    # its first part has no bound: a match that begins later in the same run would fail at the same
                    # place
                    end = _end(_WORDS, text, at)
            at = text.find(literal, end)
    if "earer" in text:
        spans.extend((m.start(1), m.end(1), "TOKEN") for m in _BEARER.finditer(text))


def _end(pattern: "re.Pattern[str]", text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _find_ibans(text: str, spans: List[Span]) -> None:
    for m in _IBAN.finditer(text):
        if m.start() and text[m.start() - 1].isalnum():
            continue
        end = m.end()
        # the expression is greedy over capitals that follow: give back groups until the check digits hold
        while end - m.start() >= 15:
            if _iban(text[m.start() : end]) and not text[end : end + 1].isalnum():
                spans.append((m.start(), end, "IBAN"))
                break
            end -= 1


def _find_numbers(text: str, spans: List[Span]) -> None:
    for run in _RUN.finditer(text):
        start = run.start()
        while start and run.start() - start < 2 and text[start - 1] in "+(":
            start -= 1
        end = run.end()
        if start and (text[start - 1].isalpha() or text[start - 1] == "_"):
            continue  # part of an identifier
        part = text[start:end]
        digits = len(part.encode().translate(None, b" -.()/+"))
        if digits < 7 and part.count(".") < 3:
            continue
        for pattern, kind, least in _NUMBERS:
            if digits < least or (kind == "IP" and part.count(".") < 3):
                continue
            for m in pattern.finditer(text, start, end):
                if kind != "CARD" or _luhn("".join(c for c in m.group() if c.isdigit())):
                    spans.append((m.start(), m.end(), kind))


def find(text: str) -> List[Span]:
    """Find the spans of personal data and secrets in ``text``.

    Returns:
        Spans ``(start, end, kind)``, sorted, not overlapping; kinds EMAIL, PHONE, CARD, IBAN, SSN, IP, KEY,
        JWT and TOKEN.
    """
    spans: List[Span] = []
    if "@" in text:
        _find_mails(text, spans)
    raw = text.encode("utf-8", "replace")
    if _TOKEN_RUN in raw.translate(_TOKEN_SHAPE):
        _find_secrets(text, spans)
    if b"0000000" in raw.translate(_DIGIT_SHAPE, _SEPARATORS):
        _find_ibans(text, spans)
        _find_numbers(text, spans)
    elif b"." in raw and raw.translate(_DOT_SHAPE).count(b"0.0") >= 2:
        _find_numbers(text, spans)
    if len(spans) > 1:
        spans.sort(key=lambda s: (s[0], -s[1]))
        kept = [spans[0]]
        for span in spans[1:]:
            if span[0] >= kept[-1][1]:
                kept.append(span)
        return kept
    return spans


class Redactor:
    """Replaces what ``find`` finds; one instance always replaces the same value by the same placeholder.

    Make one per event: ``<EMAIL_1>`` is then the same person in input, retrieved chunks and output.
    """

    __slots__ = ("_counts", "_seen", "found")

    def __init__(self, taken: Optional[Mapping[str, int]] = None) -> None:
        """Number placeholders from 1, or above ``taken``: kind -> the greatest number that the texts contain."""
        self._seen: Dict[Tuple[str, str], str] = {}
        self._counts: Dict[str, int] = dict(taken or {})
        self.found = 0

    def text(self, text: str) -> str:
        """``text`` with placeholders; the very same object where nothing was found."""
        # a replacement can make a neighbour match; the second pass only runs on texts with a match
        for _ in range(_PASSES):
            spans = find(text)
            if not spans:
                return text
            self.found += len(spans)
            pieces: List[str] = []
            at = 0
            for start, end, kind in spans:
                pieces.append(text[at:start])
                pieces.append(self._placeholder(kind, text[start:end]))
                at = end
            pieces.append(text[at:])
            text = "".join(pieces)
        return text

    def _placeholder(self, kind: str, value: str) -> str:
        if kind == "EMAIL":
            value = value.casefold()
        elif kind in ("PHONE", "CARD", "IBAN"):
            value = "".join(c for c in value if c.isalnum())
        placeholder = self._seen.get((kind, value))
        if placeholder is None:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            placeholder = self._seen[(kind, value)] = f"<{kind}_{number}>"
        return placeholder
