// Two tools for agents of Pawl. An agent that names executor/lookup or executor/transfer has them.
//
//   node tools.mjs
import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Executor, here } from "./executor.mjs";

const env = process.env;
const executor = new Executor(env.PAWL_EXECUTOR ?? "tools", env.PAWL_DATA ?? ".pawl-tools");

executor.tool({
  name: "lookup", description: "Look up the balance of an account.", safety: "SAFETY_PURE",
  schema: { type: "object", properties: { account: { type: "string" } }, required: ["account"] },
}, ({ account }) => ({ text: `The balance of ${account} is 100.`, structured_json: '{"balance": 100}' }));

// At most once is what a tool is that says nothing else: when this process dies while it runs, nobody knows what it
// did.
executor.tool({
  name: "transfer", description: "Transfer an amount to an account.", timeout: 60,
  schema: {
    type: "object", required: ["account", "amount"],
    properties: { account: { type: "string" }, amount: { type: "integer", minimum: 1 } },
  },
}, async ({ account, amount }, signal) => {
  fs.appendFileSync("transfers", `${amount} to ${account}\n`);
  while (fs.existsSync(`hold-${account}`)) await sleep(50, undefined, { signal }); // as a bank would that is slow
  return `${amount} transferred to ${account}.`;
});

const token = fs.readFileSync(env.PAWL_TOKEN_FILE ?? here(".pawl/tools.token"), "utf8").trim();
await executor.serve(env.PAWL_SERVER ?? "127.0.0.1:3001", token, env.PAWL_CA && fs.readFileSync(env.PAWL_CA));
