"""An executor for Pawl that offers Python functions as tools. See tools.py for how it is used.

Everything that has to outlive this process is in one SQLite file: which calls have begun, how they ended, and what must
never run. So a call runs at most once, and a result is sent until control has acknowledged it.
"""

import concurrent.futures
import fcntl
import json
import os
import pathlib
import queue
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import uuid

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

TOP = pathlib.Path(__file__).resolve().parents[2]  # where proto/ and third_party/ are
FINAL = (b"UNAUTHENTICATED", b"FORBIDDEN", b"EXECUTOR_IDENTITY", b"LABELS_REFUSED", b"NAME_IN_USE", b"PROTOCOL_VERSION",
         b"UNKNOWN_CAPABILITY", b"HELLO_INVALID")  # reasons that no retry mends
WEEK = 7 * 24 * 3600


def load(proto):
    """The classes of a .proto file's messages, by name."""
    protoc = [shutil.which("protoc")] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    compiled = subprocess.run(
        [*protoc, f"-I{TOP}/proto", f"-I{TOP}/third_party", "--include_imports", "--descriptor_set_out=/dev/stdout",
         proto], check=True, stdout=subprocess.PIPE).stdout
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    build = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
    return lambda name: build(pool.FindMessageTypeByName("pawl.v1." + name))


message = load("pawl/v1/executors.proto")


def seconds(duration):
    return duration.seconds + duration.nanos / 1e9


class Cancelled(Exception):
    """A tool raises it when it has stopped because its call was cancelled, or has taken too long."""


class Journal:
    """What has to outlive this process. What a method has written is on disk when it returns."""

    def __init__(self, data):
        os.makedirs(data, mode=0o700, exist_ok=True)
        self.held = open(os.path.join(data, "lock"), "w")
        fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # one process at a time
        self.lock = threading.Lock()
        self.db = sqlite3.connect(os.path.join(data, "journal.db"), check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        self.db.executescript("""
            PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS starts (n INTEGER PRIMARY KEY, id TEXT, begun INTEGER);
            CREATE TABLE IF NOT EXISTS lanes (id TEXT PRIMARY KEY, epoch INTEGER);
            CREATE TABLE IF NOT EXISTS revoked (id TEXT PRIMARY KEY, dispatch INTEGER, at REAL);
            CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, lane TEXT, epoch INTEGER, dispatch INTEGER,
                hash BLOB, state INTEGER, outcome BLOB, at REAL);""")
        self.write("INSERT INTO starts SELECT NULL, ?, coalesce(max(begun), 0) FROM starts", uuid.uuid4().hex)
        old = time.time() - WEEK
        self.write("DELETE FROM calls WHERE state = 5 AND at < ?", old)
        self.write("DELETE FROM revoked WHERE at < ?", old)
        # A function does not survive its process: nobody saw how these calls have ended.
        why = {"reason": "INTERRUPTED", "message": "the executor was ended while the tool ran"}
        lost = message("Result")(failure=why).SerializeToString()
        self.write("UPDATE calls SET state = 4, outcome = ? WHERE state = 2", lost)

    def read(self, statement, *values):
        with self.lock:
            return self.db.execute(statement, values).fetchall()

    def write(self, statement, *values):
        with self.lock, self.db:
            self.db.execute(statement, values)

    def call(self, call_id):
        return next(iter(self.read("SELECT * FROM calls WHERE id = ?", call_id)), None)

    def raise_epoch(self, lane, epoch):
        """The highest epoch of the lane so far, this one included."""
        known = self.read("SELECT epoch FROM lanes WHERE id = ?", lane)
        if not known or known[0]["epoch"] < epoch:
            self.write("INSERT OR REPLACE INTO lanes VALUES (?, ?)", lane, epoch)
            return epoch
        return known[0]["epoch"]

    def begin(self, x):
        with self.lock, self.db:
            self.db.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?, ?, 2, NULL, ?)",
                            (x.call_id, x.lane_id, x.epoch, x.dispatch, x.args_sha256, time.time()))
            self.db.execute("UPDATE starts SET begun = begun + 1 WHERE n = (SELECT max(n) FROM starts)")

    def begun(self):
        return self.read("SELECT max(begun) AS begun FROM starts")[0]["begun"]


class Executor:
    def __init__(self, name, data, slots=4):
        self.name, self.slots, self.boot = name, slots, uuid.uuid4().hex
        self.journal, self.tools, self.stops = Journal(data), {}, {}
        self.pool = concurrent.futures.ThreadPoolExecutor(slots)
        self.out, self.epoch, self.last, self.heard, self.ttl, self.welcome = queue.Queue(), 0, "", 0, 60, False

    def tool(self, description, schema, safety="SAFETY_AT_MOST_ONCE", timeout=None):
        """Offers the function that follows. It gets an event that is set when it is to stop, and the arguments."""
        def offer(function):
            offered = message("OfferedTool")(
                name=function.__name__, description=description, schema_json=json.dumps(schema), safety=safety,
                timeout={"seconds": timeout} if timeout else None)
            self.tools[function.__name__] = (offered, function)
            return function
        return offer

    def serve(self, server, token, ca=None):
        """Is connected to control, again and again, until control says that no retry will help."""
        channel = grpc.secure_channel(server, grpc.ssl_channel_credentials(ca)) if ca else grpc.insecure_channel(server)
        connect = channel.stream_stream(
            "/pawl.v1.ExecutorService/Connect", request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=message("ConnectResponse").FromString)
        while True:
            self.out, self.last, self.heard, self.welcome = queue.Queue(), "", time.monotonic(), False
            self.send(hello=self.hello())
            stream = connect(iter(self.out.get, None), metadata=[("authorization", "Bearer " + token)])
            over = threading.Event()
            threading.Thread(target=self.watch, args=(stream, over), daemon=True).start()
            try:
                for frame in stream:
                    self.heard = time.monotonic()
                    kind = frame.WhichOneof("frame")
                    if hasattr(self, f"on_{kind}"):
                        getattr(self, f"on_{kind}")(getattr(frame, kind))
            except grpc.RpcError as err:
                details = dict(err.trailing_metadata() or {}).get("grpc-status-details-bin", b"")
                if any(reason in details for reason in FINAL):
                    raise SystemExit(err.details())
                print(f"the connection has ended: {err.details()}", file=sys.stderr, flush=True)
            finally:
                over.set()
                self.out.put(None)
            time.sleep(random.uniform(0.5, 1.5))

    def watch(self, stream, over):
        """Ends a connection on which control has been silent for longer than it may."""
        while not over.wait(1):
            if time.monotonic() - self.heard > self.ttl:
                stream.cancel()

    def hello(self):
        j = self.journal
        starts = j.read("SELECT id, begun FROM starts ORDER BY n DESC LIMIT 64")
        return message("Hello")(
            protocol=1, executor_id=self.name, boot_id=self.boot, slots=self.slots, version="example", root=os.getcwd(),
            isolation="none", last_connection_epoch=self.epoch, tools=[offered for offered, _ in self.tools.values()],
            journal_id=j.read("SELECT id FROM starts ORDER BY n LIMIT 1")[0]["id"],
            incarnations=[{"id": s["id"], "begun": s["begun"]} for s in starts],
            inflight=[self.state(c) for c in j.read("SELECT * FROM calls WHERE state <> 5")])

    def state(self, c):
        return message("CallState")(call_id=c["id"], lane_id=c["lane"], epoch=c["epoch"], state=c["state"])

    def send(self, **frame):
        self.out.put(message("ConnectRequest")(**frame))

    def result(self, c):
        r = message("Result").FromString(c["outcome"])
        r.call_id, r.lane_id, r.epoch = c["id"], c["lane"], c["epoch"]
        if self.welcome:  # else it is sent after Welcome
            self.send(result=r)

    def reject(self, x, reason, text, known=0):
        self.send(rejected={"call_id": x.call_id, "epoch": x.epoch, "reason": "REASON_" + reason, "message": text,
                            "known_epoch": known})

    def status(self, call, dispatch):
        journal = self.journal.read("SELECT id FROM starts ORDER BY n LIMIT 1")[0]["id"]
        self.send(status={"call": call, "dispatch": dispatch, "journal_id": journal})

    def answer(self, c):
        """Says how a known call fares."""
        if c["state"] == 2:
            self.send(accepted={"call_id": c["id"], "epoch": c["epoch"], "begun": self.journal.begun()})
        elif c["state"] == 5:
            self.status(self.state(c), c["dispatch"])
        else:
            self.result(c)

    def on_welcome(self, w):
        self.epoch, self.ttl, self.welcome = w.connection_epoch, seconds(w.ttl), True
        print(f"connected to {w.replica_id}", file=sys.stderr, flush=True)
        for c in self.journal.read("SELECT * FROM calls WHERE state IN (3, 4)"):
            self.result(c)  # until it is acknowledged

    def on_ping(self, p):
        self.send(heartbeat={"nonce": p.nonce, "last_call_id": self.last, "running": len(self.stops),
                             "begun": self.journal.begun()})

    def on_execute(self, x):
        self.last, j = x.call_id, self.journal
        if not x.lane_id or x.WhichOneof("verb") != "call_tool":
            return self.reject(x, "UNSUPPORTED", "this executor has tools only, and no shell and no files")
        known = j.raise_epoch(x.lane_id, x.epoch)
        if x.epoch < known:
            return self.reject(x, "STALE_EPOCH", "the lane has another owner", known)
        c = j.call(x.call_id)
        if c and c["hash"] != x.args_sha256:
            return self.reject(x, "CONFLICT", "the call is known here with other arguments")
        again = c and c["state"] == 4 and x.dispatch > c["dispatch"] and x.safety in (2, 3)
        if c and not again:
            j.write("UPDATE calls SET epoch = ? WHERE id = ?", x.epoch, x.call_id)
            return self.answer(j.call(x.call_id))
        if j.read("SELECT 1 FROM revoked WHERE id = ? AND dispatch >= ?", x.call_id, x.dispatch):
            return self.reject(x, "REVOKED", "the dispatch was revoked")
        j.begin(x)  # before anything happens
        self.answer(j.call(x.call_id))
        self.stops[x.call_id] = threading.Event()
        self.pool.submit(self.carry_out, x)

    def carry_out(self, x):
        """Runs a tool, and records what it came to before it tells."""
        stop, outcome = self.stops[x.call_id], message("Result")()
        limit = threading.Timer(seconds(x.timeout), stop.set) if x.HasField("timeout") else None
        if limit:
            limit.daemon = True
            limit.start()
        try:
            _, function = self.tools.get(x.call_tool.name, (None, None))
            if stop.is_set():
                raise Cancelled("it was cancelled before it began")
            if function is None:
                outcome.failure.reason, outcome.failure.message = "NOT_FOUND", f"there is no tool {x.call_tool.name}"
            else:
                said = function(stop, **json.loads(x.call_tool.args_json))
                fields = {"text": said} if isinstance(said, str) else said
                outcome.call_tool.MergeFrom(message("CallToolResult")(**fields))
        except Cancelled as why:
            late = limit and limit.finished.is_set()
            outcome.failure.reason, outcome.failure.message = "TIMEOUT" if late else "CANCELLED", str(why)
        except Exception as why:  # the tool's own
            outcome.call_tool.text, outcome.call_tool.is_error = f"{type(why).__name__}: {why}", True
        if limit:
            limit.cancel()
        self.journal.write("UPDATE calls SET state = 3, outcome = ? WHERE id = ?", outcome.SerializeToString(),
                           x.call_id)
        del self.stops[x.call_id]
        print(f"{x.call_tool.name} has ended", file=sys.stderr, flush=True)
        self.result(self.journal.call(x.call_id))

    def revoke(self, call_id, dispatch):
        """Makes sure that a call which is not known here never runs."""
        self.journal.write("INSERT OR REPLACE INTO revoked VALUES (?, ?, ?)", call_id, dispatch, time.time())

    def on_attach(self, a):
        if a.lane_id:
            self.journal.raise_epoch(a.lane_id, a.epoch)
        c = self.journal.call(a.call_id)
        if c is None:
            self.revoke(a.call_id, a.dispatch)
            return self.status({"call_id": a.call_id, "lane_id": a.lane_id, "epoch": a.epoch, "state": 1}, a.dispatch)
        self.journal.write("UPDATE calls SET epoch = max(epoch, ?) WHERE id = ?", a.epoch, a.call_id)
        self.status(self.state(c), c["dispatch"])
        if c["state"] in (3, 4):
            self.result(self.journal.call(a.call_id))

    def on_cancel(self, x):
        known = self.journal.raise_epoch(x.lane_id, x.epoch) if x.lane_id else 0
        if x.epoch < known:
            return self.reject(x, "STALE_EPOCH", "the lane has another owner", known)
        c, stop = self.journal.call(x.call_id), self.stops.get(x.call_id)
        if c is None:
            self.revoke(x.call_id, 2**31)
            return self.status({"call_id": x.call_id, "lane_id": x.lane_id, "epoch": x.epoch, "state": 1}, 0)
        if stop:
            stop.set()  # its result follows
        else:
            self.answer(c)

    def on_result_ack(self, a):
        self.journal.write("UPDATE calls SET state = 5, outcome = NULL, at = ? WHERE id = ? AND state IN (3, 4)",
                           time.time(), a.call_id)
