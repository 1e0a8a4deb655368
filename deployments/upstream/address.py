"""Where an upstream is, and what may stand in its settings."""

import ipaddress
import re
from urllib.parse import urlsplit

SECRET_HEADERS = re.compile(r"authorization|cookie|token|secret|(^|-)key$|api-?key", re.IGNORECASE)
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?")


def checked_url(url: str, plain_http: bool) -> str:
    """The base URL without a last slash. Raises `ValueError` for one that cannot be meant or should not be used."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be a URL such as https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise ValueError("should hold no user or password; name the variable that has the key in api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("should end with its path, such as /v1")
    _ = parts.port  # raises for what is none
    if parts.scheme == "http" and not plain_http and not _is_near(parts.hostname):
        raise ValueError("should start with https://; set plain_http: true for a host that only your own networks see")
    return url.rstrip("/")


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise ValueError("should map names of headers to printable ASCII")
        if SECRET_HEADERS.search(name):
            raise ValueError(f"'{name}' looks like a secret; name the variable that has the key in api_key_env")
    return headers


def _is_near(host: str) -> bool:
    """A loopback or private address that is written as one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_private or address.is_loopback or address in ipaddress.ip_network("100.64.0.0/10")
