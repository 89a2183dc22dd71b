// Prompts an agent over gRPC and prints its answer. The API is read from the .proto files at run time.
//
//   node prompt.mjs MESSAGE [INSTANCE]
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const here = (path) => new URL("../../" + path, import.meta.url).pathname;
const env = process.env;
const [message, instance = "node"] = process.argv.slice(2);
if (!message) {
  console.error("usage: node prompt.mjs MESSAGE [INSTANCE]");
  process.exit(2);
}

// google/api, which the API's HTTP routes are written with, is in third_party.
const definition = loader.loadSync("pawl/v1/sessions.proto", {
  includeDirs: [here("proto"), here("third_party")],
  keepCase: true, longs: String, enums: String, oneofs: true, arrays: true,
});
const { SubmissionService, SessionService } = grpc.loadPackageDefinition(definition).pawl.v1;

const server = env.PAWL_SERVER ?? "127.0.0.1:3001";
const transport = env.PAWL_CA ? grpc.credentials.createSsl(readFileSync(env.PAWL_CA)) : grpc.credentials.createInsecure();
const metadata = new grpc.Metadata();
metadata.set("authorization", "Bearer " + readFileSync(env.PAWL_TOKEN_FILE ?? here(".pawl/token"), "utf8").trim());
const submissions = new SubmissionService(server, transport);
const sessions = new SessionService(server, transport);

// The key makes the prompt one, however often it is sent.
const request = { key: { agent: "shell", instance }, message, idempotency_key: randomUUID() };
let submission, cursor = "0"; // what was accepted, and the last event that was seen
let lost = 0; // connections in a row

// follow reads one stream to its end and returns how the submission settled, if it has.
async function follow(stream) {
  try {
    for await (const { submission: accepted, events } of stream) {
      submission ??= accepted;
      for (const event of events) {
        [cursor, lost] = [event.seq, 0];
        if (event.submission_id !== submission.submission_id) continue; // another prompt of the session
        if (event.event === "tool_output") process.stderr.write(event.tool_output.data ?? "");
        if (event.event === "settled") return event.settled.submission;
      }
    }
  } finally {
    stream.on("error", () => {}); // which it tells of the cancellation
    stream.cancel();
  }
}

const passing = [grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED];
let settled;
while (!settled) {
  try {
    settled = await follow(submission
      ? sessions.WatchSession({ session_id: submission.session_id, after: cursor }, metadata)
      : submissions.Prompt(request, metadata));
  } catch (err) {
    // A server that nothing was heard of is not there; one that was may come back.
    if (!passing.includes(err.code) || ++lost > (submission ? 60 : 5)) throw err;
    console.error(`the connection was lost after event ${cursor}: ${err.details}`);
    await sleep(500);
  }
}
console.log(settled.result?.text ?? settled.error?.message);
process.exitCode = settled.outcome === "OUTCOME_COMPLETED" ? 0 : 1;
submissions.close();
sessions.close();
