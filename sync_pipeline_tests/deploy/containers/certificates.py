"""Certificates for servers of tests that containers reach by an address."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make_certificates(address: str, folder: Path) -> None:
    """Write authority.pem, and server.pem and key.pem of a server at an address, which the authority has signed."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "marker-of-the-authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    now = datetime.now(UTC)

    def unsigned(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))

    constraints = x509.BasicConstraints(ca=True, path_length=0)
    authority = unsigned(issuer, authority_key).add_extension(constraints, critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    server = unsigned(subject, server_key).add_extension(names, critical=False)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "authority.pem").write_bytes(authority.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    (folder / "server.pem").write_bytes(server.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    (folder / "key.pem").write_bytes(server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
