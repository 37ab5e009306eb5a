"""Credentials that change while we run: those of a plugin, and a token that something else keeps fresh in a file."""

import asyncio
import ssl
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collectors import exec_plugin
from collectors.exec_plugin import Credential, Plugin
from kubewhy.errors import ConfigError

# A refused plugin is not run again at once by each of many watches.
_BETWEEN_RENEWALS = 5.0
_REREAD = timedelta(minutes=1)


class PluginTokens:
    """Credentials from a plugin, until they expire or the server refuses them."""

    def __init__(self, plugin: Plugin, folder: Path, cluster: Mapping[str, Any], limit: float) -> None:
        self.generation = 0
        self._plugin, self._folder, self._cluster, self._limit = plugin, folder, cluster, limit
        self._credential = Credential()
        self._lock = asyncio.Lock()
        self._context: ssl.SSLContext | None = None
        self._renewed = -_BETWEEN_RENEWALS

    def use(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._load_certificate()

    async def fetch(self, configuration: Any) -> None:
        """The client asks this before each request."""
        async with self._lock:
            if self._expired():
                await self._run()
        if self._credential.token:
            configuration.api_key["BearerToken"] = f"Bearer {self._credential.token}"

    async def renew(self, seen: int) -> bool:
        async with self._lock:
            if self.generation == seen:
                if time.monotonic() - self._renewed < _BETWEEN_RENEWALS:
                    return False
                self._renewed = time.monotonic()
                await self._run()
            return True

    @property
    def has_certificate(self) -> bool:
        return bool(self._credential.client_certificate_data)

    def _expired(self) -> bool:
        until = self._credential.expiration_timestamp
        return not self.generation or (until is not None and until <= datetime.now(UTC))

    async def _run(self) -> None:
        self._credential = await exec_plugin.run(self._plugin, self._folder, self._cluster, self._limit)
        self.generation += 1
        self._load_certificate()

    def _load_certificate(self) -> None:
        """Connections made from now on show it."""
        found = self._credential
        if not self._context or not found.client_certificate_data:
            return
        with tempfile.TemporaryDirectory() as folder:  # only its owner can enter it
            certificate, key = Path(folder, "certificate"), Path(folder, "key")
            certificate.write_text(found.client_certificate_data)
            key.write_text(found.client_key_data)
            try:
                self._context.load_cert_chain(certificate, key)
            except ssl.SSLError:
                raise ConfigError(f"the credential plugin {self._plugin.command} gave no usable certificate") from None


class FileTokens:
    """A token that something else keeps fresh in a file."""

    def __init__(self, path: Path) -> None:
        self.generation = 0
        self._path = path
        self._token = ""
        self._read_at = datetime.min.replace(tzinfo=UTC)

    def use(self, context: ssl.SSLContext) -> None:
        pass

    def fetch(self, configuration: Any) -> None:
        now = datetime.now(UTC)
        if now - self._read_at >= _REREAD:
            self._read(now)
        configuration.api_key["BearerToken"] = f"Bearer {self._token}"

    async def renew(self, seen: int) -> bool:
        if self.generation == seen:
            self._read(datetime.now(UTC))
        return self.generation != seen

    def _read(self, now: datetime) -> None:
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        # A file caught while it is being rewritten: the old token may still do.
        if not token and not self._token:
            raise ConfigError(f"no token in {self._path}: check tokenFile in the kubeconfig")
        self._read_at = now
        if token and token != self._token:
            self._token = token
            self.generation += 1
