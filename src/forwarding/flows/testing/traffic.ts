/**
 * `traffic.ts server`: port 80 echoes, port 81 speaks first, every 50 ms. `traffic.ts client`: holds connections
 * open and says which of them still carry bytes.
 */
import { type Socket, connect, createServer } from "node:net";

export type TrafficCommand =
  | { readonly do: "connect"; readonly address: string; readonly count: number; readonly from?: string }
  | { readonly do: "alive"; readonly within: number };

const sleep = (span: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, span));

if (process.argv[2] === "server") {
  createServer((socket) => socket.on("error", () => undefined).pipe(socket)).listen(80, "0.0.0.0");
  createServer((socket) => {
    const timer = setInterval(() => socket.write("tick"), 50);
    socket.on("error", () => undefined).on("close", () => clearInterval(timer));
  }).listen(81, "0.0.0.0", () => process.send?.({ answer: "listening" }));
}

const sockets: { readonly socket: Socket; heard: number; broken: boolean; readonly clientFirst: boolean }[] =
  [];

async function carryOut(command: TrafficCommand): Promise<unknown> {
  if (command.do === "connect") {
    await Promise.all(
      Array.from({ length: command.count }, (_, i) => {
        const { address: host, from } = command;
        const socket = connect({
          port: i % 2 === 0 ? 80 : 81,
          host,
          ...(from !== undefined && { localAddress: from }),
        });
        const entry = { socket, heard: 0, broken: false, clientFirst: i % 2 === 0 };
        sockets.push(entry);
        socket.on("data", () => entry.heard++);
        socket.on("error", () => undefined);
        socket.on("close", () => (entry.broken = true));
        return new Promise((resolve) => socket.once("connect", resolve).once("close", resolve));
      }),
    );
    return sockets.filter(({ broken }) => !broken).length;
  }
  for (const entry of sockets) {
    entry.heard = 0;
    if (entry.clientFirst && !entry.broken) entry.socket.write("x");
  }
  for (
    let waited = 0;
    waited < command.within && sockets.some((one) => !one.broken && one.heard === 0);
    waited += 20
  )
    await sleep(20);
  return {
    clientFirst: sockets.filter((one) => one.clientFirst && !one.broken && one.heard > 0).length,
    serverFirst: sockets.filter((one) => !one.clientFirst && !one.broken && one.heard > 0).length,
  };
}
process.on("message", (command: TrafficCommand) => {
  void carryOut(command).then((answer) => process.send?.({ answer }));
});
