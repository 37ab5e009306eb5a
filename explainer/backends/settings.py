"""What each sort of backend has to be told: closed models, every default here."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

from kubewhy.addresses import plain
from kubewhy.keys import Key


def _address(text: str) -> str:
    return plain(text, "; the key goes into `key`")


Address = Annotated[str, AfterValidator(_address)]
Word = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[!-~]+$")]


class _Backend(BaseModel, extra="forbid", frozen=True):
    """`name` is what people call it. `url` is another address than the vendor's own.

    `max_tokens` stands in for what a prompt allows: models that think first need more.
    Proxies are found as curl finds them: HTTPS_PROXY, NO_PROXY.
    """

    name: str = Field(default="", max_length=63, pattern=r"^[A-Za-z0-9_.-]*$")
    url: Address | None = None
    ca_file: Path | None = None  # in place of the authorities that this machine trusts
    timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    max_tokens: int | None = Field(default=None, gt=0, le=1_000_000)

    @property
    def called(self) -> str:
        """Its name, or its type where it has none."""
        told: str = self.name or getattr(self, "type", "")
        return told


class Preset(BaseModel, frozen=True):
    """What differs between those who speak OpenAI's format: address, key, and what they understand."""

    url: str = ""  # empty: it has to be given
    key: str = ""  # the environment variable that vendor's own tools read; empty: it needs none
    structured: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


PRESETS = {
    "openai": Preset(url="https://api.openai.com/v1", key="OPENAI_API_KEY", limit="max_completion_tokens"),
    "azure": Preset(key="AZURE_OPENAI_API_KEY", limit="max_completion_tokens"),
    "cohere": Preset(url="https://api.cohere.ai/compatibility/v1", key="CO_API_KEY"),
    "gemini": Preset(url="https://generativelanguage.googleapis.com/v1beta/openai", key="GEMINI_API_KEY"),
    "groq": Preset(url="https://api.groq.com/openai/v1", key="GROQ_API_KEY", limit="max_completion_tokens"),
    "huggingface": Preset(url="https://router.huggingface.co/v1", key="HF_TOKEN"),
    "litellm": Preset(url="http://localhost:4000/v1"),
    "localai": Preset(url="http://localhost:8080/v1"),
    "ollama": Preset(url="http://localhost:11434/v1"),
    "vllm": Preset(url="http://localhost:8000/v1"),
}
OpenAIType = Literal[
    "openai", "azure", "cohere", "gemini", "groq", "huggingface", "litellm", "localai", "ollama", "vllm"
]


class OpenAISettings(_Backend, frozen=True):
    """Whoever speaks OpenAI's chat completions."""

    type: OpenAIType
    model: Word  # for azure: the deployment
    key: Key | None = None
    entra: bool = False  # azure only: a token of Microsoft Entra in place of a key
    structured: bool | None = None  # None: as the preset has it

    @model_validator(mode="after")
    def _agree(self) -> "OpenAISettings":
        if self.type == "azure" and not self.url:
            raise ValueError("azure needs `url`, as in https://RESOURCE.openai.azure.com/openai/v1")
        if self.entra and self.type != "azure":
            raise ValueError("`entra` is for azure only")
        if self.entra and self.key:
            raise ValueError("give `key` or `entra`, not both")
        return self

    @property
    def preset(self) -> Preset:
        """What holds for all of its type."""
        return PRESETS[self.type]

    @property
    def address(self) -> str:
        """Where it is asked."""
        return self.url or self.preset.url

    @property
    def key_place(self) -> Key | None:
        """Where the key is. The vendor's own variable counts only for the vendor's own address."""
        if self.key or self.entra or not self.preset.key:
            return self.key
        own = self.type == "azure" or self.address == self.preset.url
        return Key(env=self.preset.key) if own else None


class _Aws(_Backend, frozen=True):
    """Credentials come from AWS's default chain. A profile may assume a role."""

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None  # None: as the profile or environment has it
    profile: Word | None = None


class BedrockSettings(_Aws, frozen=True):
    """Amazon Bedrock's Converse. The model may be an inference profile, by id or ARN."""

    type: Literal["bedrock"]
    model: Word
    structured: bool = True


class SageMakerSettings(_Aws, frozen=True):
    """An Amazon SageMaker endpoint whose container speaks OpenAI's chat format."""

    type: Literal["sagemaker"]
    endpoint: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,63}$")]
    component: Word | None = None  # the inference component, where the endpoint has several


class VertexSettings(_Backend, frozen=True):
    """Google Vertex AI. Without a file, Google's default credentials are used."""

    type: Literal["vertex"]
    model: Word
    project: Annotated[str, Field(pattern=r"^[a-z][a-z0-9:.-]*$")]
    location: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    credentials_file: Path | None = None

    @property
    def address(self) -> str:
        """Where it is asked: https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations has the rule."""
        match self.location:
            case _ if self.url:
                return self.url
            case "global":
                return "https://aiplatform.googleapis.com"
            case "us" | "eu":
                return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-aiplatform.googleapis.com"


class AnthropicSettings(_Backend, frozen=True):
    """Anthropic's own API."""

    type: Literal["anthropic"]
    model: Word
    key: Key | None = None
    structured: bool = True

    @property
    def address(self) -> str:
        """Where it is asked."""
        return self.url or "https://api.anthropic.com"

    @property
    def key_place(self) -> Key | None:
        """Where the key is. The vendor's own variable counts only for the vendor's own address."""
        return self.key or (None if self.url else Key(env="ANTHROPIC_API_KEY"))


class WatsonxSettings(_Backend, frozen=True):
    """IBM watsonx.ai, in IBM Cloud."""

    type: Literal["watsonx"]
    model: Word
    url: Address  # as in https://us-south.ml.cloud.ibm.com
    iam_url: Address = "https://iam.cloud.ibm.com"
    key: Key = Key(env="WATSONX_API_KEY")
    project: Word | None = None
    space: Word | None = None
    structured: bool = False  # most of its models do not take a schema

    @model_validator(mode="after")
    def _one_place(self) -> "WatsonxSettings":
        if (self.project is None) == (self.space is None):
            raise ValueError("give `project` or `space`, by its id")
        return self


class OciSettings(_Backend, frozen=True):
    """Oracle's Generative AI. Signed with the key of a profile in OCI's own configuration file."""

    type: Literal["oci"]
    model: Word
    compartment: Word
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] | None = None  # None: as the profile has it
    config_file: Path = Path("~/.oci/config")
    profile: Word = "DEFAULT"
    structured: bool = True


class RestSettings(_Backend, frozen=True):
    """A service of your own: docs/backends.md says what it gets and what it gives."""

    type: Literal["rest"]
    url: Address
    model: Word = "default"
    key: Key | None = None
    temperature: float = Field(default=0.2, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=50, gt=0)
    language: str = Field(default="english", max_length=63)


class RulesSettings(_Backend, frozen=True):
    """No model: the rules' own words are enough."""

    type: Literal["rules"]


BackendSettings = Annotated[
    OpenAISettings
    | BedrockSettings
    | SageMakerSettings
    | VertexSettings
    | AnthropicSettings
    | WatsonxSettings
    | OciSettings
    | RestSettings
    | RulesSettings,
    Field(discriminator="type"),
]
