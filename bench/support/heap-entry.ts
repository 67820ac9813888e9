/**
 * `heap-entry.ts` in the network namespace of a process whose inspector listens: prints, as JSON, the bytes that live in its
 * heap after a full collection, without what the engine makes of the program (code, shapes), and ends the inspector.
 */
interface Snapshot {
  readonly snapshot: {
    readonly meta: { readonly node_fields: readonly string[]; readonly node_types: readonly unknown[] };
  };
  readonly nodes: readonly number[];
}

const ENGINE: ReadonlySet<string> = new Set(["code", "hidden", "object shape", "synthetic", "native"]);

function liveBytes({ snapshot: { meta }, nodes }: Snapshot): number {
  const width = meta.node_fields.length;
  const size = meta.node_fields.indexOf("self_size");
  const types = meta.node_types[0] as readonly string[];
  let bytes = 0;
  for (let at = 0; at < nodes.length; at += width)
    if (!ENGINE.has(types[nodes[at] ?? 0] ?? "")) bytes += nodes[at + size] ?? 0;
  return bytes;
}

const [target] = (await (await fetch("http://127.0.0.1:9229/json")).json()) as {
  webSocketDebuggerUrl: string;
}[];
const socket = new WebSocket(target?.webSocketDebuggerUrl ?? "");
await new Promise((resolve) => socket.addEventListener("open", resolve));
let text = "";
let last = 0;
const answers = new Map<number, () => void>();
socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(String(data)) as { id?: number; method?: string; params?: { chunk?: string } };
  if (message.method === "HeapProfiler.addHeapSnapshotChunk") text += message.params?.chunk ?? "";
  else if (message.id !== undefined) answers.get(message.id)?.();
});
async function call(method: string, params: object = {}): Promise<void> {
  const id = ++last;
  const answered = new Promise<void>((resolve) => answers.set(id, resolve));
  socket.send(JSON.stringify({ id, method, params }));
  await answered;
}
await call("HeapProfiler.enable");
await call("HeapProfiler.takeHeapSnapshot", { reportProgress: false });
console.log(JSON.stringify(liveBytes(JSON.parse(text) as Snapshot)));
socket.send(
  JSON.stringify({ id: ++last, method: "Runtime.evaluate", params: { expression: "process._debugEnd()" } }),
);
setTimeout(() => process.exit(), 200);
