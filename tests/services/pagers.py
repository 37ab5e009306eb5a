"""PagerDuty's Events API v2 and Opsgenie's Alert API, as far as their documents go: they hold what they are told to."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from tests.services.receiver import Receiver, receiving

KEY = "planted0123456789planted01234567"


class _Payload(BaseModel, extra="forbid"):
    summary: str = Field(min_length=1, max_length=1024)
    source: str = Field(min_length=1)
    severity: Literal["critical", "error", "warning", "info"]
    timestamp: datetime
    component: str
    group: str
    class_: str = Field(alias="class")
    custom_details: dict[str, Any]


class _Link(BaseModel, extra="forbid"):
    href: str = Field(pattern="^https?://")
    text: str


class Event(BaseModel, extra="forbid"):
    """https://developer.pagerduty.com/docs/events-api-v2/trigger-events/"""

    routing_key: str = Field(min_length=32, max_length=32)
    event_action: Literal["trigger", "acknowledge", "resolve"]
    dedup_key: str = Field(max_length=255)
    client: str = ""
    payload: _Payload | None = None
    links: list[_Link] = []


class _Alert(BaseModel, extra="forbid"):
    """https://docs.opsgenie.com/docs/alert-api#create-alert"""

    message: str = Field(min_length=1, max_length=130)
    alias: str = Field(max_length=512)
    description: str = Field(max_length=15000)
    entity: str = Field(max_length=512)
    source: str = Field(max_length=100)
    priority: Literal["P1", "P2", "P3", "P4", "P5"]
    tags: list[str] = Field(max_length=20)
    details: dict[str, str]


class Pager(Receiver):
    """`open` is what pages people now, by its key, with how often it was told; `over` is what has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[str, dict[str, Any]] = {}
        self.over: list[str] = []

    def seen(self) -> dict[str, object]:
        return {**self.open, "": list(self.over)}

    def end(self, key: str) -> None:
        if self.open.pop(key, None):
            self.over.append(key)


class PagerDuty(Pager):
    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.scripts:
            return await self.scripts.pop(0)(request)
        try:
            event = Event.model_validate_json(await request.read())
        except ValidationError as error:
            return web.json_response({"status": "invalid event", "errors": [str(error)]}, status=400)
        if request.path != "/v2/enqueue":
            return web.Response(status=404)
        if event.routing_key != KEY:
            wrong = {"status": "invalid event", "message": "Event object is invalid", "errors": ["Invalid routing key"]}
            return web.json_response(wrong, status=400)
        if event.event_action == "trigger":
            assert event.payload
            self.open.setdefault(event.dedup_key, event.payload.model_dump(mode="json"))
        else:
            self.end(event.dedup_key)
        return web.json_response({"status": "success", "dedup_key": event.dedup_key}, status=202)


class Opsgenie(Pager):
    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.scripts:
            return await self.scripts.pop(0)(request)
        if request.headers.get("Authorization") != f"GenieKey {KEY}":
            return web.json_response({"message": "Key format is not valid!"}, status=401)
        told = json.loads(await request.read())
        match request.path.strip("/").split("/"):
            case ["v2", "alerts"]:
                try:
                    alert = _Alert.model_validate(told)
                except ValidationError as error:
                    return web.json_response({"message": str(error)}, status=422)
                self.open.setdefault(alert.alias, alert.model_dump())
            case ["v2", "alerts", alias, "close"] if request.query["identifierType"] == "alias":
                self.end(alias)
            case _:
                return web.Response(status=404)
        return web.json_response({"result": "Request will be processed", "took": 0.1, "requestId": "x"}, status=202)


@asynccontextmanager
async def paging(pager: Pager) -> AsyncIterator[Pager]:
    """It, on a port of its own."""
    async with receiving(receiver=pager):
        yield pager
