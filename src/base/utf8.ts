/** UTF-8 without TextEncoder, which is not part of the language: for wire formats, which stay pure. */
export function utf8(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of text) {
    let code = character.codePointAt(0) ?? 0;
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd; // a lone surrogate
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
    else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    else
      bytes.push(
        0xf0 | (code >> 18),
        0x80 | ((code >> 12) & 63),
        0x80 | ((code >> 6) & 63),
        0x80 | (code & 63),
      );
  }
  return Uint8Array.from(bytes);
}

/** What is not UTF-8 is read as Latin-1: names from outside are shown, never trusted. */
export function fromUtf8(bytes: Uint8Array): string {
  let plain = true;
  let text = "";
  for (const byte of bytes) {
    text += String.fromCharCode(byte);
    if (byte >= 0x80) plain = false;
  }
  if (plain) return text;
  try {
    return decodeURIComponent(Array.from(bytes, (b) => `%${b.toString(16).padStart(2, "0")}`).join(""));
  } catch {
    return text;
  }
}
