import { defineConfig } from "vitest/config";
/** They measure time against a bound, or take the processors from everybody: one at a time, and nothing beside them. */
const alone = [
  "src/daemon/pair.system.test.ts",
  "src/daemon/proxy-faults.system.test.ts",
  "src/daemon/proxy-load.system.test.ts",
  "src/lab/*.system.test.ts",
  "src/linux/nftables/fence.system.test.ts",
  "test/interop/*.system.test.ts",
];

/** They only compute, for a minute or more: `npm test` runs them beside those that mostly wait. */
const compute = [
  "src/availability/openpsa/*.system.test.ts",
  "src/proxy/differential.system.test.ts",
  "src/redundancy/simulation/simulation.system.test.ts",
];

/** Needs namespaces, real servers or both. */
const system = {
  testTimeout: 60_000,
  hookTimeout: 60_000,
  // Real servers, real time, a machine that others use: once more, shown as "(retry x1)", never silently.
  retry: 1,
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          // For a machine that does something else at the same time; all of them together take seconds.
          testTimeout: 30_000,
          include: ["src/**/*.test.ts", "test/unit/**/*.test.ts"],
          exclude: ["**/*.system.test.ts", "**/node_modules/**"],
          // All files share two processes: a fresh one for each file costs more than the tests themselves. Forks,
          // since what sets a umask cannot run in a thread.
          pool: "forks",
          isolate: false,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...system,
          name: "compute",
          include: compute,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...system,
          name: "system",
          include: ["src/**/*.system.test.ts", "test/**/*.system.test.ts"],
          exclude: [...alone, ...compute, "**/node_modules/**"],
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          ...system,
          name: "system-alone",
          include: alone,
          fileParallelism: false,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});
