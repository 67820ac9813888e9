import { runChild } from "./child.ts";

runChild(async (context) => {
  context.tell({ type: "children", wishes: [] });
  context.onStop(() => {});
  context.ready();
});
