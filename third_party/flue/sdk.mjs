// src/http.ts
var FlueApiError = class extends Error {
  /** HTTP response status. */
  status;
  /** Parsed response body when available; otherwise the response text. */
  body;
  constructor(status, body) {
    super(errorMessage(status, body));
    this.name = "FlueApiError";
    this.status = status;
    this.body = body;
  }
};
var HttpClient = class {
  baseUrl;
  fetchImpl;
  headers;
  token;
  constructor(options) {
    this.baseUrl = options.baseUrl.replace(/\/+$/, "");
    this.fetchImpl = options.fetch ?? fetch;
    this.headers = options.headers;
    this.token = options.token;
  }
  async json(options) {
    const response = await this.fetchImpl(this.url(options.path, options.query), {
      method: options.method ?? "GET",
      headers: await this.requestHeaders(options.headers, options.body !== void 0),
      body: options.body === void 0 ? void 0 : JSON.stringify(options.body),
      signal: options.signal
    });
    return parseJsonResponse(response);
  }
  url(path, query) {
    const url = new URL(path.replace(/^\/+/, ""), `${this.baseUrl}/`);
    for (const [key, value] of Object.entries(query ?? {})) {
      if (value !== void 0) url.searchParams.set(key, String(value));
    }
    return url.toString();
  }
  async requestHeaders(extra, hasBody) {
    const headers = typeof this.headers === "function" ? await this.headers() : this.headers ?? {};
    return {
      ...hasBody ? { "content-type": "application/json" } : {},
      ...this.token ? { authorization: `Bearer ${this.token}` } : {},
      ...headers,
      ...extra
    };
  }
};
async function parseJsonResponse(response) {
  const text = await response.text();
  const body = text ? safeJsonParse(text) : void 0;
  if (!response.ok) throw new FlueApiError(response.status, text ? body : text);
  return body;
}
function safeJsonParse(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
function errorMessage(status, body) {
  if (typeof body === "object" && body !== null && "error" in body) {
    const error = body.error;
    return `Flue API error ${status}${error?.type ? ` [${error.type}]` : ""}: ${error?.message ?? "request failed"}`;
  }
  return `Flue API error ${status}: request failed`;
}

// src/public/stream.ts
async function* streamRunEvents(http, runId, options = {}) {
  let lastEventId = options.lastEventId;
  let attempt = 0;
  const maxRetries = options.maxRetries ?? 3;
  const initialRetryMs = options.initialRetryMs ?? 250;
  while (!options.signal?.aborted) {
    try {
      const headers = await http.requestHeaders(
        {
          accept: "text/event-stream",
          ...lastEventId !== void 0 ? { "last-event-id": String(lastEventId) } : {}
        },
        false
      );
      const response = await http.fetchImpl(http.url(`/runs/${encodeURIComponent(runId)}/stream`), {
        headers,
        signal: options.signal
      });
      if (!response.ok) throw new Error(`Stream request failed with HTTP ${response.status}.`);
      if (!response.body) throw new Error("Stream response has no body.");
      for await (const frame of readSse(response.body)) {
        if (frame.id !== void 0 && /^\d+$/.test(frame.id)) {
          const parsed = Number(frame.id);
          if (Number.isSafeInteger(parsed)) lastEventId = parsed;
        }
        if (frame.event === "error") throw new Error(parseSseErrorMessage(frame.data));
        const event = JSON.parse(frame.data);
        yield event;
        if (event.type === "run_end") return;
      }
      if (options.signal?.aborted) return;
      if (attempt >= maxRetries) {
        throw new Error("SSE stream closed before run_end.");
      }
      await sleep(initialRetryMs * 2 ** attempt, options.signal);
      attempt++;
    } catch (error) {
      if (options.signal?.aborted) return;
      if (attempt >= maxRetries) throw error;
      await sleep(initialRetryMs * 2 ** attempt, options.signal);
      attempt++;
    }
  }
}
async function* readSse(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      buffer += decoder.decode(value, { stream: true });
      yield* drainFrames(false);
    }
    buffer += decoder.decode();
    yield* drainFrames(true);
    const frame = parseFrame(buffer);
    if (frame) yield frame;
  } finally {
    try {
      await reader.cancel();
    } catch {
    }
    reader.releaseLock();
  }
  function* drainFrames(final) {
    const trailingCr = !final && buffer.endsWith("\r");
    const normalizable = trailingCr ? buffer.slice(0, -1) : buffer;
    buffer = normalizeEndings(normalizable) + (trailingCr ? "\r" : "");
    let idx = buffer.indexOf("\n\n");
    while (idx !== -1) {
      const raw = buffer.slice(0, idx);
      buffer = buffer.slice(idx + 2);
      const frame = parseFrame(raw);
      if (frame) yield frame;
      idx = buffer.indexOf("\n\n");
    }
  }
}
function normalizeEndings(text) {
  return text.replace(/\r\n/g, "\n").replace(/\r/g, "\n");
}
function parseFrame(raw) {
  if (!raw.trim() || raw.startsWith(":")) return void 0;
  const frame = { data: "" };
  const data = [];
  for (const line of raw.split("\n")) {
    if (line.startsWith(":")) continue;
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") frame.event = value;
    else if (field === "id") frame.id = value;
    else if (field === "data") data.push(value);
  }
  if (data.length === 0) return void 0;
  frame.data = data.join("\n");
  return frame;
}
function parseSseErrorMessage(data) {
  try {
    const value = JSON.parse(data);
    if (typeof value !== "object" || value === null || !("error" in value)) throw new Error();
    const error = value.error;
    if (typeof error !== "object" || error === null || !("type" in error) || typeof error.type !== "string" || !("message" in error) || typeof error.message !== "string" || !("details" in error) || typeof error.details !== "string")
      throw new Error();
    return error.message;
  } catch {
    return "SSE stream failed.";
  }
}
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const timeout = setTimeout(resolve, ms);
    if (signal) {
      signal.addEventListener(
        "abort",
        () => {
          clearTimeout(timeout);
          reject(signal.reason ?? new Error("aborted"));
        },
        { once: true }
      );
    }
  });
}

// src/public/invoke.ts
function invokeAgent(http, name, id, options) {
  const path = `/agents/${encodeURIComponent(name)}/${encodeURIComponent(id)}`;
  if (options.mode === "stream") return invokeStream(http, path, id, options);
  return http.json({
    method: "POST",
    path,
    body: options.payload,
    signal: options.signal
  }).then((body) => ({ result: body.result }));
}
async function* invokeStream(http, path, instanceId, options) {
  const response = await http.fetchImpl(http.url(path), {
    method: "POST",
    headers: await http.requestHeaders({ accept: "text/event-stream" }, true),
    body: JSON.stringify(options.payload),
    signal: options.signal
  });
  if (!response.ok) throw new Error(`Invocation stream failed with HTTP ${response.status}.`);
  if (!response.body) throw new Error("Invocation stream response has no body.");
  for await (const frame of readSse(response.body)) {
    const event = JSON.parse(frame.data);
    if (frame.event === "error") {
      if (!isAttachedAgentStreamError(event, instanceId))
        throw new Error("Agent invocation stream received an invalid error event.");
      throw new Error(event.error.message);
    }
    if (!isAttachedAgentEvent(event, instanceId))
      throw new Error("Agent invocation stream received an invalid event.");
    yield event;
  }
}
var ATTACHED_AGENT_EVENT_TYPES = /* @__PURE__ */ new Set([
  "agent_start",
  "agent_end",
  "turn_start",
  "turn_request",
  "turn_end",
  "message_start",
  "message_update",
  "message_end",
  "text_delta",
  "thinking_start",
  "thinking_delta",
  "thinking_end",
  "tool_start",
  "tool_call",
  "turn",
  "task_start",
  "task",
  "compaction_start",
  "compaction",
  "operation_start",
  "operation",
  "log",
  "idle"
]);
function isAttachedAgentEvent(value, instanceId) {
  return isRecord(value) && typeof value.type === "string" && ATTACHED_AGENT_EVENT_TYPES.has(value.type) && value.instanceId === instanceId && value.runId === void 0;
}
function isAttachedAgentStreamError(value, instanceId) {
  return isRecord(value) && value.type === "error" && value.instanceId === instanceId && isRecord(value.error) && typeof value.error.type === "string" && typeof value.error.message === "string" && typeof value.error.details === "string";
}
function isRecord(value) {
  return typeof value === "object" && value !== null;
}

// src/public/websocket.ts
var FlueSocketError = class extends Error {
  error;
  requestId;
  runId;
  constructor(error, context = {}) {
    super(error.message);
    this.name = "FlueSocketError";
    this.error = error;
    this.requestId = context.requestId;
    this.runId = context.runId;
  }
};
var ProtocolSocket = class {
  ready;
  socket;
  target;
  agentInstanceId;
  acceptsReady;
  onFailure;
  pendingRequests = /* @__PURE__ */ new Map();
  pendingPings = /* @__PURE__ */ new Map();
  listeners = /* @__PURE__ */ new Set();
  resolveReady;
  rejectReady;
  isReady = false;
  isClosed = false;
  terminalError;
  sequence = 0;
  constructor(socket, target, acceptsReady, agentInstanceId, onFailure) {
    this.socket = socket;
    this.target = target;
    this.agentInstanceId = agentInstanceId;
    this.acceptsReady = acceptsReady;
    this.onFailure = onFailure;
    this.ready = new Promise((resolve, reject) => {
      this.resolveReady = resolve;
      this.rejectReady = reject;
    });
    this.socket.addEventListener("message", (event) => this.receive(event));
    this.socket.addEventListener(
      "close",
      () => this.fail(new Error("Flue WebSocket connection closed."))
    );
    this.socket.addEventListener(
      "error",
      () => this.fail(new Error("Flue WebSocket connection failed."))
    );
  }
  onEvent(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
  close(code, reason) {
    this.fail(new Error("Flue WebSocket connection closed."));
    this.socket.close(code, reason);
  }
  async request(message, options = {}) {
    await this.ready;
    this.assertOpen();
    return new Promise((resolve, reject) => {
      this.pendingRequests.set(message.requestId, {
        resolve,
        reject,
        onStarted: options.onStarted,
        hasStarted: false
      });
      try {
        this.socket.send(JSON.stringify(message));
      } catch (error) {
        this.pendingRequests.delete(message.requestId);
        reject(asError(error));
      }
    });
  }
  async ping() {
    await this.ready;
    this.assertOpen();
    const requestId = this.requestId();
    return new Promise((resolve, reject) => {
      this.pendingPings.set(requestId, { resolve, reject });
      try {
        this.socket.send(
          JSON.stringify({
            version: 1,
            type: "ping",
            requestId
          })
        );
      } catch (error) {
        this.pendingPings.delete(requestId);
        reject(asError(error));
      }
    });
  }
  requestId() {
    this.sequence += 1;
    const random = globalThis.crypto?.randomUUID?.() ?? Math.random().toString(36).slice(2);
    return `req_${random}_${this.sequence}`;
  }
  receive(event) {
    const raw = messageData(event);
    const message = raw === void 0 ? void 0 : parseServerMessage(raw, this.target, this.agentInstanceId);
    if (!message) {
      this.protocolFailure();
      return;
    }
    if (message.type === "ready") {
      if (!this.isReady && this.acceptsReady(message)) {
        this.isReady = true;
        this.resolveReady();
        return;
      }
      this.protocolFailure();
      return;
    }
    if (!this.isReady) {
      this.protocolFailure();
      return;
    }
    switch (message.type) {
      case "started": {
        if (!("runId" in message) || typeof message.runId !== "string") return;
        const pending = this.pendingRequests.get(message.requestId);
        if (!pending?.onStarted) return;
        pending.hasStarted = true;
        pending.onStarted(message.runId);
        return;
      }
      case "event": {
        const context = this.target === "workflow" ? {
          requestId: message.requestId,
          runId: "runId" in message ? message.runId : void 0
        } : { requestId: message.requestId };
        for (const listener of this.listeners)
          listener(message.event, context);
        return;
      }
      case "result": {
        const pending = this.pendingRequests.get(message.requestId);
        if (!pending) return;
        if (pending.onStarted && !pending.hasStarted) {
          this.protocolFailure();
          return;
        }
        this.pendingRequests.delete(message.requestId);
        const result = this.target === "workflow" ? { result: message.result, runId: "runId" in message ? message.runId : void 0 } : { result: message.result };
        pending.resolve(result);
        return;
      }
      case "error": {
        const runId = "runId" in message && typeof message.runId === "string" ? message.runId : void 0;
        const error = new FlueSocketError(message.error, { requestId: message.requestId, runId });
        if (message.requestId) {
          const pending = this.pendingRequests.get(message.requestId);
          if (pending) {
            this.pendingRequests.delete(message.requestId);
            pending.reject(error);
            return;
          }
          const ping = this.pendingPings.get(message.requestId);
          if (ping) {
            this.pendingPings.delete(message.requestId);
            ping.reject(error);
            return;
          }
        }
        this.fail(error);
        this.socket.close(1011, "WebSocket error");
        return;
      }
      case "pong": {
        if (!message.requestId) return;
        const pending = this.pendingPings.get(message.requestId);
        if (!pending) return;
        this.pendingPings.delete(message.requestId);
        pending.resolve();
        return;
      }
    }
  }
  protocolFailure() {
    this.fail(new Error("Flue WebSocket received an invalid protocol message."));
    this.socket.close(1008, "Invalid protocol message");
  }
  assertOpen() {
    if (this.isClosed)
      throw this.terminalError ?? new Error("Flue WebSocket connection is closed.");
  }
  fail(error) {
    if (this.isClosed) return;
    this.isClosed = true;
    this.terminalError = error;
    this.onFailure?.(error);
    if (!this.isReady) this.rejectReady(error);
    for (const pending of this.pendingRequests.values()) pending.reject(error);
    for (const pending of this.pendingPings.values()) pending.reject(error);
    this.pendingRequests.clear();
    this.pendingPings.clear();
    this.listeners.clear();
  }
};
var AgentSocketClient = class {
  ready;
  connection;
  constructor(socket, name, id) {
    this.connection = new ProtocolSocket(
      socket,
      "agent",
      (message) => message.type === "ready" && message.target === "agent" && message.name === name && message.instanceId === id,
      id
    );
    this.ready = this.connection.ready;
  }
  prompt(message, options = {}) {
    return this.connection.request({
      version: 1,
      type: "prompt",
      requestId: this.connection.requestId(),
      message,
      ...options.session === void 0 ? {} : { session: options.session }
    });
  }
  ping() {
    return this.connection.ping();
  }
  onEvent(listener) {
    return this.connection.onEvent(listener);
  }
  close(code, reason) {
    this.connection.close(code, reason);
  }
};
var WorkflowSocketClient = class {
  ready;
  runId;
  connection;
  resolveRunId;
  rejectRunId;
  invoked = false;
  constructor(socket, name) {
    this.runId = new Promise((resolve, reject) => {
      this.resolveRunId = resolve;
      this.rejectRunId = reject;
    });
    void this.runId.catch(() => void 0);
    this.connection = new ProtocolSocket(
      socket,
      "workflow",
      (message) => message.type === "ready" && message.target === "workflow" && message.name === name,
      void 0,
      (error) => this.rejectRunId(error)
    );
    this.ready = this.connection.ready;
  }
  invoke(payload) {
    if (this.invoked)
      return Promise.reject(new Error("A workflow WebSocket accepts only one invocation."));
    this.invoked = true;
    const completion = this.connection.request(
      {
        version: 1,
        type: "invoke",
        requestId: this.connection.requestId(),
        ...payload === void 0 ? {} : { payload }
      },
      { onStarted: (runId) => this.resolveRunId(runId) }
    );
    void completion.catch((error) => this.rejectRunId(asError(error)));
    return completion;
  }
  onEvent(listener) {
    return this.connection.onEvent(listener);
  }
  close(code, reason) {
    this.connection.close(code, reason);
  }
};
function connectAgentSocket(factory, url, name, id) {
  return new AgentSocketClient(factory(url), name, id);
}
function connectWorkflowSocket(factory, url, name) {
  return new WorkflowSocketClient(factory(url), name);
}
function webSocketUrl(httpUrl) {
  const url = new URL(httpUrl);
  if (url.protocol === "https:") url.protocol = "wss:";
  else if (url.protocol === "http:") url.protocol = "ws:";
  else throw new Error(`Flue WebSocket requires an HTTP base URL, received ${url.protocol}`);
  return url.toString();
}
function defaultWebSocketFactory(url) {
  const Socket = globalThis.WebSocket;
  if (!Socket)
    throw new Error(
      "WebSocket is not available in this environment. Configure a websocket factory."
    );
  return new Socket(url);
}
function parseServerMessage(value, target, agentInstanceId) {
  let parsed;
  try {
    parsed = JSON.parse(value);
  } catch {
    return void 0;
  }
  if (!isRecord2(parsed) || parsed.version !== 1 || typeof parsed.type !== "string")
    return void 0;
  switch (parsed.type) {
    case "ready":
      if (target === "agent" && parsed.target === "agent" && typeof parsed.name === "string" && typeof parsed.instanceId === "string")
        return parsed;
      if (target === "workflow" && parsed.target === "workflow" && typeof parsed.name === "string")
        return parsed;
      return void 0;
    case "started":
    case "result":
      if (typeof parsed.requestId !== "string") return void 0;
      if (target === "agent" && parsed.runId === void 0)
        return parsed;
      if (target === "workflow" && typeof parsed.runId === "string")
        return parsed;
      return void 0;
    case "event":
      if (typeof parsed.requestId !== "string" || !isRecord2(parsed.event) || typeof parsed.event.type !== "string")
        return void 0;
      if (target === "agent" && parsed.runId === void 0 && agentInstanceId !== void 0 && isAttachedAgentEvent2(parsed.event, agentInstanceId))
        return parsed;
      if (target === "workflow" && typeof parsed.runId === "string")
        return parsed;
      return void 0;
    case "error":
      if (!isPublicError(parsed.error)) return void 0;
      if (parsed.requestId !== void 0 && typeof parsed.requestId !== "string") return void 0;
      if (target === "agent" && parsed.runId !== void 0) return void 0;
      if (target === "workflow" && parsed.runId !== void 0 && typeof parsed.runId !== "string")
        return void 0;
      return parsed;
    case "pong":
      if (target === "agent" && (parsed.requestId === void 0 || typeof parsed.requestId === "string"))
        return parsed;
      return void 0;
    default:
      return void 0;
  }
}
function isPublicError(value) {
  return isRecord2(value) && typeof value.type === "string" && typeof value.message === "string" && typeof value.details === "string";
}
var ATTACHED_AGENT_EVENT_TYPES2 = /* @__PURE__ */ new Set([
  "agent_start",
  "agent_end",
  "turn_start",
  "turn_request",
  "turn_end",
  "message_start",
  "message_update",
  "message_end",
  "text_delta",
  "thinking_start",
  "thinking_delta",
  "thinking_end",
  "tool_start",
  "tool_call",
  "turn",
  "task_start",
  "task",
  "compaction_start",
  "compaction",
  "operation_start",
  "operation",
  "log",
  "idle"
]);
function isAttachedAgentEvent2(value, instanceId) {
  return typeof value.type === "string" && ATTACHED_AGENT_EVENT_TYPES2.has(value.type) && value.instanceId === instanceId && value.runId === void 0;
}
function messageData(event) {
  if (!isRecord2(event)) return void 0;
  return typeof event.data === "string" ? event.data : void 0;
}
function isRecord2(value) {
  return typeof value === "object" && value !== null;
}
function asError(error) {
  return error instanceof Error ? error : new Error(String(error));
}

// src/client.ts
function createFlueClient(options) {
  const http = new HttpClient(options);
  const websocket = options.websocket ?? defaultWebSocketFactory;
  const websocketEndpoint = createWebSocketEndpoint(http, options.websocketUrl);
  const adminBasePath = normalizeBasePath(options.adminBasePath ?? "/admin");
  const adminHttp = new HttpClient({
    ...options,
    baseUrl: new URL(`${adminBasePath}/`, http.baseUrl).toString()
  });
  return {
    runs: {
      get: (runId) => http.json({ path: `/runs/${encodeURIComponent(runId)}` }),
      events: (runId, opts = {}) => http.json({
        path: `/runs/${encodeURIComponent(runId)}/events`,
        query: { after: opts.after, types: opts.types?.join(","), limit: opts.limit }
      }),
      stream: (runId, opts) => streamRunEvents(http, runId, opts)
    },
    agents: {
      invoke: ((name, id, opts) => invokeAgent(http, name, id, opts)),
      connect: (name, id) => connectAgentSocket(
        websocket,
        websocketEndpoint(`/agents/${encodeURIComponent(name)}/${encodeURIComponent(id)}`, {
          target: "agent",
          name,
          instanceId: id
        }),
        name,
        id
      )
    },
    workflows: {
      connect: (name) => connectWorkflowSocket(
        websocket,
        websocketEndpoint(`/workflows/${encodeURIComponent(name)}`, { target: "workflow", name }),
        name
      )
    },
    admin: {
      agents: {
        list: () => adminHttp.json({ path: "/agents" })
      },
      runs: {
        list: (opts = {}) => adminHttp.json({ path: "/runs", query: runsQuery(opts) }),
        get: (runId) => adminHttp.json({ path: `/runs/${encodeURIComponent(runId)}` })
      }
    }
  };
}
function normalizeBasePath(path) {
  const trimmed = path.trim();
  if (!trimmed || trimmed === "/") return "";
  return `/${trimmed.replace(/^\/+|\/+$/g, "")}`;
}
function createWebSocketEndpoint(http, transform) {
  return (path, target) => {
    const url = new URL(webSocketUrl(http.url(path)));
    return String(transform?.(url, target) ?? url);
  };
}
function runsQuery(opts) {
  return {
    cursor: opts.cursor,
    limit: opts.limit,
    status: opts.status,
    workflowName: opts.workflowName
  };
}
export {
  FlueApiError,
  FlueSocketError,
  createFlueClient
};
