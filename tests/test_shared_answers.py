"""Answers of models that are shared through S3, against moto."""

from datetime import timedelta
from pathlib import Path

import pytest

from explainer.cache_s3 import PAUSE, SharedAnswers
from kubewhy.contracts import Completion
from kubewhy.errors import ConfigError
from kubewhy.keys import Key
from kubewhy.runtime.models import explainer, shared_key
from kubewhy.settings import load
from tests.models.far import Reply, endless, half, silent
from tests.services.moto import Store, known, standing
from tests.services.s3 import SECRET, refusal, refusing
from tests.test_explaining import Told, asking, clock  # noqa: F401
from tests.test_incidents import START

ANSWER = Completion('{"cause": "memory"}', "model-7", 17, 5)
ASKED = ("openai", "model-7", "English", "Pod POD_1 is out of memory")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch)


@pytest.fixture
def store() -> Store:
    return Store.made(standing())


async def test_what_one_was_answered_is_there_for_another(store: Store) -> None:
    told = store.settings(prefix="kubewhy")
    one, another = SharedAnswers(told, lambda: START), SharedAnswers(told, lambda: START)
    assert await one.get(*ASKED) is None
    await one.put(*ASKED, ANSWER)
    assert await another.get(*ASKED) == ANSWER
    assert await another.get("openai", "model-7", "English", "Pod POD_1  is out of\nmemory") == ANSWER
    assert await another.get("openai", "model-8", *ASKED[2:]) is None
    [name] = store.objects()
    assert name.startswith("kubewhy/")


async def test_what_is_too_old_is_not_taken_nor_what_is_no_answer(store: Store) -> None:
    now = [START]
    answers = SharedAnswers(store.settings(), lambda: now[0], age=timedelta(days=2))
    await answers.put(*ASKED, ANSWER)
    now[0] += timedelta(days=2)
    assert await answers.get(*ASKED) == ANSWER
    now[0] += timedelta(seconds=1)
    assert await answers.get(*ASKED) is None
    [name] = store.objects()
    for body in (b"", b"[]", b'{"made": "2026-01-01T00:00:00", "text": "", "by": "", "input_tokens": 1}', b"\xff"):
        store.client.put_object(Bucket=store.bucket, Key=name, Body=body)
        assert await answers.get(*ASKED) is None


@pytest.mark.parametrize(
    "reply",
    [refusal(403, "AccessDenied"), refusal(503, "SlowDown"), Reply(200, b"<html>", {}), half, silent, endless],
    ids=["denied", "slow down", "no S3", "half", "silent", "endless"],
)
async def test_trouble_is_said_once_and_left_alone_for_a_minute(
    reply: object, caplog: pytest.LogCaptureFixture
) -> None:
    script = half(refusal(200, "x")) if reply is half else reply
    now = [START]
    async with refusing(script) as far:  # type: ignore[arg-type]
        answers = SharedAnswers(Store(far.url).settings(), lambda: now[0], seconds=0.3)
        for _ in range(2):
            for _ in range(3):
                await answers.put(*ASKED, ANSWER)
                assert await answers.get(*ASKED) is None
            now[0] += PAUSE
    assert len(far.asked) <= 2 + (reply.status == 200 if isinstance(reply, Reply) else 0)
    assert caplog.text.count("models are asked each time") == 1
    assert SECRET not in caplog.text


async def test_a_second_watcher_asks_no_model(store: Store, clock: Told) -> None:  # noqa: F811
    for calls_made in (1, 0):
        async with asking(clock) as (far, calls):
            calls._explainer.cache = SharedAnswers(store.settings(), lambda: clock.now)
            clock.restart()
            await calls.round(clock.stage.wanted(clock.now))
            [answer] = calls.take()
            assert answer.explanation
            assert len(far.asked) == calls_made
            assert answer.explanation.cached is not bool(calls_made)
    [body] = store.objects().values()
    assert b"10.2.3.4" not in body


def test_the_same_secret_gives_the_same_key_and_a_short_one_none() -> None:
    key = Key(env="MASKING")
    assert shared_key(key, {"MASKING": "a" * 16}) == shared_key(key, {"MASKING": "a" * 16 + "\n"})
    assert shared_key(key, {"MASKING": "a" * 16}) != shared_key(key, {"MASKING": "b" * 16})
    for secret, said in (("a" * 15, "too short to keep names secret"), ("", "is empty or not there")):
        with pytest.raises(ConfigError, match=f"explain.masking_key: environment variable MASKING.*{said}"):
            shared_key(key, {"MASKING": secret})


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{bucket: answers}", r"explain: masking_key: is missing; with a cache that is shared all need the same"),
        ("{bucket: s3://answers}", r"explain\.cache\.bucket: this is no name of a bucket; write the name alone"),
        ("{bucket: answers, prefx: a}", r"explain\.cache\.prefx: unknown key; did you mean prefix\?"),
        ("{bucket: answers, endpoint: 'http://a:secret@b'}", r"explain\.cache\.endpoint: write an address as in"),
        ("{bucket: answers, kms_key: a}", r"explain\.cache: `kms_key` goes with `encryption: sse-kms`"),
        ("answers", r"explain\.cache: give a bucket by its keys, as in \{bucket: my-archive"),
        ("{}", r"explain\.cache\.bucket: is missing"),
    ],
)
def test_wrong_settings_are_one_clear_line(told: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "kubewhy.yaml"
    file.write_text(f"explain: {{cache: {told}}}")
    with pytest.raises(ConfigError, match=said) as caught:
        load(file)
    assert "secret" not in str(caught.value)


async def test_settings_lead_to_the_bucket(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "kubewhy.yaml"
    file.write_text(
        f"explain: {{masking_key: {{env: MASKING}}, "
        f"cache: {{bucket: {store.bucket}, endpoint: '{store.url}', region: eu-central-1}}}}"
    )
    made = explainer(load(file).explain, lambda: START, {"MASKING": "a" * 16, "HOME": str(tmp_path)})
    assert made.key == shared_key(Key(env="MASKING"), {"MASKING": "a" * 16})
    assert made.cache
    await made.cache.put(*ASKED, ANSWER)
    assert len(store.objects()) == 1
