// Removes the orientation tag from a file. Not every browser has an option to ignore the tag when it decodes; without
// Exif data there is nothing to apply.

/**
 * A JPEG, PNG or WebP file without its Exif data. Other files are not changed.
 *
 * @param {Uint8Array} bytes
 * @returns {Uint8Array[]} Parts of the new file, in order.
 */
export function withoutOrientation(bytes) {
  const text = (at, length) => String.fromCharCode(...bytes.subarray(at, at + length));
  if (text(0, 2) === '\xff\xd8') return without(bytes, jpegSegments(bytes, text));
  if (text(0, 8) === '\x89PNG\r\n\x1a\n') return without(bytes, pngChunks(bytes, text));
  if (text(0, 4) === 'RIFF' && text(8, 4) === 'WEBP') return [renamed(bytes, webpChunks(bytes, text))];
  return [bytes];
}

/** Removes the ranges `places`. */
function without(bytes, places) {
  const parts = [];
  let kept = 0;
  for (const [from, to] of places) {
    parts.push(bytes.subarray(kept, from));
    kept = Math.min(to, bytes.length);
  }
  return [...parts, bytes.subarray(kept)];
}

/** Renames chunks to a name without meaning. The header of a WebP has its length, which stays correct so. */
function renamed(bytes, places) {
  const out = bytes.slice();
  for (const [from] of places) out.set([0x6e, 0x6f, 0x6e, 0x65], from);
  return out;
}

function* jpegSegments(bytes, text) {
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff) {
    const marker = bytes[at + 1];
    // Fill bytes may precede a marker. There are no segments behind a start of scan.
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
