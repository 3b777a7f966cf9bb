"""The committed protobuf code is that of the contract."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PROTO = "maruntime/wire/v1/fabric.proto"


def test_generating_the_protobuf_code_again_gives_the_committed_files(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools IS ABSENT, DRIFT OF THE PROTOBUF CODE NOT CHECKED")
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "pyi")]

    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", *outputs, f"proto/{PROTO}"]
    subprocess.run(command, cwd=ROOT, check=True)

    made = sorted((tmp_path / PROTO).parent.iterdir())
    assert [file.name for file in made] == ["fabric_pb2.py", "fabric_pb2.pyi", "fabric_pb2_grpc.py"]
    for file in made:
        assert file.read_text() == (ROOT / PROTO).with_name(file.name).read_text(), f"{file.name}: run make proto"
