"""Reads one JSON object of the configuration, key by key, and says in one sentence what is wrong with it."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar

E = TypeVar("E", bound=Enum)

_PREFIXED = re.compile(r"[0-9.]+/[0-9]{1,2}")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f]+")
_PARAMETER = re.compile(r"/[A-Za-z0-9_./-]+")
_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
# Of the characters that keys may hold, those that mean nothing to IAM, a shell or systemd.
_S3_URI = re.compile(rf"s3://{_BUCKET}(/[A-Za-z0-9_.=+-]+)*/?")


class ConfigError(Exception):
    """The configuration cannot be deployed; the text is one sentence for the operator."""


class Fields:
    """The keys of one object. Every read is remembered, so that what nobody read is an unknown key."""

    def __init__(self, value: Any, *, where: str, known: set[str] | None = None) -> None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {shown(value)}; allowed: an object with keys.")
        self._values = value
        self._where = where
        self._known: set[str] = known if known is not None else set()

    def called(self, where: str) -> Fields:
        """Return the same object under a name that says more."""
        return Fields(self._values, where=where, known=self._known)

    def wrong(self, key: str, value: Any, allowed: str) -> ConfigError:
        """Return the error for a value that is not allowed."""
        return ConfigError(f"{self._where}: {key} is {shown(value)}; allowed: {allowed}.")

    def missing(self, key: str, allowed: str) -> ConfigError:
        """Return the error for a key that has to be given."""
        return ConfigError(f"{self._where}: {key} is missing; allowed: {allowed}.")

    def has(self, key: str) -> bool:
        """Tell whether the key was given."""
        self._known.add(key)
        return self._values.get(key) is not None

    def raw(self, key: str, *, default: Any) -> Any:
        """Return the value as given."""
        return self._values[key] if self.has(key) else default

    def section(self, key: str) -> Fields:
        """Return a nested object; an absent one is empty."""
        return Fields(self.raw(key, default={}), where=f"{self._where}.{key}")

    def text(
        self, key: str, *, default: str | None = None, pattern: re.Pattern[str] | None = None, shape: str = ""
    ) -> str:
        """Return a text on one line; without a default the key is required."""
        allowed = shape or "a text on one line"
        if not self.has(key):
            if default is None:
                raise self.missing(key, allowed)
            return default
        value = self._values[key]
        if not _is_text(value, pattern):
            raise self.wrong(key, value, allowed)
        return str(value)

    def optional_text(self, key: str, *, pattern: re.Pattern[str], shape: str) -> str | None:
        """Return a text, or None where the key is absent."""
        return self.text(key, pattern=pattern, shape=shape) if self.has(key) else None

    def arn(self, key: str, *, service: str) -> str | None:
        """Return an ARN of the given service, or None where the key is absent."""
        pattern = re.compile(rf"arn:aws[a-z-]*:{service}:[a-z0-9-]+:\d{{12}}:[^\s*?$]+")
        return self.optional_text(key, pattern=pattern, shape=f'an ARN that begins with "arn:aws:{service}:"')

    def parameter(self, key: str, *, default: str) -> str:
        """Return the name of an SSM parameter."""
        return self.text(key, default=default, pattern=_PARAMETER, shape="the name of an SSM parameter")

    def bucket(self, key: str) -> str | None:
        """Return the name of an S3 bucket, or None where the key is absent."""
        return self.optional_text(key, pattern=re.compile(_BUCKET), shape="the name of an S3 bucket")

    def s3_uri(self, key: str) -> str | None:
        """Return a place in S3, without a slash at its end, or None where the key is absent."""
        uri = self.optional_text(key, pattern=_S3_URI, shape='a place like "s3://our-models/qwen3-8b"')
        return uri.rstrip("/") if uri else None

    def texts(
        self,
        key: str,
        *,
        default: Sequence[str] = (),
        pattern: re.Pattern[str] | None = None,
        shape: str = "",
        most: int = 100,
    ) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.raw(key, default=list(default))
        allowed = f"a list of {shape or 'texts on one line'}, {most} at most"
        if not isinstance(value, list) or len(value) > most:
            raise self.wrong(key, value, allowed)
        for item in value:
            if not _is_text(item, pattern):
                raise self.wrong(key, item, allowed)
        return tuple(value)

    def without_repeats(self, key: str, values: tuple[str, ...]) -> tuple[str, ...]:
        """Return the values, none of which may be there twice."""
        for index, value in enumerate(values):
            if value in values[:index]:
                raise ConfigError(
                    f"{self._where}: {key} names {json.dumps(value)} twice; allowed: each once."
                )
        return values

    def integer(self, key: str, *, default: int, low: int, high: int) -> int:
        """Return a whole number in a range, both ends included; `-c key=5` gives it as a text."""
        value = self.raw(key, default=default)
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def choice(self, key: str, *, default: int, allowed: Sequence[int]) -> int:
        """Return one of the allowed numbers."""
        value = self.integer(key, default=default, low=min(allowed), high=max(allowed))
        if value not in allowed:
            raise self.wrong(key, value, ", ".join(str(number) for number in allowed))
        return value

    def member(self, key: str, kind: type[E], *, default: E) -> E:
        """Return one of the values of an enum."""
        value = self.raw(key, default=default.value)
        if value not in [each.value for each in kind]:
            raise self.wrong(key, value, " or ".join(json.dumps(each.value) for each in kind))
        return kind(value)

    def boolean(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.raw(key, default=default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def cidr(self, key: str, *, default: str, shortest: int, longest: int) -> str:
        """Return an IPv4 range whose prefix is neither shorter nor longer than said."""
        value = self.raw(key, default=default)
        network = _network(value)
        if network is None or not shortest <= network.prefixlen <= longest:
            raise self.wrong(key, value, f'an IPv4 range from /{shortest} to /{longest}, like "10.60.0.0/16"')
        return str(network)

    def cidrs(self, key: str) -> tuple[str, ...]:
        """Return a list of IPv4 ranges."""
        values = self.texts(key)
        for value in values:
            if _network(value) is None:
                raise self.wrong(key, value, 'a list of IPv4 ranges like "10.0.0.0/8"')
        return self.without_repeats(key, values)

    def nothing_else(self, *, hint: str = "") -> None:
        """Refuse keys that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                close = get_close_matches(key, self._known, n=1)
                suggestion = f'did you mean "{close[0]}"? ' if close else f"{hint}; " if hint else ""
                raise ConfigError(
                    f"{self._where}: unknown key {json.dumps(key)}; {suggestion}"
                    f"allowed: {', '.join(sorted(self._known))}."
                )


def _is_text(value: Any, pattern: re.Pattern[str] | None) -> bool:
    return isinstance(value, str) and bool(value.strip()) and bool((pattern or _ONE_LINE).fullmatch(value))


def _network(value: Any) -> ipaddress.IPv4Network | None:
    # Python also takes a netmask behind the slash; EC2 does not.
    if not isinstance(value, str) or not _PREFIXED.fullmatch(value):
        return None
    try:
        return ipaddress.IPv4Network(value)
    except ValueError:
        return None


def shown(value: Any) -> str:
    """Return a value as the operator wrote it, cut where it is long."""
    text = json.dumps(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else text[:77] + "..."
