// `npm run docs`: writes what is generated under docs/reference from the compiled program.
import { mkdirSync, writeFileSync } from "node:fs";
import { errorsReference } from "../dist/cli/reference.js";
import { siteJsonSchema } from "../dist/config/json-schema.js";
import { siteFileReference } from "../dist/config/reference.js";

const pages = {
  "docs/reference/site-file.md": siteFileReference(),
  "docs/reference/site.schema.json": `${JSON.stringify(siteJsonSchema(), undefined, 2)}\n`,
  "docs/reference/errors.md": errorsReference(),
};
mkdirSync("docs/reference", { recursive: true });
for (const [path, text] of Object.entries(pages)) {
  writeFileSync(path, text);
  console.log(path);
}
