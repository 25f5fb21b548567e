"""The generated wire types are those of aggregation.proto."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "common" / "dura_common" / "messages" / "proto"


def test_generated_code_is_current(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    pytest.importorskip("grpc_tools", reason="the compiler comes with the extra proto")
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    source = "dura_common/messages/proto/aggregation.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(FOLDER.parents[2]), *outputs, source]
    subprocess.run(command, check=True, cwd=FOLDER.parents[2])
    made = sorted((tmp_path / "dura_common" / "messages" / "proto").iterdir())
    assert len(made) == 3
    for path in made:
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), path.name


def test_every_message_of_the_proto_is_in_the_generated_code() -> None:
    """Also without the compiler: no message was added and forgotten."""
    from dura_common.messages.proto import aggregation_pb2

    text = (FOLDER / "aggregation.proto").read_text()
    declared = {line.split()[1] for line in text.splitlines() if line.startswith("message ")}
    assert declared == set(aggregation_pb2.DESCRIPTOR.message_types_by_name)
    for name, message in aggregation_pb2.DESCRIPTOR.message_types_by_name.items():
        body = text.split(f"message {name} {{", 1)[1].split("\n}\n" if "LookRequest" not in name else "}", 1)[0]
        for field in message.fields:
            assert f" {field.name} = {field.number};" in body, f"{name}.{field.name}"
