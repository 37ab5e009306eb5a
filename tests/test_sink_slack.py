"""The Slack app: one message an incident, whatever happens in between."""

import asyncio
import logging
import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from kubewhy.contracts import Letter
from kubewhy.errors import ConfigError, Rejected, RetryLater
from kubewhy.glance import STORM
from kubewhy.records import Change, Finding, Ref, Seen, Severity, Sort
from sinks.settings import SinkSettings, SlackSettings
from sinks.slack.bot import SlackBot
from tests.models.far import compressed, endless, serving
from tests.models.tls import Authority
from tests.services.memo import Died, MemoryMemo
from tests.services.slack import CHANNEL, TOKEN, Message, Workspace, breaks, hangs, refuses, says
from tests.services.slack_limits import calls
from tests.test_sink_slack_blocks import EXPLANATION, WORDS, texts
from tests.views import OPENED, told, view

POD = Ref("Pod", "web-1", "shop")
SEEN = (Seen(object=POD, lines=("exit code 1",)),)
STORY = ("opened", "updated", "explained", "resolved")


@pytest.fixture
async def slack() -> AsyncIterator[Workspace]:
    async with serving(Workspace()) as workspace:
        yield workspace


def finding(transition: str, incident: str = "i1", revision: int | None = None, **more: Any) -> Finding:
    digest, explanation = more.pop("digest", None), more.pop("explanation", None)
    revision = revision or {"opened": 1, "updated": 2, "explained": 3, "repeated": 4, "resolved": 9}[transition]
    fields: dict[str, Any] = {"id": incident, "title": f"{incident} crashes", "words": (WORDS,), "evidence": SEEN}
    if transition == "resolved":
        fields |= {"state": "resolved", "resolved_at": OPENED + timedelta(minutes=12), "resolution": "recovered"}
    if transition == "explained":
        explanation = EXPLANATION
    failures = more.pop("failures", (told(POD, message=f"it exits with {revision}"),))
    return Finding(
        id=f"{incident}-{revision}",
        transition=transition,
        at=OPENED,
        revision=revision,
        incident=view(*failures, **fields | more),
        explanation=explanation,
        digest=digest,
    )


class Side:
    """Our side: what is remembered outlives the sink."""

    def __init__(self, slack: Workspace, **more: Any) -> None:
        self.slack, self.memo, self.position = slack, MemoryMemo(), 0
        told = {"type": "slack", "channel": CHANNEL, "url": f"{slack.url}/api/", **more}
        self.settings = SlackSettings.model_validate(told)
        self.bot = self._bot()

    def _bot(self) -> SlackBot:
        return SlackBot(self.settings, SecretStr(TOKEN), lambda: datetime.fromtimestamp(self.slack.now, UTC))

    async def restart(self) -> None:
        await self.bot.close()
        self.bot = self._bot()

    async def send(self, *findings: Finding) -> None:
        for each in findings:
            self.position += 1
            self.slack.now += 1
            await self.bot.send([Letter(self.position, each)], self.memo)

    async def idle(self) -> None:
        while await self.bot.spare(self.memo):
            self.slack.now += 1
        self.slack.now += 1


@pytest.fixture
async def side(slack: Workspace) -> AsyncIterator[Side]:
    side = Side(slack)
    yield side
    await side.bot.close()


def shown(message: Message) -> str:
    return "\n".join(texts(message.said))


async def test_an_incident_is_one_message_that_shows_how_it_is_now(side: Side) -> None:
    seen = []
    for transition in STORY:
        await side.send(finding(transition))
        (message,) = side.slack.channel.roots
        seen.append(shown(message))
    assert "exits with 1" in seen[0]
    assert "exits with 2" in seen[1]
    assert "The password is wrong." in seen[2]
    assert "Resolved after 12m (recovered)" in seen[3]
    assert message.edits == 3
    assert not side.slack.unfit


async def test_many_incidents_leave_just_as_many_messages_each_with_its_final_state(side: Side) -> None:
    letters = [finding(transition, f"i{number}") for transition in STORY for number in range(30)]
    await side.send(*letters)
    await side.idle()
    assert sorted(each.header for each in side.slack.channel.roots) == sorted(f"✅ i{at} crashes" for at in range(30))
    assert all("Resolved after 12m" in shown(each) for each in side.slack.channel.roots)


async def test_what_is_over_before_it_was_told_is_still_one_message(side: Side) -> None:
    await side.send(finding("resolved"))
    assert [each.header for each in side.slack.channel.roots] == ["✅ i1 crashes"]


async def test_the_same_again_changes_nothing(side: Side) -> None:
    letters = [finding(each) for each in STORY]
    await side.send(*letters)
    await side.idle()
    asked = len(side.slack.asked)
    await side.restart()
    await side.send(*letters)
    await side.idle()
    assert len(side.slack.asked) == asked


async def test_an_older_letter_does_not_undo_a_newer_one(side: Side) -> None:
    await side.send(finding("resolved"), finding("opened"))
    assert [each.header for each in side.slack.channel.roots] == ["✅ i1 crashes"]


async def test_what_would_look_the_same_is_not_edited(side: Side) -> None:
    await side.send(finding("opened"), finding("updated", failures=(told(POD, message="it exits with 1"),)))
    assert side.slack.of("chat.update") == []


@pytest.mark.parametrize("crash", ["dies_at", "dies_after"])
@pytest.mark.parametrize("write", range(1, 24))
async def test_death_at_any_write_of_the_memo_leaves_one_message(side: Side, crash: str, write: int) -> None:
    setattr(side.memo, crash, write)
    for transition in STORY:
        for _ in range(3):
            try:
                await side.send(finding(transition))
                await side.idle()
                break
            except Died:
                await side.restart()
    assert [each.header for each in side.slack.channel.roots] == ["✅ i1 crashes"]
    (message,) = side.slack.channel.roots
    assert "Resolved after 12m (recovered)" in shown(message)
    replies = [each.said["text"].partition(":")[0] for each in side.slack.channel.thread(message.ts)]
    assert sorted(replies) == ["Details", "✅ Resolved after 12m (recovered)"]


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
async def test_an_answer_that_never_comes_leads_to_no_second_message(side: Side, method: str) -> None:
    side.slack.losing = {method: 1}
    for transition in STORY:
        try:
            await side.send(finding(transition))
        except RetryLater:
            await side.restart()
            await side.send(finding(transition))
    assert [each.header for each in side.slack.channel.roots] == ["✅ i1 crashes"]


async def test_what_did_not_arrive_is_posted_though_its_intent_is_remembered(side: Side) -> None:
    side.slack.scripts = {"chat.postMessage": [breaks]}
    with pytest.raises(RetryLater):
        await side.send(finding("opened"))
    await side.send(finding("opened"))
    assert len(side.slack.channel.roots) == 1
    assert len(side.slack.of("conversations.history")) == 1


async def test_a_message_is_found_on_a_later_page_of_the_history(side: Side) -> None:
    side.memo.dies_at = 2
    with pytest.raises(Died):
        await side.send(finding("opened"))
    for number in range(450):
        other = Message(f"{side.slack.now + number:.0f}.900000", {"text": "hello", "blocks": [], "attachments": []})
        side.slack.channel.messages.append(other)
    await side.restart()
    await side.send(finding("opened"))
    assert len(side.slack.channel.roots) == 451
    assert len(side.slack.of("conversations.history")) == 3


async def test_without_the_scope_to_look_a_message_may_come_twice_and_that_is_said(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    side.slack.scopes = {"chat:write"}
    side.memo.dies_at = 2
    with pytest.raises(Died):
        await side.send(finding("opened"))
    await side.restart()
    await side.send(finding("opened"), finding("resolved"))
    assert [each.header for each in side.slack.channel.roots] == ["🟡 i1 crashes", "✅ i1 crashes"]
    assert "channels:history" in caplog.text


async def test_the_thread_tells_what_the_message_leaves_out_and_that_it_is_over(side: Side) -> None:
    changes = tuple(
        Change(object=POD, at=OPENED - timedelta(minutes=at), sort=Sort.IMAGES, what=f"tag {at}") for at in (1, 2)
    )
    await side.send(finding("opened", changes=changes))
    assert len(side.slack.channel.messages) == 1  # the thread waits until there is nothing better to do
    await side.idle()
    (root,) = side.slack.channel.roots
    (details,) = side.slack.channel.thread(root.ts)
    assert "exit code 1" in shown(details)
    assert "tag 2" in shown(details)
    await side.send(finding("updated", evidence=(Seen(object=POD, lines=("exit code 2",)),)))
    await side.idle()
    assert "exit code 2" in shown(details)
    await side.send(finding("resolved"))
    await side.idle()
    _, ended = side.slack.channel.thread(root.ts)
    assert "Resolved after 12m" in shown(ended)
    assert not [key for key in side.memo.kept if key.startswith("wait/")]


async def test_what_a_digest_stands_for_goes_into_its_thread_the_worst_first(side: Side) -> None:
    storm = (told(Ref("Cluster", "c"), STORM, "20 are told one by one"), told(POD, message="a crashes"))
    for number, severity in enumerate((Severity.INFO, Severity.CRITICAL, Severity.WARNING)):
        await side.send(finding("opened", f"m{number}", digest="d1", severity=severity))
    await side.idle()
    assert side.slack.channel.messages == []  # the digest itself has not come yet
    await side.send(finding("opened", "d1", failures=storm))
    await side.idle()
    (digest,) = side.slack.channel.roots
    thread = side.slack.channel.thread(digest.ts)
    assert [each.header for each in thread] == ["🔴 m1 crashes", "🟡 m2 crashes", "🔵 m0 crashes"]
    await side.send(finding("resolved", "m1", digest="d1"), finding("resolved", "d1", failures=storm))
    await side.idle()
    assert [each.header for each in thread] == ["✅ m1 crashes", "🟡 m2 crashes", "🔵 m0 crashes"]
    assert [each.header for each in side.slack.channel.roots] == ["✅ d1 crashes"]


async def test_a_message_that_a_person_deleted_is_not_posted_again(side: Side) -> None:
    await side.send(finding("opened"))
    side.slack.delete(side.slack.channel.roots[0])
    await side.send(finding("updated"))
    await side.restart()
    await side.send(finding("resolved"))
    await side.idle()
    assert side.slack.channel.messages == []
    assert len(side.slack.of("chat.update")) == 1


async def test_a_message_deleted_before_its_thread_was_written_gets_none(side: Side) -> None:
    await side.send(finding("opened"))
    side.slack.delete(side.slack.channel.roots[0])
    await side.idle()
    assert side.slack.channel.messages == []
    assert not [key for key in side.memo.kept if key.startswith("wait/")]


async def test_where_messages_may_not_be_edited_the_thread_says_that_it_is_over(side: Side) -> None:
    await side.send(finding("opened"))
    side.slack.editable = False
    await side.send(finding("updated"), finding("resolved"))
    await side.idle()
    (root,) = side.slack.channel.roots
    assert root.header == "🟡 i1 crashes"
    assert "✅ Resolved after 12m" in "\n".join(shown(each) for each in side.slack.channel.thread(root.ts))


async def test_those_who_are_configured_are_called_once_also_where_it_gets_worse(slack: Workspace) -> None:
    side = Side(slack, mention={"critical": ["U0123456789", "S0123456789"]})
    await side.send(finding("opened"))
    await side.idle()
    assert not any(calls(each.said) for each in slack.channel.messages)
    for revision in (2, 3):
        await side.send(finding("updated", severity=Severity.CRITICAL, revision=revision))
        await side.idle()
    (root,) = slack.channel.roots
    (worse,) = [each for each in slack.channel.thread(root.ts) if calls(each.said)]
    assert set(calls(worse.said)) == {"@U0123456789", "!subteam^S0123456789"}
    await side.bot.close()


async def test_what_still_lasts_is_said_in_the_thread(side: Side) -> None:
    await side.send(finding("opened"), finding("repeated"))
    await side.idle()
    (root,) = side.slack.channel.roots
    assert any("Still open" in shown(each) for each in side.slack.channel.thread(root.ts))


async def test_incidents_that_are_long_over_are_forgotten(side: Side) -> None:
    await side.send(finding("opened"), finding("resolved"), finding("opened", "i2"))
    await side.idle()
    side.slack.now += 90_000
    await side.idle()
    assert [key for key in side.memo.kept if "i1" in key] == []
    assert [key for key in side.memo.kept if "i2" in key]


async def test_buttons_lead_to_just_this_incident(slack: Workspace) -> None:
    side = Side(slack, buttons={"Runbook": "https://wiki.example/{rule}?n={name}"})
    await side.send(finding("opened"))
    assert "https://wiki.example/pod-crash-looping?n=web" in shown(slack.channel.roots[0])
    await side.bot.close()


async def test_twenty_restarts_at_random_moments_leave_one_message_each(slack: Workspace) -> None:
    draw = random.Random(1)
    side = Side(slack)
    letters = [finding(transition, f"i{number}") for transition in STORY for number in range(25)]
    restarts = 0
    while letters:
        side.memo.dies_at = side.memo.writes + draw.randrange(1, 40) if restarts < 20 else 0
        try:
            while letters:
                await side.send(letters[0])
                letters.pop(0)
                await side.bot.spare(side.memo)
        except Died:
            restarts += 1
            await side.restart()
    side.memo.dies_at = 0
    await side.idle()
    assert restarts == 20
    assert sorted(each.header for each in slack.channel.roots) == sorted(f"✅ i{at} crashes" for at in range(25))
    for root in slack.channel.roots:
        assert len(slack.channel.thread(root.ts)) == 2
    await side.bot.close()


LATER = {
    "asked too often": (says(429, '{"ok": false, "error": "ratelimited"}', Retry_After="7"), "too often", 7.0),
    "asked too often, in words": (refuses("rate_limited"), "too often", None),
    "too often without any body": (says(429, "", "text/html", Retry_After="3"), "too often", 3.0),
    "a wait that is none": (says(429, "{}", Retry_After="soon"), "too often", None),
    "a server that fails": (says(503, "no", "text/html"), r"fails \(503\)", None),
    "a server that fails with JSON": (says(500, "{}"), r"fails \(500\)", None),
    "a server that fails in plain text": (says(502, "no", "text/plain"), r"fails \(502\)", None),
    "fails as Slack does": (refuses("internal_error"), "internal_error", None),
    "an error that is new": (refuses("something_new"), "something_new", None),
    "an error that is no code": (refuses("x" * 99 + " <b>"), "not what Slack answers", None),
    "a portal": (says(200, "<html>log in</html>", "text/html"), "not what Slack answers", None),
    "plain text": (says(200, "hello", "text/plain"), "not what Slack answers", None),
    "gzip": (says(200, "hello", "application/gzip"), "not what Slack answers", None),
    "a list": (says(200, "[]"), "not what Slack answers", None),
    "no JSON": (says(200, "{"), "not what Slack answers", None),
    "JSON that does not end": (says(200, "[" * 100_000), "not what Slack answers", None),
    "no time stamp": (says(200, '{"ok": true}'), "not what Slack answers", None),
    "half an answer": (breaks, "broke", None),
    "no answer": (hangs, "in time", None),
    "an answer that does not end": (endless, "does not end", None),
    "compressed": (compressed, "not what Slack answers", None),
    "a redirect": (says(302, "", Location="https://elsewhere.example/"), "redirects", None),
    "a redirect that would keep the body": (says(307, "", Location="http://127.0.0.1:1/"), "redirects", None),
}


@pytest.mark.parametrize("trouble", LATER)
async def test_what_may_pass_is_tried_later_and_told_once(slack: Workspace, trouble: str) -> None:
    side = Side(slack, timeout_seconds=2)
    script, words, after = LATER[trouble]
    slack.scripts = {"chat.postMessage": [script]}
    with pytest.raises(RetryLater, match=words) as caught:
        await side.send(finding("opened"))
    assert caught.value.after == after
    assert TOKEN not in str(caught.value)
    slack.scripts.clear()
    await side.restart()
    await side.send(finding("opened"))
    assert len(slack.channel.roots) == 1
    await side.bot.close()


MENDED = {
    "invalid_auth": "environment variable SLACK_BOT_TOKEN",
    "token_revoked": "environment variable SLACK_BOT_TOKEN",
    "account_inactive": "check or renew",
    "not_in_channel": "/invite",
    "channel_not_found": "check `channel`",
    "is_archived": "unarchive",
    "restricted_action": "allow it",
    "missing_scope": "chat:write",
}


@pytest.mark.parametrize("method", ["chat.postMessage", "chat.update"])
@pytest.mark.parametrize("code", MENDED)
async def test_what_a_person_has_to_mend_is_said_with_the_remedy(side: Side, code: str, method: str) -> None:
    if method == "chat.update":
        await side.send(finding("opened"))
    side.slack.scripts = {method: [refuses(code)]}
    with pytest.raises(ConfigError, match=re.escape(MENDED[code])) as caught:
        await side.send(finding("updated"))
    assert TOKEN not in str(caught.value)
    await side.send(finding("updated"))
    assert len(side.slack.channel.roots) == 1
    assert side.slack.of("conversations.history") == []  # a plain no leaves no doubt


async def test_what_slack_itself_says_of_tokens_scopes_and_channels(side: Side) -> None:
    side.slack.tokens = set()
    with pytest.raises(ConfigError, match="invalid_auth"):
        await side.send(finding("opened"))
    side.slack.tokens, side.slack.scopes = {TOKEN}, {"channels:history"}
    with pytest.raises(ConfigError, match="scope chat:write"):
        await side.send(finding("opened"))
    side.slack.scopes, side.slack.channel.archived = {"chat:write"}, True
    with pytest.raises(ConfigError, match=f"channel {CHANNEL} is archived"):
        await side.send(finding("opened"))
    side.slack.channel.archived = False
    await side.send(finding("opened"))
    assert len(side.slack.channel.roots) == 1


async def test_an_old_channel_that_was_archived_holds_nothing_up(side: Side, slack: Workspace) -> None:
    await side.send(finding("opened"))
    slack.channels["C9999999999"] = type(slack.channel)()
    slack.channel.archived = True
    side.settings = side.settings.model_copy(update={"channel": "C9999999999"})
    await side.restart()
    await side.idle()
    await side.send(finding("resolved"), finding("opened", "i2"))
    assert [each.header for each in slack.channels["C9999999999"].roots] == ["🟡 i2 crashes"]


@pytest.mark.parametrize("code", ["msg_too_long", "invalid_blocks", "msg_blocks_too_long", "invalid_attachments"])
async def test_a_message_that_slack_will_never_take_is_rejected(side: Side, code: str) -> None:
    side.slack.scripts = {"chat.postMessage": [refuses(code)]}
    with pytest.raises(Rejected, match=code):
        await side.send(finding("opened"))


async def test_a_thread_that_slack_will_never_take_is_dropped_and_the_next_goes_on(side: Side) -> None:
    await side.send(finding("opened"), finding("opened", "i2"))
    side.slack.scripts = {"chat.postMessage": [refuses("msg_too_long")]}
    with pytest.raises(Rejected):
        await side.idle()
    await side.idle()
    assert len(side.slack.channel.messages) == 3


async def test_a_channel_without_threads_loses_only_these(side: Side) -> None:
    await side.send(finding("opened"))
    side.slack.scripts = {"chat.postMessage": [refuses("restricted_action_non_threadable_channel")]}
    await side.idle()
    await side.send(finding("updated"))
    assert len(side.slack.channel.messages) == 1


async def test_nobody_at_that_address(slack: Workspace) -> None:
    side = Side(slack)
    side.settings = side.settings.model_copy(update={"url": "http://127.0.0.1:9/api/"})
    await side.restart()
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1 cannot be reached"):
        await side.send(finding("opened"))
    await side.bot.close()


async def test_a_certificate_that_nobody_vouches_for(slack: Workspace, tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=Authority(tmp_path).context)
    side = Side(slack)
    side.settings = side.settings.model_copy(
        update={"url": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/"}
    )
    await side.restart()
    with pytest.raises(ConfigError, match="`ca_file`"):
        await side.send(finding("opened"))
    await side.bot.close()
    side.settings = side.settings.model_copy(update={"ca_file": tmp_path / "nothing.pem"})
    await side.restart()
    with pytest.raises(ConfigError, match=r"nothing\.pem: cannot be read"):
        await side.send(finding("opened"))
    server.close()


async def test_no_token_is_ever_logged(slack: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    side = Side(slack, timeout_seconds=2)
    for script in (refuses("invalid_auth"), breaks, hangs, says(500, "no"), says(200, "no")):
        slack.scripts = {"chat.postMessage": [script]}
        with pytest.raises((RetryLater, ConfigError)):
            await side.send(finding("opened"))
        slack.scripts.clear()
    await side.send(finding("opened"))
    assert TOKEN not in caplog.text
    assert "i1 crashes" not in caplog.text
    await side.bot.close()


async def test_a_burst_by_slack_s_pace(slack: Workspace) -> None:
    slack.apart = 1.0
    side = Side(slack)
    began = slack.now
    await side.send(*(finding("opened", f"i{number}") for number in range(300)))
    assert len(slack.channel.roots) == 300
    assert slack.now - began <= 310
    await side.bot.close()


async def test_a_check_says_what_does_not_work_and_what_people_should_know(side: Side) -> None:
    assert await side.bot.check() == []
    side.slack.channel.member = False
    (remark,) = await side.bot.check()
    assert "may come twice" in remark
    side.slack.channel.member, side.slack.scopes = True, {"chat:write"}
    assert "channels:history" in (await side.bot.check())[0]
    side.slack.scopes = {"channels:history"}
    with pytest.raises(ConfigError, match="scope chat:write"):
        await side.bot.check()
    side.slack.tokens = set()
    with pytest.raises(ConfigError, match="invalid_auth"):
        await side.bot.check()
    assert side.slack.channel.messages == []


def test_a_sink_is_given_the_worst_first_merged_and_a_second_apart(slack: Workspace) -> None:
    manner = Side(slack).bot.manner
    assert (manner.at_most, manner.merges, manner.worst_first) == (1, True, True)
    assert manner.apart == timedelta(seconds=1)


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        ({"channel": "#ops"}, "channel's ID"),
        ({"token": TOKEN}, "not the secret"),
        ({"mention": {"critical": ["here"]}}, "ID of a member"),
        ({"mention": {"dire": ["U0123456789"]}}, "critical"),
        ({"buttons": {"x": "javascript:alert(1)"}}, "no address"),
        ({"buttons": {"x": "https://{cluster}.example/"}}, "no address"),
        ({"buttons": {"x": "https://wiki.example/{secret}"}}, "knows only"),
        ({"buttons": {"x": "https://wiki.example/{"}}, "no address"),
        ({"buttons": {"x" * 76: "https://wiki.example/"}}, "75"),
        ({"url": "https://user:password@slack.example/api/"}, "neither user nor password"),
    ],
)
def test_wrong_settings_are_told_with_the_remedy(spoilt: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        TypeAdapter(SinkSettings).validate_python({"type": "slack", "channel": CHANNEL, **spoilt})
