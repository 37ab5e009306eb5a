"""Texts that people write in place of ours: templates of Jinja2 that see a finding, and end whatever it holds."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from typing import Any

import msgspec
from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kubewhy.errors import ConfigError
from kubewhy.plain import age, clean
from kubewhy.records import Finding
from sinks.samples import SAMPLES

LONGEST = 10_000  # characters of a template
WIDEST = 100_000  # characters of anything within one
ROUNDS = 10_000  # of all its loops together
_SEPARATOR = 100  # characters between what is joined

# Nothing that is called, defined, included or multiplied: so it ends.
_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.If,
    nodes.For,
    nodes.CondExpr,
    nodes.Filter,
    nodes.Test,
    nodes.Compare,
    nodes.Operand,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.Neg,
    nodes.Add,
    nodes.Sub,
    nodes.Concat,
    nodes.List,
    nodes.Tuple,
    nodes.Keyword,
)
_FILTERS = (
    *("capitalize", "count", "default", "first", "last", "length", "list", "lower", "map", "max", "min", "reject"),
    *("rejectattr", "reverse", "select", "selectattr", "sort", "string", "title", "tojson", "trim", "truncate"),
    *("unique", "upper"),
)


class Template:
    """One such text. `where` is what errors call it; `escape` makes a line of somebody else harmless where it goes."""

    def __init__(self, where: str, source: str, escape: Callable[[str], str] = str, limit: int = 3000) -> None:
        """Raises ConfigError, with the line, for what is no template or does not fit findings."""
        self._where = where
        self._escape = escape
        self._limit = limit
        self._rounds = 0
        if len(source) > LONGEST:
            raise ConfigError(f"{where}: longer than {LONGEST} characters: shorten it")
        environment = self._environment()
        try:
            tree = environment.parse(source)
            for node in tree.find_all(nodes.Node):
                self._check(node)
            for loop in tree.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, "_each", [], [], None, None, lineno=loop.lineno)
            code = environment.compile(tree)
            self._compiled = environment.template_class.from_code(environment, code, environment.make_globals(None))
        except TemplateSyntaxError as error:
            raise self._wrong(error.lineno, error.message or "no template") from None
        except (RecursionError, MemoryError):
            raise self._wrong(1, "nested too deeply") from None
        for sample in SAMPLES:
            self._try(sample)

    def render(self, finding: Finding, otherwise: str) -> str:
        """The text for this finding, or the other where the template cannot be filled in with it."""
        try:
            return self._render(finding)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
            return otherwise

    def _render(self, finding: Finding) -> str:
        self._rounds = 0
        told, size = [], 0
        for piece in self._compiled.generate(msgspec.to_builtins(finding, builtin_types=(datetime,))):
            told.append(piece)
            size += len(piece)
            if size > self._limit:
                break
        text = "".join(told).strip()
        return text if len(text) <= self._limit else text[: self._limit - 1] + "…"

    def _try(self, sample: Finding) -> None:
        try:
            self._render(sample)
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(frames) if frame.filename == "<template>"), None)
            raise self._wrong(line, str(error)) from None

    def _check(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Call):
            raise self._wrong(node.lineno, "nothing can be called here; use filters, as in {{ incident.title|upper }}")
        if not isinstance(node, _ALLOWED) or (isinstance(node, nodes.For) and node.recursive):
            raise self._wrong(
                node.lineno, f"{type(node).__name__.lower()} is not to be had here: only if, for, filters"
            )

    def _wrong(self, line: int | None, what: str) -> ConfigError:
        return ConfigError(f"{self._where}: line {line or 1}: {clean(what)[:200]}")

    def _environment(self) -> ImmutableSandboxedEnvironment:
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, finalize=self._shown, trim_blocks=True, lstrip_blocks=True
        )
        environment.globals.clear()
        kept = {name: _narrow(environment.filters[name]) for name in _FILTERS}
        environment.filters.clear()
        environment.filters |= kept | {"join": _narrow(_join), "time": _time, "age": age, "_each": self._each}
        return environment

    def _shown(self, value: object) -> object:
        if isinstance(value, StrictUndefined):
            return value  # which tells what is missing
        if value is None:
            return ""
        return self._escape(clean(value.isoformat() if isinstance(value, datetime) else str(value)))

    def _each(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._rounds += 1
            if self._rounds > ROUNDS:
                raise SecurityError(f"its loops take more than {ROUNDS} rounds")
            yield value


def _narrow(filter_: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(filter_)
    def narrow(*told: Any, **named: Any) -> Any:
        found = filter_(*told, **named)
        if isinstance(found, str) and len(found) > WIDEST:
            raise SecurityError("it grows too long")
        return found

    return narrow


def _join(values: Iterable[Any], separator: str = "") -> str:
    return separator[:_SEPARATOR].join(str(value) for value in islice(values, ROUNDS))


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
