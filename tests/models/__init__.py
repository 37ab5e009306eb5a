"""Language models' far sides on loopback: each speaks its vendor's documented wire format."""

import atexit
import tempfile
from pathlib import Path

from tests.models.anthropic import Anthropic
from tests.models.bedrock import Bedrock
from tests.models.far import Vendor
from tests.models.oci import Oci
from tests.models.openai import OpenAI
from tests.models.rest import Rest
from tests.models.sagemaker import SageMaker
from tests.models.vertex import Vertex
from tests.models.watsonx import Watsonx

# Some vendors' credentials are files.
_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)

VENDORS: tuple[Vendor, ...] = (
    OpenAI(),
    OpenAI("azure"),
    OpenAI("ollama"),
    Bedrock(),
    SageMaker(),
    Vertex(Path(_FOLDER.name)),
    Anthropic(),
    Watsonx(),
    Oci(Path(_FOLDER.name)),
    Rest(),
)
