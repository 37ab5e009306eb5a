"""Language models: one file a backend."""

from collections.abc import Mapping

from pydantic import SecretStr

from explainer.backends.settings import (
    AnthropicSettings,
    BackendSettings,
    BedrockSettings,
    OciSettings,
    OpenAISettings,
    RestSettings,
    RulesSettings,
    SageMakerSettings,
    VertexSettings,
    WatsonxSettings,
)
from kubewhy.contracts import Backend
from kubewhy.errors import ConfigError
from kubewhy.keys import Key, read


def make(settings: BackendSettings, environ: Mapping[str, str]) -> Backend:
    """The backend of these settings. Raises ConfigError where its key or its library is missing.

    Each library is imported only here, for it is large, and an extra.
    """
    try:
        return _made(settings, environ)
    except ImportError as error:
        extra: str = settings.type
        if isinstance(settings, OpenAISettings):
            extra = "azure" if settings.entra else "openai"
        raise ConfigError(
            f"backend {settings.called}: needs a package that is not there ({error.name}): "
            f"pip install 'kubewhy[{extra}]'"
        ) from None


def _made(settings: BackendSettings, environ: Mapping[str, str]) -> Backend:
    match settings:
        case OpenAISettings():
            from explainer.backends.openai import OpenAIBackend

            return OpenAIBackend(settings, _key(settings.called, settings.key_place, environ))
        case BedrockSettings():
            from explainer.backends.bedrock import BedrockBackend

            return BedrockBackend(settings)
        case SageMakerSettings():
            from explainer.backends.sagemaker import SageMakerBackend

            return SageMakerBackend(settings)
        case VertexSettings():
            from explainer.backends.vertex import VertexBackend

            return VertexBackend(settings)
        case AnthropicSettings():
            from explainer.backends.anthropic import AnthropicBackend

            return AnthropicBackend(settings, _key(settings.called, settings.key_place, environ))
        case WatsonxSettings():
            from explainer.backends.watsonx import WatsonxBackend

            return WatsonxBackend(settings, _read(settings.called, settings.key, environ))
        case OciSettings():
            from explainer.backends.oci import OciBackend

            return OciBackend(settings)
        case RestSettings():
            from explainer.backends.rest import RestBackend

            return RestBackend(settings, _key(settings.called, settings.key, environ))
        case RulesSettings():
            from explainer.backends.rules import RulesBackend

            return RulesBackend(settings)


def _key(name: str, key: Key | None, environ: Mapping[str, str]) -> SecretStr | None:
    return _read(name, key, environ) if key else None


def _read(name: str, key: Key, environ: Mapping[str, str]) -> SecretStr:
    try:
        return read(key, environ)
    except ConfigError as error:
        raise ConfigError(f"backend {name}: {error}") from None
