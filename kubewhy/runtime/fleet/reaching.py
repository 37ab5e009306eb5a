"""The first word with Kafka's brokers: whether one lets us in, and why not, in a line."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from kubewhy.errors import ConfigError, RetryLater

_ASKING = 10.0  # seconds that a broker may take to answer
_TRIED = 3  # brokers, of however many
_REFUSED = (AuthenticationFailedError, AuthenticationMethodNotSupported, SaslAuthenticationFailed)
# What OpenSSL says of a certificate, by https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_EXPIRED, _OTHER_NAME = 10, (62, 64)
_WANTED = {
    "PLAINTEXT": "plain text, with neither kafka.tls nor kafka.sasl",
    "SSL": "kafka.tls without kafka.sasl",
    "SASL_PLAINTEXT": "kafka.sasl without kafka.tls",
    "SASL_SSL": "kafka.sasl over kafka.tls",
}
_ELSEWHERE = (
    "the brokers name themselves otherwise than kafka.servers does, and cannot be reached so: {}; "
    "mend their advertised.listeners"
)


@asynccontextmanager
async def connected(options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    """With the first broker that lets us in.

    Raises RetryLater with why none does, and ConfigError where waiting mends nothing.
    """
    servers = options["bootstrap_servers"]
    connection, brokers = await _first(servers, options)
    try:
        if brokers and not set(brokers) & set(servers):
            await _sent_on(brokers[:_TRIED], options)
        yield connection
    finally:
        connection.close()


def short(error: BaseException) -> str:
    """What an error says, in so many words as a line has room for."""
    match error:
        case ssl.SSLError():  # its numbers are those of OpenSSL
            told = (error.reason or "OpenSSL cannot read it").replace("_", " ")
        # asyncio has words of its own there; a name that is not known has numbers of its own.
        case OSError(errno=int(number), strerror=str(said)):
            told = os.strerror(number) if number > 0 else said
        case KafkaError(args=(str(said), *_)):
            told = said  # without the number and the name that it puts before
        case KafkaError():
            told = type(error).__name__
        case _:
            told = str(error)
    return " ".join(told.split())[:200] or type(error).__name__


async def _first(servers: Sequence[str], options: Mapping[str, Any]) -> tuple[AIOKafkaConnection, list[str]]:
    """The first that lets us in, and what it says the brokers are."""
    reasons, faults = [], []
    for server in servers:
        try:
            return await _one(server, options)
        except RetryLater as error:
            reasons.append(str(error))
        except ConfigError as error:
            faults.append(error)
    if faults:
        raise faults[0]
    raise RetryLater("; ".join(reasons))


async def _sent_on(brokers: Sequence[str], options: Mapping[str, Any]) -> None:
    """All records go to the brokers by the names that they give themselves, so these have to be known here too."""
    try:
        connection, _ = await _first(brokers, options)
    except RetryLater as error:
        raise RetryLater(_ELSEWHERE.format(error)) from None
    except ConfigError as error:
        raise ConfigError("kafka: " + _ELSEWHERE.format(str(error).removeprefix("kafka: "))) from None
    connection.close()


async def _one(server: str, options: Mapping[str, Any]) -> tuple[AIOKafkaConnection, list[str]]:
    wanted = _WANTED[options["security_protocol"]]
    try:
        async with asyncio.timeout(_ASKING):
            return await _let_in(server, options)
    except UnsupportedSaslMechanismError:
        mechanism = options["sasl_mechanism"]
        raise ConfigError(f"kafka: {server} does not take {mechanism}: write another kafka.sasl.mechanism") from None
    except IllegalSaslStateError:
        raise ConfigError(f"kafka: {server} wants no name or password: leave kafka.sasl out") from None
    except _REFUSED as error:
        raise ConfigError(
            f"kafka: {server} refuses us ({short(error)}): check kafka.sasl, and the secret it names"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(f"kafka: the certificate of {server} {_distrusted(error)}") from None
    except TimeoutError:
        raise RetryLater(f"{server} does not answer; does it take {wanted}?") from None
    except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError, KafkaConnectionError) as error:
        told = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
        if isinstance(told, ssl.SSLError) and "CERTIFICATE" in (told.reason or ""):  # so it says of ours
            raise ConfigError(
                f"kafka: {server} wants a certificate of ours that it trusts: name one in kafka.tls.cert_file"
            ) from None
        raise RetryLater(f"{server} hangs up; does it take {wanted}?") from None
    except (OSError, KafkaError) as error:
        raise RetryLater(f"cannot reach {server} ({short(error)})") from None


async def _let_in(server: str, options: Mapping[str, Any]) -> tuple[AIOKafkaConnection, list[str]]:
    host, _, port = server.rpartition(":")
    told = {key: value for key, value in options.items() if key != "bootstrap_servers"}
    connection = await create_conn(host.strip("[]"), int(port), **told, request_timeout_ms=int(_ASKING * 1000))
    try:
        # Who has not said who they are learns which versions there are, and nothing else.
        said = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
    except BaseException:
        connection.close()
        raise
    return connection, [f"{_quoted(host)}:{port}" for _, host, port, *_ in said.brokers]


def _quoted(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _distrusted(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _OTHER_NAME:
        return "is not for that name: write the name that it is for into kafka.servers"
    if error.verify_code == _EXPIRED:
        return "has expired: renew it"
    return f"cannot be trusted ({error.verify_message}): name its authority in kafka.tls.ca_file"
