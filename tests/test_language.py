"""A model answers in the language it is asked for; the rules' own words stay English."""

import json
import re
from typing import Any

import py3langid
import pytest

from analyzers import enabled
from explainer.backends import make
from kubewhy.runtime.asking import explain, questions
from kubewhy.runtime.calls import Calls
from kubewhy.runtime.choosing import Choice
from kubewhy.runtime.explaining import Explainer
from kubewhy.runtime.oneshot import analyze_recording
from tests.models.far import Asked, Far, Reply, serving
from tests.models.openai import OpenAI
from tests.test_incidents import START
from tests.test_run import EXAMPLE

# What a model that minds its instructions might say, after the language it was told to answer in.
ANSWERS = {
    "English": ("The container needs more memory than it may use and is stopped.", "Raise its memory limit."),
    "German": ("Der Container braucht mehr Speicher, als er darf, und wird beendet.", "Erhöhen Sie die Grenze."),
    "French": ("Le conteneur demande plus de mémoire que permis et il est arrêté.", "Augmentez la limite de mémoire."),
    "Spanish": ("El contenedor necesita más memoria de la permitida y se detiene.", "Suba el límite de la memoria."),
    "Brazilian Portuguese": ("O contêiner precisa de mais memória e é encerrado.", "Aumente o limite de memória."),
    "Polish": ("Kontener potrzebuje więcej pamięci, niż mu wolno, i zostaje zatrzymany.", "Zwiększ limit pamięci."),
    "Japanese": ("コンテナのメモリが不足しているため停止されました。", "メモリの上限を上げてください。"),
    "Arabic": ("تحتاج الحاوية إلى ذاكرة أكثر من المسموح به ولذلك يتم إيقافها.", "ارفع حد الذاكرة."),
}
CODES = {
    "English": "en",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Brazilian Portuguese": "pt",
    "Polish": "pl",
    "Japanese": "ja",
    "Arabic": "ar",
}


def minding(vendor: OpenAI, asked: Asked) -> Reply:
    system: str = next(each["content"] for each in asked.json["messages"] if each["role"] == "system")
    (language,) = re.findall(r"Answer in ([\w ]+)\.", system)
    cause, step = ANSWERS[language]
    told: dict[str, Any] = {"cause": cause, "why": cause, "fix": [step], "verify": [], "confidence": "high"}
    return vendor.answer(asked, json.dumps(told))


def detected(text: str) -> str:
    code: str = py3langid.classify(text)[0]
    return code


@pytest.mark.parametrize("language", ANSWERS)
async def test_the_answer_is_in_the_language_asked_for(language: str) -> None:
    vendor = OpenAI()
    async with serving(Far(vendor)) as far:
        far.answering = lambda asked: minding(vendor, asked)
        choice = Choice(make(vendor.settings(far.url), vendor.environ()), "m")
        calls = Calls(Explainer([choice], lambda: START, b"k" * 32, language=language))
        analysis = analyze_recording(EXAMPLE, enabled())
        wanted = questions(analysis)
        found = await explain(wanted, calls)
        await calls.close()
    assert len(found) == len(wanted) > 3
    for told in found.values():
        assert told.language == language
        assert detected(f"{told.cause} {told.why} {' '.join(told.fix)}") == CODES[language]
    rules = " ".join(told.message for each in wanted for told in each.look().incident.failures)
    assert detected(rules) == "en"
