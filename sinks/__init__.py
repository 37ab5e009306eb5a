"""Where findings go: one file a destination."""

from collections.abc import Mapping
from datetime import UTC, datetime
from io import FileIO

from kubewhy.contracts import Sink
from kubewhy.errors import ConfigError
from kubewhy.keys import read
from sinks.settings import (
    AlertmanagerSettings,
    FileSettings,
    NotifySettings,
    OpsgenieSettings,
    PagerDutySettings,
    S3Settings,
    SinkSettings,
    SlackSettings,
    SlackWebhookSettings,
    StdoutSettings,
    WebhookSettings,
)


def make(settings: SinkSettings, environ: Mapping[str, str]) -> Sink:
    """The sink of these settings. Raises ConfigError where a secret or its library is missing.

    Each library is imported only here, for it is large, and an extra.
    """
    try:
        return _made(settings, environ)
    except ImportError as error:
        raise ConfigError(
            f"sink {settings.called}: needs a package that is not there ({error.name}): "
            f"pip install 'kubewhy[{_EXTRAS.get(error.name or '') or _EXTRAS.get(settings.type, settings.type)}]'"
        ) from None
    except ConfigError as error:
        raise ConfigError(f"sink {settings.called}: {error}") from None


# Where the extra is called otherwise than the type, or the package comes with another.
_EXTRAS = {
    "alertmanager": "webhook",
    "jinja2": "templates",
    "opsgenie": "webhook",
    "pagerduty": "webhook",
    "slack-webhook": "slack",
}


def _made(settings: SinkSettings, environ: Mapping[str, str]) -> Sink:
    match settings:
        case StdoutSettings():
            from sinks.stdout import StdoutSink

            return StdoutSink(FileIO(1, "w", closefd=False))
        case FileSettings():
            from sinks.file import FileSink

            return FileSink(settings)
        case S3Settings():
            from kubewhy.s3 import Bucket
            from sinks.s3 import S3Sink

            return S3Sink(Bucket(settings))
        case SlackSettings():
            from sinks.slack.bot import SlackBot

            return SlackBot(settings, read(settings.token, environ))
        case SlackWebhookSettings():
            from sinks.slack.webhook import SlackWebhook

            return SlackWebhook(settings, read(settings.url_key, environ))
        case WebhookSettings():
            from sinks import webhook

            return webhook.made(settings, environ)
        case AlertmanagerSettings():
            from sinks import alertmanager

            return alertmanager.made(settings, environ, lambda: datetime.now(UTC))
        case NotifySettings():
            from sinks import notify

            return notify.made(settings, environ)
        case PagerDutySettings():
            from sinks import pagerduty

            return pagerduty.made(settings, environ)
        case OpsgenieSettings():
            from sinks import opsgenie

            return opsgenie.made(settings, environ)
