import { createInterface } from "node:readline";
import type { ChildProcess } from "node:child_process";

/** Keeps the last lines of each node's output, and shows every line to who listens. */
export class LogKeeper {
  readonly #lines = new Map<string, string[]>();

  follow(node: string, child: ChildProcess, heard: (line: string) => void): void {
    for (const stream of [child.stdout, child.stderr])
      if (stream)
        createInterface({ input: stream }).on("line", (line) => {
          const lines = this.#lines.get(node) ?? [];
          lines.push(line);
          if (lines.length > 4000) lines.splice(0, 2000);
          this.#lines.set(node, lines);
          heard(line);
        });
  }

  said(node: string): readonly string[] {
    return this.#lines.get(node) ?? [];
  }
}
