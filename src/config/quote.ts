/**
 * A value as a message may show it: in quotes, control characters escaped, cut to 80 characters, and without anything that looks
 * like a key or like a password inside a URL. Never call it with what stands where a secret belongs.
 */
export function quote(value: unknown): string {
  if (typeof value !== "string")
    return typeof value === "number" || typeof value === "boolean" ? String(value) : kindOf(value);
  if (looksSecret(value)) return "(a secret key, not shown)";
  const shown = value.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.+@/is, "$1(not shown)@").replace(/\?.*$/s, "?(not shown)");
  return JSON.stringify(shown.length > 80 ? `${shown.slice(0, 77)}...` : shown);
}

/** True for text that holds an age identity or the head of a PEM private key, wherever somebody pasted it. */
export function looksSecret(text: string): boolean {
  return /AGE-SECRET-KEY-|PRIVATE KEY/i.test(text);
}

/** What kind of YAML value something is, with its article. */
export function kindOf(value: unknown): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  switch (typeof value) {
    case "string":
      return "text";
    case "number":
    case "bigint":
      return "a number";
    case "boolean":
      return "true or false";
    default:
      return "a section";
  }
}
