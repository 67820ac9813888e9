/** Every cross-check: what the schema alone cannot see because it lies between two parts of the file. */
import { affinity } from "./affinity.ts";
import { direct } from "./direct.ts";
import * as availability from "./availability.ts";
import { labNames } from "./lab.ts";
import * as nodes from "./nodes.ts";
import * as pools from "./pools.ts";
import * as routers from "./routers.ts";
import * as services from "./services.ts";
import type { Check } from "./context.ts";

export const allChecks: readonly Check[] = [
  nodes.atLeastOneNode,
  nodes.nodeAddresses,
  nodes.nodeAddressesStay,
  nodes.idleNodes,
  nodes.nodePorts,
  routers.priorities,
  routers.owners,
  routers.loweredPriorities,
  routers.leases,
  routers.interfaces,
  routers.vrids,
  routers.virtualAddresses,
  routers.fourIsAdvertised,
  routers.peers,
  routers.tracks,
  routers.zones,
  pools.backends,
  pools.checksOfPools,
  pools.unusedPools,
  services.routeWeights,
  services.serviceAddresses,
  services.overlappingListens,
  services.families,
  services.loopbackBackends,
  services.loops,
  services.hashedFlows,
  services.challengePorts,
  services.sharedCertificates,
  affinity,
  direct,
  labNames,
  availability.availabilityNames,
  availability.dependencies,
];
