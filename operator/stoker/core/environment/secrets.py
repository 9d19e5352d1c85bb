"""Secrets that stand in a definition's text: they would be in the key, in the log and in the image."""

import re

#: The look-behind keeps it linear: a long word is not tried again from each of its letters.
_URL = re.compile(r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^\s/@'\"]+)@")
#: Anaconda's private channels: the token is a part of the path.
_TOKEN_IN_PATH = re.compile(r"(https?://[^/\s]+)/t/(?!\$)[^/\s]+")
#: A query such as ?token=...; what is a variable of the shell is none.
_QUERY = re.compile(
    r"[?&](?:access_token|token|api_key|apikey|password|secret|sig|signature|X-Amz-Signature)=[^&\s$]", re.I
)
_REFERENCE = re.compile(r"\$(\w+|\{\w+\}|\([^)]*\))\Z")
#: What well-known issuers' tokens look like.
_TOKENS = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{20,}|hf_[A-Za-z0-9]{30,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|pypi-[A-Za-z0-9_-]{50,}|AIza[0-9A-Za-z_-]{35})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_NAME = re.compile(
    r"(?:\A|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|APIKEY|API_KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY|CREDENTIALS?)\Z"
)


def in_text(text: str) -> str | None:
    """What secret a text has in it, in words that do not show it; None for none that can be told."""
    for match in _URL.finditer(text):
        user, _, password = match["user"].partition(":")
        if password and not _REFERENCE.match(password):
            return "a URL with a password in it"
        # `git@` over ssh is a name that everybody has; over http a name alone is a token.
        if not password and match["scheme"].lower().endswith(("http", "https")) and not _REFERENCE.match(user):
            return "a URL with a user or a token in it"
    if _TOKEN_IN_PATH.search(text):
        return "a URL with a token in it"
    if _QUERY.search(text):
        return "a URL with a token in its query"
    if _TOKENS.search(text):
        return "a token or a private key"
    return None


def in_variable(name: str, value: str) -> str | None:
    """What secret `name=value` gives away, or None. A path, a number or another variable is none."""
    plain = value.strip("'\"")
    if _NAME.search(name.upper()) and plain and not plain.startswith(("/", "$")) and not plain.isdecimal():
        return f"{name} with its value"
    return in_text(value)


def without(url: str) -> str:
    """A URL without user, password and token."""
    bare = re.sub(r"(://)[^\s/@]*@", r"\1", url)
    return re.sub(r"(https?://[^/\s]+)/t/[^/\s]+", r"\1", bare)
