"""Ids that identify a person: how they are recognised, and the pseudonym that replaces them.

One rule for the emitter, land and meter, so that a user has the same pseudonym in every place where it is replaced.
With a key from the settings, every user is replaced. With the key that a home has made for itself, only ids that look
like a mail address, a phone number or a name are.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from tailrace_emitter.redact import pseudonym

REMEMBERED = 16_384
USER_KEYS = frozenset(
    (
        *("user", "user_id", "userid", "user_name", "username", "user_email", "usr", "uid", "annotator"),
        *("end_user", "end_user_id", "enduser.id", "llm.user", "user.id", "user_api_key_user_id", "safety_identifier"),
    )
)
"""Keys of ``extra`` that hold a user: other names of ``user``, and ``user`` beside a field that is filled already."""
OTHER_KEYS = frozenset(
    (
        *("session", "session_id", "conversation_id", "thread_id", "chat_id", "tenant", "tenant_id"),
        *("org_id", "organization", "organization_id", "customer_id", "user_api_key_org_id"),
    )
)
_DEPTH = 4
"""Levels of ``extra`` that are looked at."""
_PSEUDONYM = re.compile(r"u_[0-9a-f]{32}")
_MAY_BE = re.compile(r"[@+\s.,(]|^\d[\d\-/]{6}|[^\x00-\x7f]")
"""Matches every personal id and few others: an id without a match needs no further check."""
_MAIL = re.compile(r"[^\s@]@[^\s@]")
_INTERNATIONAL = re.compile(r"\+\d[\d ().\-/]{5,20}\d")
_PHONE = re.compile(r"\(?\d[\d ().\-/]{5,20}\d")
_WORD = r"[^\W\d_]+(?:['\u2019\-][^\W\d_]+)*"
_NAME = re.compile(rf"{_WORD}\.?(?:(?:, ?| ){_WORD}\.?){{1,3}}|[^\W\d_]{{2,}}\.[^\W\d_]{{2,}}")
_LETTERS = re.compile(_WORD)


def looks_personal(text: str) -> bool:
    """Whether an id looks like a mail address, a phone number or the name of a person.

    A name is two to four words, or two words with a dot between (``ann.miller``), or one word that is not ASCII. A
    phone number has 7 to 15 digits; without any sign between them 10 to 15, or a zero in front.
    """
    if _MAY_BE.search(text) is None:
        return False
    text = _plain(text)
    if ("@" in text and _MAIL.search(text)) or _INTERNATIONAL.search(text) or _NAME.fullmatch(text):
        return True
    if not text.isascii():
        return _LETTERS.fullmatch(text) is not None or _is_phone(text)
    return _is_phone(text)


def looks_reachable(text: str) -> bool:
    """Whether an id of something else, of a session or a tenant, holds a mail address or an international number."""
    text = _plain(text)
    return ("@" in text and _MAIL.search(text) is not None) or ("+" in text and _INTERNATIONAL.search(text) is not None)


def _plain(text: str) -> str:
    """Return ``text`` with one spelling for what looks alike: blanks, dashes, wide and composed letters.

    Characters that are not seen, such as the zero-width space, go.
    """
    if not text.isascii():
        composed = ((char, unicodedata.category(char)) for char in unicodedata.normalize("NFKC", text))
        text = "".join("-" if kind == "Pd" else char for char, kind in composed if kind != "Cf")
    return " ".join(text.split())


def _is_phone(text: str) -> bool:
    if _PHONE.fullmatch(text) is None:
        return False
    digits = sum(map(str.isdigit, text))
    return 7 <= digits <= 15 and (digits < len(text) or digits >= 10 or text.startswith("0"))


@dataclass(frozen=True)
class People:
    """How ids of people are replaced."""

    key: Union[str, bytes] = field(repr=False)
    every: bool = False
    """Replace every user, not only those whose id looks personal."""

    user: Callable[[str], str] = field(init=False, repr=False, compare=False)
    """Return what is stored for a user; a pseudonym is returned unchanged. The latest results are cached."""

    def __post_init__(self) -> None:
        """Make the cache of ``user``: a method in front of it would double the time of a cached user."""
        object.__setattr__(self, "user", functools.lru_cache(maxsize=REMEMBERED)(self._user))

    def _user(self, text: str) -> str:
        if not (self.every or looks_personal(text)) or _PSEUDONYM.fullmatch(text):
            return text
        return pseudonym(text, self.key)

    def other(self, text: str) -> str:
        """Return what is stored for a session or a tenant."""
        return pseudonym(text, self.key) if looks_reachable(text) else text

    def extra(self, value: Any, depth: int = 0) -> Any:
        """Return ``extra`` with the ids of people under ``USER_KEYS`` and ``OTHER_KEYS`` replaced.

        What has none is returned as it is; what has one is a new object.
        """
        if depth >= _DEPTH:
            return value
        if isinstance(value, list):
            items = [self.extra(item, depth + 1) for item in value]
            return items if any(a is not b for a, b in zip(items, value)) else value
        if not isinstance(value, dict):
            return value
        stored = {key: self._of_key(key, item, depth) for key, item in value.items()}
        return stored if any(stored[key] is not item for key, item in value.items()) else value

    def _of_key(self, key: Any, item: Any, depth: int) -> Any:
        if not isinstance(item, str) or not isinstance(key, str):
            return self.extra(item, depth + 1)
        name = key.lower()
        stored = self.user(item) if name in USER_KEYS else self.other(item) if name in OTHER_KEYS else item
        return item if stored == item else stored
