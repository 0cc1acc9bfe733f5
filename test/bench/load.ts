import { openKv } from "./kv.ts";

/** A steady load, as its own process: so many puts a second whether or not earlier ones were answered; latencies go to stdout as JSON at SIGTERM. */
const [endpoint = "", rate = "500"] = process.argv.slice(2);
const kv = openKv(endpoint);
const value = Buffer.alloc(300, "x");
const latenciesMs: number[] = [];
const everyMs = 1000 / Number(rate);
const startedMs = performance.now();
let sent = 0;
let open = 0;

const timer = setInterval(() => {
  // Late ticks send what was due, and a put's latency counts from when it was due: waiting in line is latency too.
  while (startedMs + sent * everyMs <= performance.now()) {
    const dueMs = startedMs + sent * everyMs;
    const key = `load/${sent % 1000}`;
    sent += 1;
    open += 1;
    void kv.put(key, value).then(() => {
      latenciesMs.push(performance.now() - dueMs);
      open -= 1;
    });
  }
}, 1);

process.on("SIGTERM", () => {
  clearInterval(timer);
  const wait = setInterval(() => {
    if (open > 0) return;
    clearInterval(wait);
    kv[Symbol.dispose]();
    const sorted = latenciesMs.toSorted((a, b) => a - b);
    const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
    process.stdout.write(
      `${JSON.stringify({ puts: sorted.length, p50: at(0.5), p99: at(0.99), longest: at(1), over100: sorted.filter((ms) => ms > 100).length })}\n`,
    );
  }, 10);
});
