"""What is wrong with settings, in one line: the key, the fault, and what is known there."""

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from kubewhy.spelling import hint


def first(error: ValidationError, settings: Any, what: str = "") -> str:
    """The first fault, by its place, or an unknown key, which may be why another is missing.

    `settings` is what was validated against: a model, or a union of some. The value is not told: it may be a secret.
    """
    fault = _picked(error)
    keys, models = _walk(fault["loc"], settings)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in keys).lstrip(".")
    match fault["type"]:
        case "union_tag_invalid" | "union_tag_not_found":
            what = what or next((str(part).removesuffix("s") for part in reversed(keys) if isinstance(part, str)), "it")
            known = ", ".join(sorted(tag for model in models for tag in _tags(model)))
            return f"{key}{'.' if key else ''}type: there is no such type of {what}; known: {known}"
        case "extra_forbidden":
            fields = _fields(models)
            return f"{key}: unknown key{hint(str(keys[-1]), fields)} (known here: {', '.join(fields)})"
        case "model_type" | "model_attributes_type":
            return f"{key or 'the file'}: must hold keys and values ({', '.join(_fields(models))})"
        case "missing":
            return f"{key}: is missing; it has to be given"
        case "value_error":
            said = fault["msg"].removeprefix("Value error, ")
            return f"{key}: {said}" if key else said
    return f"{key or 'the file'}: {fault['msg'][0].lower()}{fault['msg'][1:]}; mend it or leave it out"


def where(error: ValidationError, settings: Any) -> tuple[int | str, ...]:
    """Where that fault is: the keys one has to go down to it, or to what lacks it."""
    fault = _picked(error)
    keys, _ = _walk(fault["loc"], settings)
    return tuple(keys[:-1] if fault["type"] == "missing" else keys)


def _picked(error: ValidationError) -> Any:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])


def _walk(place: Sequence[int | str], settings: Any) -> tuple[list[int | str], list[type[BaseModel]]]:
    """The keys as they stand in the file, where a type is none of its own; and the models that know the last."""
    models, keys, here = list(_models(settings)), list[int | str](), settings
    for part in place:
        if str(part).startswith("{") or part == "[key]":  # the form of several that it was taken for; the key itself
            continue
        tagged = [model for model in models if part in _tags(model)]
        if len(models) > 1 and tagged:
            models = tagged
            continue
        keys.append(part)
        if isinstance(part, str) and (field := next((f for m in models if (f := m.model_fields.get(part))), None)):
            here = field.annotation
            models = list(_models(here)) or models
    return keys, models


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType, tuple, list, dict):
        for each in get_args(annotation):
            yield from _models(each)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field else ()


def _fields(models: Sequence[type[BaseModel]]) -> list[str]:
    return sorted({name for model in models for name in model.model_fields})
