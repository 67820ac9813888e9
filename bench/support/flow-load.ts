/**
 * The load of `npm run bench:flows` and its observer, so cheap that the replicators are the limit: every message is
 * encoded before the load begins, and of what arrives only the client's port is read, at its fixed place.
 */
import { ip, ipBytes } from "../../src/base/addresses.ts";
import { AF, ERRNO, NETLINK, SOCK, SOL } from "../../src/linux/constants.ts";
import { KernelError } from "../../src/linux/native.ts";
import { ReceiveBatch, Socket } from "../../src/linux/socket.ts";
import {
  CT_GROUP,
  CT_MESSAGE,
  type FlowPlan,
  TCP_STATE,
  writeFlowUpdate,
  writeNewFlow,
} from "../../src/linux/wire-conntrack.ts";
import { NLM_F, NLMSG, NetlinkWriter } from "../../src/linux/wire-netlink.ts";
import { netlinkAddress } from "../../src/linux/wire-sockaddr.ts";

export const MARK = 0x4e000001;
const PORTS = 60_000;
const FIRST_PORT = 1024;
/** More than this never run at once. */
const MOST = 1 << 18;
const service = ipBytes(ip("10.9.9.9"));
const backend = ipBytes(ip("10.2.0.11"));

function flowOf(index: number): FlowPlan {
  const client = Uint8Array.of(10, 100, 0, Math.floor(index / PORTS));
  const port = FIRST_PORT + (index % PORTS);
  return {
    family: 4,
    protocol: 6,
    original: { source: client, destination: service, sourcePort: port, destinationPort: 80 },
    reply: { source: backend, destination: client, sourcePort: 8080, destinationPort: port },
    mark: MARK,
    timeout: 600,
    tcpState: TCP_STATE.ESTABLISHED,
    windowScales: [7, 7],
  };
}

function open(bytes: number): Socket {
  const socket = Socket.open(AF.NETLINK, SOCK.RAW, NETLINK.NETFILTER, "netlink socket");
  return socket.bind(netlinkAddress(), "netlink bind").receiveBuffer(bytes);
}
const kernel = netlinkAddress(0);

/** Messages that are all of one length, one behind the other. */
interface Encoded {
  readonly bytes: Uint8Array;
  readonly stride: number;
  readonly count: number;
}

/** Puts entries into the table of the namespace in which it was opened. */
export class FlowLoad {
  readonly #socket = open(4 << 20).sendBuffer(1 << 20);
  readonly #room = new ReceiveBatch(64, 4096, 0, 0);
  readonly #encoded = new Map<"create" | "update", Encoded>();
  #change: "create" | "update" = "create";

  static open(): FlowLoad {
    const load = new FlowLoad();
    load.#socket.tryOption(SOL.NETLINK, NETLINK.CAP_ACK, 1);
    return load;
  }

  /** Makes the messages of the first `count` flows; `send` sends those from now on. */
  encode(change: "create" | "update", count: number): void {
    this.#change = change;
    if (count > MOST) throw new Error(`${count} flows are too many at once`);
    if ((this.#encoded.get(change)?.count ?? 0) >= count) return;
    const writer = new NetlinkWriter(count * 320);
    const flags = NLM_F.REQUEST | (change === "create" ? NLM_F.CREATE | NLM_F.EXCL : 0);
    for (let i = 0; i < count; i++) {
      writer.begin(CT_MESSAGE.NEW, flags, i + 1);
      if (change === "create") writeNewFlow(flowOf(i), writer);
      else writeFlowUpdate(flowOf(i), writer);
      writer.end();
    }
    const bytes = writer.finish();
    if (bytes.length % count !== 0) throw new Error("the messages are not all of one length");
    this.#encoded.set(change, { bytes, stride: bytes.length / count, count });
  }
  /** The kernel carries it out within the call; only refusals are answered. */
  send(first: number, count: number): void {
    const { bytes, stride } = this.#encoded.get(this.#change) ?? { bytes: new Uint8Array(), stride: 0 };
    const sent = this.#socket.send(bytes.subarray(first * stride, (first + count) * stride), kernel);
    if (sent < 0) throw new KernelError("load", -sent);
  }
  /** Creates all entries without hurry. */
  async fill(count: number): Promise<void> {
    const change = this.#change;
    this.encode("create", count);
    for (let at = 0; at < count; at += 64) {
      this.send(at, Math.min(64, count - at));
      if (at % 4096 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    this.#change = change;
  }
  /** Messages that the kernel refused since this was asked last. */
  refused(): number {
    let refused = 0;
    for (let count = this.#socket.receive(this.#room); count > 0; count = this.#socket.receive(this.#room))
      for (let i = 0; i < count; i++) {
        const message = new DataView(this.#room.data.buffer, i * this.#room.slot, 20);
        if (message.getUint16(4, true) === NLMSG.ERROR && message.getInt32(16, true) !== 0) refused++;
      }
    return refused;
  }
  close(): void {
    this.#socket.close();
  }
}

/** After the headers of netlink (16), nfnetlink (4), of CTA_TUPLE_ORIG (4) and its CTA_TUPLE_IP (4), two addresses. */
const CLIENT = 16 + 4 + 4 + 4 + 4;
/** After both addresses (8 + 8), the header of CTA_TUPLE_PROTO (4), the protocol (8) and the port's header (4). */
const PORT = CLIENT - 4 + 8 + 8 + 4 + 8 + 4;

/** Sees when entries appear in the table of the namespace in which it was opened, to the millisecond. */
export class FlowWatcher {
  readonly #socket = open(64 << 20);
  readonly #room = new ReceiveBatch(256, 128, 0, 0);
  readonly #made = new Float64Array(MOST);
  readonly #seen = new Float64Array(MOST);
  arrived = 0;

  static open(): FlowWatcher {
    const watcher = new FlowWatcher();
    watcher.#socket.setOption(SOL.NETLINK, NETLINK.ADD_MEMBERSHIP, CT_GROUP.NEW);
    return watcher;
  }
  /** Those that are made now. */
  expect(first: number, count: number, at: number): void {
    this.#made.fill(at, first, first + count);
  }
  /** Reads what has arrived; answers how many of those expected did so far. */
  look(): number {
    const { data, slot } = this.#room;
    for (let count = this.#read(); count > 0; count = this.#read()) {
      const now = performance.now();
      for (let i = 0, at = 0; i < count; i++, at += slot) {
        if (data[at + CLIENT] !== 10 || data[at + CLIENT + 1] !== 100) continue;
        const port = ((data[at + PORT] ?? 0) << 8) | (data[at + PORT + 1] ?? 0);
        const index = (data[at + CLIENT + 3] ?? 0) * PORTS + port - FIRST_PORT;
        if (this.#seen[index] !== 0) continue;
        this.#seen[index] = now;
        this.arrived++;
      }
    }
    return this.arrived;
  }
  #read(): number {
    try {
      return this.#socket.receive(this.#room);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ERRNO.ENOBUFS) throw error;
      throw new Error("the observer was too slow: nothing can be said of this run", { cause: error });
    }
  }
  forget(): void {
    this.look();
    this.#made.fill(0);
    this.#seen.fill(0);
    this.arrived = 0;
  }
  /** From a flow's making to its arrival, in milliseconds, of those of the first `flows` that arrived. */
  lags(flows: number): { readonly p50: number; readonly p99: number } {
    const all: number[] = [];
    for (let i = 0; i < flows; i++) {
      const seen = this.#seen[i] ?? 0;
      if (seen > 0) all.push(seen - (this.#made[i] ?? 0));
    }
    all.sort((x, y) => x - y);
    return { p50: all[all.length >> 1] ?? 0, p99: all[Math.floor(all.length * 0.99)] ?? 0 };
  }
  close(): void {
    this.#socket.close();
  }
}
