/** What a page of metrics has: their names as Prometheus stores them, and the labels of those that have series. */
export function namesOnPage(page: string): ReadonlyMap<string, ReadonlySet<string>> {
  const names = new Map<string, Set<string>>();
  const labelsOf = (name: string): Set<string> => {
    const known = names.get(name) ?? new Set();
    names.set(name, known);
    return known;
  };
  for (const line of page.split("\n")) {
    const [, typed = "", type = ""] = /^# TYPE (\S+) (\w+)$/.exec(line) ?? [];
    if (typed !== "") {
      const parts = type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
      for (const part of parts) labelsOf(`${typed}${part}`);
      continue;
    }
    const [, name = "", inside = ""] = /^(\w+)(?:\{(.*)\})? \S+$/.exec(line) ?? [];
    if (line.startsWith("#") || name === "") continue;
    for (const [, label = ""] of inside.matchAll(/(\w+)="(?:[^"\\]|\\.)*"/g)) labelsOf(name).add(label);
  }
  return names;
}
