import { defineConfig } from "vitest/config";

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
        // Needs namespaces, real servers or both. One file at a time: they measure time.
        test: {
          name: "system",
          include: ["src/**/*.system.test.ts", "test/**/*.system.test.ts"],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: 60_000,
          hookTimeout: 60_000,
          // Real servers, real time, a machine that others use: once more, shown as "(retry x1)", never silently.
          retry: 1,
        },
      },
    ],
  },
});
