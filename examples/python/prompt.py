"""Prompts an agent over gRPC and prints its answer. The API is read from the .proto files at run time.

    python3 prompt.py MESSAGE [INSTANCE]
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TOP = pathlib.Path(__file__).resolve().parents[2]


def load(proto):
    """The classes of a .proto file's messages, by name, and of all that it imports."""
    protoc = [shutil.which("protoc")] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    # google/api, which the API's HTTP routes are written with, is in third_party.
    compiled = subprocess.run(
        [*protoc, f"-I{TOP}/proto", f"-I{TOP}/third_party", "--include_imports", "--descriptor_set_out=/dev/stdout", proto],
        check=True, stdout=subprocess.PIPE).stdout
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    build = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
    return lambda name: build(pool.FindMessageTypeByName("pawl.v1." + name))


message = load("pawl/v1/sessions.proto")


def stream(channel, service, method, **fields):
    """Calls a method that answers with a stream."""
    secret = pathlib.Path(os.environ.get("PAWL_TOKEN_FILE", TOP / ".pawl" / "token")).read_text().strip()
    call = channel.unary_stream(
        f"/pawl.v1.{service}/{method}", request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=message(method + "Response").FromString)
    return call(message(method + "Request")(**fields), metadata=[("authorization", "Bearer " + secret)])


def main(text, instance="python"):
    server, ca = os.environ.get("PAWL_SERVER", "127.0.0.1:3001"), os.environ.get("PAWL_CA")
    channel = (grpc.secure_channel(server, grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes()))
               if ca else grpc.insecure_channel(server))
    key = message("SessionKey")(agent="shell", instance=instance)
    once = str(uuid.uuid4())  # makes the prompt one, however often it is sent
    submission, cursor = None, 0  # what was accepted, and the last event that was seen
    lost = 0  # connections in a row
    while True:
        try:
            if submission is None:
                answers = stream(channel, "SubmissionService", "Prompt", key=key, message=text, idempotency_key=once)
            else:
                answers = stream(channel, "SessionService", "WatchSession", session_id=submission.session_id, after=cursor)
            for answer in answers:
                submission = submission or answer.submission
                for event in answer.events:
                    cursor, lost = event.seq, 0
                    if event.submission_id != submission.submission_id:
                        continue  # another prompt of the session
                    if event.HasField("tool_output"):
                        print(event.tool_output.data.decode(errors="replace"), end="", file=sys.stderr, flush=True)
                    if event.HasField("settled"):
                        settled = event.settled.submission
                        print(settled.result.text or settled.error.message)
                        return settled.outcome != 1  # OUTCOME_COMPLETED
        except grpc.RpcError as err:
            lost += 1
            passing = err.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
            # A server that nothing was heard of is not there; one that was may come back.
            if not passing or lost > (60 if submission else 5):
                raise
            print(f"the connection was lost after event {cursor}: {err.details()}", file=sys.stderr)
            time.sleep(0.5)


if len(sys.argv) < 2 or not sys.argv[1]:
    print("usage: python3 prompt.py MESSAGE [INSTANCE]", file=sys.stderr)
    sys.exit(2)
sys.exit(main(*sys.argv[1:]))
