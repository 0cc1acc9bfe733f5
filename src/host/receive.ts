import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { mkdir, open, rename, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault, throwIfAborted } from "../faults.ts";
import { lstatOrNothing, own, removeTreeDurably, syncDirectory } from "./files.ts";
import { partOf, type ReceiveOptions, type SentFile } from "./host.ts";

const chunkBytes = 2 ** 20;

/** Brings a tree to this machine's disk as `Host.receive` promises. `label` gives a tree its SELinux context. */
export async function receiveTree(
  directory: string,
  files: AsyncIterable<SentFile>,
  options: ReceiveOptions,
  label: (path: string, context: string) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  throwIfAborted(signal);
  if ((await lstatOrNothing(directory)) !== undefined) {
    throw new Fault("host-exists", `${directory} is there already`);
  }
  const part = partOf(directory);
  await removeTreeDurably(part);
  await mkdir(part, 0o700);
  const directories = new Set([part]);
  for await (const file of files) {
    throwIfAborted(signal);
    checkName(file.path);
    const path = join(part, file.path);
    await makeParents(dirname(path), directories);
    await writeFile(path, file, options, signal);
    await readBack(path, file, signal);
  }
  for (const made of [...directories].toReversed()) {
    await own(made, options);
    await syncDirectory(made);
  }
  if (options.selinux !== undefined) await label(part, options.selinux);
  throwIfAborted(signal);
  if ((await lstatOrNothing(directory)) !== undefined) {
    throw new Fault("host-exists", `${directory} is there already`);
  }
  await rename(part, directory);
  await syncDirectory(dirname(directory));
}

function checkName(path: string): void {
  if (/^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/.test(path)) return;
  throw new Fault("host-failed", `${JSON.stringify(path)} is no name of a file to be sent`);
}

async function makeParents(path: string, made: Set<string>): Promise<void> {
  if (made.has(path)) return;
  await makeParents(dirname(path), made);
  await mkdir(path, 0o700);
  made.add(path);
}

async function writeFile(path: string, file: SentFile, options: ReceiveOptions, signal: AbortSignal): Promise<void> {
  await using handle = await open(path, "wx", 0o600);
  let bytes = 0;
  for await (const chunk of file.content(signal)) {
    throwIfAborted(signal);
    bytes += chunk.length;
    if (bytes > file.sizeBytes) break;
    await writeAll(handle, chunk);
  }
  if (bytes !== file.sizeBytes) {
    throw new Fault("host-damaged", `${file.path} came with other than its ${file.sizeBytes} bytes`);
  }
  if (options.owner !== undefined) await handle.chown(options.owner.uid, options.owner.gid);
  await handle.chmod(file.mode);
  await handle.sync();
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  let written = 0;
  while (written < chunk.length) {
    const { bytesWritten } = await handle.write(chunk, written, chunk.length - written);
    written += bytesWritten;
  }
}

async function readBack(path: string, { path: name, sha256 }: SentFile, signal: AbortSignal): Promise<void> {
  const hash = createHash("sha256");
  for await (const chunk of readChunks(path, signal)) hash.update(chunk);
  if (hash.digest("hex") === sha256) return;
  throw new Fault("host-damaged", `${name} is not what was sent: its SHA-256 differs`, {
    hint: "look at the disk of that host, or at its memory",
  });
}

/** A file's bytes; each chunk is its reader's to keep. */
export async function* readChunks(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  await using handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  for (;;) {
    throwIfAborted(signal);
    const buffer = Buffer.allocUnsafeSlow(chunkBytes);
    const { bytesRead } = await handle.read(buffer, 0, chunkBytes, null);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}
