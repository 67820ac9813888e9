/**
 * What a service says: an event in the field's words, always with a reason where something changed, never a
 * secret. pino's loggers have this shape; tests pass an array's `push`. Machines never log.
 */
export interface LogFields {
  /** `room.what_happened`, e.g. `vrrp.state_changed`. */
  readonly event: string;
  /** Why, in a sentence. */
  readonly reason?: string | undefined;
  readonly [field: string]: unknown;
}

export interface Log {
  debug(fields: LogFields): void;
  info(fields: LogFields): void;
  warn(fields: LogFields): void;
  error(fields: LogFields): void;
}
