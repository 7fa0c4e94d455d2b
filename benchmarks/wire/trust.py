"""The trust of a federation without a reducer: authority and tokens, in a folder that all processes of a run share."""

from pathlib import Path

import grpc

from fedn.combiner.options import TlsFiles
from fedn.network.authority import CertificateAuthority
from fedn.network.keys import make_csr, new_private_key
from fedn.network.tickets import TicketIssuer, TicketVerifier, WorkerTicket
from fedn.network.tls import grpc_channel_credentials
from fedn.network.tokens import Role, TokenIssuer, TokenVerifier, create_or_load_signing_key

FEDERATION = "benchmark"
COMBINER = "combiner-1"
HOST = "127.0.0.1"
_TOKEN_TTL_S = 6 * 3600.0


class Trust:
    """Made by the first process, read by the others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = CertificateAuthority.create_or_load(folder / "ca", FEDERATION)
        self._key = create_or_load_signing_key(folder / "signing.pem")
        self._clients = TokenIssuer(self._key, FEDERATION)

    @property
    def verifier(self) -> TokenVerifier:
        return TokenVerifier(self._clients.public_key_pem, FEDERATION)

    @property
    def tickets(self) -> TicketVerifier:
        return TicketVerifier(self._clients.public_key_pem, FEDERATION)

    def client_token(self, name: str) -> str:
        return self._clients.issue(name, Role.CLIENT, _TOKEN_TTL_S, f"sha256:{name}")

    def ticket(self, ticket: WorkerTicket) -> str:
        """What a worker shows to the combiner."""
        return TicketIssuer(self._key, FEDERATION).issue(ticket)

    @property
    def authority_pem(self) -> bytes:
        """What the combiner's certificate is verified against."""
        return self._authority.certificate_pem

    def link_token(self) -> str:
        """What the reducer shows to the combiner."""
        return self._clients.issue_link(COMBINER, _TOKEN_TTL_S)

    def combiner_files(self) -> TlsFiles:
        """A key and certificate for the combiner."""
        key = new_private_key()
        certificate = self._authority.sign(
            make_csr(key, COMBINER), name=COMBINER, role=Role.COMBINER, hosts=[HOST, "localhost"], valid_days=2
        )
        return TlsFiles(key, certificate, self._authority.certificate_pem)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc_channel_credentials(self._authority.certificate_pem)
