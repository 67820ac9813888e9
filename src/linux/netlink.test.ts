import { describe, expect, it } from "vitest";
import { SystemClock } from "../base/system-clock.ts";
import { OperationalError } from "../base/errors.ts";
import { NETLINK } from "./constants.ts";
import { KernelError, load, native, nativeProblem } from "./native.ts";
import { NetlinkSocket } from "./netlink.ts";
import { NLM_F } from "./wire-netlink.ts";
import { inetAddress, packetAddress, readInetAddress, unixAddress } from "./wire-sockaddr.ts";
import { ip } from "../base/addresses.ts";
import { hex } from "../base/bytes.ts";

const clock = new SystemClock();
const RTM_GETLINK = 18;
const RTM_NEWLINK = 16;
const nothing = new Uint8Array(16);

describe("the native part", () => {
  it("loads", () => {
    expect(nativeProblem()).toBeUndefined();
    expect(native().socket(-1, 1, 0)).toBeLessThan(0);
  });
  it("says how to build it where it cannot load", () => {
    const problem = load("/nowhere/nines.node");
    expect(problem).toBeInstanceOf(OperationalError);
    expect(problem).toMatchObject({ code: "NATIVE_UNAVAILABLE" });
    expect((problem as OperationalError).message).toContain("npm run build");
  });
  it("names the errno and what was tried", () => {
    expect(new KernelError("bind 10.0.0.1:80", 98).message).toBe("bind 10.0.0.1:80: EADDRINUSE");
    expect(new KernelError("nft", 1)).toMatchObject({ code: "PERMISSION", errno: 1 });
    expect(new KernelError("x", 105)).toMatchObject({ code: "KERNEL_BUSY", retryable: true });
  });
});

describe("a netlink socket", () => {
  it("dumps, answers one, refuses with the kernel's own words, and closes", async () => {
    const socket = NetlinkSocket.open({ protocol: NETLINK.ROUTE, clock });
    const links = await socket.dump("links", { type: RTM_GETLINK, body: nothing });
    expect(links.every(({ type, portid }) => type === RTM_NEWLINK && portid === socket.portid)).toBe(true);
    expect(links.length).toBeGreaterThan(0);
    const body = new Uint8Array(16);
    body[4] = 1; // lo
    expect(await socket.request("lo", { type: RTM_GETLINK, body })).toHaveLength(1);
    body[4] = 0xee;
    body[5] = 0xee;
    await expect(socket.request("no such link", { type: RTM_GETLINK, body })).rejects.toMatchObject({
      code: "INTERFACE_MISSING",
      message: expect.stringContaining("no such link: ENODEV"),
    });
    socket.close();
    await expect(socket.request("late", { type: RTM_GETLINK, body })).rejects.toMatchObject({
      code: "PEER_LOST",
    });
  });

  it("keeps several questions apart, asked at once", async () => {
    const socket = NetlinkSocket.open({ protocol: NETLINK.ROUTE, clock });
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => socket.dump("links", { type: RTM_GETLINK, body: nothing })),
    );
    expect(new Set(answers.map((links) => links.length)).size).toBe(1);
    const bad = { type: RTM_NEWLINK, flags: NLM_F.CREATE, body: nothing.subarray(0, 4) };
    const refused = await socket.batch("batch", [
      bad,
      bad,
      { type: RTM_GETLINK, body: nothing.subarray(0, 4) },
    ]);
    expect(refused.map(({ index }) => index)).toEqual([0, 1, 2]);
    socket.close();
  });
});

describe("socket addresses", () => {
  it("are laid out as the kernel has them", () => {
    expect(hex(inetAddress(ip("10.0.0.1"), 80))).toBe("020000500a0000010000000000000000");
    expect(readInetAddress(inetAddress(ip("fe80::1"), 53, 3))).toEqual({
      address: "fe80::1",
      port: 53,
      scope: 3,
    });
    expect(readInetAddress(new Uint8Array(3))).toBeUndefined();
    expect(hex(unixAddress("@a"))).toBe("01000061");
    expect(hex(unixAddress("/a"))).toBe("01002f6100");
    expect(hex(packetAddress(2, 0x0806, new Uint8Array(6).fill(255)))).toBe(
      "110008060200000000000006ffffffffffff0000",
    );
  });
});
