"""Who may connect: certificates are asked for, and without them the local scheduler is open to this machine only."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, Security

from pipeline.cluster_settings import ClusterSettings, TlsSettings
from tests.test_config import GOOD
from workflows.cluster import ClusterError, connect, settings_beside

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


def make_certificates(folder: Path) -> TlsSettings:
    """An authority and a certificate that it signed, with the commands of docs/cluster.md."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
    commands = page.partition("<!-- certificates -->\n```console\n")[2].partition("```")[0]
    lines = [line.removeprefix("$ ") for line in commands.splitlines() if line.startswith("$ ")]
    assert len(lines) >= 3
    subprocess.run(["bash", "-e", "-c", "\n".join(lines)], cwd=folder, check=True, capture_output=True)
    return TlsSettings(ca_file=str(folder / "ca.pem"), cert=str(folder / "cert.pem"), key=str(folder / "key.pem"))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def client(tls: TlsSettings) -> Iterator[Client]:
    with connect(ClusterSettings(workers=1, tls=tls)) as connected:
        yield connected


def test_workers_compute_behind_certificates(client: Client, tls: TlsSettings) -> None:
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    assert client.submit(sum, [1, 2]).result(timeout=120) == 3
    with connect(ClusterSettings(kind="address", address=address, tls=tls)) as second:
        assert second.submit(sum, [1, 2]).result(timeout=120) == 3


def test_plain_connections_are_refused(client: Client) -> None:
    address = client.scheduler.address
    with pytest.raises((OSError, TypeError, ValueError)):
        Client(address.replace("tls://", "tcp://"), timeout=3)
    with (
        pytest.raises(ClusterError, match="no Dask scheduler answers"),
        connect(ClusterSettings(kind="address", address=address.replace("tls://", "tcp://"))),
    ):
        pass


def test_certificates_of_another_authority_are_refused(client: Client, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    security = Security(
        tls_ca_file=other.ca_file, tls_client_cert=other.cert, tls_client_key=other.key, require_encryption=True
    )
    with pytest.raises(OSError, match=r"(?i)certificate|ssl"):
        Client(client.scheduler.address, timeout=3, security=security)


def test_the_local_scheduler_listens_on_loopback_only(client: Client) -> None:
    port = int(client.scheduler.address.rpartition(":")[2])
    dashboard = int(client.dashboard_link.split(":")[2].partition("/")[0])
    for number in (port, dashboard):
        listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
        hosts = {
            line.split()[1].partition(":")[0]
            for line in listening.splitlines()[1:]
            if line.split()[3] == "0A" and int(line.split()[1].partition(":")[2], 16) == number
        }
        assert hosts == {socket.inet_aton("127.0.0.1")[::-1].hex().upper()}


def test_certificates_are_looked_for_beside_the_campaign(tls: TlsSettings, tmp_path: Path) -> None:
    config = Path(tls.ca_file).parent / "c.yaml"
    config.write_text(GOOD, encoding="utf-8")
    named = ClusterSettings(tls=TlsSettings(ca_file="ca.pem", cert="cert.pem", key="key.pem"))
    assert settings_beside(config, named).tls == tls
    with pytest.raises(ClusterError, match=r"ca_file \(.*ca.pem\), cert .* is no file"):
        settings_beside(tmp_path / "c.yaml", named)
