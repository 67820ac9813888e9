import type { Clock, DurationMs } from "../base/time.ts";
import { readSysctl } from "./sysctl.ts";
import { ERRNO, NETLINK } from "./constants.ts";
import { KernelError } from "./native.ts";
import { type BatchRefusal, NetlinkSocket } from "./netlink.ts";
import { NetlinkEvents } from "./netlink-events.ts";
import {
  CT_GROUP,
  CT_MESSAGE,
  FLOW_STATUS,
  type Flow,
  type FlowFilter,
  type FlowPlan,
  decodeFlow,
  encodeFlow,
  encodeFlowQuery,
  writeFlowKey,
  writeFlowTimeout,
  writeFlowUpdate,
  writeNewFlow,
} from "./wire-conntrack.ts";
import { flowEventFilter } from "./wire-conntrack-filter.ts";
import { NLM_F, type NetlinkWriter } from "./wire-netlink.ts";

/** One message per system call costs seven times as much as many; more than this gains nothing. */
const BATCH = 128;

const isAssured = ({ status }: Flow): boolean => (status & FLOW_STATUS.ASSURED) !== 0;

/** Names an entry: any flow does. */
export type FlowName = Pick<Flow, "family" | "protocol" | "original"> & { readonly id?: number };

/** The connection table of this network namespace. */
export class Conntrack {
  readonly #socket: NetlinkSocket;
  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }
  static open(clock: Clock): Conntrack {
    return new Conntrack(NetlinkSocket.open({ protocol: NETLINK.NETFILTER, clock, receiveBuffer: 4 << 20 }));
  }
  /** Events with this number as `by` are our own changes. */
  get portid(): number {
    return this.#socket.portid;
  }
  close(): void {
    this.#socket.close();
  }

  /**
   * Every TCP and UDP flow that the filter lets through; the kernel filters. Resolves with whether the table
   * changed meanwhile: flows may then be missing or come twice.
   */
  each(filter: FlowFilter, visit: (flow: Flow) => void): Promise<boolean> {
    const request = { type: CT_MESSAGE.GET, body: encodeFlowQuery(filter) };
    return this.#socket.dumpEach("list flows", request, ({ payload }) => {
      const flow = decodeFlow(payload);
      if (flow === undefined) return;
      // Older kernels let all through.
      if (filter.assured === undefined || filter.assured === isAssured(flow)) visit(flow);
    });
  }
  async list(filter: FlowFilter = {}): Promise<Flow[]> {
    const flows: Flow[] = [];
    await this.each(filter, (flow) => flows.push(flow));
    return flows;
  }
  /** Undefined where there is none. */
  async get(name: FlowName): Promise<Flow | undefined> {
    try {
      const body = encodeFlow(writeFlowKey, name);
      const [reply] = await this.#socket.request("get flow", { type: CT_MESSAGE.GET, body });
      return reply === undefined ? undefined : decodeFlow(reply.payload);
    } catch (error) {
      if (error instanceof KernelError && error.errno === ERRNO.ENOENT) return undefined;
      throw error;
    }
  }

  /**
   * Puts new flows into the table, with their translation. Resolves with those refused: EEXIST where one
   * with the same addresses is there (`update` it, or `delete` it first), ENOMEM where the table is full.
   */
  create(flows: readonly FlowPlan[]): Promise<readonly BatchRefusal[]> {
    return this.#batches("create flows", CT_MESSAGE.NEW, NLM_F.CREATE | NLM_F.EXCL, flows, writeNewFlow);
  }
  /** New state, mark and lifetime for flows that are there; ENOENT for those that are not. */
  update(flows: readonly FlowPlan[]): Promise<readonly BatchRefusal[]> {
    return this.#batches("update flows", CT_MESSAGE.NEW, 0, flows, writeFlowUpdate);
  }
  /** A new lifetime only. */
  prolong(
    flows: readonly Pick<Flow, "family" | "protocol" | "original" | "timeout">[],
  ): Promise<readonly BatchRefusal[]> {
    return this.#batches("prolong flows", CT_MESSAGE.NEW, 0, flows, writeFlowTimeout);
  }
  /** Resolves with those that were not there (ENOENT) or refused. */
  delete(flows: readonly FlowName[]): Promise<readonly BatchRefusal[]> {
    return this.#batches("delete flows", CT_MESSAGE.DELETE, 0, flows, writeFlowKey);
  }
  /** Entries in the table and its ceiling; undefined where the kernel has none loaded. */
  static occupancy(): { readonly count: number; readonly max: number } | undefined {
    const count = Number(readSysctl("net/netfilter/nf_conntrack_count"));
    const max = Number(readSysctl("net/netfilter/nf_conntrack_max"));
    return Number.isNaN(count) || Number.isNaN(max) ? undefined : { count, max };
  }

  async #batches<T>(
    what: string,
    type: number,
    flags: number,
    items: readonly T[],
    encode: (item: T, writer: NetlinkWriter) => void,
  ): Promise<readonly BatchRefusal[]> {
    const refused: BatchRefusal[] = [];
    for (let start = 0; start < items.length; start += BATCH) {
      const count = Math.min(BATCH, items.length - start);
      const write = (index: number, writer: NetlinkWriter): void => {
        const item = items[start + index];
        if (item !== undefined) encode(item, writer);
      };
      for (const one of await this.#socket.batchOf(what, { type, flags, count, write }))
        refused.push({ ...one, index: start + one.index });
      // A large injection must not keep advertisements and sockets of this process waiting.
      if (start % (BATCH * 8) === BATCH * 7) await new Promise((resolve) => setImmediate(resolve));
    }
    return refused;
  }
}

export interface FlowEventOptions {
  readonly clock: Clock;
  /** Only flows whose mark has these bits. */
  readonly mark: { readonly value: number; readonly mask: number };
  /** The netlink port of our own changes, of which nothing is told. */
  readonly except?: number;
  /** A flow became assured, or changed since; `by` is the netlink port of who changed it, 0 the kernel. */
  readonly onFlow: (flow: Flow, by: number) => void;
  readonly onEnd: (flow: Flow, by: number) => void;
  /** After one or more of these: all that waited has been told. */
  readonly onRead?: () => void;
  /** Events were lost: list the table anew. */
  readonly onOverrun: () => void;
  /** Under load, events are read together once in so long: waking for each costs more than the event. */
  readonly gather: () => DurationMs;
  /** Bytes. 8 MiB hold about 20,000 events. */
  readonly receiveBuffer?: number;
}

/**
 * What happens to assured flows: those that are not (half-open connections, a SYN flood) never reach this
 * process, and neither do other services' flows.
 */
export class FlowEvents {
  readonly #socket: NetlinkEvents;
  private constructor(socket: NetlinkEvents) {
    this.#socket = socket;
  }
  static open(options: FlowEventOptions): FlowEvents {
    const { clock, except, gather, onFlow, onEnd, onOverrun, onRead } = options;
    const socket = NetlinkEvents.open({
      protocol: NETLINK.NETFILTER,
      clock,
      filter: flowEventFilter(options.mark),
      groups: [CT_GROUP.UPDATE, CT_GROUP.DESTROY],
      receiveBuffer: options.receiveBuffer ?? 8 << 20,
      gather,
      onOverrun,
      onRead,
      onEvent: (bytes, start, stop, type, portid) => {
        if (portid === except) return;
        const flow = decodeFlow(bytes, start, stop);
        if (flow === undefined) return;
        if (type === CT_MESSAGE.NEW) onFlow(flow, portid);
        else if (type === CT_MESSAGE.DELETE) onEnd(flow, portid);
      },
    });
    return new FlowEvents(socket);
  }
  get overruns(): number {
    return this.#socket.counters.overruns;
  }
  /** Reads what waits now: before a hand-over, and after a stall. False where there may be more. */
  drain(): boolean {
    return this.#socket.drain();
  }
  close(): void {
    this.#socket.close();
  }
}
