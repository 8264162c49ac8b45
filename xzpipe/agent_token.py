"""Tokens of agents at self-hosted endpoints: AES over a small JSON object that names the agent.

AES in ECB mode, keys filled with zero bytes, and nothing by which a forged token could be told from
a real one: so it is in the consoles and endpoint servers in use (wire.md §3), not by our choice.
Whoever has the key can be every agent. The only module that imports `cryptography`.
"""

from base64 import b64decode, b64encode

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from xzpipe.errors import UsageError

MAX_TOKEN = 4096  # characters; that of a hashed id has 64, and a URL may not be much longer
MAX_ID = 128  # characters; blocks of a token can be put in again, which makes the id longer
KEY_SIZES = (16, 24, 32)  # bytes: AES-128, AES-192, AES-256


class BadToken(UsageError):
    """A token that names no agent under this key. Its sentence holds neither of them."""


class _Claim(msgspec.Struct, rename="camel"):
    agent_id: str | int | float


def token_of(agent: str, key: str, *, compact: bool = False) -> str:
    """The token of an agent, an id as it is to stand in it: hashed, or plain.

    The JSON in it is as Java consoles write it, with a space; `compact` as the endpoint server in
    use does for its single module, without (wire.md §3). Raises `UsageError` for an id that would
    make the token too long.
    """
    written = msgspec.json.encode(agent).decode()
    token = encrypted(f'{{"agentId":{"" if compact else " "}{written}}}', key)
    if len(agent) > MAX_ID:
        raise UsageError("the agent's id is too long for a token")
    return token


def agent_of(token: str, key: str) -> str:
    """The agent that a token names, whichever form its JSON has; a number as text.

    The token is base64 as it is, not as it stands in a URL. Raises `BadToken`.
    """
    text = decrypt(token, key)
    try:
        agent = msgspec.json.decode(text, type=_Claim).agent_id
    except msgspec.ValidationError:
        agent = ""
    except (ValueError, RecursionError):
        raise BadToken("the token was made with another key, or not for an agent") from None
    if not agent:
        raise BadToken("the token holds no agentId")
    if len(str(agent)) > MAX_ID:
        raise BadToken(f"the token's agentId is too long: more than {MAX_ID} characters")
    return str(agent)


def encrypted(text: str, key: str) -> str:
    """A text in AES-ECB with PKCS7 padding, as base64."""
    padder, encryptor = PKCS7(128).padder(), _cipher(key).encryptor()
    padded = padder.update(text.encode()) + padder.finalize()
    return b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


def decrypt(token: str, key: str) -> str:
    """The text that `encrypted` was given. Raises `BadToken`."""
    if len(token) > MAX_TOKEN:
        raise BadToken(f"the token is too long: more than {MAX_TOKEN} characters")
    if " " in token:
        raise BadToken("the token has a space: in a URL, the + in it must be written %2B")
    try:
        data = b64decode(token, validate=True)
    except ValueError:
        raise BadToken("the token is not base64") from None
    decryptor, unpadder = _cipher(key).decryptor(), PKCS7(128).unpadder()
    try:
        padded = decryptor.update(data) + decryptor.finalize()
        return (unpadder.update(padded) + unpadder.finalize()).decode()
    except ValueError:
        raise BadToken("the token was made with another key, or is not whole") from None


def _cipher(key: str) -> Cipher[modes.ECB]:
    raw = key.encode()
    if len(raw) not in KEY_SIZES:
        raw = raw[: KEY_SIZES[-1]].ljust(KEY_SIZES[-1], b"\0")
    return Cipher(algorithms.AES(raw), modes.ECB())
