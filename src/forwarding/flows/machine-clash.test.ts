import { beforeEach, describe, expect, it } from "vitest";
import { ip, ipBytes } from "../../base/addresses.ts";
import { instant } from "../../base/time.ts";
import { type Flow, TCP_STATE, flowKey } from "../../linux/wire-conntrack.ts";
import { FlowStore } from "./machine-store.ts";
import { MASK, flow, marks } from "./testing/stores.ts";
import type { Entry } from "./wire.ts";

const now = instant(0);
/** Masqueraded, all by the same port at the same backend. */
const masqueraded = (n: number): Flow => {
  const plain = flow(n, 11, marks["lb2"] ?? 0);
  const destination = ipBytes(ip("10.1.0.1"));
  return { ...plain, reply: { ...plain.reply, destination, destinationPort: 2000 } };
};
const [living, other] = [masqueraded(1), masqueraded(2)];
const keys = { living: flowKey(living), other: flowKey(other) };

describe("two connections with the same answers", () => {
  let store: FlowStore;
  const hearsFrom = (peer: string, ...entries: Entry[]) =>
    store.remote(peer, { first: false, last: false, entries }, now);
  const hears = (...entries: Entry[]) => hearsFrom("lb1", ...entries);
  const said = (one: Flow): Entry => ({ ended: false, flow: { ...one, service: "web" } });
  const ended = (one: Flow): Entry => ({ ended: true, flow: { ...one, service: "web" } });
  const told = ({ tell }: ReturnType<FlowStore["clash"]>) =>
    tell.map(({ key, ended: end }) => [key, end !== undefined]);
  beforeEach(() => {
    store = new FlowStore(MASK, "lb2");
    const shares = [
      { node: "lb1", ports: [1024, 1999] },
      { node: "lb3", ports: [2000, 2999] },
    ] as const;
    store.configure([{ name: "web", router: "edge", mark: marks["lb2"] ?? 0, shares }]);
  });

  it("at a Backup the one that was there makes way, and is not put back", () => {
    hears(said(living), said(other));
    const clash = store.clash(other, living);
    expect([clash.delete, told(clash)]).toEqual([[living], []]);
    expect([store.counts, store.upkeep(now).create]).toEqual([{ own: 0, others: 1 }, []]);
  });

  it("at the Active the one that lives stays, and the peers hear which of them is no more", () => {
    store.setActive(new Set(["edge"]), now);
    store.kernelFlow(living, now);
    hears(said(other));
    const clash = store.clash(other, living);
    expect([clash.delete, told(clash)]).toEqual([
      [],
      [
        [keys.other, true],
        [keys.living, false],
      ],
    ]);
    expect([store.counts, store.upkeep(now).create]).toEqual([{ own: 1, others: 0 }, []]);
  });

  it("at the Active it makes way where the node that gives the port says that it has given it again", () => {
    store.setActive(new Set(["edge"]), now);
    store.kernelFlow(living, now);
    hearsFrom("lb3", said(other));
    const clash = store.clash(other, living);
    expect([clash.delete, told(clash)]).toEqual([[living], [[keys.living, true]]]);
    expect(store.own.get(keys.other)).toBeDefined();
  });

  it("at the Active one whose event has not been read stays as well", () => {
    store.setActive(new Set(["edge"]), now);
    hears(said(other));
    expect(store.clash(other, living).delete).toEqual([]);
  });

  it("at the Active one that is closed makes way, and one of which a peer has said so, unless it has spoken since", () => {
    hears(said(living));
    store.setActive(new Set(["edge"]), now);
    const closed = { ...living, tcpState: TCP_STATE.TIME_WAIT };
    hears(ended(living), said(other));
    const clash = store.clash(other, living);
    expect([clash.delete, told(clash)]).toEqual([[living], [[keys.living, true]]]);
    expect(store.clash(other, closed).delete).toEqual([closed]);

    store.kernelFlow(living, now);
    hears(ended(living));
    store.kernelFlow({ ...living, tcpState: TCP_STATE.CLOSE_WAIT }, now);
    expect(store.clash(other, living).delete).toEqual([]);
  });
});
