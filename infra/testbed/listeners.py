"""How a broker is reached by those who must say who they are: users, certificates, and who may do what."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from infra.testbed.certificates import Authority
from infra.testbed.processes import free_ports

_JAAS = "org.apache.kafka.common.security"
_CLIENT = "client"


@dataclass(frozen=True)
class Login:
    """A user known to the broker."""

    name: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)


@dataclass(frozen=True)
class Secured:
    """Addresses, each asking for more than the plain one does, and what satisfies them."""

    sasl_plaintext: str
    ssl: str
    sasl_ssl: str
    mutual_tls: str
    ca_file: Path
    # A key and its certificate, in one file.
    client_pem: Path
    server_pem: Path
    plain: Login = field(default_factory=lambda: Login("plain-user"))
    scram: Login = field(default_factory=lambda: Login("scram-user"))
    # Signs in by PLAIN, and may do nothing at all.
    stranger: Login = field(default_factory=lambda: Login("stranger"))

    @classmethod
    def make(cls, folder: Path) -> "Secured":
        authority = Authority(folder)
        sasl_plaintext, ssl, sasl_ssl, mutual_tls = (f"127.0.0.1:{port}" for port in free_ports(4))
        return cls(
            sasl_plaintext,
            ssl,
            sasl_ssl,
            mutual_tls,
            ca_file=authority.file,
            client_pem=authority.issue(_CLIENT),
            server_pem=authority.issue("server"),
        )

    @property
    def listeners(self) -> dict[str, tuple[str, str]]:
        """The protocol and the address of each, by name."""
        return {
            "SASL_PLAINTEXT": ("SASL_PLAINTEXT", self.sasl_plaintext),
            "SSL": ("SSL", self.ssl),
            "SASL_SSL": ("SASL_SSL", self.sasl_ssl),
            "MUTUAL_TLS": ("SSL", self.mutual_tls),
        }

    def settings(self) -> dict[str, object]:
        logins = (self.plain, self.stranger)
        users = " ".join(f'user_{login.name}="{login.password}"' for login in logins)
        settings: dict[str, object] = {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.server_pem,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca_file,
            "listener.name.mutual_tls.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # Whoever comes over a listener that asks for no name may do all, and so may the broker itself.
            "super.users": f"User:ANONYMOUS;User:{self.plain.name};User:{self.scram.name};User:CN={_CLIENT}",
        }
        for name in ("sasl_plaintext", "sasl_ssl"):
            key = f"listener.name.{name}.{{}}.sasl.jaas.config"
            settings[key.format("plain")] = f"{_JAAS}.plain.PlainLoginModule required {users};"
            settings[key.format("scram-sha-512")] = f"{_JAAS}.scram.ScramLoginModule required;"
        return settings

    @property
    def scram_record(self) -> str:
        """As kafka-storage takes it: other users are kept in the cluster's own log."""
        return f"SCRAM-SHA-512=[name={self.scram.name},password={self.scram.password}]"
