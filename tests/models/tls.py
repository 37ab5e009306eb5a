"""An authority that nobody trusts unless told to, and a certificate of it for 127.0.0.1."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

# A key takes long to make, and these protect nothing.
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem() -> bytes:
    """The key, as files hold it."""
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """`context` is for a server, `file` for whoever is to trust it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ca.pem"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(KEY.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), critical=False)
            .sign(KEY, hashes.SHA256())
        )
        certificate = made.public_bytes(Encoding.PEM)
        self.file.write_bytes(certificate)
        both = folder / "server.pem"
        both.write_bytes(certificate + pem())
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(both)
