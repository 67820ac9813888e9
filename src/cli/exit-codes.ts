/** Every status with which `nines` ends. docs/guide/operations.md shows this table; a test holds the two together. */
export const EXIT_CODES = {
  ok: { code: 0, meaning: "done" },
  negative: {
    code: 1,
    meaning:
      "the command ran and its answer is no: a finding of `doctor`, a missed budget, a router that stayed",
  },
  usage: { code: 2, meaning: "the command line is wrong" },
  config: { code: 3, meaning: "the site file is wrong; nothing was started or changed" },
  unreachable: { code: 4, meaning: "no running node answers on its control socket" },
  failed: {
    code: 5,
    meaning: "the node or the host refused or could not carry it out; the message has the code",
  },
  timeout: { code: 6, meaning: "no answer before the deadline; what was asked for may still happen" },
  bug: { code: 70, meaning: "a bug in nines; the message has the stack" },
} as const;

export type ExitName = keyof typeof EXIT_CODES;

/** Thrown by a command to end with a status and, on standard error, a message. */
export class CommandExit extends Error {
  override readonly name = "CommandExit";
  readonly exit: ExitName;
  constructor(exit: ExitName, message = "") {
    super(message);
    this.exit = exit;
  }
}
