import { z } from "zod";
import { ipAddress, name } from "./common.ts";

export const nodeSchema = z.strictObject({
  address: ipAddress().describe(
    "The node's own address: unicast advertisements and node-to-node messages use it.",
  ),
  zone: name().optional().describe("Failure zone, e.g. a rack, a hypervisor or an availability zone."),
});
