import { runChild } from "./child.ts";
import { Brain } from "./brain/brain.ts";
import { brainPorts } from "./compose.ts";

runChild(async (context) => {
  const brain = await Brain.start(context, brainPorts());
  context.onStop((mode) => brain.stop(mode));
  context.onReload(() => void brain.reload());
  context.onProcesses((list) => brain.processes(list));
  context.ready();
});
