/**
 * Three kinds of failure, and no fourth:
 * - ConfigError: the user's site file or command is wrong; nothing was started or changed.
 * - OperationalError: expected of the world (a socket is refused, a peer is silent); carries a code.
 * - anything else thrown is a bug: the child crashes and the parent restarts it.
 */

/** One mistake in a site file. `line` and `column` count from 1. */
export interface ConfigIssue {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  /** Path in the file, e.g. `pools.apps.backends.app1`. */
  readonly path: string;
  /** What is wrong, with what was found. */
  readonly message: string;
  /** What is expected instead, or a near-miss name. */
  readonly hint?: string;
}

export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly issues: readonly ConfigIssue[];
  constructor(issues: readonly ConfigIssue[]) {
    super(issues.map(formatConfigIssue).join("\n"));
    this.issues = issues;
  }
}

export function formatConfigIssue(issue: ConfigIssue): string {
  const where = `${issue.file}:${issue.line}:${issue.column}`;
  const path = issue.path === "" ? "" : ` ${issue.path}:`;
  const hint = issue.hint === undefined ? "" : ` (${issue.hint})`;
  return `${where}:${path} ${issue.message}${hint}`;
}

/** Every code an OperationalError may carry, and what it tells. A test holds this table against the docs. */
export const OPERATIONAL_CODES = {
  NATIVE_UNAVAILABLE: "the native part could not be loaded, so the kernel cannot be reached",
  PERMISSION: "the process lacks a capability that the call needs",
  KERNEL_UNSUPPORTED: "this kernel lacks a feature that the site asks for",
  KERNEL_REFUSED: "the kernel refused a change",
  KERNEL_BUSY: "the kernel had no room for the answer; asked again later",
  INTERFACE_MISSING: "a network interface that the site names does not exist",
  TIMEOUT: "an answer did not come before its deadline",
  PEER_REFUSED: "another node refused a request",
  PEER_LOST: "the connection to another process or node ended",
  MESSAGE_INVALID: "a message from another process did not have the agreed shape",
  NOT_FOUND: "what the command names does not exist",
  CONFLICT: "the command cannot be carried out in the present state",
  FILE_UNREADABLE: "a file could not be read or written",
  TOOL_MISSING: "a program that the command needs is not installed",
  CHILD_FAILED: "a process of this node could not be started or did not become ready",
} as const;

export type OperationalCode = keyof typeof OPERATIONAL_CODES;

export class OperationalError extends Error {
  override readonly name = "OperationalError";
  readonly code: OperationalCode;
  /** Whether the same call may succeed later without anyone changing anything. */
  readonly retryable: boolean;
  constructor(
    code: OperationalCode,
    message: string,
    options: { retryable?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** The message of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
