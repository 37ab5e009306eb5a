"""AWS's service of credentials for roles: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html."""

from pathlib import Path
from typing import Any

from tests.models.bedrock import Bedrock
from tests.models.far import Asked, Reply

ASSUMED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>session-1</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"""


class Sts(Bedrock):
    """Bedrock, with that service at the same address."""

    def __init__(self, status: int = 200, body: str = ASSUMED) -> None:
        self._reply = Reply(status, body.encode(), {"content-type": "text/xml"})

    def aside(self, asked: Asked) -> Reply | None:
        return self._reply if asked.path == "/" else None


def role(folder: Path) -> dict[str, Any]:
    """Settings whose profile, in the folder's `config`, assumes a role."""
    (folder / "config").write_text(
        "[profile own]\naws_access_key_id = AKIAOWN\naws_secret_access_key = x\n"
        "[profile shop]\nregion = eu-west-1\nsource_profile = own\nrole_arn = arn:aws:iam::111122223333:role/models\n"
    )
    return {"region": None, "profile": "shop"}
