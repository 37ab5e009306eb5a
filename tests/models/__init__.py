"""Language models' far sides on loopback: each speaks its vendor's documented wire format."""

from tests.models.bedrock import Bedrock
from tests.models.far import Vendor
from tests.models.openai import OpenAI

VENDORS: tuple[Vendor, ...] = (OpenAI(), Bedrock())
