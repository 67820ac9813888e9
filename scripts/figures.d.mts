/** The text with every block of figures made anew from bench/results. */
export function withFigures(text: string): Promise<string>;
/** The documents that may hold figures. */
export function documents(): URL[];
