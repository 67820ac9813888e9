/** Where the parts of a site file stand, so that a mistake is told with its line and column. */

/** Keys and indexes from the root of the file, e.g. `["pools", "apps", "backends", "app1"]`. */
export type Path = readonly (string | number)[];

/** Both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

const START: Position = { line: 1, column: 1 };

const keyOf = (path: Path): string => path.map(String).join("\u0000");

/** Keys and values by path. What has no position of its own has that of its nearest ancestor. */
export class Positions {
  readonly #keys = new Map<string, Position>();
  readonly #values = new Map<string, Position>();

  set(path: Path, value: Position, key?: Position): void {
    this.#values.set(keyOf(path), value);
    if (key) this.#keys.set(keyOf(path), key);
  }
  /** The key, or the list item itself. */
  key(path: Path): Position {
    const text = keyOf(path);
    return this.#keys.get(text) ?? this.#values.get(text) ?? this.#parent(path);
  }
  value(path: Path): Position {
    return this.#values.get(keyOf(path)) ?? this.#parent(path);
  }
  #parent(path: Path): Position {
    return path.length === 0 ? START : this.key(path.slice(0, -1));
  }
}

/** `pools.apps.backends.app1`, `virtualRouters.edge.members[0]`. */
export function formatPath(path: Path): string {
  let text = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (/^[\w-]+$/.test(part)) text += text === "" ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text;
}
