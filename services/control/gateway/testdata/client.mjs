// Runs the public client of Flue 0.10.2, as it is, against a control plane:
//
//	node client.mjs SDK WS URL TOKEN FAILING_URL
//
// FAILING_URL is of one whose model fails. It writes "gate" when the workflows that wait may go on, and "done" at the end.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';

const [sdk, ws, baseUrl, token, failingUrl] = process.argv.slice(2);
const { createFlueClient, FlueApiError, FlueSocketError } = await import(pathToFileURL(sdk));
const { default: WebSocket } = await import(pathToFileURL(ws));
const websocket = (url) => new WebSocket(url, { headers: { authorization: `Bearer ${token}` } });
const client = createFlueClient({ baseUrl, token, websocket });
const failing = createFlueClient({ baseUrl: failingUrl + '/', token, websocket });

const refused = (status, message) => (error) => {
	assert(error instanceof FlueApiError);
	assert.equal(error.status, status);
	assert.equal(error.message, message);
	assert.equal(typeof error.body.error.details, 'string');
	return true;
};
const collect = async (events) => {
	const all = [];
	for await (const event of events) all.push(event);
	return all;
};
const types = (events) => events.map((event) => event.type).join(' ');
const payload = { message: 'hi' };

// Agents: one answer, and a stream of events.
const id = 'a/b c%é';
const { result } = await client.agents.invoke('shell', id, { mode: 'sync', payload });
assert.equal(result.text, 'Hello');
assert.equal(typeof result.usage.cost.total, 'number');
assert.deepEqual(Object.keys(result.model), ['provider', 'id']);
let events = await collect(client.agents.invoke('shell', id, { mode: 'stream', payload: { ...payload, session: 's' } }));
assert.equal(events[0].type, 'operation_start');
assert.equal(events.at(-1).type, 'idle');
const operation = events.find((event) => event.type === 'operation');
assert.equal(operation.operationId, events[0].operationId);
assert.equal(operation.result.text, 'Hello');
assert.deepEqual(events.map((event) => event.eventIndex), events.map((_, i) => i));
assert(events.every((event) => event.instanceId === id && event.session === 's' && !('runId' in event)));
const text = events.filter((event) => event.type === 'text_delta').map((event) => event.text).join('');
assert.equal(text, 'Hello');
await assert.rejects(
	client.agents.invoke('none', 'i', { mode: 'sync', payload }),
	refused(404, 'Flue API error 404 [agent_not_found]: Agent "none" is not registered.'),
);
await assert.rejects(
	client.agents.invoke('shell', 'i', { mode: 'sync', payload: {} }),
	refused(400, 'Flue API error 400 [invalid_request]: Request is malformed.'),
);
await assert.rejects(
	collect(client.agents.invoke('none', 'i', { mode: 'stream', payload })),
	{ message: 'Invocation stream failed with HTTP 404.' },
);
await assert.rejects(
	createFlueClient({ baseUrl }).agents.invoke('shell', 'i', { mode: 'sync', payload }),
	refused(401, 'Flue API error 401 [unauthenticated]: The request was refused.'),
);
await assert.rejects(
	failing.agents.invoke('shell', 'i', { mode: 'sync', payload }),
	refused(500, 'Flue API error 500 [internal_error]: An internal error occurred.'),
);
await assert.rejects(
	collect(failing.agents.invoke('shell', 'i', { mode: 'stream', payload })),
	{ message: 'An internal error occurred.' },
);

// An agent's socket: prompts side by side, a ping, and a prompt that is wrong and ends nothing.
const agent = client.agents.connect('shell', id);
const heard = {};
agent.onEvent((event, { requestId }) => (heard[requestId] ??= []).push(event));
await agent.ready;
const answers = await Promise.all([agent.prompt('hi'), agent.prompt('ho', { session: 'other' })]);
assert.deepEqual(answers.map((answer) => answer.result.text), ['Hello', 'Hello']);
assert.equal(Object.keys(heard).length, 2);
assert(Object.values(heard).every((all) => all.at(-1).type === 'idle' && all.every((e, i) => e.eventIndex === i)));
await agent.ping();
await assert.rejects(agent.prompt('hi', { session: 'task:x' }), (error) => {
	assert(error instanceof FlueSocketError);
	assert.equal(error.error.type, 'invalid_request');
	return true;
});
assert.equal((await agent.prompt('again')).result.text, 'Hello');
agent.close();
const broken = failing.agents.connect('shell', 'i');
await assert.rejects(broken.prompt('hi'), (error) => error instanceof FlueSocketError && error.runId === undefined);
broken.close();
await assert.rejects(client.agents.connect('none', 'i').ready, { message: 'Flue WebSocket connection failed.' });

// A workflow's socket: one run, its events, its end.
const invoke = async (name, ...payload) => {
	const socket = client.workflows.connect(name);
	const events = [];
	socket.onEvent((event, context) => events.push({ ...event, context }));
	const ended = await socket.invoke(...payload).then((value) => ({ value }), (error) => ({ error }));
	const runId = await socket.runId;
	assert(events.every((event) => event.runId === runId && event.context.runId === runId));
	return { ...ended, runId, events };
};
const echo = await invoke('echo', { a: [1, '<é>'] });
assert.deepEqual(echo.value, { result: { echo: { a: [1, '<é>'] } }, runId: echo.runId });
assert.equal(types(echo.events), 'run_start log idle run_end');
assert.deepEqual((await invoke('echo')).value.result, { echo: {} });
assert.equal((await invoke('large')).value.result.length, 2 << 20);
const fail = await invoke('fail');
assert(fail.error instanceof FlueSocketError);
assert.equal(fail.error.runId, fail.runId);
assert.equal(fail.error.error.type, 'internal_error');
assert.equal(types(fail.events), 'run_start log idle run_end');
assert.equal((await invoke('panic')).error.error.type, 'internal_error');
await assert.rejects(client.workflows.connect('none').ready, { message: 'Flue WebSocket connection failed.' });

// Runs: their records, their events, page by page and as streams, of ended ones and of one that goes on.
const record = await client.runs.get(fail.runId);
assert.equal(record.status, 'errored');
assert.deepEqual(record.error, { name: 'TypeError', message: 'workflow boom' });
assert.deepEqual(record.owner, { kind: 'workflow', workflowName: 'fail', instanceId: fail.runId });
await assert.rejects(
	client.runs.get('workflow:echo:nothing'),
	refused(404, 'Flue API error 404 [run_not_found]: Run "workflow:echo:nothing" was not found.'),
);
assert.equal(types((await client.runs.events(echo.runId)).events), 'run_start log run_end');
const page = await client.runs.events(echo.runId, { after: 0, types: ['log', 'run_end'], limit: 1 });
assert.equal(types(page.events), 'log');
await assert.rejects(
	client.runs.events(echo.runId, { limit: 1001 }),
	refused(400, 'Flue API error 400 [validation_failed]: Request validation failed.'),
);
assert.equal(types(await collect(client.runs.stream(echo.runId))), 'run_start log run_end');
assert.equal(types(await collect(client.runs.stream(echo.runId, { lastEventId: 1 }))), 'run_end');
await assert.rejects(collect(client.runs.stream('workflow:echo:nothing', { maxRetries: 1, initialRetryMs: 1 })), {
	message: 'Stream request failed with HTTP 404.',
});
const going = client.workflows.connect('agentic');
const end = going.invoke();
const followed = [];
for await (const event of client.runs.stream(await going.runId)) {
	followed.push(event);
	if (event.type === 'message_end') console.log('gate');
}
assert.equal(types(followed), 'run_start text_delta message_end text_delta idle run_end');
assert.deepEqual(await end, { result: 'Hello', runId: await going.runId });

// The admin routes.
const listed = await client.admin.agents.list();
assert.deepEqual(listed.items.find((one) => one.name === 'shell'), {
	name: 'shell', transports: { http: true, websocket: true }, created: true,
});
const runs = [];
let cursor;
do {
	const next = await client.admin.runs.list({ limit: 2, cursor });
	runs.push(...next.items);
	cursor = next.nextCursor;
} while (cursor !== undefined);
assert.equal(runs.length, 6);
assert.equal(new Set(runs.map((run) => run.runId)).size, 6);
const errored = await client.admin.runs.list({ status: 'errored', workflowName: 'fail' });
assert.deepEqual(errored.items.map((run) => run.runId), [fail.runId]);
assert.deepEqual(await client.admin.runs.get(fail.runId), record);
await assert.rejects(
	client.admin.runs.list({ limit: 0 }),
	refused(400, 'Flue API error 400 [validation_failed]: Request validation failed.'),
);
console.log('done');
