// JSON values as a person reads them.

export const label = (key) => key.replaceAll("_", " ");

const isNested = (value) => value !== null && typeof value === "object";

// A value in one line: {queue: 4, at_s: 1.25} is "queue 4, at s 1.25".
export function inWords(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "number") return String(Number.isInteger(value) ? value : +value.toPrecision(4));
  if (Array.isArray(value)) return value.map(inWords).join(value.some(isNested) ? "; " : ", ") || "none";
  if (!isNested(value)) return String(value);
  return Object.entries(value).map(([key, of]) => `${label(key)} ${inWords(of)}`).join(", ") || "none";
}

// [name, text] of each line of a table: parts of a part have lines of their own, and so has each of
// a list of things, by what it is called.
export function lines(info) {
  return Object.entries(info).flatMap(([key, value]) => {
    if (!isNested(value) || (Array.isArray(value) && !value.some(isNested))) return [[label(key), inWords(value)]];
    if (!Array.isArray(value)) return lines(value).map(([name, text]) => [`${label(key)}: ${name}`, text]);
    return value.map((thing) => {
      const [[kind, name], ...rest] = Object.entries(thing);
      return [`${label(kind)} ${name}`, inWords(Object.fromEntries(rest))];
    });
  });
}
