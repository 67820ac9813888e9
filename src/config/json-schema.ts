import { z } from "zod";
import { siteSchema } from "./schema/site.ts";

/**
 * What may be written in a site file, as JSON Schema for editors (draft 7, which YAML language servers know
 * best). It is the same schema that reads the file; what lies between two parts of it only `nines check` sees.
 */
export function siteJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(siteSchema, {
    io: "input",
    target: "draft-7",
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      // Our own notes on the schema, which no editor knows.
      delete jsonSchema["expected"];
      delete jsonSchema["secret"];
      delete jsonSchema["refersTo"];
    },
  });
  return { ...schema, title: "nines site file" };
}
