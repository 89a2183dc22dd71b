// Prompts through a client that is generated from /v1/openapi.json. The server is in PAWL_SERVER, the token in PAWL_TOKEN.
import assert from 'node:assert/strict';

import createClient from 'openapi-fetch';

import type {components, paths} from './schema.js';

type Line = components['schemas']['pawl.v1.WatchSessionResponse'];

const client = createClient<paths>({
    baseUrl: process.env.PAWL_SERVER,
    headers: {Authorization: `Bearer ${process.env.PAWL_TOKEN}`},
});
const path = {agent: 'shell', instance: 'npm/1'}; // the slash is sent as %2F

async function dispatch(message: string, key: string) {
    const {data, error} = await client.POST('/v1/agents/{agent}/instances/{instance}:dispatch', {
        params: {path, header: {'Idempotency-Key': key}}, body: {message},
    });
    assert.equal(error, undefined);
    return data!;
}

const ids: string[] = [];
let session = '';
for (const message of ['echo one', 'echo two', 'echo three']) {
    const {submission, replayed} = await dispatch(message, message);
    assert.ok(!replayed);
    session = submission!.sessionId!;
    ids.push(submission!.submissionId!);
    const waited = await client.GET('/v1/submissions/{submission_id}:wait', {
        params: {path: {submission_id: ids.at(-1)!}, query: {timeout: '30s'}},
    });
    assert.equal(waited.data?.submission?.outcome, 'OUTCOME_COMPLETED');
    assert.match(waited.data.submission.result?.text ?? '', new RegExp(message.slice('echo '.length)));
}
const again = await dispatch('echo one', 'echo one');
assert.ok(again.replayed && again.submission!.submissionId === ids[0]);

// Page by page, to the end.
const seen: string[] = [];
for (let pages = 0, pageToken = ''; pages === 0 || pageToken !== ''; pages++) {
    assert.ok(pages < 10);
    const {data} = await client.GET('/v1/sessions/{session_id}/submissions', {
        params: {path: {session_id: session}, query: {pageSize: 2, ...(pageToken && {pageToken})}},
    });
    assert.ok(data!.submissions!.length <= 2);
    seen.push(...data!.submissions!.map(each => each.submissionId!));
    pageToken = data!.nextPageToken ?? '';
}
assert.deepEqual(seen.toSorted(), ids.toSorted());

// What is refused is in the envelope, with the request's id.
const missing = await client.GET('/v1/submissions/{submission_id}', {params: {path: {submission_id: session}}});
assert.equal(missing.response.status, 404);
assert.equal(missing.error?.error.reason, 'SUBMISSION_NOT_FOUND');
assert.ok(missing.error.error.message);
assert.equal(missing.error.error.request_id, missing.response.headers.get('x-request-id'));
const stranger = await client.GET('/v1/sessions', {headers: {Authorization: 'Bearer no'}});
assert.equal(stranger.response.status, 401);
assert.equal(stranger.error?.error.reason, 'UNAUTHENTICATED');

// The events of all three, as lines of JSON.
const leave = new AbortController();
const {data: body} = await client.GET('/v1/sessions/{session_id}/events', {
    params: {path: {session_id: session}}, parseAs: 'stream', signal: leave.signal,
});
let settled = 0, seq = 0n, rest = '';
reading: for await (const piece of body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
        for (const event of (JSON.parse(line) as Line).events ?? []) {
            assert.ok(BigInt(event.seq!) > seq);
            seq = BigInt(event.seq!);
            if (event.settled && ++settled === ids.length) {
                break reading;
            }
        }
    }
}
leave.abort();
assert.equal(settled, ids.length);
console.log('done');
