// An executor for Pawl that offers functions as tools. See tools.mjs for how it is used.
//
// Everything that has to outlive this process is in one file of JSON lines: which calls have begun, how they ended, and
// what must never run. So a call runs at most once, and a result is sent until control has acknowledged it.
import { randomUUID } from "node:crypto";
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

export const here = (path) => new URL("../../" + path, import.meta.url).pathname;
const definition = loader.loadSync("pawl/v1/executors.proto", {
  includeDirs: [here("proto"), here("third_party")],
  keepCase: true, longs: String, enums: String, oneofs: true, defaults: true,
});
const { ExecutorService } = grpc.loadPackageDefinition(definition).pawl.v1;

// Reasons that no retry mends.
const final = new RegExp(["UNAUTHENTICATED", "FORBIDDEN", "EXECUTOR_IDENTITY", "LABELS_REFUSED", "NAME_IN_USE",
  "PROTOCOL_VERSION", "UNKNOWN_CAPABILITY", "HELLO_INVALID"].join("|"));
const week = 7 * 24 * 3600 * 1000;
const millis = (d) => Number(d.seconds) * 1000 + d.nanos / 1e6;

// Journal is what has to outlive this process. What a method has written is on disk when it returns.
class Journal {
  starts = []; lanes = {}; revoked = {}; calls = {};

  constructor(dir) {
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#alone(dir + "/pid");
    const path = dir + "/journal.jsonl";
    const lines = fs.existsSync(path) ? fs.readFileSync(path, "utf8").split("\n") : [];
    lines.pop(); // the end, or a line that was cut off before anything depended on it
    for (const line of lines) this.#apply(JSON.parse(line));
    // A function does not survive its process: nobody saw how these calls have ended.
    const lost = { failure: { reason: "INTERRUPTED", message: "the executor was ended while the tool ran" } };
    for (const c of Object.values(this.calls)) {
      if (c.state === "STATE_RUNNING") Object.assign(c, { state: "STATE_INTERRUPTED", outcome: lost });
      if (c.state === "STATE_TOMBSTONE" && c.at < Date.now() - week) delete this.calls[c.id];
    }
    this.starts.unshift({ id: randomUUID(), begun: this.starts[0]?.begun ?? 0 });
    const { starts, lanes, revoked, calls } = this;
    this.file = fs.openSync(path + ".new", "w", 0o600);
    this.#put({ starts, lanes, revoked, calls });
    fs.renameSync(path + ".new", path);
    const folder = fs.openSync(dir);
    fs.fsyncSync(folder);
    fs.closeSync(folder);
  }

  // alone refuses a second process on the same files.
  #alone(path) {
    const pid = fs.existsSync(path) ? Number(fs.readFileSync(path, "utf8")) : 0;
    let lives = pid > 0 && pid !== process.pid;
    try { if (lives) process.kill(pid, 0); } catch { lives = false; }
    if (lives) throw new Error(`process ${pid} uses this directory; if it is another program, remove ${path}`);
    fs.writeFileSync(path, String(process.pid));
  }

  #apply({ starts, lanes, revoked, calls, begun }) {
    if (starts) this.starts = starts;
    if (begun) this.starts[0].begun = begun;
    Object.assign(this.lanes, lanes);
    Object.assign(this.revoked, revoked);
    for (const [id, c] of Object.entries(calls ?? {})) this.calls[id] = { ...this.calls[id], ...c };
  }

  #put(change) {
    fs.writeSync(this.file, JSON.stringify(change) + "\n");
    fs.fsyncSync(this.file);
  }

  write(change) {
    this.#put(change);
    this.#apply(change);
  }

  get id() { return this.starts.at(-1).id; }

  // raise is the highest epoch of a lane so far, this one included.
  raise(lane, epoch) {
    if (BigInt(this.lanes[lane] ?? 0) < BigInt(epoch)) this.write({ lanes: { [lane]: epoch } });
    return this.lanes[lane] ?? "0";
  }

  begin(x) {
    const { call_id: id, lane_id: lane, epoch, dispatch } = x;
    const c = { id, lane, epoch, dispatch, hash: x.args_sha256.toString("hex"), state: "STATE_RUNNING", outcome: null };
    this.write({ calls: { [id]: c }, begun: this.starts[0].begun + 1 });
  }
}

export class Executor {
  #tools = new Map(); #running = new Map(); #boot = randomUUID(); #epoch = "0"; #stream; #last; #welcome; #heard; #ttl;

  constructor(name, dir, slots = 4) { Object.assign(this, { name, slots, journal: new Journal(dir) }); }

  // tool offers a function. It gets the arguments, and a signal that is aborted when it is to stop: then it throws the
  // signal's reason.
  tool({ name, description, schema, safety = "SAFETY_AT_MOST_ONCE", timeout }, run) {
    const offered = { name, description, schema_json: JSON.stringify(schema), safety };
    if (timeout) offered.timeout = { seconds: timeout };
    this.#tools.set(name, { offered, run });
  }

  // serve is connected to control, again and again, until control says that no retry will help.
  async serve(server, token, ca) {
    const transport = ca ? grpc.credentials.createSsl(ca) : grpc.credentials.createInsecure();
    const client = new ExecutorService(server, transport);
    const metadata = new grpc.Metadata();
    metadata.set("authorization", "Bearer " + token);
    for (;;) {
      this.#stream = client.Connect(metadata);
      [this.#last, this.#welcome, this.#heard, this.#ttl] = ["", false, Date.now(), 60_000];
      this.#send({ hello: this.#hello() });
      const watch = setInterval(() => { if (Date.now() - this.#heard > this.#ttl) this.#stream.cancel(); }, 1000);
      const err = await new Promise((done) => {
        this.#stream.on("data", (m) => { this.#heard = Date.now(); this["on_" + m.frame]?.(m[m.frame]); });
        this.#stream.on("error", done);
        this.#stream.on("end", () => done({ details: "control has ended it" }));
      });
      clearInterval(watch);
      this.#welcome = false;
      if (final.test(String(err.metadata?.get("grpc-status-details-bin")[0] ?? ""))) throw new Error(err.details);
      console.error(`the connection has ended: ${err.details}`);
      await sleep(500 + Math.random() * 1000);
    }
  }

  #hello() {
    const { id, starts, calls } = this.journal;
    return {
      protocol: 1, executor_id: this.name, boot_id: this.#boot, slots: this.slots, version: "example",
      root: process.cwd(), isolation: "none", last_connection_epoch: this.#epoch,
      tools: [...this.#tools.values()].map((t) => t.offered),
      journal_id: id, incarnations: starts.slice(0, 64),
      inflight: Object.values(calls).filter((c) => c.state !== "STATE_TOMBSTONE").map((c) => this.#state(c)),
    };
  }

  #state({ id, lane, epoch, state }) { return { call_id: id, lane_id: lane, epoch, state }; }

  #send(frame) { this.#stream.write(frame); }

  #result({ id, lane, epoch, outcome }) {
    if (this.#welcome) this.#send({ result: { call_id: id, lane_id: lane, epoch, ...outcome } }); // else after Welcome
  }

  #reject(x, reason, message, known_epoch = 0) {
    this.#send({ rejected: { call_id: x.call_id, epoch: x.epoch, reason: "REASON_" + reason, message, known_epoch } });
  }

  #status(call, dispatch) { this.#send({ status: { call, dispatch, journal_id: this.journal.id } }); }

  // answer says how a known call fares.
  #answer(c) {
    if (c.state === "STATE_RUNNING") {
      this.#send({ accepted: { call_id: c.id, epoch: c.epoch, begun: this.journal.starts[0].begun } });
    } else if (c.state === "STATE_TOMBSTONE") this.#status(this.#state(c), c.dispatch);
    else this.#result(c);
  }

  on_welcome(w) {
    [this.#epoch, this.#ttl, this.#welcome] = [w.connection_epoch, millis(w.ttl), true];
    console.error(`connected to ${w.replica_id}`);
    for (const c of Object.values(this.journal.calls)) if (c.outcome) this.#result(c); // until it is acknowledged
  }

  on_ping({ nonce }) {
    const begun = this.journal.starts[0].begun;
    this.#send({ heartbeat: { nonce, last_call_id: this.#last, running: this.#running.size, begun } });
  }

  on_execute(x) {
    const j = this.journal;
    this.#last = x.call_id;
    if (!x.lane_id || x.verb !== "call_tool") {
      return this.#reject(x, "UNSUPPORTED", "this executor has tools only, and no shell and no files");
    }
    const known = j.raise(x.lane_id, x.epoch);
    if (BigInt(x.epoch) < BigInt(known)) return this.#reject(x, "STALE_EPOCH", "the lane has another owner", known);
    const c = j.calls[x.call_id];
    if (c && c.hash !== x.args_sha256.toString("hex")) {
      return this.#reject(x, "CONFLICT", "the call is known here with other arguments");
    }
    const repeatable = ["SAFETY_PURE", "SAFETY_IDEMPOTENT"].includes(x.safety);
    if (c && !(c.state === "STATE_INTERRUPTED" && x.dispatch > c.dispatch && repeatable)) {
      j.write({ calls: { [c.id]: { epoch: x.epoch } } });
      return this.#answer(j.calls[c.id]);
    }
    if (j.revoked[x.call_id] >= x.dispatch) return this.#reject(x, "REVOKED", "the dispatch was revoked");
    j.begin(x); // before anything happens
    this.#answer(j.calls[x.call_id]);
    this.#carryOut(x);
  }

  // carryOut runs a tool, and records what it came to before it tells.
  async #carryOut(x) {
    const stop = new AbortController(), tool = this.#tools.get(x.call_tool.name);
    const late = () => stop.abort(new DOMException("it took too long", "TimeoutError"));
    const limit = x.timeout && setTimeout(late, millis(x.timeout));
    this.#running.set(x.call_id, stop);
    let outcome;
    try {
      if (!tool) throw Object.assign(new Error(`there is no tool ${x.call_tool.name}`), { reason: "NOT_FOUND" });
      const said = await tool.run(JSON.parse(x.call_tool.args_json), stop.signal);
      const { images = [], ...rest } = typeof said === "string" ? { text: said } : said;
      outcome = { call_tool: { ...rest, images: images.map((image) => Buffer.from(image).toString("base64")) } };
    } catch (why) {
      const stopped = stop.signal.aborted && ["AbortError", "TimeoutError"].includes(why.name);
      const reason = stopped ? (stop.signal.reason.name === "TimeoutError" ? "TIMEOUT" : "CANCELLED") : why.reason;
      outcome = { call_tool: { text: String(why), is_error: true } };
      if (reason) outcome = { failure: { reason, message: why.message } };
    }
    clearTimeout(limit);
    this.journal.write({ calls: { [x.call_id]: { state: "STATE_FINISHED", outcome } } });
    this.#running.delete(x.call_id);
    console.error(`${x.call_tool.name} has ended`);
    this.#result(this.journal.calls[x.call_id]);
  }

  // revoke makes sure that a call which is not known here never runs.
  #revoke(x, dispatch, told) {
    this.journal.write({ revoked: { [x.call_id]: dispatch } });
    this.#status({ call_id: x.call_id, lane_id: x.lane_id, epoch: x.epoch, state: "STATE_UNKNOWN" }, told);
  }

  on_attach(a) {
    if (a.lane_id) this.journal.raise(a.lane_id, a.epoch);
    const c = this.journal.calls[a.call_id];
    if (!c) return this.#revoke(a, a.dispatch, a.dispatch);
    if (BigInt(c.epoch) < BigInt(a.epoch)) this.journal.write({ calls: { [c.id]: { epoch: a.epoch } } });
    const now = this.journal.calls[c.id];
    this.#status(this.#state(now), now.dispatch);
    if (now.outcome) this.#result(now);
  }

  on_cancel(x) {
    const known = x.lane_id ? this.journal.raise(x.lane_id, x.epoch) : x.epoch;
    if (BigInt(x.epoch) < BigInt(known)) return this.#reject(x, "STALE_EPOCH", "the lane has another owner", known);
    const c = this.journal.calls[x.call_id], stop = this.#running.get(x.call_id);
    if (!c) return this.#revoke(x, 2 ** 31, 0);
    if (stop) stop.abort(); // its result follows
    else this.#answer(c);
  }

  on_result_ack({ call_id }) {
    const acknowledged = { state: "STATE_TOMBSTONE", outcome: null, at: Date.now() };
    if (this.journal.calls[call_id]?.outcome) this.journal.write({ calls: { [call_id]: acknowledged } });
  }
}
