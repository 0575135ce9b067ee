// Models are trained on photographs as they are stored. Browsers turn them as their orientation tag
// says, and do not let themselves be told otherwise everywhere; a file without its tags is turned by none.

/**
 * A JPEG, PNG or WebP without its Exif data; anything else as it is.
 *
 * @param {Uint8Array} bytes
 * @returns {Uint8Array[]} Parts, one after another.
 */
export function withoutOrientation(bytes) {
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (text(0, 2) === '\xff\xd8') return without(bytes, jpegSegments(bytes, text));
  if (text(0, 8) === '\x89PNG\r\n\x1a\n') return without(bytes, pngChunks(bytes, text));
  if (text(0, 4) === 'RIFF' && text(8, 4) === 'WEBP') return [renamed(bytes, webpChunks(bytes, text))];
  return [bytes];
}

/** What is left when these places, from and to, are taken out. */
function without(bytes, places) {
  const parts = [];
  let kept = 0;
  for (const [from, to] of places) {
    parts.push(bytes.subarray(kept, from));
    kept = Math.min(to, bytes.length);
  }
  return [...parts, bytes.subarray(kept)];
}

/** Chunks under a name that nobody reads: a WebP says how long it is, and stays so. */
function renamed(bytes, places) {
  const out = bytes.slice();
  for (const [from] of places) out.set([0x6e, 0x6f, 0x6e, 0x65], from);
  return out;
}

function* jpegSegments(bytes, text) {
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    // Fill bytes stand before a marker; pictures begin with a start of scan.
    if (marker === 0xff) {
      at++;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return;
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    if (marker === 0xe1 && text(at + 4, 4) === 'Exif') yield [at, end];
    at = end;
  }
}

function* pngChunks(bytes, text) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 8; at + 12 <= bytes.length; ) {
    // Length, name, contents, checksum.
    const end = at + 12 + view.getUint32(at);
    if (text(at + 4, 4) === 'eXIf') yield [at, end];
    at = end;
  }
}

function* webpChunks(bytes, text) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 12; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    const end = at + 8 + length + (length % 2);
    if (text(at, 4) === 'EXIF') yield [at, end];
    at = end;
  }
}
