/**
 * Says what is wrong with bytes that should be exactly one zstd frame of ours, or undefined: content size and checksum present,
 * no dictionary, nothing before or after. Node's decoder would accept a second frame or trailing bytes without a word.
 * Looks at the headers of frame and blocks only (RFC 8878, 3.1.1); the decoder checks the rest.
 */
export function frameProblem(stored: Uint8Array, plainBytes: number, maximumWindowBytes: number): string | undefined {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.length);
  if (stored.length < 6 || view.getUint32(0, true) !== 0xfd2fb528) return "it does not begin like a zstd frame";
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  if ((descriptor & 0x18) !== 0) return "a reserved bit is set in its header";
  if ((descriptor & 0x04) === 0) return "it carries no checksum";
  if ((descriptor & 0x03) !== 0) return "it asks for a dictionary";
  const sizeFlag = descriptor >> 6;
  if (sizeFlag === 0 && !singleSegment) return "it does not say its content size";

  let at = 5;
  if (!singleSegment) {
    const window = view.getUint8(at++);
    const baseBytes = 2 ** (10 + (window >> 3));
    if (baseBytes + (baseBytes / 8) * (window & 7) > maximumWindowBytes) return "it asks for too large a window";
  }
  const sizeBytes = 1 << sizeFlag;
  if (at + sizeBytes > stored.length) return "it ends inside its header";
  const contentBytes = readContentBytes(view, at, sizeBytes);
  if (contentBytes !== BigInt(plainBytes)) return `its header says ${contentBytes} bytes, ${plainBytes} are listed`;
  at += sizeBytes;

  for (let last = false; !last;) {
    if (at + 3 > stored.length) return "it ends inside a block";
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    last = (header & 1) !== 0;
    const type = (header >> 1) & 3;
    const runLengthBlock = 1;
    if (type === 3) return "it has a block of an unknown type";
    at += 3 + (type === runLengthBlock ? 1 : header >> 3);
  }
  const checksumBytes = 4;
  const frameBytes = at + checksumBytes;
  return frameBytes === stored.length ? undefined : `it is ${frameBytes} bytes long, ${stored.length} are listed`;
}

function readContentBytes(view: DataView, at: number, sizeBytes: number): bigint {
  if (sizeBytes === 1) return BigInt(view.getUint8(at));
  if (sizeBytes === 2) return BigInt(view.getUint16(at, true) + 256);
  return sizeBytes === 4 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
}
