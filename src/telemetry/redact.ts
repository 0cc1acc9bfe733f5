/**
 * The last net under messages: events never carry secrets, but a message may quote a foreign one, and a foreign one may quote a URL,
 * a header or a file. Every rule keeps what names the thing and blanks what opens it.
 */
const rules: readonly (readonly [pattern: RegExp, replacement: string])[] = [
  [/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g, "[private key]"],
  [/AGE-(?:SECRET-KEY|PLUGIN-[A-Z0-9-]+)-1[0-9A-Za-z]+/gi, "[age identity]"],
  // user:password@ of a URL
  [/:\/\/[^\s/?#@]*@/g, "://[redacted]@"],
  // signed URLs of S3, and tokens in queries
  [
    /([?&](?:x-amz-[a-z-]+|signature|token|access_token|password|secret|key|webidentitytoken)=)[^\s&#"']+/gi,
    "$1[redacted]",
  ],
  [/\b((?:proxy-)?authorization["']?\s*[:=]\s*)(?:"[^"]*|'[^']*|[^\r\n]+)/gi, "$1[redacted]"],
  [/\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}/gi, "$1 [redacted]"],
  // assignments and JSON; not "password: the file cannot be read"
  [
    /((?:aws_?)?(?:secret_?access_?key|session_?token|security_?token|secret_?key|passw(?:or)?d|passphrase|secret)(?:["']?\s*=\s*["']?|["']\s*:\s*["']))[^\s"',;}&]+/gi,
    "$1[redacted]",
  ],
];

/** Longer text is cut: a foreign message must not fill a disk or a journal line. */
const longestText = 2000;

/** The text without passwords, tokens and keys, cut to 2000 characters. */
export function redact(text: string): string {
  // Cut before and after: the rules must not work on megabytes, and what they leave must fit. Cutting first may cut a secret's end, never its start.
  const clean = redactWhole(text.slice(0, 2 * longestText));
  const cut = text.length > 2 * longestText || clean.length > longestText;
  return cut ? `${clean.slice(0, longestText)}... (cut, ${text.length} characters)` : clean;
}

/** The same of a text whose length is bounded already, uncut. */
export function redactWhole(text: string): string {
  return rules.reduce((clean, [pattern, replacement]) => clean.replace(pattern, replacement), text);
}
