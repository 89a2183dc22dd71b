export type {
	CreateFlueClientOptions,
	FlueClient,
	ListRunsOptions,
	RequestHeaders,
	RunEventsOptions,
} from './client.ts';
export { createFlueClient } from './client.ts';
export { FlueApiError } from './http.ts';
export type {
	AgentInvokeOptions,
	AgentStreamInvokeOptions,
	AgentSyncInvokeOptions,
} from './public/invoke.ts';
export type { RunStreamOptions } from './public/stream.ts';
export type {
	AgentSocket,
	AgentSocketEventContext,
	AgentSocketEventListener,
	AgentSocketInvokeResult,
	AgentSocketPromptOptions,
	SocketEventContext,
	SocketEventListener,
	SocketInvokeResult,
	WebSocketFactory,
	WebSocketLike,
	WebSocketTarget,
	WebSocketUrlTransform,
	WorkflowSocket,
	WorkflowSocketEventContext,
	WorkflowSocketEventListener,
	WorkflowSocketInvokeResult,
} from './public/websocket.ts';
export { FlueSocketError } from './public/websocket.ts';
export type {
	AgentManifestEntry,
	AgentWebSocketClientMessage,
	AgentWebSocketServerMessage,
	AttachedAgentEvent,
	AttachedAgentStreamError,
	DirectAgentPayload,
	FlueEvent,
	FluePublicError,
	ListResponse,
	LlmAssistantMessage,
	LlmImageContent,
	LlmMessage,
	LlmTextContent,
	LlmThinkingContent,
	LlmTool,
	LlmToolCall,
	LlmToolResultMessage,
	LlmTurnPurpose,
	LlmUserMessage,
	RunOwner,
	RunPointer,
	RunRecord,
	RunStatus,
	WebSocketErrorMessage,
	WebSocketServerMessage,
	WorkflowRunWebSocketErrorMessage,
	WorkflowWebSocketClientMessage,
	WorkflowWebSocketServerMessage,
} from './types.ts';
