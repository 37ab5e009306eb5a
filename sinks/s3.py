"""Archives every transition on S3: each of them once, in objects that are written whole or not at all."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from hashlib import blake2b

from kubewhy.contracts import Letter, Manner, Memo
from kubewhy.records import Finding
from kubewhy.s3 import Bucket
from sinks.archive import MANIFEST, manifest, objects
from sinks.stdout import render

AT_MOST = 1000


class S3Sink:
    """Names tell what is in an object, so one that is there already is the same, and stays."""

    manner = Manner(at_most=AT_MOST, span=timedelta(minutes=1), worst_first=False, shared=True)

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._prefix = bucket.settings.prefix

    async def send(self, letters: Sequence[Letter], memo: Memo) -> None:
        """Returns once all of them are on S3."""
        await self._describe(memo)
        for name, body in await asyncio.to_thread(lambda: list(objects(letters))):
            await self._bucket.put(f"{self._prefix}{name}", body, "application/gzip", once=True)

    def preview(self, finding: Finding) -> str:
        """The line."""
        return render(finding).decode().rstrip("\n")

    async def spare(self, memo: Memo) -> bool:
        return False

    async def close(self) -> None:
        await self._bucket.close()

    async def _describe(self, memo: Memo) -> None:
        """Puts the schema of the lines beside them, when it is another than before."""
        schema = manifest()
        digest = blake2b(schema, digest_size=8).digest()
        if memo.get(MANIFEST) != digest:
            await self._bucket.put(f"{self._prefix}{MANIFEST}", schema, "application/schema+json")
            memo.put(MANIFEST, digest)
