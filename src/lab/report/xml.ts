const ENTITIES: Readonly<{ [char: string]: string }> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "\n": "&#10;",
};

/** Text for an attribute or an element; control characters, which XML forbids, become spaces. */
export const escapeXml = (text: string): string =>
  // oxlint-disable-next-line no-control-regex
  text.replace(/[\u0000-\u0009\u000b-\u001f]/g, " ").replace(/[&<>"\n]/g, (char) => ENTITIES[char] ?? char);
