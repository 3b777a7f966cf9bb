"""Workers from other machines: TLS, and certificates both ways."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from pydantic import ValidationError

from orchestrator.settings import FabricSettings
from tests.integration.orchestrator.fabric.conftest import Open, fabric_settings


@dataclass(frozen=True)
class Authority:
    """Certificates of one authority, and a certificate of another one."""

    folder: Path

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def path(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("TLS OF THE FABRIC IS NOT CHECKED: no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("ca", "stranger"):
        openssl(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.crt",
            "-subj",
            f"/CN={name}",
        )
    for name in ("server", "worker"):
        openssl(
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            f"{name}.crt",
        )
    return Authority(folder)


def one_way(authority: Authority) -> FabricSettings:
    return fabric_settings(tls_certificate=authority.path("server.crt"), tls_key=authority.path("server.key"))


def both_ways(authority: Authority) -> FabricSettings:
    return fabric_settings(
        tls_certificate=authority.path("server.crt"),
        tls_key=authority.path("server.key"),
        tls_client_ca=authority.path("ca.crt"),
    )


async def test_a_worker_that_trusts_the_authority_attaches_over_tls(opened_replica: Open, authority: Authority) -> None:
    async with opened_replica(one_way(authority)) as replica:
        worker = await replica.dial(credentials=grpc.ssl_channel_credentials(authority.read("ca.crt")))

        assert (await worker.beats(None, 1)).nonce == 1


async def test_a_worker_that_trusts_another_authority_does_not_attach(
    opened_replica: Open, authority: Authority
) -> None:
    async with opened_replica(one_way(authority)) as replica:
        trust = grpc.ssl_channel_credentials(authority.read("stranger.crt"))
        worker = await replica.dial(credentials=trust, greet=False)

        assert (await worker.is_refused()).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_worker_without_tls_does_not_attach(opened_replica: Open, authority: Authority) -> None:
    async with opened_replica(one_way(authority)) as replica:
        worker = await replica.dial(greet=False)

        assert (await worker.is_refused()).code() is grpc.StatusCode.UNAVAILABLE


async def test_with_an_authority_for_workers_a_certificate_must_be_shown(
    opened_replica: Open, authority: Authority
) -> None:
    shown = grpc.ssl_channel_credentials(
        authority.read("ca.crt"), authority.read("worker.key"), authority.read("worker.crt")
    )
    none = grpc.ssl_channel_credentials(authority.read("ca.crt"))
    foreign = grpc.ssl_channel_credentials(
        authority.read("ca.crt"), authority.read("stranger.key"), authority.read("stranger.crt")
    )
    async with opened_replica(both_ways(authority)) as replica:
        worker = await replica.dial(credentials=shown)
        assert (await worker.beats(None, 1)).nonce == 1

        for credentials in (none, foreign):
            refused = await replica.dial(credentials=credentials, greet=False)
            assert (await refused.is_refused()).code() is grpc.StatusCode.UNAVAILABLE
        assert len(replica.slots) == 1


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "example.com"])
def test_the_fabric_does_not_listen_to_other_machines_without_tls(host: str) -> None:
    with pytest.raises(ValidationError, match="tls_certificate"):
        fabric_settings(host=host)
