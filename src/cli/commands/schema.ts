import type { Command } from "commander";

export function registerSchema(program: Command): void {
  program
    .command("schema")
    .description("print the JSON Schema of the site file, for editors")
    .action(async () => {
      const { siteJsonSchema } = await import("../../config/json-schema.ts");
      console.log(JSON.stringify(siteJsonSchema(), undefined, 2));
    });
}
