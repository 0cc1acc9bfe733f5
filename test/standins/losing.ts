import { registerHooks } from "node:module";

/**
 * Given to Node by --import: the command then works on hosts that can be lost (losing-host.ts), and is otherwise what it is. The product knows nothing of it.
 */
const local = new URL("../../src/host/local.ts", import.meta.url).href;
const losing = new URL("./losing-host.ts", import.meta.url).href;

registerHooks({
  resolve(specifier, context, next) {
    const found = next(specifier, context);
    return found.url === local && context.parentURL !== losing ? { ...found, url: losing } : found;
  },
});
